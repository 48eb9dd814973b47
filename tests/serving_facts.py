"""Facts of a mixture and of what else could serve its fields, as `mixture.alternatives` has them."""

from __future__ import annotations

from typing import Any


def figure(value: float) -> dict[str, float]:
    return {"value": value, "lower": value - 0.1, "upper": value + 0.1}


def facts() -> dict[str, Any]:
    def arm(bits: float | None, over: float | None, engine: str = "openvino") -> dict[str, Any]:
        plain = {"weights": 374_000_000, "active": 214_000_000, "megabytes": 748.0, "engine": engine,
                 "tokens_s": {"1": 21.4, "16": 1530}}  # fmt: skip
        if bits is None:
            return plain
        costs = {"bits_per_byte": figure(bits), "over_mixture": None if over is None else figure(over)}
        return plain | costs | {"sets": {"pumps": costs, "general": costs}}

    return {
        "run": "works",
        "page": "runs/works/serving.html",
        "model": "0a1b",
        "fields": ["pumps"],
        "documents": {"pumps": 12, "general": 1234},
        "chosen_right": {"pumps": 0.914},
        "machine": "a processor",
        "arms": {"mixture": arm(0.9, None, "torch"), "students": arm(1.0, 0.1), "dense_active": arm(None, None)},
        "verdict": {"sentences": ["The mixture serves this best: so and so."]},
    }
