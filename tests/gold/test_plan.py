"""How many rows, which ones, and which of them twice."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest

from aasut.errors import RecipeError
from aasut.gold import plan
from aasut.recipe import Recipe, parse
from aasut.types import Example
from small_run import recipe as small

ROWS = [Example(f"0:{i}", {"text": f"t{i}"}, f"g{i % 50}") for i in range(200)]


def recipe(margin: float = 0.02, **data: Any) -> Recipe:
    plain = small(evaluate={"margin": margin})
    plain["data"] |= data
    return parse(plain, "t")


def make(reachable: int = 99999, tables_test: int = 0, report: Path = Path("none"), **flags: Any) -> plan.Plan:
    wishes = {"discordance": None, "count": None} | flags
    return plan.make(recipe(), reachable, tables_test, report, **wishes)


def test_the_order_has_whole_groups_and_stays_as_rows_come() -> None:
    found = plan.order(ROWS, 7)
    groups = [row.group for row in found]
    assert sum(a != b for a, b in itertools.pairwise(groups)) == 49
    shuffled = random.Random(1).sample(ROWS, len(ROWS))
    assert plan.order(shuffled, 7) == found
    fewer = [row for row in ROWS if int(row.group[1:]) % 3]
    assert plan.order(fewer, 7) == [row for row in found if row in fewer]
    assert plan.order(ROWS, 8) != found
    assert found != ROWS


def test_doubles_are_a_share_of_any_beginning_and_stay() -> None:
    many = [Example(f"0:{i}", {}, "g") for i in range(4000)]
    some = plan.twice(many, 0.1, 7)
    assert len(some) / 4000 == pytest.approx(0.1, abs=0.02)
    assert plan.twice(many[:100], 0.1, 7) == {row.id for row in many[:100]} & some
    assert some < plan.twice(many, 0.2, 7)
    assert plan.twice(many, 0.0, 7) == set()
    assert len(plan.twice(many, 1.0, 7)) == 4000


def test_the_number_is_the_power_formulas_with_the_other_splits_shares() -> None:
    found = make()
    # 1,578 in test, which takes 32 of every 50 answers by hand.
    assert (found.test_wanted, found.wanted, found.asked) == (1578, 2466, 2466)
    assert "2,466 answers are wanted, 1,578 of them for the test" in found.sentence()
    assert "a guess" in found.sentence()
    assert make(discordance=0.2).wanted == 4850
    assert make(tables_test=1000).test_wanted == 578
    assert make(tables_test=2000).asked == 0


def test_what_is_reachable_is_asked_and_what_it_can_show_is_said() -> None:
    found = make(reachable=1600)
    assert found.asked == 800  # half of the weights are the pool's: its half is left to the teacher
    # 512 in test
    said = "Of the tables' 1,600 rows 800 are asked, the rest is for the teacher: enough to show a margin of about 3.6"
    assert said in found.sentence()
    assert "enough to show a margin of about 5.2 points." in make(count=400).sentence()
    assert make(count=400, reachable=300).asked == 300
    assert make(count=250, reachable=300).asked == 250
    assert make(count=5000).asked == 5000
    assert "enough to show" not in make(count=5000).sentence()


def test_an_earlier_run_says_how_often_student_and_teacher_differ(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"verdict": {"discordance": 0.05, "design_effect": 1.2, "n": 400}}))
    found = make(report=report)
    assert found.test_wanted == 1004
    assert "differing on 5 %: measured on 400 answers" in found.sentence()
    assert make(report=report, discordance=0.1).test_wanted == 1578  # a flag goes before it
    for damaged in ("", "[]", "{}", '{"verdict": {"discordance": "x"}}'):
        report.write_text(damaged)
        assert make(report=report).test_wanted == 1578


@pytest.mark.parametrize("flags", [{"discordance": 0}, {"discordance": 1.5}, {"count": 0}, {"count": -3}])
def test_flags_without_sense_are_refused(flags: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        make(**flags)


def test_a_test_split_without_weight_is_refused() -> None:
    with pytest.raises(RecipeError, match="gives test no weight"):
        plan.make(recipe(split={"test": 0}), 10, 0, Path("none"), discordance=None, count=None)
