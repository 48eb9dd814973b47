"""Rounds of budgeted labelling: what is drawn, when it stops, and that a run then pays for nothing."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

import small_run
from aasut import pipeline, recipe
from aasut.commands import labelling
from aasut.commands.labelling import Round
from aasut.data import asked, gold, split
from aasut.errors import RecipeError, TeacherError
from aasut.forecast.forecast import forecast
from aasut.gold import plan
from aasut.progress import Progress
from aasut.recipe import Recipe

QUIET = Progress(quiet=True)


def write(folder: Path, rows: int = 240, **changes: Any) -> Recipe:
    plain = small_run.recipe(**changes)
    plain["data"] |= {"asked": "asked.jsonl"}
    return recipe.load(small_run.write_recipe(folder, plain, rows=rows))


def ask(made: Recipe, folder: Path, budget: int, random_share: float = 0.2) -> Round:
    found = labelling.ask(made, folder, folder / "runs", QUIET, budget, random_share)
    for rows in found.conservation.values():
        assert rows["in"] == rows["kept"] + sum(rows["dropped"].values()) + sum(rows["failed"].values())
    return found


def lines(folder: Path) -> list[asked.Line]:
    return asked.read(folder / "asked.jsonl")


def test_rounds_go_on_until_the_pool_is_asked(tmp_path: Path) -> None:
    made = write(tmp_path)
    first, second = ask(made, tmp_path, 40), ask(made, tmp_path, 40)
    assert first.by == "diversity alone: no label is there yet"
    assert second.by == "uncertainty and diversity"
    assert (first.calls, second.calls, second.asked, second.left) == (40, 40, 80, 40)
    last = ask(made, tmp_path, 99)
    assert (last.random + last.chosen, last.left) == (40, 0)
    assert last.whole_pool is not None
    assert last.whole_pool["shares"]["negative"]["low"] == pytest.approx(last.whole_pool["shares"]["negative"]["high"])
    found = lines(tmp_path)
    assert len({line.id for line in found}) == 120
    assert Counter((line.round, line.arm) for line in found) == {
        (1, "random"): 8, (1, "chosen"): 32, (2, "random"): 8, (2, "chosen"): 32, (3, "random"): 8, (3, "chosen"): 32,
    }  # fmt: skip
    assert {line.probability for line in found if line.arm == "random"} == {8 / 120, 8 / 80, 8 / 40}
    assert all(line.seed == made.seed for line in found)
    with pytest.raises(RecipeError, match="Every row of the pool was asked"):
        ask(made, tmp_path, 1)
    assert lines(tmp_path) == found


def test_a_run_afterwards_uses_what_was_asked_and_asks_for_the_test_alone(tmp_path: Path) -> None:
    made = write(tmp_path)
    ask(made, tmp_path, 60)
    foreseen = forecast(made, tmp_path, tmp_path / "runs", QUIET, "full", probing=False, latency_s=None)
    foreseen_calls = {line.stage: line.calls for line in foreseen.lines}
    finished = pipeline.run(made, tmp_path, tmp_path / "runs", QUIET)
    assert finished.calls_made == finished.facts["data"]["counts"]["test"]
    assert finished.facts["data"]["counts"]["pool"] == 60
    assert finished.facts["conservation"]["data"]["dropped"] == {split.NOT_ASKED: 60}
    assert finished.facts["conservation"]["train linear"]["kept"] == 60
    assert foreseen_calls["label"] == 0
    assert sum(foreseen_calls.values()) == finished.calls_made
    again = pipeline.run(recipe.load(finished.folder / "recipe.yaml"), finished.folder, tmp_path / "runs", QUIET)
    assert again.calls_made == 0  # the published recipe finds the file too


def test_one_and_the_same_file_gives_one_and_the_same_next_round(tmp_path: Path) -> None:
    for name in "ab":
        made = write(tmp_path / name)
        ask(made, tmp_path / name, 40)
        ask(made, tmp_path / name, 20)
    assert (tmp_path / "a" / "asked.jsonl").read_bytes() == (tmp_path / "b" / "asked.jsonl").read_bytes()


def test_one_answer_to_all_stops_and_the_next_round_goes_by_diversity(tmp_path: Path) -> None:
    made = write(tmp_path, teacher={"scripted": {"great": "positive", "": "negative"}})
    with pytest.raises(TeacherError, match="the same answer"):
        ask(made, tmp_path, 1)
    assert len(lines(tmp_path)) == 1
    found = ask(made, tmp_path, 60)
    assert (found.number, found.by, found.calls) == (2, "diversity alone: no label is there yet", 60)


def test_few_labels_make_no_model(tmp_path: Path) -> None:
    made = write(tmp_path)
    ask(made, tmp_path, 6)
    assert ask(made, tmp_path, 6).by == "diversity alone: fewer than 10 labels are there"


def test_a_teacher_that_is_asked_otherwise_must_fit_the_budget(tmp_path: Path) -> None:
    ask(write(tmp_path), tmp_path, 30)
    other = write(tmp_path, teacher={"scripted": small_run.RULES, "prompt": "Say it of: {text}"})
    with pytest.raises(RecipeError, match=r"30 of the 30 rows in asked.jsonl .* Give --budget 30"):
        ask(other, tmp_path, 20)
    found = ask(other, tmp_path, 30)
    assert (found.resumed, found.calls, found.asked) == (True, 30, 30)
    assert ask(other, tmp_path, 5).number == 2


def test_rows_that_fail_are_no_open_round(tmp_path: Path) -> None:
    rules = {"camera": "perhaps"} | small_run.RULES
    made = write(tmp_path, teacher={"scripted": rules, "max_failed": 0.8})
    first = ask(made, tmp_path, 40)
    failed = first.conservation["label"]["failed"]["the answer is not in the list"]
    assert failed > 3
    second = ask(made, tmp_path, 20)
    assert (second.number, second.resumed, second.asked) == (2, False, 60)


def test_texts_go_by_diversity_alone(tmp_path: Path) -> None:
    made = write(
        tmp_path,
        task={"kind": "generate", "prompt": "Text: {text}", "max_tokens": 8},
        teacher={"scripted": {"great": "They like it.", "": "It broke."}},
        student={"model": {"address": "file:nowhere"}},
    )
    ask(made, tmp_path, 20)
    found = ask(made, tmp_path, 20)
    assert found.by.startswith("diversity alone: the linear model that tells what is uncertain knows labels only")
    assert found.whole_pool is None
    shown = labelling.describe(found, "again", "use")
    assert "knows labels only" in shown[0]
    assert not any("whole pool" in line for line in shown)


def test_rows_that_people_will_be_asked_are_left_to_them(tmp_path: Path) -> None:
    """Else what people are asked later would be what no model found hard."""
    made = write(tmp_path)
    rows = small_run.sentences(240)
    small_run.write_table(tmp_path / "pool.csv", [row | {"id": f"p{row['id']}", "text": f"{row['text']} too {i}",
                                                         "review": f"p{i}"} for i, row in enumerate(rows)])  # fmt: skip
    plain = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    table = plain["data"]["tables"][0]
    plain["data"] |= {"gold": "gold.jsonl", "near_duplicates": 1.0}
    plain["data"]["tables"].append(
        {k: v for k, v in table.items() if k != "label"} | {"source": "pool.csv", "role": "pool"}
    )
    made = recipe.parse(plain, "test")
    (tmp_path / "gold.jsonl").write_text("")
    found = ask(made, tmp_path, 40)
    open_rows = split.unanswered(made, tmp_path, QUIET)
    order = plan.order([*open_rows.rows], made.seed)
    assert found.for_people > 100
    assert open_rows.chosen > 0
    to_people = {row.id for row in order[: found.for_people - 5]}
    assert to_people & {line.id for line in lines(tmp_path)} == set()
    assert "rows are left to people" in labelling.describe(found, "", "")[1]
    # Who is answered by hand all the same, chosen or not, is not mistaken for a row to evaluate on.
    chosen = [line for line in lines(tmp_path) if line.arm == "chosen" and line.id.startswith("1:")]
    gold.append(tmp_path / "gold.jsonl", gold.Line(chosen[0].id, chosen[0].slots, "answer", "positive", "ann", "t"))
    again = ask(made, tmp_path, 5)
    assert again.conservation["gold"]["dropped"] == {gold.CHOSEN: 1}


def test_as_plain_data() -> None:
    found = Round("r", "f", 1, 1, 4, "diversity", False, 5, 5, 0, 5, 0.25, None, {})
    assert json.loads(json.dumps(labelling.as_dict(found)))["chosen"] == 4
    assert labelling.describe(found, "a", "b")[1] == "Calls made of the teacher just now: 5, for $0.25."
