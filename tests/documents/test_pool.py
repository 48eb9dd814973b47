"""Files read by several processes: order, faults that cost one file alone, and bounded memory."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from read_blocks import HINDI, office, pdfs

from aasut.documents import pool
from aasut.documents.block import Block, File
from aasut.errors import DataError
from aasut.recipe.documents import Documents, Reading, Records

PLAIN = [Documents(source="x")]
HANG = Documents(source="x", records=Records(pattern="(?P<x>(a+)+)$"))


def files(paths: Iterable[Path], source: int = 0) -> list[File]:
    return [File(path, path.name, source) for path in paths]


def gathered(events: Iterable[pool.Event]) -> tuple[list[str], dict[str, list[Block]], dict[str, str]]:
    """Names in the order in which they were done, blocks and faults by name; no event may come between others'."""
    order: list[str] = []
    blocks: dict[str, list[Block]] = {}
    faults: dict[str, str] = {}
    for name, group in itertools.groupby(events, key=lambda event: event.file.name):
        assert name not in blocks, "a file's events are parted"
        own = list(group)
        assert [event.done for event in own] == [False] * (len(own) - 1) + [True]
        assert not any(event.fault for event in own[:-1])
        order.append(name)
        blocks[name] = [block for event in own for block in event.blocks]
        faults[name] = own[-1].fault
    return order, blocks, faults


def children() -> list[psutil.Process]:
    return [process for process in psutil.Process().children() if "aasut.documents.worker" in process.cmdline()]


def various(folder: Path) -> list[Path]:
    """Files of many formats and sizes, some of them bad."""
    made: dict[str, bytes] = {
        "0.jsonl": b"".join(json.dumps({"n": i, "t": "word " * 30}).encode() + b"\n" for i in range(20_000)),
        "1.md": f"# नियम\n\n{HINDI}\n".encode(),
        "2.bin": bytes(range(256)),
        "3.pdf": pdfs.pdf([f"page {i}" for i in range(50)]),
        "4.xlsx": office.xlsx([[i, HINDI] for i in range(200)]),
        "5.txt": b"",
        "6.html": f"<html><h1>{HINDI}</h1></html>".encode() * 20,
    }
    made |= {f"m{i}.txt": f"{HINDI} {i}\n".encode() for i in range(150)}
    for name, data in made.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in made]


def test_the_order_and_the_text_do_not_depend_on_the_processes(tmp_path: Path) -> None:
    paths = various(tmp_path)
    first, *others = (gathered(pool.read(files(paths), PLAIN, Reading(processes=number))) for number in (1, 2, 5))
    assert first[0] == [path.name for path in paths]
    assert first[1]["0.jsonl"][-1].record == "20000"
    assert [block.page for block in first[1]["3.pdf"]] == list(range(1, 51))
    assert {name: fault for name, fault in first[2].items() if fault} == {
        "2.bin": "not a document",
        "5.txt": "no text in it",
    }
    for other in others:
        assert other == first
    assert children() == []


def test_a_file_goes_by_its_section(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("P1 one\nP2 two\n")
    records = Records(pattern=r"(?P<code>P\d) (?P<text>\w+)", title="code", fields=["text"])
    given = [File(tmp_path / "a.txt", "first/a.txt", 0), File(tmp_path / "a.txt", "second/a.txt", 1)]
    sections = [Documents(source="x", format="text"), Documents(source="y", records=records)]
    _, blocks, _ = gathered(pool.read(given, sections, Reading(processes=1)))
    assert blocks["first/a.txt"] == [Block("P1 one\nP2 two")]
    assert [(block.record, block.text) for block in blocks["second/a.txt"]] == [
        ("P1", "P1"), ("P1", "one"), ("P2", "P2"), ("P2", "two"),
    ]  # fmt: skip


def test_one_that_hangs_costs_its_file_alone(tmp_path: Path) -> None:
    (tmp_path / "hang.txt").write_text("a" * 64 + "b")
    for i in range(8):
        (tmp_path / f"{i}.txt").write_text(f"words {i}")
    given = files([tmp_path / "0.txt"]) + files([tmp_path / "hang.txt"], 1)
    given += files(tmp_path / f"{i}.txt" for i in range(1, 8))
    order, blocks, faults = gathered(pool.read(given, [*PLAIN, HANG], Reading(processes=2, timeout_s=2)))
    assert order == [file.name for file in given]
    assert {name for name, fault in faults.items() if fault} == {"hang.txt"}
    assert faults["hang.txt"] == pool.STOPPED
    assert blocks["7.txt"] == [Block("words 7")]
    assert children() == []


def test_one_that_lacks_memory_costs_its_file_alone(tmp_path: Path) -> None:
    (tmp_path / "large.json").write_text('{"a": [' + ",".join(["[1]"] * 4_000_000) + "]}")
    (tmp_path / "small.txt").write_text("words")
    (tmp_path / "letter.docx").write_bytes(office.docx("words"))
    names = ["large.json", "small.txt", "letter.docx"]
    given = [File(tmp_path / name, f"{number} {name}", 0) for number, name in enumerate(names)]
    _, _, faults = gathered(pool.read(given, PLAIN, Reading(processes=1, memory_mb=256)))
    memory = "needs more memory than reading.memory_mb"
    assert faults == {"0 large.json": memory, "1 small.txt": "", "2 letter.docx": ""}


def test_one_that_is_killed_costs_its_file_alone(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"n": i, "t": "word " * 100}) + "\n" for i in range(40_000))
    (tmp_path / "large.jsonl").write_text(rows)
    (tmp_path / "small.txt").write_text("words")
    events = pool.read(files([tmp_path / "large.jsonl", tmp_path / "small.txt"]), PLAIN, Reading(processes=1))
    first = next(events)
    assert first.blocks
    for child in children():
        child.send_signal(signal.SIGSEGV)
    order, _, faults = gathered(itertools.chain([first], events))
    assert order == ["large.jsonl", "small.txt"]
    assert faults == {"large.jsonl": pool.DIED, "small.txt": ""}


def test_one_that_stands_still_is_ended(tmp_path: Path) -> None:
    """It uses no processor time, so that nobody but the pool can tell."""
    rows = "".join(json.dumps({"n": i, "t": "word " * 100}) + "\n" for i in range(40_000))
    (tmp_path / "large.jsonl").write_text(rows)
    (tmp_path / "small.txt").write_text("words")
    given = files([tmp_path / "large.jsonl", tmp_path / "small.txt"])
    events = pool.read(given, PLAIN, Reading(processes=1, timeout_s=2))
    first = next(events)
    for child in children():
        child.suspend()
    _, _, faults = gathered(itertools.chain([first], events))
    assert faults == {"large.jsonl": pool.STOPPED, "small.txt": ""}


def test_a_caller_that_takes_its_time_is_no_delay_of_the_reader(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"n": i, "t": "word " * 200}) + "\n" for i in range(3000))
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text(rows)
    events = pool.read(files([tmp_path / "a.jsonl", tmp_path / "b.jsonl"]), PLAIN, Reading(processes=2, timeout_s=1))
    taken = [next(events)]
    time.sleep(2.5)
    _, _, faults = gathered(itertools.chain(taken, events))
    assert faults == {"a.jsonl": "", "b.jsonl": ""}


def test_processes_end_with_who_asked(tmp_path: Path) -> None:
    paths = various(tmp_path)
    events = pool.read(files(paths), PLAIN, Reading(processes=3))
    next(events)
    assert children()
    events.close()  # type: ignore[attr-defined]
    assert children() == []


def test_files_are_asked_for_as_they_are_needed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    asked: list[int] = []

    def endless() -> Iterator[File]:
        for number in itertools.count():
            asked.append(number)
            yield File(tmp_path / "a.txt", str(number), 0)

    events = pool.read(endless(), PLAIN, Reading(processes=2))
    done = [event.file.name for event in itertools.islice((event for event in events if event.done), 500)]
    assert done == [str(number) for number in range(500)]
    assert len(asked) < 500 + 2 * pool.AHEAD + 2
    events.close()  # type: ignore[attr-defined]


def test_no_files_start_no_process() -> None:
    assert list(pool.read([], PLAIN, Reading(memory_mb=1))) == []


def test_a_process_that_cannot_start_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    with pytest.raises(DataError, match="could not start"):
        list(pool.read(files([tmp_path / "a.txt"]), PLAIN, Reading(processes=1, memory_mb=1)))
    assert children() == []


def test_who_asked_is_killed_and_no_process_stays(tmp_path: Path) -> None:
    paths = various(tmp_path)
    code = f"""
import time
from pathlib import Path
from aasut.documents import pool
from aasut.documents.block import File
from aasut.recipe.documents import Documents, Reading
files = [File(Path(p), p, 0) for p in {[str(path) for path in paths]!r}]
for event in pool.read(files, [Documents(source="x")], Reading(processes=3)):
    print("reads", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"reads\n"
        workers = psutil.Process(parent.pid).children()
        assert workers
        parent.kill()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert alive == []


def test_a_hundred_megabytes_stream_in_bounded_memory(tmp_path: Path) -> None:
    """Blocks of a large text are given on as they are read: neither process ever holds the file."""
    path, size = tmp_path / "large.txt", 100 << 20
    piece = (f"{HINDI} " * 20 + "\n\n").encode() * 200
    with path.open("wb") as file:
        while file.tell() < size:
            file.write(piece)
    before, watched, stop = psutil.Process().memory_info().rss, [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            watched.append(sum(_rss(child) for child in children()))

    threading.Thread(target=watch, daemon=True).start()
    largest = characters = 0
    for event in pool.read(files([path]), PLAIN, Reading(processes=1)):
        characters += sum(len(block.text) for block in event.blocks)
        largest = max(largest, psutil.Process().memory_info().rss)
        assert not event.fault
    stop.set()
    assert characters > os.path.getsize(path) / 3
    assert largest - before < 60 << 20, "the caller's process held much of the file"
    assert 0 < max(watched) < 120 << 20, "the reader's process held much of the file"


def test_what_is_read_before_its_turn_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first file waits for its reader; meanwhile the second, which is large, is held in a small part."""
    monkeypatch.setattr(pool, "HELD", 1 << 20)
    (tmp_path / "hang.txt").write_text("a" * 64 + "b")
    (tmp_path / "large.txt").write_bytes(("word " * 200 + "\n\n").encode() * 40_000)
    given = files([tmp_path / "hang.txt"], 1) + files([tmp_path / "large.txt"])
    before = psutil.Process().memory_info().rss
    events = pool.read(given, [*PLAIN, HANG], Reading(processes=2, timeout_s=4))
    first = next(events)
    assert first.fault == pool.STOPPED
    assert psutil.Process().memory_info().rss - before < 30 << 20
    _, blocks, faults = gathered(events)
    assert faults == {"large.txt": ""}
    assert len(blocks["large.txt"]) == 40_000


def _rss(process: psutil.Process) -> Any:
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0
