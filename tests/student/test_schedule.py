from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from aasut.recipe import ModelAddress, Student
from aasut.student import schedule


@pytest.mark.parametrize(("count", "batch"), [(50, 8), (7, 8), (300, 4)])
def test_each_epoch_has_each_example_once(count: int, batch: int) -> None:
    draw = random.Random(1)
    lengths = [draw.randint(1, 90) for _ in range(count)]
    steps = schedule.steps(lengths, 3, batch, seed=2)
    each = -(-count // batch)
    assert len(steps) == 3 * each
    for epoch in range(3):
        part = steps[epoch * each : (epoch + 1) * each]
        assert Counter(i for step in part for i in step) == Counter(range(count))
        assert max(len(step) for step in part) <= batch
    assert steps == schedule.steps(lengths, 3, batch, seed=2)
    assert count < 10 or (steps != schedule.steps(lengths, 3, batch, seed=3) and steps[:each] != steps[each : 2 * each])


def test_steps_hold_examples_of_like_length() -> None:
    draw = random.Random(1)
    lengths = [draw.randint(1, 90) for _ in range(512)]

    def padded(steps: list[list[int]]) -> float:
        computed = sum(max(lengths[i] for i in step) * len(step) for step in steps)
        return 1 - sum(lengths) / computed

    assert padded(schedule.steps(lengths, 1, 16, seed=1)) < 0.12
    assert padded([list(range(start, start + 16)) for start in range(0, 512, 16)]) > 0.3


def rates(count: int = 100, **settings: Any) -> list[float]:
    student = Student(model=ModelAddress(address="file:model"), learning_rate=2.0, **settings)
    return [schedule.rate(step, count, student) for step in range(count)]


def test_the_rate_rises_and_falls_to_nothing_as_half_a_cosine() -> None:
    found = rates()
    assert found[:10] == pytest.approx([0.2 * (i + 1) for i in range(10)])
    assert found[55] == pytest.approx(1.0)
    assert found[9:] == sorted(found[9:], reverse=True)
    assert 0 < found[-1] < 0.002
    assert rates(1) == [2.0]


def test_the_rate_stays_and_falls_late() -> None:
    found = rates(schedule="wsd", decay=0.25)
    assert found[:10] == pytest.approx([0.2 * (i + 1) for i in range(10)])
    assert set(found[10:76]) == {2.0}
    assert found[75:] == sorted(found[75:], reverse=True)
    assert found[84] == pytest.approx(2.0 * (1 - 0.6))  # nine of 25 steps: the square root is 3 / 5
    assert 0 < found[-1] < 0.05
    assert rates(4, schedule="wsd", decay=1.0, warmup=0.25) == pytest.approx(
        [2.0, 2.0, 2.0 * (1 - (1 / 3) ** 0.5), 2.0 * (1 - (2 / 3) ** 0.5)]
    )


def test_mixed_steps_hold_examples_of_all_lengths() -> None:
    lengths = list(range(512))
    found = schedule.steps(lengths, 1, 16, seed=1, mixed=True)
    assert sorted(i for step in found for i in step) == lengths
    assert min(max(step) - min(step) for step in found) > 200
