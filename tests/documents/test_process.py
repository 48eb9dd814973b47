"""A reader's process from outside: what it is told, how it ends."""

from __future__ import annotations

import json
import select
import time
from pathlib import Path
from typing import Any

import pytest

from aasut.documents.opened import Wanted
from aasut.documents.process import Reader
from aasut.errors import DataError
from aasut.recipe.documents import Reading


def heard(reader: Reader, last: str = "done") -> list[list[Any]]:
    """What it says until it is done, or ends."""
    found: list[list[Any]] = []
    deadline = time.monotonic() + 60
    while not reader.ended and not (found and found[-1][0] == last) and time.monotonic() < deadline:
        select.select([reader.output], [], [], 1)
        found += reader.messages()
    return found


def test_it_reads_and_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "नियम \udc80.md"
    path.write_text("# a\n")
    reader = Reader(Reading())
    assert not reader.ready
    reader.ask(3, path, Wanted())
    assert heard(reader) == [["blocks", [["a", 1, None, None]]], ["done", "", "", False]]
    assert (reader.ready, reader.number, reader.ended) == (True, 3, False)
    reader.close()
    assert reader.process.returncode == 0


def test_keys_and_tokens_stay_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    reader = Reader(Reading())
    place = Path(f"/proc/{reader.process.pid}/environ")
    reader.ask(0, tmp_path / "none", Wanted())
    assert heard(reader)[0][1] == "no longer there"
    assert b"sk-secret" not in place.read_bytes()
    assert b"PYTHONPATH" in place.read_bytes()
    reader.kill()


def test_one_that_cannot_start_is_the_recipe_s_fault() -> None:
    reader = Reader(Reading(memory_mb=1))
    assert heard(reader) == []
    assert (reader.ended, reader.ready) == (True, False)
    with pytest.raises(DataError, match=r"could not start: reading\.memory_mb is 1, and a reader needs 256"):
        raise reader.unready()
    reader.kill()


@pytest.mark.parametrize(("sent", "said"), [(9, "SIGKILL"), (11, "SIGSEGV")])
def test_how_it_died(sent: int, said: str) -> None:
    reader = Reader(Reading())
    reader.process.send_signal(sent)
    assert heard(reader) == []
    assert reader.death() == said
    reader.ask(0, Path("x"), Wanted())  # is no error: that it has died is noticed by its output's end
    reader.kill()


def test_long_messages_come_whole_and_endless_ones_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aasut.documents.process.PIECE", 1000)
    (tmp_path / "a.json").write_text(json.dumps([{"t": "नियम " * 3000}] * 5), encoding="utf-8")
    reader = Reader(Reading())
    reader.ask(0, tmp_path / "a.json", Wanted())
    assert sum(len(block[0]) for message in heard(reader)[:-1] for block in message[1]) > 70_000
    monkeypatch.setattr("aasut.documents.process.LONGEST", 5000)
    reader.ask(1, tmp_path / "a.json", Wanted())
    with pytest.raises(ValueError, match="does not end"):
        heard(reader)
    reader.kill()
