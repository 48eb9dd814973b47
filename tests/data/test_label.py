from __future__ import annotations

import json
import math
import sqlite3
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

import small_run
from aasut import recipe as recipes
from aasut.data import label
from aasut.data.asked import Weights
from aasut.data.panel import Panel, Shot, softmax
from aasut.errors import DataError, TeacherError
from aasut.progress import Progress
from aasut.recipe import Recipe
from aasut.teacher.base import Keep
from aasut.teacher.ledger import Ledger
from aasut.teacher.scripted import ScriptedTeacher
from aasut.types import Completion, Example, Request, Usage

ANSWERS = ("negative", "positive")
LOCAL = {"model": {"address": "file:nowhere"}}
QUIET = Progress(quiet=True)
SHARPNESS = 3.0  # the planted teacher's scores are this much too large


def recipe(**teacher: Any) -> Recipe:
    return recipes.parse(small_run.recipe(teacher=teacher or {"scripted": small_run.RULES}), "recipe")


def examples(count: int, split: str, share: float = 0.5) -> list[Example]:
    """Inputs that say how likely they are positive, and a human answer drawn with that chance."""
    draw = np.random.default_rng(sum(map(ord, split)))
    found = []
    for i in range(count):
        score = float(draw.normal() + math.log(share / (1 - share)))
        answer = ANSWERS[int(draw.random() < 1 / (1 + math.exp(-score)))]
        found.append(Example(f"0:{split}{i:04d}", {"text": f"{split}{i} score {score:.6f}"}, f"g{i}", answer))
    return found


class Planted:
    """Answers with log-probabilities: the score in the input, times SHARPNESS, plus a lean."""

    def __init__(self, lean: float = 0.0) -> None:
        self.lean = lean
        self.identity = f"planted {lean}"
        self.batches: list[list[str]] = []

    def complete(self, requests: Sequence[Request], keep: Keep | None = None) -> list[Completion]:
        self.batches.append([request.messages[-1].content for request in requests])
        answers = [self.answer(request.messages[-1].content) for request in requests]
        if keep is not None:
            keep(list(zip(requests, answers, strict=True)))
        return answers

    def answer(self, question: str) -> Completion:
        score = 0.0 if question.endswith("N/A") else float(question.split()[-1])
        z = np.array([[0.0, score * SHARPNESS + self.lean]])
        logprobs = np.log(softmax(z))[0]
        return Completion(ANSWERS[int(logprobs.argmax())], Usage(5, 1), tuple(float(p) for p in logprobs))

    def price(self, usage: Usage) -> float:
        return 0.0

    def charge(self, usd: float) -> None:
        """There is no cap."""

    def close(self) -> None:
        """Nothing is held."""


def labelled(
    teacher: Any,
    wanted: Recipe,
    folder: Path,
    pool: list[Example],
    tune: Sequence[Example] = (),
    panel: Panel | None = None,
    weights: Weights | None = None,
) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    ledger = Ledger(teacher, folder / "ledger.db")
    try:
        return label.build(wanted, panel or Panel.plain([()], 2), pool, tune, ledger, folder, QUIET, weights=weights)
    finally:
        ledger.close()


def words(texts: Sequence[str]) -> list[Example]:
    return [Example(f"0:{i}", {"text": text}, f"g{i}") for i, text in enumerate(texts)]


def test_texts_become_one_hot_labels(tmp_path: Path) -> None:
    facts = labelled(ScriptedTeacher(small_run.RULES), recipe(), tmp_path, words(["great", "poor", "lovely", "so so"]))
    labels = label.load(tmp_path)
    assert [(one.id, one.probabilities) for one in labels] == [
        ("0:0", (0.0, 1.0)),
        ("0:1", (1.0, 0.0)),
        ("0:2", (0.0, 1.0)),
        ("0:3", (1.0, 0.0)),
    ]
    assert facts["answers"] == {"negative": 2, "positive": 2}
    assert facts["mean_confidence"] == 1.0
    assert facts["conservation"]["label"].as_dict() == {"in": 4, "kept": 4, "dropped": {}, "failed": {}}


def test_failed_rows_are_counted_by_reason(tmp_path: Path) -> None:
    teacher = ScriptedTeacher({"great": "positive", "poor": "negative", "odd": "perhaps"})
    pool = words(["great", "poor"] * 10 + ["odd", "odd", "nothing"])
    facts = labelled(teacher, recipe(scripted={}, max_failed=0.2), tmp_path, pool)
    rows = facts["conservation"]["label"]
    assert rows.balanced
    assert rows.as_dict() == {
        "in": 23, "kept": 20, "dropped": {}, "failed": {"the answer is not in the list": 2, "no rule matches": 1}
    }  # fmt: skip
    assert [one.id for one in label.load(tmp_path)] == [example.id for example in pool[:20]]


def test_too_many_failed_rows_stop_the_run_with_the_reasons(tmp_path: Path) -> None:
    teacher = ScriptedTeacher({"great": "positive", "poor": "negative", "odd": "perhaps"})
    pool = words(["great", "poor"] * 10 + ["odd", "odd", "nothing"])
    with pytest.raises(TeacherError) as caught:
        labelled(teacher, recipe(scripted={}, max_failed=0.1), tmp_path, pool)
    assert "3 of 23 answers are unusable (2 × the answer is not in the list, 1 × no rule matches)" in str(caught.value)
    assert not (tmp_path / "labels.jsonl").exists()
    ledger = Ledger(teacher, tmp_path / "ledger.db")
    requests = [
        Panel.plain([()], 2).requests(recipe().teacher_template(), recipe().task.build(), e.slots)[0] for e in pool
    ]
    assert ledger.holds(requests) == 22  # what was answered is kept
    ledger.close()


@pytest.mark.parametrize("calibration", ["prior", "contextual"])
def test_a_teacher_that_always_fails_is_told_as_such(tmp_path: Path, calibration: str) -> None:
    class Broken(Planted):
        def answer(self, question: str) -> Completion:
            return Completion("", failure="longer than the teacher's context")

    wanted = recipe(**LOCAL, calibration=calibration)
    with pytest.raises(TeacherError, match=r"9 of 9 answers are unusable \(9 × longer than the teacher's context"):
        labelled(Broken(), wanted, tmp_path, examples(9, "pool"), examples(9, "tune"))


def test_a_teacher_with_one_answer_for_everything_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="the same answer, 'negative', to all 3 inputs"):
        labelled(ScriptedTeacher({"": "negative"}), recipe(), tmp_path, words(["a", "b", "c"]))
    assert not (tmp_path / "labels.jsonl").exists()


def test_probabilities_are_kept_as_they_are_without_calibration(tmp_path: Path) -> None:
    pool = examples(150, "pool")
    facts = labelled(Planted(1.0), recipe(**LOCAL), tmp_path, pool)
    for example, one in zip(pool, label.load(tmp_path), strict=True):
        score = float(example.slots["text"].split()[-1]) * SHARPNESS + 1
        assert one.id == example.id
        assert one.probabilities == pytest.approx((1 / (1 + math.exp(score)), 1 / (1 + math.exp(-score))))
        assert sum(one.probabilities) == pytest.approx(1)
    assert facts["temperature"] == 1.0
    assert Panel.from_json((tmp_path / "panel.json").read_text()) == Panel.plain([()], 2)


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_prior_calibration_gives_the_pool_the_shares_of_tune(tmp_path: Path, share: float) -> None:
    tune = examples(600, "tune", share)
    of_tune = sum(e.answer == "positive" for e in tune) / len(tune)
    facts = labelled(Planted(lean=6.0), recipe(**LOCAL, calibration="prior"), tmp_path, examples(1000, "pool"), tune)
    assert facts["answers"]["positive"] / 1000 == pytest.approx(of_tune, abs=0.02)
    uncalibrated = labelled(Planted(lean=6.0), recipe(**LOCAL), tmp_path / "plain", examples(1000, "pool"))
    assert uncalibrated["answers"]["positive"] > 900


def test_the_planted_sharpness_is_taken_away_again(tmp_path: Path) -> None:
    """Inputs are positive with the chance that they name; the teacher is three times too sure."""
    wanted = recipe(**LOCAL, calibration="contextual")
    facts = labelled(Planted(lean=2.0), wanted, tmp_path, examples(300, "pool"), examples(1500, "tune"))
    assert facts["temperature"] == pytest.approx(SHARPNESS, rel=0.25)
    panel = Panel.from_json((tmp_path / "panel.json").read_text())
    assert panel.temperature == facts["temperature"]
    assert panel.reference[0] == pytest.approx(np.log(softmax(np.array([0.0, 2.0]))))
    assert panel.bias == (0.0, 0.0)
    for one, example in zip(label.load(tmp_path), examples(300, "pool"), strict=True):
        chance = 1 / (1 + math.exp(-float(example.slots["text"].split()[-1])))
        assert one.probabilities[1] == pytest.approx(chance, abs=0.12)


def test_each_member_has_its_own_reference(tmp_path: Path) -> None:
    class ByShot(Planted):
        def complete(self, requests: Sequence[Request], keep: Keep | None = None) -> list[Completion]:
            self.lean = 3.0 if len(requests[0].messages) > 1 else -1.0
            return super().complete(requests, keep)

    shot = (Shot({"text": "tune0 score 0.0"}, "positive"),)
    wanted = recipe(**LOCAL, calibration="contextual")
    panel = Panel.plain([(), shot], 2)
    labelled(ByShot(), wanted, tmp_path, examples(50, "pool"), examples(50, "tune"), panel)
    reference = Panel.from_json((tmp_path / "panel.json").read_text()).reference
    assert reference[0] == pytest.approx(np.log(softmax(np.array([0.0, -1.0]))))
    assert reference[1] == pytest.approx(np.log(softmax(np.array([0.0, 3.0]))))


def test_shots_do_not_judge_themselves(tmp_path: Path) -> None:
    tune = examples(40, "tune")
    panel = Panel.plain([tuple(Shot(dict(e.slots), str(e.answer)) for e in tune[:4])], 2)
    teacher = Planted()
    labelled(teacher, recipe(**LOCAL, calibration="prior"), tmp_path, examples(20, "pool"), tune, panel)
    asked = {question.removeprefix("Text: ") for batch in teacher.batches for question in batch}
    assert {e.slots["text"] for e in tune[:4]} & asked == set()
    assert {e.slots["text"] for e in tune[4:]} <= asked


@pytest.mark.parametrize("calibration", ["prior", "contextual"])
def test_calibration_is_refused_for_a_teacher_without_probabilities(tmp_path: Path, calibration: str) -> None:
    wanted = recipe(**LOCAL, calibration=calibration)
    with pytest.raises(TeacherError, match=f"calibration: {calibration} needs probabilities, and 3 of 3 answers"):
        labelled(
            ScriptedTeacher(small_run.RULES), wanted, tmp_path, words(["great", "poor", "x"]), examples(20, "tune")
        )
    assert not (tmp_path / "labels.jsonl").exists()


def test_a_few_answers_without_probabilities_do_not_stop_a_calibrated_run(tmp_path: Path) -> None:
    class Patchy(Planted):
        def answer(self, question: str) -> Completion:
            found = super().answer(question)
            return Completion(found.text, found.usage) if question.split()[1] in ("pool3", "tune5") else found

    wanted = recipe(**LOCAL, calibration="prior")
    facts = labelled(Patchy(6.0), wanted, tmp_path, examples(200, "pool"), examples(100, "tune"))
    assert facts["conservation"]["label"].kept == 200
    assert sorted(label.load(tmp_path)[3].probabilities) == [0.0, 1.0]


def test_prior_calibration_without_human_answers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="`tune` has no human answers"):
        labelled(Planted(), recipe(**LOCAL, calibration="prior"), tmp_path, examples(20, "pool"), [])


def test_contextual_calibration_needs_an_answer_to_the_empty_input(tmp_path: Path) -> None:
    class Choosy(Planted):
        def answer(self, question: str) -> Completion:
            return Completion("", failure="refused") if question.endswith("N/A") else super().answer(question)

    wanted = recipe(**LOCAL, calibration="contextual")
    with pytest.raises(TeacherError, match="no probabilities for an empty input"):
        labelled(Choosy(), wanted, tmp_path, examples(20, "pool"), examples(20, "tune"))


def test_batches_follow_the_examples_alone(tmp_path: Path) -> None:
    """The same batches whatever the order of the pool, and after a kill in the middle: a broken one is redone whole."""
    pool = examples(200, "pool")
    first, second, third = Planted(), Planted(), Planted()
    labelled(first, recipe(**LOCAL), tmp_path / "a", pool)
    labelled(second, recipe(**LOCAL), tmp_path / "b", pool[::-1])
    assert first.batches == second.batches
    assert sorted(map(len, first.batches)) == [8, 64, 64, 64]
    assert Counter(q for batch in first.batches for q in batch) == Counter("Text: " + e.slots["text"] for e in pool)

    class Dying(Planted):
        def complete(self, requests: Sequence[Request], keep: Keep | None = None) -> list[Completion]:
            if len(self.batches) == 2:
                raise TeacherError("gone")
            return super().complete(requests, keep)

    with pytest.raises(TeacherError):
        labelled(Dying(), recipe(**LOCAL), tmp_path / "c", pool)
    facts = labelled(third, recipe(**LOCAL), tmp_path / "c", pool)
    assert third.batches == first.batches[2:]
    assert facts["conservation"]["label"].kept == 200
    assert (tmp_path / "c" / "labels.jsonl").read_bytes() == (tmp_path / "a" / "labels.jsonl").read_bytes()


def test_labels_outlive_their_file(tmp_path: Path) -> None:
    pool = examples(30, "pool")
    labelled(Planted(), recipe(**LOCAL), tmp_path, pool)
    lines = (tmp_path / "labels.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [example.id for example in pool]
    assert label.load(tmp_path)[0].confidence == max(json.loads(lines[0])["probabilities"])


def test_a_committee_without_logprobs_votes_on_each_input(tmp_path: Path) -> None:
    """Three members that differ by their shots: each input gets the votes of all three on it, and no other's."""

    class ByShots(Planted):
        def complete(self, requests: Sequence[Request], keep: Keep | None = None) -> list[Completion]:
            answers = []
            for request in requests:
                sure = int(request.messages[-1].content.split()[-1])  # members with at least as many shots say yes
                answers.append(Completion(ANSWERS[int(len(request.messages) // 2 >= sure)], Usage(1, 1)))
            if keep is not None:
                keep(list(zip(requests, answers, strict=True)))
            return answers

    shot = Shot({"text": "x"}, "positive")
    panel = Panel.plain([(), (shot,), (shot, shot)], 2)
    pool = [Example(f"0:{i:03d}", {"text": f"{'long ' * (i % 7)}number {i % 4}"}, f"g{i}") for i in range(150)]
    facts = labelled(ByShots(), recipe(**LOCAL), tmp_path, pool, panel=panel)
    positive = [1.0, 2 / 3, 1 / 3, 0.0]  # by how many shots a member must have
    for i, one in enumerate(label.load(tmp_path)):
        assert one.id == pool[i].id
        assert one.probabilities == pytest.approx((1 - positive[i % 4], positive[i % 4]))
    assert facts["conservation"]["label"].kept == 150


EXTRACT: dict[str, Any] = {
    "task": {
        "kind": "extract",
        "prompt": "Text: {text}",
        "schema": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}},
    },
    "student": {"model": {"address": "file:nowhere"}},
}


def text_recipe(**teacher: Any) -> Recipe:
    plain = small_run.recipe(teacher=LOCAL | {"samples": 3, "temperature": 0.5, "max_failed": 0.6} | teacher, **EXTRACT)
    return recipes.parse(plain, "recipe")


class Drawing(Planted):
    """Says what stands in the input for each draw, parted by bars: `cut` is cut off, `broken` is no answer at all."""

    def complete(self, requests: Sequence[Request], keep: Keep | None = None) -> list[Completion]:
        answers = []
        for request in requests:
            said = request.messages[-1].content.removeprefix("Text: ").split("|")[request.sample]
            finish, failure = ("length" if said == "cut" else "stop"), ("refused" if said == "broken" else "")
            answers.append(Completion(said, Usage(1, 1), finish_reason=finish, failure=failure))
        if keep is not None:
            keep(list(zip(requests, answers, strict=True)))
        return answers


def test_every_draw_that_fits_is_a_label_and_rows_without_any_are_counted(tmp_path: Path) -> None:
    said = [
        '{"b":"x","a":1.0}|{"a": 2}|{"a": 2}',
        'cut|no|{"a": 3}',
        "cut|cut|cut",
        'no|{"a": "x"}|[]',
        "broken|broken|broken",
        '{"a": 2}|{"a": 1}|{"b": "é"}',
    ]
    panel = Panel.plain([()] * 3, 0)
    facts = labelled(Drawing(), text_recipe(), tmp_path, words(said), panel=panel)
    assert [(one.id, one.probabilities, one.texts) for one in label.load(tmp_path)] == [
        ("0:0", (), ('{"a": 1, "b": "x"}', '{"a": 2}', '{"a": 2}')),
        ("0:1", (), ('{"a": 3}',)),
        ("0:5", (), ('{"a": 2}', '{"a": 1}', '{"b": "é"}')),
    ]
    assert facts["conservation"]["label"].as_dict() == {
        "in": 6, "kept": 3, "dropped": {}, "failed": {
            "the answer is longer than task.max_tokens": 1, "the answer does not fit the task": 1, "refused": 1,
        },
    }  # fmt: skip
    assert (facts["texts"], facts["texts_unusable"], facts["commonest"]) == (7, 2, '{"a": 2}')
    assert "answers" not in facts
    assert Panel.from_json((tmp_path / "panel.json").read_text()) == panel


def test_too_many_rows_without_an_answer_stop_the_run(tmp_path: Path) -> None:
    said = ['{"a": 1}|{"a": 2}|{"a": 2}', "cut|cut|cut", "no|no|no"]
    with pytest.raises(TeacherError, match=r"2 of 3 answers are unusable \(1 × the answer is longer than task.max_tok"):
        labelled(Drawing(), text_recipe(max_failed=0.5), tmp_path, words(said), panel=Panel.plain([()] * 3, 0))
    assert not (tmp_path / "labels.jsonl").exists()


def test_one_text_for_all_inputs_is_refused(tmp_path: Path) -> None:
    said = ['{"a": 1}|{"a":1}|{"a": 1.0}'] * 4
    with pytest.raises(TeacherError, match=r"the same answer, '\{\"a\": 1\}', to all 4 inputs"):
        labelled(Drawing(), text_recipe(), tmp_path, words(said), panel=Panel.plain([()] * 3, 0))


def test_what_was_chosen_stands_for_the_pool_by_its_weights(tmp_path: Path) -> None:
    """Positive rows were drawn three times as often: bare shares say .75, weighted ones .5, and `prior` heeds that."""
    pool = [e for e in examples(1200, "pool") if abs(float(e.slots["text"].split()[-1])) > 0.2]
    positive = [e for e in pool if "score -" not in e.slots["text"]][:300]
    negative = [e for e in pool if "score -" in e.slots["text"]][:100]
    mass = {e.id: 1.0 for e in positive} | {e.id: 3.0 for e in negative}
    weights = Weights(mass, 1 / 300)
    facts = labelled(Planted(), recipe(**LOCAL), tmp_path / "a", [*positive, *negative], weights=weights)
    assert facts["answers"] == {"negative": 100, "positive": 300}
    found = facts["whole_pool"]
    assert found["rows"] == 600
    low, high = binomtest(150, 300).proportion_ci(method="wilson")
    expected = {"share": 0.5, "low": low, "high": high}
    assert found["shares"]["negative"] == pytest.approx(expected, abs=1e-6)
    tune = examples(600, "tune")
    wanted = recipe(**LOCAL, calibration="prior")
    shares = [
        labelled(Planted(4.0), wanted, tmp_path / name, [*positive, *negative], tune, weights=given)
        for name, given in (("b", weights), ("c", None))
    ]
    assert shares[0]["whole_pool"]["shares"]["positive"]["share"] == pytest.approx(0.5, abs=0.05)
    assert shares[1]["answers"]["positive"] == pytest.approx(200, abs=20)  # which would turn 100 answers over
    assert shares[0]["answers"]["positive"] == pytest.approx(300, abs=20)


def test_answers_that_a_table_has_are_taken_and_not_asked_for(tmp_path: Path) -> None:
    fits, no = '{"b": "मोटर", "a": 1.0}', "no object"
    pool = [
        *(Example(f"0:{i}", {"text": f"cut|{i}"}, f"g{i}", taught=said) for i, said in enumerate((fits, no))),
        *(Example(f"0:{i}", {"text": '{"a": 2}|no|{"a": 3}'}, f"g{i}") for i in (2, 3)),
    ]
    teacher = Drawing()
    facts = labelled(teacher, text_recipe(), tmp_path, pool, panel=Panel.plain([()] * 3, 0))
    assert [(one.id, one.texts) for one in label.load(tmp_path)] == [
        ("0:0", ('{"a": 1, "b": "मोटर"}',)),
        ("0:2", ('{"a": 2}', '{"a": 3}')),
        ("0:3", ('{"a": 2}', '{"a": 3}')),
    ]
    rows = facts["conservation"]["label"]
    assert (rows.rows_in, rows.kept, rows.failed) == (4, 3, {label.TAUGHT_UNFIT: 1})
    assert (facts["taught"], facts["texts"], facts["texts_unusable"]) == (2, 5, 2)
    assert asked_of(tmp_path) == 3  # draws of one text: the same question is asked once


def test_a_pool_that_was_taught_asks_nothing(tmp_path: Path) -> None:
    pool = [Example(f"0:{i}", {"text": "cut"}, f"g{i}", taught=f'{{"a": {i}}}') for i in range(3)]
    assert labelled(Drawing(), text_recipe(), tmp_path, pool, panel=Panel.plain([()], 0))["taught"] == 3
    assert asked_of(tmp_path) == 0


def asked_of(folder: Path) -> int:
    """Calls in the ledger."""
    with sqlite3.connect(folder / "ledger.db") as database:
        return int(database.execute("SELECT COUNT(*) FROM call").fetchone()[0])
