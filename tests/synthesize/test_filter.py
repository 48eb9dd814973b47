"""The stage `filtered` as a whole: one planted fault of each kind, in English and Hindi, and what becomes of each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aasut.errors import TeacherError
from aasut.progress import Progress
from aasut.recipe.field import FieldRecipe
from aasut.synthesize import filter as stage
from aasut.synthesize import grounding, item, overlap, round_trip, shape
from aasut.synthesize.item import Item
from aasut.teacher.ledger import Ledger
from aasut.teacher.scripted import ScriptedTeacher
from aasut.types import Conservation, Span
from written import HINDI, MANUAL, TOOL, asked, chunks, conversation, read, recipe

QUIET = Progress(quiet=True)
MANUALS = {split: chunks(f"{split}.md", MANUAL) for split in ("train", "tune", "test")}
EN, HI = MANUALS["train"], chunks("hi.md", HINDI, "hi", ["देखभाल"])
CALL = '[{"name": "order", "arguments": {"part": "fuse F12"}}]'
RULES = {
    "which fuse": "F12",
    "कौन-सा": "F12 फ़्यूज़",
    "how long": "24 months",
    "when is": "Not stated.",
    "drained": "A new battery.",
    "order me": CALL,
    "": "x",
}
FAULTS: dict[str, Item] = {
    "": asked("good", "Which fuse protects the fuel pump?", "Fuse F12.", EN[0], evidence=("protected by fuse F12",)),
    "hindi": asked("hindi", "ईंधन पंप की सुरक्षा कौन-सा फ़्यूज़ करता है?", "फ़्यूज़ F12", HI[0]),
    "text": read("text", "The fuse F12 protects the fuel pump. It is under the bonnet.", EN[0]),
    "talk": conversation("talk", [("Which fuse is it?", "F12."), ("How long is the gearbox covered?", "24 months.")],
                         EN[0], spans=(EN[0].span, EN[2].span)),
    "calls": asked("calls", "Please order me the fuse F12.", CALL, EN[0], kind="calls"),
    "tune": asked("tune", "Which fuse serves the fuel pump here?", "It is F12.", MANUALS["tune"][0], split="tune"),
    "test": asked("test", "Which fuse guards the fuel pump?", "F12 it is.", MANUALS["test"][0], split="test"),
    stage.NO_SPAN: asked("lost", "Which fuse is it?", "F12.", EN[0], spans=(Span("no.md", 0, 9),)),
    shape.EMPTY: asked("empty", "Which fuse is it?", " ", EN[0]),
    shape.SHORT: asked("short", "फ़्यूज़?", "फ़्यूज़ F12", HI[0]),
    shape.LONG: asked("long", "Which fuse is it?", "fuse " * 500, EN[0]),
    shape.ECHO: asked("echo", "The pump has a fuse F12.", "the pump has a fuse F12", EN[0]),
    shape.REFUSAL: asked("no", "Which fuse is it?", "I'm sorry, as an AI I cannot say.", EN[0]),
    shape.PROMPT: asked("about", "कौन-सा फ़्यूज़ है?", "गद्यांश के अनुसार फ़्यूज़ F12", HI[0]),
    shape.POINTS: asked("points", "Which fuse is named in the passage?", "F12.", EN[0]),
    shape.SCRIPT: asked("script", "Which fuse is it?", "फ़्यूज़ F12", EN[0]),
    grounding.EVIDENCE: asked("quote", "Which fuse is it?", "F12.", EN[0], evidence=("fuse F13",)),
    grounding.NUMBER: asked("number", "कितने किमी पर जाँच करें?", "हर २०,००० किमी पर", HI[1]),
    grounding.WORDS: asked("words", "Which fuse is it?", "Unknown mechanics replaced something.", EN[0]),
    grounding.ARGUMENT: asked("argument", "Order me a fuse.", CALL.replace("fuse F12", "pump 9"), EN[0], kind="calls"),
    round_trip.NOT_STATED: asked("unsaid", "When is the engine cold?", "Drain it when the engine is cold.", EN[1]),
    round_trip.OTHER: asked("other", "When may coolant be drained?", "When the engine is cold.", EN[1]),
    overlap.EXACT: asked("twice", "WHICH fuse protects the fuel pump?", "fuse F12.", EN[0]),
    overlap.NEAR: asked("near", "Which fuse protects the fuel pump?", "Fuse F12!", EN[0]),
    overlap.CONTAMINATED: asked("exam", "Which fuse is asked for in the exam of 2020?", "F12.", EN[0]),
}  # fmt: skip
GOOD = ["", "hindi", "text", "talk", "calls", "tune", "test"]


class Exam:
    """Holds a set that a question stands in, and is told which items are held out."""

    def __init__(self) -> None:
        self.made_of: list[str] = []

    def __call__(self, items: Sequence[Item]) -> Exam:
        self.made_of = [one.id for one in items]
        return self

    def find(self, texts: Sequence[str]) -> list[str]:
        return ["exam.csv, line 3: 13 words in a row" if "exam of 2020" in text else "" for text in texts]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def built(
    folder: Path, made: FieldRecipe, items: Sequence[Item], rules: dict[str, str] | None = None, **more: Any
) -> Any:
    ledger = Ledger(ScriptedTeacher(RULES if rules is None else rules), folder.parent / "ledger.db")
    every = [*EN, *MANUALS["tune"], *MANUALS["test"], *HI]
    try:
        options = {"held": Exam(), "embedder": None, "search": None} | more
        facts = stage.build(made, iter(items), iter(every), ledger, folder=folder, progress=QUIET, **options)
        return facts | {"calls": ledger.calls_made}
    finally:
        ledger.close()


def made(**settings: Any) -> FieldRecipe:
    return recipe(synthesize={"kinds": ["questions", "calls"], "tools": [TOOL]}, **settings)


def reasons(folder: Path) -> dict[str, str]:
    """Reason by id of what was dropped."""
    lines = (folder / stage.DROPPED).read_text(encoding="utf-8").splitlines()
    return {row["id"]: row["reason"] for row in map(json.loads, lines)}


def test_every_fault_is_found_and_told_and_nothing_is_lost(folder: Path) -> None:
    exam = Exam()
    facts = built(folder, made(), list(FAULTS.values()), held=exam)
    kept = [one for split in item.SPLITS for one in item.load(folder / f"{split}.jsonl")]
    assert reasons(folder) == {FAULTS[reason].id: reason for reason in FAULTS if reason not in GOOD}
    assert sorted(one.id for one in kept) == sorted(FAULTS[name].id for name in GOOD)
    assert {one.id: one for one in kept} == {FAULTS[name].id: FAULTS[name] for name in GOOD}
    assert exam.made_of == ["tune", "test"]
    rows = facts["conservation"]
    assert all(isinstance(found, Conservation) and found.balanced for found in rows.values())
    assert (rows["filtered"].rows_in, rows["filtered"].kept) == (len(FAULTS), len(GOOD))
    assert (rows["filtered tune"].kept, rows["filtered test"].kept, rows["filtered train"].kept) == (1, 1, 5)
    assert sum(facts["reasons"]["train"].values()) == len(FAULTS) - len(GOOD)
    assert facts["kinds"]["questions"] == {"in": 21, "kept": 4}


def test_rates_are_of_those_that_reached_a_check(folder: Path) -> None:
    rates = built(folder, made(), list(FAULTS.values()))["rates"]
    before = [
        stage.NO_SPAN,
        shape.EMPTY,
        shape.SHORT,
        shape.LONG,
        shape.ECHO,
        shape.REFUSAL,
        shape.PROMPT,
        shape.POINTS,
        shape.SCRIPT,
    ]
    reached = len(FAULTS) - len(before)
    assert rates["grounding"] == {"reached": reached, "passed": reached - 4, "share": (reached - 4) / reached}
    asked_again = reached - 4 - 1  # texts answer nothing
    assert rates["round_trip"] == {
        "reached": asked_again, "passed": asked_again - 2, "share": (asked_again - 2) / asked_again,
    }  # fmt: skip
    assert (rates["duplicates"]["reached"], rates["decontamination"]["reached"]) == (reached - 6, reached - 6 - 2 - 2)


def test_samples_show_what_each_reason_means(folder: Path) -> None:
    more = [replace(FAULTS[shape.REFUSAL], id=f"no{i}") for i in range(5)]
    samples = built(folder, made(), [*FAULTS.values(), *more])["samples"]
    assert set(samples) == {reason for reason in FAULTS if reason not in GOOD} | {stage.KEPT}
    assert (len(samples[shape.REFUSAL]), len(samples[stage.KEPT])) == (3, 3)
    other = samples[round_trip.OTHER][0]
    assert (other["detail"], other["text"]) == ("A new battery.", MANUAL[1])
    assert samples[overlap.NEAR][0]["detail"] == "good"
    assert samples[overlap.CONTAMINATED][0]["detail"].startswith("exam.csv, line 3")
    again = built(folder, made(), [*FAULTS.values(), *more])["samples"]
    assert again == samples


def test_a_second_run_pays_for_nothing_and_writes_the_same(folder: Path) -> None:
    first = built(folder, made(), list(FAULTS.values()))
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    second = built(folder, made(), list(FAULTS.values()))
    assert first["calls"] > 5
    assert second["calls"] == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    assert first | {"calls": 0} == second


def test_no_second_answer_is_wanted_and_none_is_asked_for(folder: Path) -> None:
    facts = built(folder, made(filter={"round_trip": 0}), list(FAULTS.values()))
    assert facts["calls"] == 0
    assert "round_trip" not in facts["rates"]
    assert {"unsaid", "other"}.isdisjoint(reasons(folder))


def test_settings_decide(folder: Path) -> None:
    items = list(FAULTS.values())
    built(
        folder,
        made(filter={"shortest": 1, "longest": 600, "grounding": 0, "near_duplicates": 1, "round_trip": 0}),
        items,
    )
    told = reasons(folder)
    assert {"short", "words", "near"}.isdisjoint(told)
    built(folder, made(filter={"round_trip": 1}), items)
    assert reasons(folder)["good"] == round_trip.OTHER  # "Fuse F12." is not "F12"


def test_passages_are_searched_for_where_the_recipe_wants_that(folder: Path) -> None:
    found: list[str] = []

    def search(question: str) -> list[str]:
        found.append(question)
        return ["nothing of it", "order me"]

    item_ = FAULTS[""]
    settings = made(filter={"context": "retrieved"})
    built(folder, settings, [item_], {"protected by fuse": "F12", "nothing of it": "A different thing."}, search=search)
    assert found == ["Which fuse protects the fuel pump?"]
    assert reasons(folder) == {"good": round_trip.OTHER}


def test_a_teacher_that_fails_is_no_reason_to_drop_and_too_many_stop_the_run(folder: Path) -> None:
    one = [FAULTS[""], FAULTS["hindi"]]
    facts = built(folder, made(), one, {"which fuse": "F12"})
    assert facts["conservation"]["filtered"].failed == {round_trip.UNANSWERED: 1}
    different = [asked(f"d{i}", f"कौन-सा फ़्यूज़ {i} है?", "फ़्यूज़ F12", HI[0]) for i in range(60)]
    with pytest.raises(TeacherError, match=r"60 of 60 second answers are unusable \(60 × no rule matches\)") as caught:
        built(folder, made(filter={"max_failed": 0.2}), different, {"nothing": "F12"})
    assert "filter.max_failed" in caught.value.remedy
