"""What a certificate says: the promise in words, and on `test`, which the stage `evaluate` opened, how it bears out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aasut.evaluate import confidence, metrics
from aasut.evaluate.certify import Floats
from aasut.evaluate.paired import Comparison, compare
from aasut.evaluate.verdict import Answers
from aasut.store import Artefact


def sentence(found: Mapping[str, Any], items: int) -> str:
    """What is guaranteed, or that nothing is, in words. items: usable rows of `calibrate`."""
    risk, human, n = f"{found['risk'] * 100:g} %", found["against"] == "human", found["n"]
    people = "human answers" if human else "answers of the teacher"
    counted = f"{n:,} {people}" + ("" if n == items else f", one of each group of {items:,}")
    if not found["certified"]:
        more = found["more_gold"]
        ask = (
            f"About {more:,} more {people} in `calibrate`, each of a group of its own, would give one."
            if more is not None
            else "More answers cannot be promised to help: the risk seen is nowhere under the target."
        )
        return f"No certificate: {counted} do not show a risk of at most {risk} at any threshold. Defer all. {ask}"
    truth = "the human answer" if human else "the teacher's answer, which need not be right"
    if found["kind"] == "selective":
        what = f"at most {risk} of the answers that the student gives itself differ from {truth}"
    elif human:
        what = f"student and teacher together err on at most {risk} of all requests more than the teacher alone"
    else:
        what = f"at most {risk} of all requests get an answer that differs from {truth}"
    return (
        f"With {found['confidence'] * 100:g} % confidence {what}; it answers {found['coverage']['value'] * 100:.1f} % "
        f"and defers the rest. Shown on {counted}: {found['accepted']:,} accepted, {found['bad']:,} of them bad."
        + _together(found)
    )


def _together(found: Mapping[str, Any]) -> str:
    """A set that was looked at several times proves less: the chances that a promise is broken add up (Bonferroni)."""
    times, left = found["calibrate_opened"], 1 - found["calibrate_opened"] * (1 - found["confidence"])
    if times < 2:
        return ""
    said = f"with {left * 100:.4g} % confidence" if left > 0 else "with none"
    return f" `calibrate` was opened {times:,} times: that many certificates hold together {said}."


def shown(answers: Answers, predicted: Mapping[str, Any], made: Artefact | None) -> dict[str, Any]:
    """What the report says: `certificate`, None where there is none, and `risk_coverage` of the student on `test`."""
    wrong = [not right for right in answers.correct("student")]
    found = None if made is None else {k: v for k, v in made.facts.items() if k not in ("calls", "conservation")}
    scorer = confidence.Scorer("label" if "probabilities" in predicted else "least_token")
    if found is not None:
        scorer = _scorer(found)
    scores = scorer.scores(test_features(predicted))
    curve: dict[str, Any] = confidence.risk_coverage(scores.tolist(), wrong)
    curve["certified"] = None
    if found is not None and found["certified"]:
        accepted = scores >= found["threshold"]
        inside = [bad for bad, yes in zip(wrong, accepted, strict=True) if yes]
        groups = [group for group, yes in zip(answers.groups, accepted, strict=True) if yes]
        found["on_test"] = None
        if len(set(groups)) > 1:
            risk = metrics.accuracy(inside, groups, found["confidence"])
            curve["certified"] = {"coverage": float(accepted.mean()), "risk": risk.value}
            found["on_test"] = curve["certified"] | {"ci": [risk.lower, risk.upper], "accepted": len(inside)}
    return {"certificate": found, "risk_coverage": curve}


def deferring(
    answers: Answers, predicted: Mapping[str, Any], found: Mapping[str, Any] | None
) -> tuple[float, Comparison] | None:
    """(share of requests deferred, student minus teacher on the others), by a certificate as `shown` gives it.

    None where nothing is certified, or the others are of under two groups of `test`.
    """
    if found is None or found.get("on_test") is None:
        return None
    accept = (_scorer(found).scores(test_features(predicted)) >= found["threshold"]).tolist()

    def kept(values: Sequence[Any]) -> list[Any]:
        return [value for value, yes in zip(values, accept, strict=True) if yes]

    student, teacher = kept(answers.correct("student")), kept(answers.correct("teacher"))
    pair = compare(student, teacher, kept(answers.groups), found["confidence"])
    return 1 - float(found["coverage"]["value"]), pair


def _scorer(found: Mapping[str, Any]) -> confidence.Scorer:
    return confidence.Scorer(**{n: found["scorer"][n] for n in ("kind", "weights", "bias", "centre", "scale")})


def test_features(predicted: Mapping[str, Any]) -> Floats:
    """What the student's scores of `test` are made from, [examples, features], out of predictions.json."""
    if "probabilities" in predicted:
        return np.asarray(np.array(predicted["probabilities"]["student"], np.float64).max(axis=1, keepdims=True))
    return np.array(predicted["logprob_quantiles"]["student"], np.float64)
