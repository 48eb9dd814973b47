"""Tests of gateway.recording: a real process that records, also when it is killed, or the gateway is."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from running import until

from aasut.errors import StoreError
from aasut.gateway import traffic
from aasut.gateway.exchange import Decision, Exchange
from aasut.gateway.packed import pack, unpack
from aasut.gateway.recording import Recording
from aasut.gateway.schema import FILE
from aasut.gateway.settings import Record


def exchange(number: int) -> Exchange:
    decision = Decision("run", "c" * 64, "certified", 0.75, True, "", "positive", "agreed") if number % 2 else None
    return Exchange(
        "/v1/chat/completions", "key", "m", b'{"n": %d}' % number, b'{"choices": []}', 200, False, "upstream", 3, 4, 1,
        True, 0.5, 0.25, 0.125, 0.5, "", "", decision,
    )  # fmt: skip


def with_recording(folder: Path, work: Callable[[Recording], Awaitable[None]]) -> None:
    async def main() -> None:
        recording = await Recording.open(folder, Record())
        try:
            await work(recording)
        finally:
            await recording.close()

    asyncio.run(main())


async def until_it(look: Callable[[], object]) -> None:
    """Wait, while the loop goes on, until something is true."""
    async with asyncio.timeout(60):
        while not look():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("number", [0, 1])
def test_an_exchange_comes_through_as_it_is(number: int) -> None:
    one = exchange(number)
    assert unpack(*pack(one)) == one


def test_what_is_put_is_written_and_told_of(tmp_path: Path) -> None:
    put = [exchange(number) for number in range(300)]
    told: list[str] = []

    async def work(recording: Recording) -> None:
        for one in put:
            recording.put(one, told.append)
        recording.event("start", "here")
        await until_it(lambda: len(told) == 300)
        assert (recording.written, recording.lost, recording.waiting, recording.failing) == (300, 0, 0, "")

    with_recording(tmp_path, work)
    assert told == [""] * 300
    assert list(traffic.exchanges(tmp_path)) == put
    assert [event.text for event in traffic.events(tmp_path) if event.kind == "start"] == ["here"]


def test_closing_writes_what_waits(tmp_path: Path) -> None:
    async def work(recording: Recording) -> None:
        for number in range(1000):
            recording.put(exchange(number))

    with_recording(tmp_path, work)
    assert len(list(traffic.exchanges(tmp_path))) == 1000


def test_a_killed_process_is_replaced_and_nothing_is_lost_or_written_twice(tmp_path: Path) -> None:
    put = [exchange(number) for number in range(1200)]

    async def work(recording: Recording) -> None:
        for number, one in enumerate(put):
            recording.put(one)
            if number % 400 == 200:
                await asyncio.sleep(0.03)  # in the middle of its work
                before = recording.pid
                assert before is not None
                os.kill(before, signal.SIGKILL)
                await until_it(lambda before=before: recording.pid not in (None, before))
        await until_it(lambda: recording.waiting == 0)
        assert (recording.lost, recording.failing) == (0, "")

    with_recording(tmp_path, work)
    assert sorted(one.request for one in traffic.exchanges(tmp_path)) == sorted(one.request for one in put)
    assert sum(event.kind == "recorder_started" for event in traffic.events(tmp_path)) >= 3


def test_what_waits_for_its_record_is_told_that_the_process_ended(tmp_path: Path) -> None:
    told: list[str] = []

    async def work(recording: Recording) -> None:
        assert recording.pid is not None
        os.kill(recording.pid, signal.SIGSTOP)
        recording.put(exchange(1))
        os.kill(recording.pid, signal.SIGKILL)
        await until_it(lambda: recording.failing)
        recording.put(exchange(2), told.append)
        assert told == ["the process that records has ended"]
        await until_it(lambda: not recording.failing)
        recording.put(exchange(3), told.append)
        await until_it(lambda: len(told) == 2)

    with_recording(tmp_path, work)
    assert told[1] == ""
    assert [one.request for one in traffic.exchanges(tmp_path)] == [b'{"n": 1}', b'{"n": 2}', b'{"n": 3}']


def test_a_killed_gateway_leaves_what_it_sent(tmp_path: Path) -> None:
    code = f"""
import asyncio, os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_recording import Record, Recording, exchange
async def main():
    recording = await Recording.open(Path({str(tmp_path)!r}), Record())
    for number in range(500):
        recording.put(exchange(number))
    await asyncio.sleep(0.02)  # the event loop has sent it; much is not on the disk yet
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    until(lambda: (tmp_path / FILE).exists() and len(list(traffic.exchanges(tmp_path))) == 500, "all is written")


def test_a_store_that_cannot_be_had_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("no database, for sure")
    with pytest.raises(StoreError, match=FILE):
        asyncio.run(Recording.open(tmp_path, Record()))
