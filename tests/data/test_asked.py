"""The file of rows that were asked, and what they tell of the whole pool."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import small_run
from aasut import recipe as recipes
from aasut.data import acquire, asked
from aasut.data.asked import Line
from aasut.errors import DataError

LINES = [Line("0:a", "h1", 1, "random", 0.25, 7), Line("0:b\u2028", "h2", 1, "chosen", 0.5, 7)]


def recipe(**data: object) -> recipes.Recipe:
    plain = small_run.recipe()
    plain["data"] |= {"asked": "asked.jsonl"} | data
    return recipes.parse(plain, "test")


def test_lines_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "asked.jsonl"
    assert asked.read(path) == []
    asked.add(path, [], LINES)
    more = [Line("0:c", "h3", 2, "chosen", 1.0, 7)]
    asked.add(path, LINES, more)
    assert asked.read(path) == LINES + more
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_changed_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "asked.jsonl"
    asked.add(path, [], LINES)
    with pytest.raises(DataError, match="changed by another process"):
        asked.add(path, [], LINES[:1])
    assert asked.read(path) == LINES


@pytest.mark.parametrize(
    "broken",
    ["{", "[]", "17", '"x"', "{}"]
    + [
        json.dumps({"id": "0:a", "slots": "h", "round": 1, "arm": "random", "probability": 0.5, "seed": 7} | change)
        for change in (
            {"arm": "other"}, {"probability": 0}, {"probability": 1.5}, {"round": 0}, {"round": "1"}, {"id": ""},
            {"more": 1}, {"probability": None}, {"seed": True}, {"arm": ["random"]},
        )
    ],
)  # fmt: skip
def test_a_line_that_is_none_of_ours_is_refused_with_its_number(tmp_path: Path, broken: str) -> None:
    path = tmp_path / "asked.jsonl"
    asked.add(path, [], LINES)
    path.write_text(path.read_text() + "\n" + broken + "\n")
    with pytest.raises(DataError, match=r"asked.jsonl, line 4: this is no row that was asked"):
        asked.read(path)


def test_no_text_and_no_file_are_told(tmp_path: Path) -> None:
    (tmp_path / "asked.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="it is no UTF-8"):
        asked.read(tmp_path / "asked.jsonl")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        asked.read(tmp_path)


def test_lines_of_rows_that_are_gone_or_changed_do_not_count(tmp_path: Path) -> None:
    asked.add(tmp_path / "asked.jsonl", [], [*LINES, replace(LINES[0], id="0:x")])
    found = asked.settled(recipe(max_failed=0.9), tmp_path, {"0:a": "h1", "0:b\u2028": "other"})
    assert list(found.lines) == ["0:a"]
    assert found.refused == {"0:b\u2028": asked.CHANGED, "0:x": asked.NO_ROW}
    assert found.chosen == set()
    assert found.conservation({"0:a"}).as_dict() == {
        "in": 3, "kept": 1, "dropped": {}, "failed": {asked.CHANGED: 1, asked.NO_ROW: 1},
    }  # fmt: skip
    assert found.conservation(set()).dropped == {asked.NOT_IN_POOL: 1}
    with pytest.raises(DataError, match=r"2 of 3 rows cannot be used .*more than data.max_failed \(0.02\)"):
        asked.settled(recipe(), tmp_path, {"0:a": "h1"})


def test_a_recipe_without_the_option_asks_the_whole_pool(tmp_path: Path) -> None:
    plain = recipes.parse(small_run.recipe(), "test")
    assert asked.path_of(plain, tmp_path) is None
    assert asked.whole(recipe()) == plain.model_copy(update={"data": asked.whole(recipe()).data})
    assert asked.settled(plain, tmp_path, {}).lines == {}


def test_weights_lead_back_to_the_pool_whatever_the_choice_hung_on() -> None:
    """Three rounds, each chosen by the answers so far: the weighted share is right on average, the bare one is not.

    And its spread is what the variance says.
    """
    random = np.random.default_rng(0)
    pool = 240
    vectors = random.normal(size=(pool, 3))
    answers = vectors[:, 0] + 0.5 * random.normal(size=pool) > 0.8
    found, bare, variance = [], [], []
    for seed in range(120):
        lines: list[Line] = []
        for number in (1, 2, 3):
            left = np.setdiff1d(np.arange(pool), [int(line.id) for line in lines])
            seen = [int(line.id) for line in lines if answers[int(line.id)]]
            # What is like the answers `yes` that were seen is asked more: the choice hangs on the answers.
            scores = np.exp(vectors[left] @ vectors[seen].mean(axis=0)) if seen else None
            for one in acquire.pick(vectors[left], scores, 20, 0.3, (seed, number)):
                lines.append(Line(str(left[one.row]), "h", number, one.arm, one.probability, 7))
        weights = asked.weigh(lines, pool - len(lines))
        mass = np.array([weights.rows[line.id] for line in lines])
        yes = np.array([answers[int(line.id)] for line in lines])
        assert mass.sum() == pytest.approx(pool)
        assert mass.min() >= 0
        found.append(mass @ yes / pool)
        bare.append(yes.mean())
        variance.append(weights.variance)
    truth = answers.mean()
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - truth) < 3.5 * error
    assert np.mean(bare) - truth > 10 * error
    assert np.std(found) < 1.1 * np.sqrt(truth * (1 - truth) * np.mean(variance))  # strata make it smaller still


def test_rows_drawn_by_score_count_as_what_is_known_and_fair_samples_for_the_rest() -> None:
    lines = [Line(f"a{i}", "h", 1, "random", 0.1, 7) for i in range(10)]
    scored = [Line(f"b{i}", "h", 1, "chosen", 0.01 * (i + 1), 7) for i in range(20)]
    later = [Line(f"c{i}", "h", 2, "random", 0.5, 7) for i in range(10)]
    weights = asked.weigh([*lines, *scored, *later], 60)
    precision = np.array([10 / (1 - 10 / 100), 10 / (1 - 10 / 70) / 0.7**2])
    first, second = precision / precision.sum()
    assert weights.rows["a0"] == pytest.approx(first * 10 + second)
    assert weights.rows["b0"] == weights.rows["b19"] == pytest.approx(second)
    assert weights.rows["c0"] == pytest.approx(second * 7)
    assert weights.variance == pytest.approx(1 / precision.sum())
    alone = asked.weigh(scored, 80)  # no fair sample is left of what was asked: better a poor weight than none
    assert sum(alone.rows.values()) == pytest.approx(100)


def test_a_simple_random_sample_counts_alike_and_a_whole_pool_is_exact() -> None:
    sample = [Line(str(i), "h", 1, "random", 0.2, 7) for i in range(10)]
    weights = asked.weigh(sample, 40)
    assert list(weights.rows.values()) == pytest.approx([5.0] * 10)
    assert weights.variance == pytest.approx((1 - 10 / 50) / 10)  # Cochran 1977, (2.20)
    rest = [Line(str(10 + i), "h", 2, "chosen", 1.0, 7) for i in range(40)]
    weights = asked.weigh([*sample, *rest], 0)
    assert list(weights.rows.values()) == pytest.approx([1.0] * 50)
    assert weights.variance == 0.0
