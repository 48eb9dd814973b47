from __future__ import annotations

import json
import queue
import time
from pathlib import Path

import numpy as np
import pytest

from aasut.data import split
from aasut.engine.scripted import ScriptedEngine
from aasut.evaluate.candidates import student_candidate
from aasut.evaluate.confidence import Scorer, quantiles
from aasut.finished import taken_up
from aasut.gateway import worker
from aasut.gateway.worker import Answering
from aasut.progress import Progress
from aasut.prompts import PromptTemplate
from aasut.serve.student import ServedStudent
from aasut.tasks import Classify, Extract, Generate, Task

SCHEMA = json.dumps({"type": "object", "properties": {"mood": {"enum": ["good"]}}, "required": ["mood"]})


def answering(task: Task, rules: dict[str, str], kind: str = "least_token", context: int = 4096) -> Answering:
    engine = ScriptedEngine(rules, context)
    return Answering(ServedStudent(task, PromptTemplate.of("T: {text} ="), engine, "s", "ab"), Scorer(kind))


def prompt_of(text: str = "") -> PromptTemplate:
    return PromptTemplate.of("Text: {text}")


def test_scores_are_those_that_certify_computed(made: Path) -> None:
    with taken_up("words", made, Progress(quiet=True), makes=()) as taken:
        export = taken.done["export"]
        rows = split.load(taken.done["data"].path, "calibrate")
        candidate = student_candidate(taken.stages.recipe, export.path / export.facts["served"])
    certified = json.loads((made / "words" / "certificate.json").read_text(encoding="utf-8"))
    scorer = Scorer(**{name: value for name, value in certified["scorer"].items() if name != "quantiles"})
    answered = candidate.answer(rows)
    student = ServedStudent.load(made / "words")
    prompts = [student.render(row.slots) for row in rows]
    told = []
    for size in (1, 7, 32):
        batches = [range(at, min(at + size, len(prompts))) for at in range(0, len(prompts), size)]
        found = Answering(student, scorer)
        told.append([t for batch in batches for _, t in found.answer([(i, prompts[i], 0.0) for i in batch])])
    for one in told:
        assert [t["score"] for t in one] == scorer.scores(answered.features).tolist()  # to the last bit
        assert [t["text"] for t in one] == answered.given(candidate.task)
    assert max(told[0][0]["logprobs"].values()) == pytest.approx(np.log(told[0][0]["score"]))


def test_text_is_given_in_the_tasks_form_with_its_score() -> None:
    found = answering(Extract(prompt_of(), 8, SCHEMA), {"fine": '{"mood":"good"}', "odd": "no JSON"})
    told = dict(found.answer([(4, "T: fine =", 0.0), (9, "T: odd =", 0.0), (7, "T: none =", 0.0)]))
    assert {number: one["text"] for number, one in told.items()} == {4: '{"mood": "good"}', 9: "", 7: ""}
    assert (told[4]["score"], told[4]["finish"], told[4]["usage"]) == (0.0, "stop", [3, 1])
    assert told[7]["score"] == quantiles([])[0]


@pytest.mark.parametrize("task", [Classify(("a", "b"), prompt_of(), max_tokens=2), Generate(prompt_of(), 4)])
def test_what_does_not_fit_is_said_so_and_spoils_nothing(task: Task) -> None:
    found = answering(task, {"x": "a"}, "label" if task.answers else "least_token", context=12)
    told = dict(found.answer([(1, "x " * 20, 0.0), (2, "x =", 0.0)]))
    assert told[1] == {"fault": "too_long"}
    assert told[2]["text"] == "a"


def test_what_nobody_waits_for_is_not_answered() -> None:
    asked: queue.SimpleQueue[worker.Asked] = queue.SimpleQueue()
    late, soon = time.monotonic() - 1, time.monotonic() + 60
    for number in range(worker.LARGEST + 3):
        asked.put((number, "p", soon if number % 2 else late))
    assert [number for number, _, _ in worker._waiting(asked)] == list(range(1, worker.LARGEST, 2))
    assert [number for number, _, _ in worker._waiting(asked)] == [worker.LARGEST + 1]
