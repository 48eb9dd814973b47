"""Facts of a mixture of three fields, of which one came later."""

from __future__ import annotations

from typing import Any


def _set(documents: int, over: dict[str, float], **values: float) -> dict[str, Any]:
    return {
        "documents": documents,
        "bytes": 3456,
        "models": {
            role: {"bits_per_byte": {"value": value, "lower": value - 0.1, "upper": value + 0.1}}
            for role, value in values.items()
        },
        "mixture_over": {
            role: {"value": value, "lower": value - 0.02, "upper": value + 0.02} for role, value in over.items()
        },
    }


def facts() -> dict[str, Any]:
    account = {"in": 1077, "kept": 1000, "dropped": {"kept for <validation>": 77}, "failed": {}}
    apart = {"pumps": [0.5, 0.1, 0.4], "ledger": [0.2, 0.5, 0.3], "chess": [0.0, 0.6, 0.4], "general": [0.3, 0.3, 0.4]}
    return {
        "experts": {"names": ["pumps", "ledger", "chess"], "active": 2},
        "added": ["chess"],
        "removed": ["cars"],
        "parameters": {"all": 1000, "active": 700},
        "teach": "branches",
        "train": {
            "all": {
                "tokens_learned": {"pumps": 1000, "ledger": 500},
                "conservation": {"pumps documents (tokens)": account},
            },
            "chess": {"tokens_learned": {"chess": 300}, "conservation": {"chess documents (tokens)": account}},
        },
        "sets": {
            "pumps": _set(1234, {"before": 0.679, "branch": 1.056}, before=1.4, branch=0.9, mixture=0.95),
            "general": _set(5, {"before": 1.01}, before=1.0, mixture=1.01),
        },
        "router": {
            "names": ["pumps", "ledger", "chess"],
            "shares": [[0.3, 0.3, 0.4], [0.3, 0.7, 0.0]],
            "cv": 0.3142,
            "dead": 1,
            "groups": {name: [shares, shares] for name, shares in apart.items()},
        },
    }
