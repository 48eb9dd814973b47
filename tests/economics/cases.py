"""A case whose money can be done by hand."""

from __future__ import annotations

from typing import Any

from aasut.economics.case import Case


def case(**changes: Any) -> Case:
    """c = $1 and p = $4 a million, K = $24 over 12 months, F = $1: at 1,000,000 requests $4 back for $4 put in."""
    settings = {
        "requests_per_month": 1_000_000.0,
        "usd_per_machine_hour": 0.18,
        "utilisation": 0.5,
        "student_requests_per_s": 100.0,
        "teacher_requests_per_s": None,
        "teacher_usd_per_million_requests": 4.0,
        "fixed_usd_per_month": 1.0,
        "labels_usd": 20.4,
        "labelling_hours": 10.0,
        "training_hours": 10.0,
        "months": 12.0,
    }
    return Case(**(settings | changes))
