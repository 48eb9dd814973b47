"""A situation in which a small model is the right thing: a good volume, no rule, human answers to be had."""

from __future__ import annotations

from typing import Any

from aasut.economics.advice import Situation
from aasut.economics.screen import ENDLESS

SAID: dict[str, Any] = {
    "task": "classify", "requests_per_month": 5e6, "usd_per_request": 0.0, "input_tokens": 500.0, "output_tokens": 2.0,
    "usd_per_million_input_tokens": 0.15, "usd_per_million_output_tokens": 0.60, "different_inputs": ENDLESS,
    "labels": 3, "rule": "no", "single_words": False, "human_answers": 100, "more_human_answers": 1000,
    "usd_per_human_answer": 0.1, "usd_per_wrong_answer": 0.0, "latency_ms": 2000.0, "may_leave": True,
    "changes": "yearly",
}  # fmt: skip


def situation(**changes: Any) -> Situation:
    return Situation(**(SAID | changes))
