"""Which model to serve several fields with: a Mixture of Experts, a dense one, or a student for each field.

A model is out where it costs more bits per byte, on the mean over the fields, than the best one, and the interval of
that difference lies above 0. Of those left, the one that writes fastest at the larger batch is named; where several are
as fast as that, to the accuracy of timing, the one of them with the least memory, then the fastest at batch 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MIXTURE, STUDENTS, ACTIVE, TOTAL = "mixture", "students", "dense_active", "dense_total"
NAMES = {
    MIXTURE: "the mixture",
    STUDENTS: "separate students",
    ACTIVE: "the dense model of as many weights a token",
    TOTAL: "the dense model of as many weights in all",
}
BETTER = {
    MIXTURE: "The mixture serves this best",
    STUDENTS: "Separate students behind a classifier serve this better",
    ACTIVE: "A dense model serves this better",
    TOTAL: "A dense model serves this better",
}
ALIKE = 0.05  # speeds that differ by less than this share are one speed
BATCH = 16


@dataclass(frozen=True)
class Arm:
    """A way to serve all fields. `megabytes` of weights; `alone` and `together`: tokens written a second at batch 1
    and at BATCH; `bits` per byte, the mean over fields, None where it was not trained."""

    name: str
    megabytes: float
    alone: float
    together: float
    bits: float | None = None


@dataclass(frozen=True)
class More:
    """Bits per byte that one costs more than another, on the mean over fields, with an interval."""

    value: float
    lower: float
    upper: float

    def __str__(self) -> str:
        return f"{self.value:+.3f} ({self.lower:+.3f} to {self.upper:+.3f})"


@dataclass(frozen=True)
class Verdict:
    """`out`: those that cost more than `best`. `serve` is the recommendation; the rest are the first of those left."""

    best: str
    out: list[str]
    alone: str
    together: str
    smallest: str
    serve: str
    sentences: list[str]

    def as_dict(self) -> dict[str, Any]:
        return vars(self)


def decide(arms: Sequence[Arm], more: Mapping[tuple[str, str], More], how: str = "") -> Verdict:
    """Which to serve. more[a, b]: what a costs more than b, for all that were trained, the mixture among them.

    `how`: the command that trains what was not.
    """
    known = {arm.name: arm for arm in arms if arm.bits is not None}
    best = min(known, key=lambda name: known[name].bits or 0.0)
    out = [name for name in known if name != best and more[name, best].lower > 0]
    left = [arm for name, arm in known.items() if name not in out]
    fastest = max(left, key=lambda arm: arm.together)
    as_fast = [arm for arm in left if arm.together >= (1 - ALIKE) * fastest.together]
    serve = min(as_fast, key=lambda arm: (arm.megabytes, -arm.alone))
    alone, smallest = max(left, key=lambda arm: arm.alone), min(left, key=lambda arm: arm.megabytes)
    said = [_why(serve, known, more, left, out)]
    said += [
        f"{_begun(NAMES[name])} cost{'' if name == STUDENTS else 's'} {more[name, best]} bits per byte beside "
        f"{NAMES[best]}: out."
        for name in out
    ]
    if len(left) > 1:
        said.append(
            f"Of what is left, fastest at batch 1: {NAMES[alone.name]}; at batch {BATCH}: {NAMES[fastest.name]}; least "
            f"memory: {NAMES[smallest.name]}."
        )
    untrained = [arm for arm in arms if arm.bits is None]
    if untrained:
        said.append(_unknown(untrained, known[MIXTURE], how))
    return Verdict(best, out, alone.name, fastest.name, smallest.name, serve.name, said)


def _why(
    serve: Arm, known: Mapping[str, Arm], more: Mapping[tuple[str, str], More], left: Sequence[Arm], out: Sequence[str]
) -> str:
    """The recommendation, and what speaks for it."""
    if serve.name == MIXTURE:
        others = [arm for arm in left if arm is not serve]
        if not others:
            return f"{BETTER[MIXTURE]}: all else that was trained costs more bits per byte."
        each = "; ".join(f"{NAMES[arm.name]}: {_figures(arm)}" for arm in others)
        return f"{BETTER[MIXTURE]}: {_figures(serve)} ({each})."
    mixture = known[MIXTURE]
    which = "" if serve.name == STUDENTS else f"{NAMES[serve.name]}, "
    quality = f"{more[serve.name, MIXTURE]} bits per byte beside the mixture"
    if MIXTURE not in out:
        quality += ", no difference known" if more[serve.name, MIXTURE].upper >= 0 else ""
    return f"{BETTER[serve.name]}: {which}{_figures(serve)} (the mixture: {_figures(mixture)}), {quality}."


def _figures(arm: Arm) -> str:
    return f"{arm.together:,.0f} tokens/s at batch {BATCH}, {arm.alone:,.0f} at batch 1, {megabytes(arm.megabytes)} MB"


def megabytes(value: float) -> str:
    """With a digit behind the point where there are few."""
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.1f}"


def _unknown(arms: Sequence[Arm], mixture: Arm, how: str) -> str:
    """What is known of models that were not trained, and how to learn the rest."""
    each = "; ".join(f"{NAMES[arm.name]}: {_figures(arm)}" for arm in arms)
    faster = [arm for arm in arms if arm.together > mixture.together]
    whether = "whether that costs quality" if faster else "what they are worth"
    return f"Not trained: {each} (the mixture: {_figures(mixture)}). To learn {whether}: {how}."


def _begun(text: str) -> str:
    return text[:1].upper() + text[1:]
