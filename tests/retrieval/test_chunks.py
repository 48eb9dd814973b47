"""Chunks on disk: any one comes back as it was, from a file of which only it is read."""

from __future__ import annotations

from pathlib import Path

import pytest
from passages import ENGLISH, HINDI, chunks

from aasut.retrieval.chunks import CHUNKS, Chunks, write
from aasut.types import Chunk, Span

ODD = Chunk("odd #1", "a\nb\u2028c \" ' \\ \x00 𠀀", Span("d/e f.pdf#3", 5, 20, None, ("Ü › 1", "२")), "hi")


def test_any_chunk_as_it_was(tmp_path: Path) -> None:
    given = [*chunks(ENGLISH, "a.pdf"), ODD, *chunks(HINDI, "b.pdf")]
    assert list(write(iter(given), tmp_path)) == given
    kept = Chunks(tmp_path)
    assert len(kept) == len(given)
    assert [kept[number] for number in reversed(range(len(given)))] == given[::-1]
    assert kept[-1] == given[-1]
    assert kept[7:10] == given[7:10]
    for beyond in (len(given), -len(given) - 1):
        with pytest.raises(IndexError):
            kept[beyond]


def test_one_line_a_chunk(tmp_path: Path) -> None:
    list(write([ODD, ODD], tmp_path))
    assert (tmp_path / CHUNKS).read_bytes().count(b"\n") == 2


def test_the_places_are_written_when_all_have_passed(tmp_path: Path) -> None:
    passing = write([ODD, ODD], tmp_path)
    next(passing)
    with pytest.raises(FileNotFoundError):
        Chunks(tmp_path)
    assert list(passing) == [ODD]
    assert len(Chunks(tmp_path)) == 2
