from __future__ import annotations

import math
import random

import pytest

from aasut.student import spikes

CLIP = 1.0


def usual(count: int = 40, middle: float = 2.0, spread: float = 0.1) -> list[float]:
    draw = random.Random(0)
    return [draw.gauss(middle, spread) for _ in range(count)]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_found_from_the_first_step(value: float) -> None:
    assert spikes.found(value, 1.0, [], [], CLIP) == "is no number"
    assert spikes.found(1.0, value, [], [], CLIP) == "is no number"
    assert spikes.found(1.0, 1.0, [], [], CLIP) == ""


def test_a_loss_far_over_all_of_late_is_a_spike() -> None:
    before, norms = usual(), usual(middle=5.0)
    assert spikes.found(6.0, 5.0, before, norms, CLIP) == "jumped to 6 from about 2"
    assert spikes.found(2.6, 5.0, before, norms, CLIP) == ""
    assert spikes.found(0.1, 0.1, before, norms, CLIP) == ""
    assert spikes.found(6.0, 5.0, before[:15], norms[:15], CLIP) == ""  # too few to say what is usual
    assert spikes.found(6.0, 5.0, [9.0, *usual(64)], usual(65), CLIP) != ""  # the first is forgotten


def test_a_hard_batch_late_in_training_is_none() -> None:
    """Where losses are near zero one wrong label makes a step's many times larger: that is to be learned."""
    before = usual(middle=0.01, spread=0.002)
    assert spikes.found(0.2, 0.5, before, usual(middle=0.05, spread=0.01), CLIP) == ""


def test_a_gradient_far_over_all_of_late_is_a_spike_if_it_is_clipped() -> None:
    before, norms = usual(), usual(middle=0.1, spread=0.01)
    assert spikes.found(2.0, 3.0, before, norms, CLIP) == "has a gradient of norm 3 where about 0.098 is usual"
    assert spikes.found(2.0, 3.0, before, norms, 4.0) == ""
    assert spikes.found(2.0, 1.1, before, usual(middle=0.5), CLIP) == ""
