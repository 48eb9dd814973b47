"""What the person who pays reads first: a sentence each on the decision, the certificate and what it saves.

Where the run has not gone so far, the sentence says so and how to get there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

RETURN = "For the return on investment, declare economics.usd_per_correct_answer and economics.requests_per_month."

Tone = Literal["good", "unsure", "bad", "missing", ""]


@dataclass(frozen=True, slots=True)
class Line:
    """`heading` names the question, `said` answers it; `how` is what to do where there is no answer yet, or ""."""

    heading: str
    said: str
    tone: Tone = ""
    how: str = ""


def lines(facts: Mapping[str, Any]) -> list[Line]:
    """The headline in the order read. The decision is left out where the page already opens with it."""
    decided = [] if linear_first(facts) else [decision(facts)]
    return [*decided, certificate(facts), saving(facts)]


def decision(facts: Mapping[str, Any]) -> Line:
    use = facts["recommendation"]["use"]
    return Line("Decision", str(facts["recommendation"]["sentence"]), "good" if use == "student" else "unsure")


def certificate(facts: Mapping[str, Any]) -> Line:
    """Certified or not, for truth or for agreement with the teacher."""
    found = facts.get("certificate")
    if not found:
        return Line("Certificate", "No certificate yet.", "missing", f"aasut certify {facts['name']}")
    of_what = "" if found["against"] == "human" else ": agreement with the teacher"
    if found["certified"]:
        return Line(f"Certified{of_what}", str(found["sentence"]), "good")
    return Line(f"No certificate{of_what}", str(found["sentence"]), "unsure")


def saving(facts: Mapping[str, Any]) -> Line:
    """Return on investment where a value was declared; else the break-even, against the teacher first."""
    economics = facts["economics"]
    heading = "What it saves" if facts["recommendation"]["use"] == "student" else "What the student would save"
    if back := economics.get("return"):
        return Line(heading, str(back["sentence"]), "good" if back["ci"][0] > 0 else "unsure")
    said = economics["break_even"][0]["sentence"] if economics["break_even"] else economics["sentence"]
    return Line(heading, str(said), "", RETURN)


def linear_first(facts: Mapping[str, Any]) -> bool:
    """Is the linear model as good as the student? Then the report says so before anything else."""
    against = facts["against_linear"]
    return facts["recommendation"]["use"] == "linear" or (against is not None and not against["better"])
