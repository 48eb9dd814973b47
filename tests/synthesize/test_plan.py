from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import chunked
from aasut.errors import DataError
from aasut.synthesize.plan import Plan, letters, plan
from aasut.types import Chunk, Span

MADE = [*chunked.chunks(40), *chunked.chunks(20, "hi")]
KINDS = ["relations", "questions", "reading"]


def planned(folder: Path, made: list[Chunk] = MADE, **changes: Any) -> Plan:
    recipe = chunked.recipe(**changes)
    ledger = chunked.open_ledger(recipe, folder)
    try:
        return plan(recipe, iter(made), chunked.parts(MADE), ledger, None)
    finally:
        ledger.close()


def about(found: Plan, split: str, kind: str) -> list[str]:
    return [chunk.id for task in found.tasks if (task.shelf.split, task.kind) == (split, kind) for chunk in task.chunks]


def test_all_kinds_are_made_of_train_and_only_questions_of_what_is_held_out(tmp_path: Path) -> None:
    found = planned(tmp_path, synthesize={"kinds": KINDS})
    parts = chunked.parts(MADE)
    for split in ("train", "tune", "test"):
        own = [chunk.id for chunk in MADE if parts[chunk.span.document] == split]
        for kind in ("questions", "relations", "reading", "conversations", "calls"):
            wanted = kind in KINDS if split == "train" else kind == "questions"
            assert about(found, split, kind) == (own if wanted else []), (split, kind)
    assert found.conservation.rows_in == found.conservation.kept == len(MADE)
    assert [task.kind for task in found.tasks if task.shelf.split == "train"] == sorted(
        (task.kind for task in found.tasks if task.shelf.split == "train"), key=KINDS.index
    )


def test_reading_takes_a_documents_chunks_together(tmp_path: Path) -> None:
    tasks = [task for task in planned(tmp_path, synthesize={"kinds": ["reading"]}).tasks if task.kind == "reading"]
    assert all(len({chunk.span.document for chunk in task.chunks}) == 1 for task in tasks)
    assert len({task.chunks[0].span.document for task in tasks}) == len(tasks)
    assert {len(task.chunks) for task in tasks} == {2}
    assert tasks[0].outline == "Upkeep 4; Upkeep 5"


def test_chunks_are_drawn_by_the_seed_whatever_their_order(tmp_path: Path) -> None:
    few = {"chunks": 7, "held_out": 3}
    one, again = planned(tmp_path, synthesize=few), planned(tmp_path, list(reversed(MADE)), synthesize=few)
    other = planned(tmp_path, synthesize=few, seed=8)
    for split, count in (("train", 7), ("tune", 3), ("test", 3)):
        drawn = about(one, split, "questions")
        assert len(drawn) == count
        assert drawn == about(again, split, "questions")[::-1]
        assert drawn == sorted(drawn, key=[chunk.id for chunk in MADE].index)
        assert drawn != about(other, split, "questions")
    rows = one.conservation
    assert rows.balanced
    assert (rows.rows_in, rows.kept) == (60, 13)
    assert rows.dropped == {
        "train: not drawn, synthesize.chunks is 7": 29,
        "tune: not drawn, synthesize.held_out is 3": 9,
        "test: not drawn, synthesize.held_out is 3": 9,
    }
    none = planned(tmp_path, synthesize={"held_out": 0})
    assert {task.shelf.split for task in none.tasks} == {"train"}
    assert none.conservation.balanced


def test_chunks_with_few_letters_are_not_asked_about(tmp_path: Path) -> None:
    document = MADE[14].span.document
    bare = Chunk("bare", "| 1.5 | 2.5 |\n" * 50 + "ab", Span(document, 0, 700), "en")
    found = planned(tmp_path, [*MADE, bare], chunks={"least": 3})
    assert found.conservation.dropped == {"fewer than 3 letters": 1}
    assert "bare" in about(planned(tmp_path, [*MADE, bare], chunks={"least": 2}), "train", "questions")
    assert planned(tmp_path, [*MADE, Chunk("x", "...", bare.span)], chunks={"least": 0}).conservation.kept == len(MADE)


def test_signs_of_devanagari_are_letters() -> None:
    assert letters("पानी 40!") == 4
    assert letters("water 40!") == 5


def test_a_document_without_a_split_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"The document z\.md is in no split"):
        planned(tmp_path, [Chunk("z", "text", Span("z.md", 0, 4))])
