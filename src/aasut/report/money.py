"""The money side of a run's facts: the case that its recipe and its measurements make, and what is weighed on it."""

from __future__ import annotations

from typing import Any

from aasut.economics.case import Case
from aasut.economics.cost import SECONDS_PER_HOUR
from aasut.economics.returns import Difference, Noise, returns
from aasut.economics.tornado import tornado, tornado_sentence
from aasut.recipe import Recipe

Plain = dict[str, Any]
BY_HAND = ("tune", "calibrate", "test")


def case(recipe: Recipe, facts: Plain, certified: tuple[float, Difference] | None = None) -> tuple[Case, Difference]:
    """The case of a run, and student minus teacher on the requests that are not deferred.

    A local teacher's labels cost machine time; an API's cost what the ledger says; people's what is
    declared. A declared share deferred goes before a certified one. Without a certificate the
    difference is that on all test items, as if requests were deferred blindly.
    """
    declared = recipe.economics
    teacher, student, verdict = facts["teacher"], facts["student"], facts["verdict"]
    paid = facts["ledger"]["usd_spent"] + facts["ledger"]["usd_reused"]
    seconds = facts["seconds"]
    low, high = verdict["ci"]
    share, difference = certified or (0.0, Difference(verdict["difference"], low, high, verdict["confidence"]))
    return Case(
        requests_per_month=declared.requests_per_month or 0,
        usd_per_machine_hour=declared.usd_per_machine_hour,
        utilisation=declared.utilisation,
        student_requests_per_s=student["requests_per_s"],
        teacher_requests_per_s=teacher["requests_per_s"],
        teacher_usd_per_million_requests=teacher["usd_per_million_requests"],
        fixed_usd_per_month=declared.fixed_usd_per_month,
        labels_usd=paid + human_answers(facts) * declared.usd_per_human_answer,
        labelling_hours=0.0 if paid else (seconds["label"] + seconds["choose"]) / SECONDS_PER_HOUR,
        training_hours=(seconds["train"] + seconds.get("prefer", 0.0)) / SECONDS_PER_HOUR,
        months=declared.months,
        deferred_share=share if declared.deferred_share is None else declared.deferred_share,
        dedicated=declared.machines == "dedicated",
        usd_per_correct_answer=declared.usd_per_correct_answer or 0.0,
        difference=difference.value,
    ), difference


def human_answers(facts: Plain) -> int:
    """Rows that people answered: all of tune, calibrate and test."""
    return sum(facts["data"]["counts"].get(split, 0) for split in BY_HAND)


def weighed(recipe: Recipe, facts: Plain, found: Case, difference: Difference) -> Plain:
    """{"return", "tornado", "tornado_of", "hangs_on"}: a return wants a right answer's worth, the rest a volume."""
    declared = recipe.economics
    if declared.requests_per_month is None:
        return {"return": None, "tornado": [], "tornado_of": None, "hangs_on": ""}
    models = [facts["teacher"], facts["student"], *facts["baselines"].values()]
    noise = Noise.of([model.get("requests_per_s_repetitions") or [] for model in models])
    bars = tornado(found, difference, declared.ranges.by_name(), noise)
    back = None if declared.usd_per_correct_answer is None else returns(found, difference, noise).as_dict()
    return {"return": back, **bars, "hangs_on": tornado_sentence(bars)}
