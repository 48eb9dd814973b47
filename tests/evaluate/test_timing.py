from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from aasut.evaluate.timing import Ask, measure
from aasut.types import Usage

EACH = Usage(prompt_tokens=10, completion_tokens=1, cached_tokens=4)


def model(log: list[tuple[str, list[int]]], name: str, seconds: float = 0.0, slow_spell: float = 0.0) -> Ask:
    """Takes `seconds` for a request; its second call, the first that counts, takes `slow_spell` more."""
    calls = [0]

    def ask(numbers: Sequence[int]) -> Usage:
        calls[0] += 1
        log.append((name, list(numbers)))
        time.sleep(seconds * len(numbers) + (slow_spell if calls[0] == 2 else 0))
        return Usage(10 * len(numbers), len(numbers), 4 * len(numbers))

    return ask


def test_tokens_are_a_requests_own_and_cached_ones_are_not_computed() -> None:
    found = measure({"a": model([], "a")}, 100)["a"]
    assert found.tokens_per_request == EACH.prompt_tokens + EACH.completion_tokens
    assert found.computed_per_request == found.tokens_per_request - EACH.cached_tokens


def test_every_repetition_asks_each_request_once_after_a_warm_up() -> None:
    log: list[tuple[str, list[int]]] = []
    measure({"a": model(log, "a")}, 100, batch=40, repetitions=2)
    warm, *timed = [numbers for _, numbers in log]
    assert warm == list(range(8))
    assert timed == [list(range(40)), list(range(40, 80)), list(range(80, 100))] * 2


def test_models_take_turns() -> None:
    log: list[tuple[str, list[int]]] = []
    measure({"a": model(log, "a"), "b": model(log, "b")}, 10, repetitions=3)
    assert [name for name, _ in log] == ["a", "b"] * 4


def test_speed_is_requests_by_time() -> None:
    found = measure({"slow": model([], "slow", 0.004), "fast": model([], "fast", 0.001)}, 40)
    assert 125 < found["slow"].requests_per_s <= 250
    assert found["fast"].requests_per_s > 2 * found["slow"].requests_per_s


def test_one_slow_spell_does_not_count() -> None:
    found = measure({"a": model([], "a", 0.001, slow_spell=1.0)}, 20, repetitions=3)
    assert found["a"].requests_per_s > 100
    first, *others = found["a"].repetitions
    assert first < 20 < 100 < min(others)
    assert found["a"].requests_per_s == pytest.approx(sorted([first, *others])[1])


def test_few_requests_are_no_trouble() -> None:
    log: list[tuple[str, list[int]]] = []
    assert measure({"a": model(log, "a")}, 1, repetitions=1)["a"].tokens_per_request == pytest.approx(11)
    assert [numbers for _, numbers in log] == [[0], [0]]
