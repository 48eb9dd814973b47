"""The optional facts of a report, made up but consistent: certificate, learning curve, measures, judges, return."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import beta, binom

Floats = np.ndarray[Any, np.dtype[np.float64]]
OPTIONAL = ("certificate", "judged", "learning_curve", "margin_recorded", "metrics", "risk_coverage")
RETURN = ("return", "tornado", "tornado_of", "hangs_on")
RISK, CONFIDENCE, ACCEPTED, CALIBRATE = 0.05, 0.95, 74, 112


def exact(k: int, n: int) -> list[float]:
    """Clopper and Pearson's interval at 95 %."""
    return [float(beta.ppf(0.025, k, n - k + 1)) if k else 0.0, float(beta.ppf(0.975, k + 1, n - k)) if k < n else 1.0]


def certified(stated: Floats, right: Floats) -> dict[str, Any]:
    """Certificate and risk-coverage curve of these confidences, [n], and right answers, [n], on test."""
    order = np.argsort(-stated)
    wrong, given = np.cumsum(~right[order].astype(bool)), np.arange(1, len(right) + 1)
    share = ACCEPTED / CALIBRATE
    accepted = round(share * len(right))
    k = int(wrong[accepted - 1])
    low, high = exact(ACCEPTED, CALIBRATE)
    return {
        "certificate": {
            "kind": "selective", "against": "human", "risk": RISK, "confidence": CONFIDENCE, "certified": True,
            "threshold": float(stated[order][accepted - 1]),
            "coverage": {"value": share, "lower": low, "upper": high},
            "accepted": ACCEPTED, "wrong": 0, "n": CALIBRATE, "p_value": float(binom.cdf(0, ACCEPTED, RISK)),
            "more_gold": None, "calibrate_opened": 1,
            "sentence": "With 95 % confidence at most 5.0 % of the answers that the student gives alone are wrong; "
            f"it answers {100 * share:.0f} % of the requests and leaves the others to the teacher.",
            "on_test": {"coverage": accepted / len(right), "risk": k / accepted, "ci": exact(k, accepted),
                        "accepted": accepted},
            "hashes": {"calibrate": "5c1d" * 16, "student_file": "9f2c" * 16, "engine": "openvino 2025.3",
                       "template": "77ab" * 16},
        },
        "risk_coverage": {
            "coverage": (given / len(right)).tolist(), "risk": (wrong / given).tolist(),
            "certified": {"coverage": accepted / len(right), "risk": k / accepted},
        },
    }  # fmt: skip


def refused() -> dict[str, Any]:
    """A certificate that could not be given."""
    return {
        "kind": "selective", "against": "teacher", "risk": 0.01, "confidence": CONFIDENCE, "certified": False,
        "threshold": None, "coverage": None, "accepted": 0, "wrong": 0, "n": CALIBRATE, "p_value": None,
        "more_gold": 260, "calibrate_opened": 2, "hashes": {},
        "sentence": "No certificate: 112 answers of the teacher do not show a risk of at most 1 % at any threshold. "
        "Defer all. About 260 more answers of the teacher in `calibrate`, each of a group of its own, would give one.",
    }  # fmt: skip


def learning_curve() -> dict[str, Any]:
    def fit(n: float) -> float:
        return float(0.93 - 0.9 * n**-0.45)

    sizes = [60, 120, 240, 480, 960, 1925]
    path = [float(n) for n in np.geomspace(60, 8000, 40)]
    off = (0.012, -0.014, 0.009, 0.004, -0.006, 0.001)
    return {
        "points": [
            {
                "examples": n,
                "accuracy": fit(n) + d,
                "low": fit(n) + d - 0.4 / n**0.45,
                "high": fit(n) + d + 0.3 / n**0.45,
            }
            for n, d in zip(sizes, off, strict=True)
        ],
        "curve": {
            "examples": path,
            "accuracy": [fit(n) for n in path],
            "low": [fit(n) - 0.006 - 0.05 / n**0.5 - 0.004 * max(0.0, np.log(n / 1925)) for n in path],
            "high": [fit(n) + 0.006 + 0.05 / n**0.5 + 0.004 * max(0.0, np.log(n / 1925)) for n in path],
        },
        "sentence": "500 more answers: +0.3 ± 0.2 points.",
        "measured_on": "114 human answers in tune",
    }


def metrics(student: dict[str, Any], teacher: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": name, "student": student[name], "teacher": teacher[name],
            "difference": student[name] - teacher[name], "ci": [-0.020, 0.0005], "lower_bound": -0.0184,
            "p_value": p, "p_holm": min(1.0, times * p), "non_inferior": True, "method": "BCa bootstrap of 96 groups",
        }
        for name, p, times in (("accuracy", 0.00021, 2), ("macro_f1", 0.00034, 1))
    ]  # fmt: skip


def judged() -> dict[str, Any]:
    return {
        "preference": {"student_wins": 0.21, "ties": 0.55, "teacher_wins": 0.24, "difference": -0.03,
                       "ci": [-0.071, 0.012], "n": 400, "inconsistent": 0.08},
        "correctness": {"judge": "another-family-7B", "sensitivity": [0.94, 0.91, 0.96],
                        "specificity": [0.71, 0.62, 0.79], "raw": 0.89, "corrected": [0.908, 0.871, 0.941], "n": 300},
        "ppi": {"value": 0.912, "ci": [0.895, 0.929], "classical": [0.909, 0.884, 0.931], "n": 300,
                "unlabelled": 4000, "weight": 0.83},
        "warnings": ["The judge is of the teacher's model family: it may favour the teacher."],
    }  # fmt: skip


def without(found: dict[str, Any]) -> dict[str, Any]:
    """The same facts before certify, plan and judge: none of the optional keys."""
    left = {key: value for key, value in found.items() if key not in OPTIONAL}
    return left | {"economics": {k: v for k, v in found["economics"].items() if k not in RETURN}}
