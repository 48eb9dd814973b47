"""More than sixty broken or hostile files at once: each is read or listed with a reason, none is lost, none runs."""

from __future__ import annotations

import socket
from collections import Counter
from pathlib import Path

import psutil
import pytest
from read_blocks import office  # noqa: F401 - finds the benchmarks' folder

from aasut.documents import pool
from aasut.documents.block import File
from aasut.recipe.documents import Documents, Reading

LARGE = 4 << 20  # bytes of long lines
UNPACKED_MB = 8
MEMORY_MB = 512


@pytest.fixture(scope="module")
def lured(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """The cases and what came of reading them, with the server and the paths that they reach for."""
    from hostile_cases import documents
    from hostile_cases.bad_file import Lure

    folder = tmp_path_factory.mktemp("hostile")
    (folder / "files").mkdir()
    (folder / "secret.txt").write_text("the secret words")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        lure = Lure(server.getsockname()[1], str(folder / "canary"), str(folder / "secret.txt"))
        cases = documents.cases(LARGE)
        for case in cases:
            case.make(folder / "files" / case.name, lure)
        good = folder / "files" / "last.md"
        good.write_text("# Good\n\nIt goes on.\n")
        files = [File(folder / "files" / case.name, case.name, 0) for case in cases] + [File(good, "last.md", 0)]
        texts: dict[str, list[str]] = {file.name: [] for file in files}
        faults: dict[str, str] = {}
        order: list[str] = []
        largest = 0
        reading = Reading(processes=2, timeout_s=30, memory_mb=MEMORY_MB, unpacked_mb=UNPACKED_MB)
        for event in pool.read(files, [Documents(source="files")], reading):
            texts[event.file.name] += [block.text for block in event.blocks]
            if event.done:
                faults[event.file.name] = event.fault
                order.append(event.file.name)
            largest = max([largest, *(_peak(child) for child in psutil.Process().children())])
        yield cases, texts, faults, order, largest, server, lure


def test_none_is_lost(lured) -> None:  # type: ignore[no-untyped-def]
    cases, _, faults, order, *_ = lured
    assert len(cases) >= 60
    assert order == [case.name for case in cases] + ["last.md"]
    assert set(faults) == set(order)


def test_each_is_read_or_listed_with_its_reason(lured) -> None:  # type: ignore[no-untyped-def]
    cases, texts, faults, *_ = lured
    wrong = []
    for case in cases:
        fault, text = faults[case.name], "\n".join(texts[case.name])
        as_told = case.may == "either" or (not fault) == (case.may == "read")
        if not as_told or (fault and case.reason not in fault) or (not fault and case.text not in text):
            wrong.append((case.name, case.may, case.reason, fault, text[:80]))
    assert wrong == []
    assert sum(bool(fault) for fault in faults.values()) >= 60
    assert Counter(faults.values())["its reader failed"] == 0, "a reader's error is not told by name"


def test_what_is_read_is_whole(lured) -> None:  # type: ignore[no-untyped-def]
    _, texts, faults, *_ = lured
    for name, fault in faults.items():
        if not fault:
            assert any(text.strip() for text in texts[name]), name
            assert all(0 < len(text) <= 16_000 for text in texts[name]), name
            "".join(texts[name]).encode("utf-8")


def test_nothing_is_executed_fetched_or_told(lured) -> None:  # type: ignore[no-untyped-def]
    _, texts, _, _, _, server, lure = lured
    with pytest.raises(BlockingIOError):
        server.accept()
    assert not Path(lure.canary).exists()
    assert [name for name, text in texts.items() if "the secret words" in "".join(text)] == []


def test_memory_is_bounded_and_it_goes_on(lured) -> None:  # type: ignore[no-untyped-def]
    _, texts, faults, _, largest, *_ = lured
    assert 0 < largest < (MEMORY_MB + 128) << 20
    assert (faults["last.md"], texts["last.md"]) == ("", ["Good", "It goes on."])
    assert [child for child in psutil.Process().children() if "aasut.documents.worker" in child.cmdline()] == []


def _peak(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
