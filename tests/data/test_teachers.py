"""Several scripted teachers of known error label the pool: together they know more than each, one vote a family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import small_run
from aasut import pipeline, recipe
from aasut.data import label, teachers
from aasut.data.panel import Panel, Shot
from aasut.errors import RecipeError, TeacherError
from aasut.progress import Progress
from aasut.recipe import Recipe
from aasut.teacher.ledger import Ledger
from aasut.teacher.scripted import ScriptedTeacher
from aasut.types import Example

ANSWERS = ("negative", "positive")
QUIET = Progress(quiet=True)
ROWS = 600


def rules(seed: int, errors: tuple[float, float]) -> dict[str, str]:
    """An answer to each row; errors: chance of a wrong one where the truth is negative, and where it is positive."""
    draw = np.random.default_rng(seed)
    wrong = draw.random(ROWS) < np.array(errors)[truth()]
    return {f"row {i:03d}": ANSWERS[t ^ w] for i, (t, w) in enumerate(zip(truth(), wrong, strict=True))}


def truth() -> Any:
    return (np.random.default_rng(0).random(ROWS) < 0.4).astype(int)


def pool() -> list[Example]:
    return [Example(f"0:{i:03d}", {"text": f"row {i:03d}"}, f"g{i}") for i in range(ROWS)]


def made(main: Mapping[str, str], *others: dict[str, Any], **more: Any) -> Recipe:
    teacher = {"scripted": dict(main), "others": list(others)} | more
    return recipe.parse(small_run.recipe(teacher=teacher), "recipe")


def other(said: Mapping[str, str], family: str, **more: Any) -> dict[str, Any]:
    return {"scripted": dict(said), "family": family} | more


def opener(wanted: Recipe, folder: Path) -> Callable[[int], Ledger]:
    def open_other(number: int) -> Ledger:
        return Ledger(ScriptedTeacher(wanted.teacher.others[number].scripted or {}), folder / "ledger.db")

    return open_other


def labelled(wanted: Recipe, folder: Path, panel: Panel | None = None) -> dict[str, Any]:
    ledger = Ledger(ScriptedTeacher(wanted.teacher.scripted or {}), folder / "ledger.db")
    try:
        return label.build(
            wanted, panel or Panel.plain([()], 2), pool(), [], ledger, folder, QUIET,
            open_other=opener(wanted, folder),
        )  # fmt: skip
    finally:
        ledger.close()


def right(folder: Path) -> float:
    """Share of the labels whose likeliest answer is the truth."""
    known = dict(zip((example.id for example in pool()), truth(), strict=True))
    return float(np.mean([np.argmax(one.probabilities) == known[one.id] for one in label.load(folder)]))


def share(said: Mapping[str, str]) -> float:
    return float(np.mean([said[f"row {i:03d}"] == ANSWERS[t] for i, t in enumerate(truth())]))


def test_together_they_know_more_than_the_best_alone(tmp_path: Path) -> None:
    errors = {"a": (0.05, 0.25), "b": (0.2, 0.1), "c": (0.15, 0.2)}
    said = [rules(number, one) for number, one in enumerate(errors.values(), 1)]
    facts = labelled(made(said[0], other(said[1], "b"), other(said[2], "c")), tmp_path)
    alone = [share(one) for one in said]
    assert right(tmp_path) > max(alone) + 0.03
    assert [one["family"] for one in facts["teachers"]] == ["scripted", "b", "c"]
    assert [one["name"] for one in facts["teachers"]] == ["scripted (1)", "scripted (2)", "scripted (3)"]
    assert [one["accuracy"] for one in facts["teachers"]] == pytest.approx(alone, abs=0.05)
    sums = [sum(one.probabilities) for one in label.load(tmp_path)]
    assert sums == pytest.approx([1.0] * ROWS)
    assert facts["calls"]["calls_made"] == 2 * ROWS  # the main teacher's are counted with its own ledger
    assert labelled(made(said[0], other(said[1], "b"), other(said[2], "c")), tmp_path)["calls"] == {
        "calls_made": 0, "calls_reused": 2 * ROWS, "usd_spent": 0.0, "usd_reused": 0.0
    }  # fmt: skip


def test_three_of_one_family_do_not_outvote_two_others(tmp_path: Path) -> None:
    good = [rules(number, (0.1, 0.1)) for number in (1, 2, 3)]
    bad = rules(4, (0.4, 0.4))
    crowd = [other(bad | {"another": str(i)}, "crowd") for i in range(3)]  # one habit under three names
    facts = labelled(made(good[0], other(good[1], "b"), other(good[2], "c"), *crowd), tmp_path)
    assert right(tmp_path) > 0.94
    assert [round(one["accuracy"], 1) for one in facts["teachers"]] == [0.9, 0.9, 0.9, 0.6, 0.6, 0.6]


def test_a_row_that_a_teacher_cannot_answer_lacks_its_vote_and_one_without_votes_fails(tmp_path: Path) -> None:
    said = [rules(number, (0.1, 0.1)) for number in (1, 2, 3)]
    for number, one in enumerate(said):
        del one["row 000"]  # nobody answers the first row, and of the next three each teacher lacks one
        del one[f"row 00{number + 1}"]
    facts = labelled(made(said[0], other(said[1], "b"), other(said[2], "c")), tmp_path)
    assert {name: rows.as_dict() for name, rows in facts["conservation"].items()} == {
        "label": {"in": ROWS, "kept": ROWS - 1, "dropped": {}, "failed": {teachers.SILENT: 1}}
    } | {
        f"label, {who}": {"in": ROWS, "kept": ROWS - 2, "dropped": {}, "failed": {"no rule matches": 2}}
        for who in ("the teacher", "other teacher 1", "other teacher 2")
    }
    assert [one["answered"] for one in facts["teachers"]] == [ROWS - 2] * 3
    assert [one.id for one in label.load(tmp_path)] == [example.id for example in pool()[1:]]
    assert right(tmp_path) > 0.93


def test_an_other_teacher_that_fails_too_often_stops_the_run_by_its_name(tmp_path: Path) -> None:
    said = [rules(number, (0.1, 0.1)) for number in (1, 2, 3)]
    odd = said[2] | {f"row {i:03d}": "perhaps" for i in range(40)}
    with pytest.raises(TeacherError, match=r"40 of 600 answers of scripted \(3\) are unusable \(40 × the answer") as e:
        labelled(made(said[0], other(said[1], "b"), other(odd, "c")), tmp_path)
    assert "teacher.others[1].max_failed" in e.value.remedy
    assert not (tmp_path / "labels.jsonl").exists()
    labelled(made(said[0], other(said[1], "b"), other(odd, "c", max_failed=0.1)), tmp_path)


def test_the_others_see_the_first_members_shots_in_their_own_prompt(tmp_path: Path) -> None:
    asked: list[list[tuple[str, str]]] = []

    class Noting(ScriptedTeacher):
        def complete(self, requests: Any, keep: Any = None) -> Any:
            asked.extend([[(m.role, m.content) for m in request.messages] for request in requests])
            return super().complete(requests, keep)

    said = [rules(number, (0.1, 0.1)) for number in (1, 2, 3)]
    wanted = made(said[0], other(said[1], "b", prompt="Say it: {text}"), other(said[2], "c"), prompt="Main: {text}")
    panel = Panel.plain([(Shot({"text": "x"}, "positive"),), (Shot({"text": "y"}, "negative"),)], 2)
    own = label.Label("0:000", (0.3, 0.7))

    def open_other(number: int) -> Ledger:
        return Ledger(Noting(wanted.teacher.others[number].scripted or {}), tmp_path / "ledger.db")

    teachers.agree(wanted, panel, pool(), [own] * ROWS, {}, open_other, QUIET)
    assert len(asked) == 2 * ROWS
    first = next(one for one in asked if one[-1][1] == "Say it: row 000")
    assert first == [("user", "Say it: x"), ("assistant", "positive"), ("user", "Say it: row 000")]
    assert any(one[-1][1] == "Main: row 000" for one in asked)  # without a prompt of its own, the teacher's


def test_a_teacher_given_twice_and_a_prompt_without_its_slot_are_refused() -> None:
    """What else is refused stands in tests/test_recipe.py."""
    with pytest.raises(RecipeError, match=r"others\[0\] is the teacher itself again: it would say the same"):
        made(small_run.RULES, other(small_run.RULES, "b"), other({"": "x"}, "c"))
    made(small_run.RULES, other(small_run.RULES, "b", prompt="Otherwise: {text}"), other({"": "x"}, "c"))
    with pytest.raises(RecipeError, match=r"teacher.others\[0\].prompt uses \{title\}"):
        made(small_run.RULES, other({"": "x"}, "b", prompt="{title}"), other({"": "y"}, "c"))


def test_a_run_learns_what_they_agree_on_and_tells_of_each(tmp_path: Path) -> None:
    """The teacher mistakes a word of negative sentences for its contrary; the others err in a fifth of the rows."""
    draw = np.random.default_rng(1)
    slips = [
        {f"no {i}": ANSWERS[1 - i % 2] for i in range(100, 400) if draw.random() < 0.2} | small_run.RULES for _ in "bc"
    ]
    plain = small_run.recipe(
        teacher={
            "scripted": {"awful": "positive", **small_run.RULES},
            "others": [other(one, family) for one, family in zip(slips, "bc", strict=True)],
        }
    )
    path = small_run.write_recipe(tmp_path, plain, rows=400)
    done = pipeline.run(recipe.load(path, ()), tmp_path, tmp_path / "runs", QUIET)
    facts = done.facts
    rows = facts["data"]["counts"]["pool"]
    assert facts["panel"]["answers"]["positive"] == pytest.approx(rows / 2, abs=0.05 * rows)
    assert [one["accuracy"] for one in facts["panel"]["teachers"]] == pytest.approx([5 / 6, 0.85, 0.85], abs=0.05)
    assert facts["student"]["accuracy"] > 0.95 > 0.9 > facts["teacher"]["accuracy"]
    assert facts["verdict"]["difference"] == pytest.approx(facts["student"]["accuracy"] - facts["teacher"]["accuracy"])
    assert facts["ledger"]["calls_made"] == done.calls_made == 3 * rows + facts["data"]["counts"]["test"]
    assert facts["conservation"]["label, other teacher 2"]["kept"] == rows
    assert [one["what"] for one in facts["licences"]] == ["teacher: scripted"] + ["other teacher: scripted"] * 2
    page = (done.folder / "report.html").read_text(encoding="utf-8")
    assert 'id="teachers"' in page
    assert f"{rows:,} rows answered" in page
    again = pipeline.run(recipe.load(path, ()), tmp_path, tmp_path / "runs", QUIET)
    assert again.calls_made == 0
    del plain["teacher"]["others"]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(plain), encoding="utf-8")
    alone = pipeline.run(recipe.load(path, ()), tmp_path, tmp_path / "runs", QUIET)
    assert alone.facts["seconds"]["choose"] == facts["seconds"]["choose"]  # made once
    assert alone.calls_made == 0  # the teacher's own answers are there
    assert "teachers" not in alone.facts["panel"]
    assert alone.facts["student"]["accuracy"] < facts["student"]["accuracy"] - 0.05
