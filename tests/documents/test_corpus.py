"""What is written down: documents with their chunks; nothing of a file that fails, of empty ones and of copies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aasut.documents.block import Block, File
from aasut.documents.corpus import Corpus, Lines
from aasut.documents.ingest import load_chunks, load_documents
from aasut.recipe.documents import Documents
from aasut.store import check_conservation

LONG = "The battery of this camera lasts for two weeks of daily use. " * 60
HINDI = "खाता कैसे खोलें और उसमें पैसे कैसे जमा करें, यह यहाँ लिखा है। " * 60


def put(corpus: Corpus, name: str, blocks: list[Block], fault: str = "", **section: Any) -> None:
    with corpus.file(File(Path(name), name, 0), Documents(source=".", **section)) as writer:
        for block in blocks:
            writer.add([block])
        writer.fault = fault


def unread(folder: Path) -> dict[str, str]:
    lines = [json.loads(line) for line in (folder / "unread.jsonl").read_text(encoding="utf-8").splitlines()]
    return {line["file"]: line["reason"] for line in lines}


def check(folder: Path) -> dict[str, str]:
    """Text by document; chunks are whole, in the documents' order, and no document is without them."""
    texts: dict[str, str] = {}
    for chunk in load_chunks(folder):
        assert chunk.span.start == len(texts.get(chunk.span.document, ""))
        texts[chunk.span.document] = texts.get(chunk.span.document, "") + chunk.text
        assert chunk.span.end == len(texts[chunk.span.document])
    documents = list(load_documents(folder))
    assert [document.id for document in documents] == list(texts)
    assert [document.characters for document in documents] == [len(text) for text in texts.values()]
    return texts


def test_a_file_is_a_document_and_so_is_each_record(tmp_path: Path) -> None:
    with Corpus(tmp_path, 400) as corpus:
        put(corpus, "a/guide.md", [Block("Guide", 1), Block(LONG), Block(LONG)])
        put(corpus, "codes.csv", [Block("P1", 1, record="1"), Block("Air.", record="1"), Block("Fuel.", record="2")])
    texts = check(tmp_path)
    assert texts["a/guide.md"] == f"# Guide\n\n{LONG}\n\n{LONG}"
    assert {name: text for name, text in texts.items() if "#" in name} == {
        "codes.csv#1": "# P1\n\nAir.", "codes.csv#2": "Fuel.",
    }  # fmt: skip
    assert {document.file for document in load_documents(tmp_path)} == {"a/guide.md", "codes.csv"}
    assert corpus.counts["chunks"] == len(list(load_chunks(tmp_path)))
    assert unread(tmp_path) == {}


def test_a_file_that_fails_midway_leaves_nothing_of_itself(tmp_path: Path) -> None:
    rows = [Block(f"{n}: {LONG}", record=str(n)) for n in range(30)]
    with Corpus(tmp_path, 400) as corpus:
        put(corpus, "before.md", [Block("before")])
        put(
            corpus,
            "broken.csv",
            [*rows, Block("before", record="x"), Block(" ", record="y")],
            fault="broke off: line 9",
        )
        put(corpus, "whole.csv", rows)
        put(corpus, "none.md", [], fault="not a document")
    assert list(check(tmp_path)) == ["before.md", *(f"whole.csv#{n}" for n in range(30))]
    assert unread(tmp_path) == {"broken.csv": "broke off: line 9", "none.md": "not a document"}
    assert corpus.counts["documents"] == 31
    assert corpus.conservation().rows_in == 31
    assert set(corpus.languages) == {"en", ""}


def test_copies_and_empty_documents_are_dropped_and_listed(tmp_path: Path) -> None:
    with Corpus(tmp_path, 400) as corpus:
        put(corpus, "a.md", [Block(LONG)])
        put(corpus, "b.md", [Block(LONG, page=3)])
        put(
            corpus,
            "c.csv",
            [Block("one", record="1"), Block("one", record="2"), Block("  ", record="3"), Block(LONG, record="4")],
        )
        put(corpus, "d.md", [])
        put(corpus, "e.md", [Block(LONG + "x")])
    assert list(check(tmp_path)) == ["a.md", "c.csv#1", "e.md"]
    assert unread(tmp_path) == {
        "b.md": "the same text as another document: a.md",
        "c.csv#2": "the same text as another document: c.csv#1",
        "c.csv#3": "no text",
        "c.csv#4": "the same text as another document: a.md",
        "d.md": "no text",
    }
    conservation = corpus.conservation()
    check_conservation("documents", conservation)
    assert (conservation.rows_in, conservation.kept) == (8, 3)
    assert conservation.dropped == {"the same text as another document": 3, "no text": 2}


def test_groups_are_found_in_ids_and_a_document_without_one_is_its_own(tmp_path: Path) -> None:
    with Corpus(tmp_path, 400) as corpus:
        for name in ("guide/ch1-a.md", "help/ch1-b.md", "help/notes.md"):
            put(corpus, name, [Block(name)], group=r"(ch\d+)")
        put(corpus, "empty.md", [Block("x")], group="(z?)")
        put(corpus, "optional.md", [Block("y")], group="(z)?y?")
    assert [document.group for document in load_documents(tmp_path)] == [
        "ch1", "ch1", "help/notes.md", "empty.md", "optional.md",
    ]  # fmt: skip


def test_languages_of_chunks_and_documents(tmp_path: Path) -> None:
    with Corpus(tmp_path, 1600) as corpus:
        put(corpus, "en.md", [Block(LONG), Block("| 1 | 2 |\n" * 500)])
        put(corpus, "hi.md", [Block(HINDI)])
        put(corpus, "said.md", [Block("short")], language="hi")
        put(
            corpus,
            "both.md",
            [Block("A", 1), Block(LONG), Block("B", 1), Block(LONG[:1700]), Block("C", 1), Block(HINDI * 2)],
        )
    found = {document.id: document.language for document in load_documents(tmp_path)}
    assert found == {"en.md": "en", "hi.md": "hi", "said.md": "hi", "both.md": "hi"}
    assert {chunk.language for chunk in load_chunks(tmp_path) if chunk.span.document == "both.md"} == {"en", "hi"}
    assert corpus.languages["en"] == len(LONG) + 2 + len("| 1 | 2 |\n") * 500
    assert sum(corpus.languages.values()) == corpus.counts["characters"]


def test_half_a_surrogate_pair_does_not_stop_the_writing(tmp_path: Path) -> None:
    with Corpus(tmp_path, 400) as corpus:
        put(corpus, "a.md", [Block("a\ud800b")])
    assert check(tmp_path) == {"a.md": "a?b"}


@pytest.mark.parametrize("place", [0, 1])
def test_lines_are_cut_back_and_go_on(tmp_path: Path, place: int) -> None:
    lines = Lines(tmp_path / "x")
    lines.write({"a": "é"})
    marks = [0, lines.bytes]
    for _ in range(1000):
        lines.write({"b": 2})
    lines.cut(marks[place])
    lines.cut(lines.bytes)
    lines.write({"c": 3})
    lines.file.close()
    assert (tmp_path / "x").read_text(encoding="utf-8") == '{"a": "é"}\n' * place + '{"c": 3}\n'
