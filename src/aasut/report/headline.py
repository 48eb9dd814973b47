"""What the person who pays reads first: a sentence each on the decision, the certificate and what it saves.

Where the run has not gone so far, the sentence says so and how to get there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

RETURN = "For the return on investment, declare economics.usd_per_correct_answer and economics.requests_per_month."

Tone = Literal["good", "unsure", "bad", "missing", ""]
BUT = {
    "pays": "",
    "undecided": " Whether owning it pays at the declared volume is not decided.",
    "does_not_pay": " But owning it does not pay at the declared volume.",
    "never_pays": " But owning it never pays.",
}
RETURNS: dict[str, Tone] = {"pays": "good", "undecided": "unsure", "does_not_pay": "bad", "never_pays": "bad"}


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
    """Which model to use by its answers; a student that does not pay is no plain good news."""
    chosen, back = facts["recommendation"], facts["economics"].get("return")
    if chosen["use"] != "student":
        return Line("Decision", str(chosen["sentence"]), "unsure")
    but = BUT[back["result"]] if back else ""
    return Line("Decision", f"{chosen['sentence']}{but}", "unsure" if but else "good")


def certificate(facts: Mapping[str, Any]) -> Line:
    """Certified or not, for truth or for agreement with the teacher."""
    found = facts.get("certificate")
    if not found:
        return Line("Certificate", "No certificate yet.", "missing", f"aasut certify {facts['name']}")
    of_what = "" if found["against"] == "human" else ": agreement with the teacher"
    if found["certified"]:
        return Line(f"Certified{of_what}", str(found["sentence"]), "good")
    return Line(f"Certificate{of_what}", str(found["sentence"]), "unsure")


def saving(facts: Mapping[str, Any]) -> Line:
    """Return on investment where a value was declared; else the break-even, against the teacher first."""
    economics = facts["economics"]
    heading = "What it saves" if facts["recommendation"]["use"] == "student" else "What the student would save"
    if back := economics.get("return"):
        return Line(heading, str(back["sentence"]), RETURNS[back["result"]])
    said = economics["break_even"][0]["sentence"] if economics["break_even"] else economics["sentence"]
    return Line(heading, str(said), "", RETURN)


def linear_first(facts: Mapping[str, Any]) -> bool:
    """Is the linear model as good as the student? Then the report says so before anything else."""
    against = facts["against_linear"]
    return facts["recommendation"]["use"] == "linear" or (against is not None and not against["better"])
