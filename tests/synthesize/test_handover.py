"""What was kept becomes tables and recipes that a run takes: it learns what was taught and asks people for the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from aasut import pipeline, recipe
from aasut.data import gold, label, split
from aasut.pipeline import Stages
from aasut.progress import Progress
from aasut.recipe.scale import scaled
from aasut.store import Store
from aasut.synthesize import handover
from aasut.synthesize.item import Item
from aasut.types import Document
from written import HINDI, MANUAL, TOOL, asked, chunks, conversation, read
from written import recipe as field_recipe

QUIET = Progress(quiet=True)
CALL = '[{"name": "order", "arguments": {"part": "फ़्यूज़ F12"}}]'
DOCUMENTS = {
    name: Document(name, f"{name}.pdf", f"group of {name}", "en", 200)
    for name in ("train", "more", "tune", "test", "hindi")
}
EN, MORE, HI = chunks("train", MANUAL), chunks("more", MANUAL), chunks("hindi", HINDI, "hi", ["देखभाल", "पंप"])


def items() -> list[Item]:
    held = {name: chunks(name, MANUAL)[0] for name in ("tune", "test")}
    questions = [
        asked(f"q{i}", f"What is fuse {i} for?", f"It is for lamp {i}.", (EN, MORE)[i % 2][i % 3]) for i in range(20)
    ]
    return [
        *questions,
        asked("hindi", "पंप का फ़्यूज़ कौन-सा है?", "F12 फ़्यूज़", HI[0]),
        conversation("talk", [("Which fuse is it?", "F12."), ("And its rating?", "15 A.")], EN[0]),
        read("text", "फ़्यूज़ F12 पंप की सुरक्षा करता है।", HI[0]),
        asked("call", "फ़्यूज़ F12 मँगवाइए", CALL, HI[0], kind="calls"),
        asked("no call", "Which fuse is it now?", "F12.", EN[0], kind="calls"),
        *(asked(f"{name} {i}", f"What is lamp {i} of {name} for?", f"For {i}.", chunk, split=name)
          for name, chunk in held.items() for i in range(6)),
        read("held text", "Not to be learned.", held["test"], split="test"),
        asked("held call", "Order the lamp.", CALL, held["test"], split="test", kind="calls"),
    ]  # fmt: skip


def made(model: Path | str = "model", **changes: Any) -> recipe.FieldRecipe:
    plain: dict[str, Any] = {
        "synthesize": {"kinds": ["questions", "calls"], "tools": [TOOL], "max_tokens": 24},
        "documents": [{"source": "docs", "licence": "CC-BY-4.0"}, {"source": "more", "licence": "GPL\n2.0"}],
        "teacher": {"scripted": {"": "Ask somebody else.", "rate": "x"}},
        "student": {"model": {"address": f"file:{model}"}},
        "adapt": {"replay": [{"source": "general"}]},
    }
    return field_recipe(**(plain | changes))


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_each_item_goes_where_it_is_used_and_what_is_held_out_nowhere_else(tmp_path: Path) -> None:
    counts = handover.write(made(), tmp_path, iter(items()), DOCUMENTS, tmp_path)
    train, held = rows(tmp_path / handover.TRAIN), rows(tmp_path / handover.HELD_OUT)
    assert {row["id"] for row in train} == {f"q{i}" for i in range(20)} | {"hindi"}
    assert train[-1] == {
        "question": "पंप का फ़्यूज़ कौन-सा है?", "answer": "F12 फ़्यूज़", "id": "hindi", "document": "hindi",
        "group": "group of hindi", "file": "hindi.pdf", "page": 1, "headings": "देखभाल › पंप",
    }  # fmt: skip
    assert {row["id"] for row in held} == {f"{name} {i}" for name in ("tune", "test") for i in range(6)}
    assert all("answer" not in row and row["teacher_answer"] for row in held)
    assert [row["id"] for row in rows(tmp_path / handover.TEXTS)] == ["text"]
    chats = {row["id"]: row for row in rows(tmp_path / handover.CHAT)}
    assert set(chats) == {f"q{i}" for i in range(20)} | {"hindi", "talk", "call", "no call"}
    assert [turn["content"] for turn in chats["talk"]["messages"]] == [
        "Which fuse is it?", "F12.", "And its rating?", "15 A.",
    ]  # fmt: skip
    said = chats["call"]["messages"][1]
    assert said["content"] is None
    assert json.loads(said["tool_calls"][0]["function"]["arguments"]) == {"part": "फ़्यूज़ F12"}
    assert chats["call"]["tools"] == [TOOL]
    assert chats["no call"]["messages"][1] == {"role": "assistant", "content": "F12."}
    assert {row["id"] for row in rows(tmp_path / handover.CALLS)} == {"call", "no call"}
    assert len(rows(tmp_path / handover.CALLS_HELD_OUT)) == 13
    assert counts == {
        handover.TRAIN: 21, handover.HELD_OUT: 12, handover.TEXTS: 1, handover.CHAT: 24, handover.CALLS: 2,
        handover.CALLS_HELD_OUT: 13,
    }  # fmt: skip
    everything = "".join(
        path.read_text(encoding="utf-8") for path in (tmp_path / name for name in counts if "held" not in name)
    )
    assert "of test for" not in everything
    assert "Not to be learned" not in everything


def test_the_recipes_can_be_read_and_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    local = {"model": {"address": "file:models/teacher.gguf"}, "precision": "float32"}
    handover.write(made(teacher=local), tmp_path, items(), DOCUMENTS, tmp_path / "out")
    questions, calls = (recipe.load(tmp_path / "out" / name) for name in (handover.TASK, handover.TASK_CALLS))
    assert (questions.name, calls.name, calls.task.kind) == ("cars-questions", "cars-calls", "tools")
    assert (questions.task.build().max_tokens, json.loads(calls.task.build().tools)) == (24, [TOOL])
    assert questions.teacher.model is not None
    assert questions.teacher.model.address == "file:../models/teacher.gguf"
    assert questions.student.model is not None
    assert questions.student.model.address == "file:../model"
    assert questions.data.gold != calls.data.gold
    text = (tmp_path / "out" / handover.TASK).read_text(encoding="utf-8")
    assert "aasut gold task.yaml" in text
    assert "CC-BY-4.0, GPL 2.0." in text
    assert "21 questions of train" in text
    assert "12 questions of documents that train has not" in text


def test_rows_of_one_group_are_their_own_groups(tmp_path: Path) -> None:
    of_one = [item for item in items() if item.split != "train" or item.spans[0].document == "train"]
    handover.write(made(), tmp_path, of_one, DOCUMENTS, tmp_path)
    tables = recipe.load(tmp_path / handover.TASK).data.tables
    assert [table.group is None for table in tables] == [True, False]


def test_without_anything_to_hold_against_there_is_no_recipe(tmp_path: Path) -> None:
    train = [item for item in items() if item.split == "train"]
    plain = made(synthesize={}, student=None, adapt=None)
    counts = handover.write(plain, tmp_path, train, DOCUMENTS, tmp_path)
    assert (counts[handover.TRAIN], counts[handover.HELD_OUT]) == (21, 0)
    assert not (tmp_path / handover.TASK).exists()
    assert not (tmp_path / handover.CALLS).exists()
    handover.write(plain, tmp_path, items(), DOCUMENTS, tmp_path)
    student = yaml.safe_load((tmp_path / handover.TASK).read_text(encoding="utf-8"))["student"]
    assert student["model"]["address"].startswith("pypi:")
    assert not (tmp_path / handover.TASK_CALLS).exists()


def answer_by_hand(path: Path, given: recipe.Recipe) -> int:
    """Answer every row that `aasut gold` would ask, as a person would."""
    found = split.unanswered(given, path.parent, QUIET).rows
    for row in found:
        said = gold.Line(row.id, gold.slots_hash(row.slots, ["question"]), "answer", f"By hand {row.id}", "ann", "t")
        gold.append(path.parent / str(given.data.gold), said)
    return len(found)


@pytest.mark.parametrize(("name", "taught", "people"), [(handover.TASK, 16, 12), (handover.TASK_CALLS, 2, 13)])
def test_a_run_learns_what_was_taught_without_a_question(
    tiny_llama: Path, tmp_path: Path, name: str, taught: int, people: int
) -> None:
    handover.write(made(tiny_llama), tmp_path, items(), DOCUMENTS, tmp_path)
    given = recipe.load(tmp_path / name)
    assert answer_by_hand(tmp_path / name, given) == people
    small = scaled(given, "ci")
    pipeline.check(small)
    with Store(tmp_path / "runs" / ".store") as store:
        stages = Stages(small, tmp_path, store, QUIET)
        try:
            data = stages.data()
            done = stages.label(data, stages.choose(data))
            labels, calls = label.load(done.path), stages.calls_made
        finally:
            stages.close()
    pool = {row.id: row.taught for row in split.load(data.path, "pool")}
    assert {one.id: one.texts for one in labels} == {row: (said,) for row, said in pool.items()}
    assert (done.facts["taught"], len(labels), calls) == (taught, taught, 0)
    assert not any(row.startswith("1:") for row in pool)
    held = [row for part in split.GOLD for row in split.load(data.path, part)]
    assert held
    assert all(row.answer == f"By hand {row.id}" for row in held)


def test_a_run_goes_through_to_its_verdict(tiny_llama: Path, tmp_path: Path) -> None:
    handover.write(made(tiny_llama), tmp_path, items(), DOCUMENTS, tmp_path)
    flags = ["student.precision=float32", "export={serve: safetensors, engine: torch, precision: float32}"]
    given = recipe.load(tmp_path / handover.TASK, flags)
    answer_by_hand(tmp_path / handover.TASK, given)
    found = pipeline.run(given, tmp_path, tmp_path / "runs", QUIET, "ci")
    tested = sum(found.facts["data"]["counts"][part] for part in ("test", "tune"))
    assert found.calls_made <= tested  # the evaluation asks, the labelling does not
    assert found.facts["panel"]["taught"] == 16
    assert found.facts["training"]["method"]["name"] == "fine_tune"
