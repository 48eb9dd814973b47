"""The number of human answers against exact power, its inverse, and what agreement on everything wants."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, norm

from aasut.evaluate import paired, power, tango


def tables(n: int, discordance: float, difference: float) -> tuple[Any, Any, Any]:
    """Items that one side alone has right, of n, and how likely these numbers are."""
    a, b = np.meshgrid(*[np.arange(int(n * discordance + 8 * (n * discordance) ** 0.5) + 10)] * 2)
    chance = binom.pmf(a + b, n, discordance) * binom.pmf(a, a + b, (1 + difference / discordance) / 2)
    return a[chance > 1e-12], b[chance > 1e-12], chance[chance > 1e-12]


def exact(n: int, margin: float, discordance: float, difference: float) -> float:
    """Chance that Tango's score passes the margin, over all tables of n independent items."""
    score = np.vectorize(tango.score)
    a, b, chance = tables(n, discordance, difference)
    return float(chance[score(a, b, n, -margin) > norm.ppf(0.95)].sum())


@pytest.mark.parametrize(
    ("margin", "discordance", "difference"),
    [(0.02, 0.1, 0.0), (0.03, 0.05, 0.0), (0.06, 0.1, 0.0), (0.05, 0.04, 0.0), (0.03, 0.1, 0.01), (0.04, 0.2, -0.01)],
)
def test_the_number_gives_the_power_that_it_promises(margin: float, discordance: float, difference: float) -> None:
    needed = power.examples_needed(margin, 0.95, discordance, difference=difference)
    assert 0.795 <= exact(needed, margin, discordance, difference) <= 0.84
    for n in (needed, needed // 2, needed * 2):
        said = power.power_of(n, margin, 0.95, discordance, difference=difference)
        assert said == pytest.approx(
            exact(n, margin, discordance, difference), abs=0.07 if discordance < margin else 0.025
        )


def test_it_is_near_the_published_rule_where_the_margin_is_small() -> None:
    # (1.645 + .842)^2 * .1 / .02^2 = 1,545.6
    assert power.examples_needed(0.02, 0.95, 0.1) == pytest.approx(1546, rel=0.025)
    assert power.examples_needed(0.02, 0.95, 0.2) == pytest.approx(3092, rel=0.005)
    assert power.examples_needed(0.001, 0.95, 0.1) == pytest.approx(618256, rel=1e-3)
    single, effect = (power.examples_needed(0.02, 0.95, 0.1, e) for e in (1, 1.5))
    assert effect == pytest.approx(1.5 * single, abs=1)


def test_power_at_the_margin_is_the_level_and_grows_from_there() -> None:
    assert power.power_of(1000, 0.03, 0.95, 0.1, difference=-0.03) == pytest.approx(0.05, abs=1e-9)
    grown = [power.power_of(n, 0.03) for n in (50, 200, 800, 3200)]
    assert grown == sorted(grown)
    assert power.power_of(717, 0.03) == pytest.approx(0.8, abs=1e-3)
    assert power.power_of(1434, 0.03, design_effect=2) == pytest.approx(power.power_of(717, 0.03))
    assert [power.power_of(n, 0.03, discordance=0.0) for n in (87, 88)] == [0, 1]


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
