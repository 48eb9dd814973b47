"""The number of human answers: the published figure, its inverse, and the floor without discordance."""

from __future__ import annotations

import random

import pytest

from aasut.evaluate import paired, power


def test_the_published_figure() -> None:
    # (1.645 + .842)^2 * .1 / .02^2 = 1,545.6
    assert power.examples_needed(0.02, 0.95, 0.1) == 1546
    assert power.examples_needed(0.02, 0.95, 0.2) == 3092
    assert power.examples_needed(0.04, 0.95, 0.1) == 387
    assert power.examples_needed(0.02, 0.95, 0.1, design_effect=1.5) == 2319


def test_agreement_on_everything_still_wants_what_the_bound_asks() -> None:
    needed = power.examples_needed(0.03, 0.95, 0.0)
    right = [True] * needed
    assert paired.verdict(right, right, list(range(needed)), 0.03).result == "non_inferior"
    fewer = right[: needed * 9 // 10]
    assert paired.verdict(fewer, fewer, list(range(len(fewer))), 0.03).result == "undecided"


def test_the_verdict_is_reached_as_often_as_promised() -> None:
    margin, discordance = 0.06, 0.1
    needed = power.examples_needed(margin, 0.95, discordance)
    draw = random.Random(1)
    reached = 0
    for _ in range(300):
        kinds = [draw.random() for _ in range(needed)]
        student = [kind >= discordance / 2 for kind in kinds]
        teacher = [not discordance / 2 <= kind < discordance for kind in kinds]
        reached += paired.verdict(student, teacher, list(range(needed)), margin).result == "non_inferior"
    assert reached / 300 == pytest.approx(0.8, abs=0.08)


@pytest.mark.parametrize("discordance", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("margin", [0.01, 0.03, 0.2])
def test_the_margin_shown_is_the_inverse(margin: float, discordance: float) -> None:
    needed = power.examples_needed(margin, 0.9, discordance, 1.3)
    assert power.margin_shown(needed, 0.9, discordance, 1.3) <= margin
    assert power.margin_shown(needed - 1, 0.9, discordance, 1.3) > margin
