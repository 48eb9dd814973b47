"""Whole runs of the tasks whose answer is text: a scripted teacher and a tiny student that really learns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import small_run
from aasut import pipeline, recipe
from aasut.data import label, split
from aasut.engine.base import Prompt, load, write
from aasut.errors import DataError, TeacherError
from aasut.evaluate.candidates import student_candidate
from aasut.evaluate.certificate import Wish
from aasut.evaluate.certify import Target
from aasut.evaluate.confidence import Scorer
from aasut.export.manifest import StudentCard
from aasut.finished import taken_up
from aasut.gateway.worker import Answering
from aasut.pipeline import Run
from aasut.progress import Progress
from aasut.serve.student import ServedStudent
from aasut.tasks import Extract, Generate, Tools

SCHEMA = {
    "type": "object",
    "properties": {"mood": {"type": "string", "enum": ["good", "bad"]}, "stars": {"type": "integer"}},
    "required": ["mood", "stars"],
    "additionalProperties": False,
}
RATE = {"type": "function", "function": {"name": "rate", "parameters": {
    "type": "object", "properties": {"stars": {"type": "integer"}}, "required": ["stars"],
    "additionalProperties": False}}}  # fmt: skip
CALL, WORDS = '[{"name": "rate", "arguments": {"stars": 5}}]', "It broke at once."
GOOD, BAD = '{"mood": "good", "stars": 5}', '{"mood": "bad", "stars": 1}'
TASKS: dict[str, dict[str, Any]] = {
    "extract": {"kind": "extract", "schema": SCHEMA, "prompt": "Text: {text}", "max_tokens": 48},
    "generate": {"kind": "generate", "prompt": "Text: {text}", "max_tokens": 24},
    "tools": {"kind": "tools", "tools": [RATE], "prompt": "Text: {text}", "max_tokens": 60},
}
ANSWERS = {  # what people wrote, which is no more than equal to what is learned
    "extract": {"positive": '{"stars":5.0,\n"mood":"good"}', "negative": BAD},
    "generate": {"positive": " They like it. ", "negative": "It broke at once."},
    "tools": {"positive": '{"name": "rate", "arguments": "{\\"stars\\": 5.0}"}', "negative": f" {WORDS}"},
}
SAID = {  # what the teacher says, its own way
    "extract": {"positive": f"```json\n{GOOD}\n```", "negative": '{"stars": 1, "mood": "bad"}'},
    "generate": {"positive": "They like it.", "negative": "It broke at once.\n"},
    "tools": {"positive": '[{"arguments":{"stars":5},"name":"rate"}]', "negative": f"{WORDS}\n"},
}
LEARNED = {"extract": {GOOD, BAD}, "generate": {"They like it.", WORDS}, "tools": {CALL, WORDS}}
NO_ANSWER = {"extract": '{"mood": "mixed", "stars": 3}', "generate": "  ", "tools": '[{"name": "rate"}]'}
LONG = "too long by far " * 40  # for the student, and for no teacher


def write_run(folder: Path, kind: str, model: Path, **changes: Any) -> Path:
    """A recipe and its table: 120 rows, 8 of them too long for the student, 12 to which the teacher has no answer."""
    rules = {word: SAID[kind][answer] for word, answer in small_run.RULES.items()}
    plain = small_run.recipe(
        task=TASKS[kind],
        teacher={"scripted": {"odd": NO_ANSWER[kind], **rules}, "max_failed": 0.5},
        student={"model": {"address": f"file:{model}"}, "prompt": "{text} =", "precision": "float32",
                 "epochs": 30, "batch_examples": 8, "learning_rate": 3e-3, "checks": 4},
        export={"serve": "safetensors", "engine": "torch", "precision": "float32", "round_trip": 120},
    )  # fmt: skip
    plain["data"]["split"] = {"pool": 100}
    path = small_run.write_recipe(folder, plain | changes)
    rows = small_run.sentences(120)
    for i, row in enumerate(rows):
        words = row["text"].split()
        row["text"] = f"{words[4]} no {i}{' odd' * (i % 10 == 3)}{f' {LONG}' * (i % 15 == 5)}"
        row["sentiment"] = ANSWERS[kind][row["sentiment"]]
    small_run.write_table(folder / "table.csv", rows)
    return path


def run(path: Path, *flags: str) -> Run:
    return pipeline.run(recipe.load(path, flags), path.parent, path.parent / "runs", Progress(quiet=True))


@pytest.fixture(scope="module", params=["extract", "generate", "tools"])
def finished(request: pytest.FixtureRequest, tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(kind, recipe, finished run). Not to be changed."""
    path = write_run(tmp_path_factory.mktemp(request.param), request.param, tiny_llama)
    return request.param, path, run(path)


def artefact(found: Run, stage: str) -> Path:
    (name,) = (entry["fingerprint"] for entry in found.facts["lineage"] if entry["stage"] == stage)
    return found.folder.parent / ".store" / "artefacts" / name


def test_the_student_learns_what_the_teacher_says(finished: Any) -> None:
    kind, _, found = finished
    student, untrained = found.facts["student"], found.facts["baselines"]["untrained"]
    assert student["accuracy"] > 0.8
    assert student["similarity"] >= student["accuracy"]
    assert untrained["accuracy"] == 0
    assert 0.3 < found.facts["baselines"]["majority"]["accuracy"] < 0.7
    assert "linear" not in found.facts["baselines"]
    assert found.facts["against_linear"] is None
    assert set(student["fields"]) == ({"mood", "stars"} if kind == "extract" else set())


def test_every_row_is_kept_or_counted_by_reason(finished: Any) -> None:
    _, path, found = finished
    rows = found.facts["conservation"]
    store = artefact(found, "data")
    pool, test = ([json.loads(line) for line in (store / f"{name}.jsonl").open()] for name in ("pool", "test"))
    odd, long = (sum(word in row["slots"]["text"] for row in pool) for word in ("odd", "too long"))
    assert odd > 0 < long
    assert rows["label"]["failed"] == {"the answer does not fit the task": odd}
    assert rows["label"]["kept"] == rows["train"]["in"] == len(pool) - odd
    assert rows["train"]["failed"] == {"longer than the student's context": long}
    assert rows["evaluate"]["in"] == len(test)
    out = sum("too long" in row["slots"]["text"] for row in test)
    assert out > 0
    assert rows["evaluate"]["failed"] == {"longer than the student's context": out}
    assert found.facts["round_trip"]["prompts"] == len(pool)
    assert found.facts["round_trip"]["answered"] == len(pool) - long
    assert path.exists()


def test_a_teacher_without_an_answer_is_wrong_and_stays_in_the_comparison(finished: Any) -> None:
    _, _, found = finished
    predictions = json.loads((artefact(found, "evaluate") / "predictions.json").read_text(encoding="utf-8"))
    test = {row["id"]: row["slots"]["text"] for row in map(json.loads, (artefact(found, "data") / "test.jsonl").open())}
    teacher = dict(zip(predictions["ids"], predictions["texts"]["teacher"], strict=True))
    odd = [name for name in teacher if "odd" in test[name]]
    assert odd
    assert {teacher[name] for name in odd} == {""} == set(teacher.values()) - LEARNED[finished[0]]
    assert found.facts["teacher"]["accuracy"] == pytest.approx(1 - len(odd) / len(teacher))
    assert found.facts["teacher"]["unusable"] == len(odd)


def test_labels_are_in_the_one_written_form(finished: Any) -> None:
    kind, _, found = finished
    labels = label.load(artefact(found, "label"))
    assert {text for one in labels for text in one.texts} == LEARNED[kind]
    assert {len(one.texts) for one in labels} == {1}
    assert found.facts["panel"]["texts"] == len(labels)
    assert found.facts["panel"]["commonest"] in LEARNED[kind]


def test_the_card_serves_what_was_measured(finished: Any) -> None:
    kind, _, found = finished
    card = StudentCard.read(found.folder)
    task = card.task()
    assert type(task) is {"extract": Extract, "generate": Generate, "tools": Tools}[kind]
    assert task.max_tokens == TASKS[kind]["max_tokens"]
    assert card.tools == (json.dumps([RATE]) if kind == "tools" else "")
    assert kind == "tools" or task.schema == (json.dumps(SCHEMA) if kind == "extract" else "")
    engine = load("torch", card.served(found.folder), precision="float32")
    predictions = json.loads((artefact(found, "evaluate") / "predictions.json").read_text(encoding="utf-8"))
    test = {row["id"]: row["slots"]["text"] for row in map(json.loads, (artefact(found, "data") / "test.jsonl").open())}
    asked = [
        Prompt(f"{test[name]} =", task.max_tokens, schema=task.schema, plain=kind == "tools")
        for name in predictions["ids"]
    ]
    said = write(engine, asked)
    engine.close()
    assert [task.parse(answer.text) or "" for answer in said] == predictions["texts"]["student"]
    assert {answer.finish for answer in said} == {"stop"}  # the end of an answer is learned too
    assert all(task.canonical(answer.text) == answer.text.strip() for answer in said)
    text = (found.folder / "card.md").read_text(encoding="utf-8")
    told = {"extract": "JSON of this schema", "generate": "text of up to 24 tokens", "tools": "calls these functions"}
    assert told[kind] in text


def test_the_second_run_asks_nothing_and_changes_nothing(finished: Any) -> None:
    _, path, first = finished
    again = run(path)
    assert again.calls_made == 0
    assert again.facts == first.facts


def test_a_teacher_that_seldom_fits_the_task_stops_the_run(tiny_llama: Path, tmp_path: Path) -> None:
    path = write_run(tmp_path, "extract", tiny_llama)
    with pytest.raises(TeacherError, match=r"answers are unusable \(\d+ × the answer does not fit the task\)"):
        run(path, "teacher.max_failed=0.01")
    assert not (tmp_path / "runs" / "words").exists()


def test_a_human_answer_that_does_not_fit_the_schema_is_told(tiny_llama: Path, tmp_path: Path) -> None:
    path = write_run(tmp_path, "extract", tiny_llama)
    rows = [row | {"sentiment": '{"mood": "mixed"}' if i < 40 else row["sentiment"]}
            for i, row in enumerate(small_run.sentences(120))]  # fmt: skip
    small_run.write_table(tmp_path / "table.csv", rows)
    with pytest.raises(DataError, match=r"table\.csv"):
        run(path)


def test_texts_are_certified_by_how_likely_their_tokens_were(finished: Any) -> None:
    kind, _, found = finished
    risk = 0.65 if kind == "tools" else 0.5  # four human answers show little
    with taken_up("words", found.folder.parent, Progress(quiet=True), makes=("certify",)) as taken:
        made = taken.stages.certify(taken.done, Wish(Target("selective", risk, 0.6), "human")).facts
        predicted = json.loads((taken.done["evaluate"].path / "predictions.json").read_text(encoding="utf-8"))
        long = sum("too long" in row.slots["text"] for row in split.load(taken.done["data"].path, "calibrate"))
    assert made["certified"]
    assert made["scorer"]["kind"] in ("token_quantiles", "least_token")
    rows = made["conservation"]["certify"]
    assert rows["failed"] == ({"longer than the student's context": long} if long else {})
    features = predicted["logprob_quantiles"]
    assert list(features) == ["student"]
    assert [len(row) for row in features["student"]] == [len(made["scorer"]["quantiles"])] * len(predicted["ids"])
    assert max(max(row) for row in features["student"]) <= 0
    assert found.facts["risk_coverage"]["risk"][-1] == pytest.approx(1 - found.facts["student"]["accuracy"])


def test_the_gateways_student_gives_the_certified_answers_and_scores(finished: Any) -> None:
    """Up to rounding: how prompts are put together into batches differs."""
    _, _, found = finished
    with taken_up("words", found.folder.parent, Progress(quiet=True), makes=("certify",)) as taken:
        made = taken.stages.certify(taken.done, Wish(Target("selective", 0.5, 0.6), "human")).facts
        student = student_candidate(taken.stages.recipe, found.folder / taken.done["export"].facts["served"])
        rows = [row for row in split.load(taken.done["data"].path, "test") if student.fits(row)]
    scorer = Scorer(**{name: value for name, value in made["scorer"].items() if name != "quantiles"})
    answered = student.answer(rows, features=True)
    student.engine.close()
    served = ServedStudent.load(found.folder)
    answering = Answering(served, scorer)
    told = [next(answering.answer([(0, served.render(row.slots), 0.0)]))[1] for row in rows]
    served.close()
    assert [one["text"] for one in told] == answered.given(student.task)
    assert [one["score"] for one in told] == pytest.approx(scorer.scores(answered.features).tolist(), abs=1e-3)
