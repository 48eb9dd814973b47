from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from aasut.errors import AasutError
from aasut.export.manifest import StudentCard
from aasut.gateway.student_process import Kind, StudentProcess, Unanswered

Until = Callable[..., Awaitable[None]]


def kind(root: Path, **changes: Any) -> Kind:
    folder = root / "words"
    given = {"sha256": StudentCard.read(folder).sha256, "engine": "linear-float32", "scorer": {"kind": "label"}}
    return Kind(folder, **(given | changes))


@asynccontextmanager
async def opened(
    root: Path, events: list[str], waiting: int = 64, timeout_s: float = 30
) -> AsyncIterator[StudentProcess]:
    found = await StudentProcess.open(
        kind(root), waiting=waiting, timeout_s=timeout_s, event=lambda what, _: events.append(what)
    )
    try:
        yield found
    finally:
        await found.close()


async def reason(process: StudentProcess, prompt: str = "great phone") -> str:
    with pytest.raises(Unanswered) as caught:
        await process.ask(prompt)
    return caught.value.reason


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_answers_come_back_to_those_who_asked(root: Path) -> None:
    async def main() -> None:
        async with opened(root, events) as process:
            pid = process.pid
            assert pid is not None
            os.kill(pid, signal.SIGINT)  # as Ctrl-C at the gateway does
            os.kill(pid, signal.SIGTERM)
            told = await asyncio.gather(*(process.ask(word) for word in ("great", "awful") * 30))
            assert [one["text"] for one in told] == ["positive", "negative"] * 30
            assert all(0.5 < one["score"] <= 1 and one["usage"] == [1, 1] for one in told)
        assert not alive(pid)
        assert await reason(process) == "student_down"

    events: list[str] = []
    asyncio.run(main())
    assert events == []


def test_a_killed_process_fails_what_is_under_way_at_once_and_comes_back(root: Path) -> None:
    async def main() -> None:
        async with opened(root, events) as process:
            pid = process.pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            asked = [asyncio.create_task(reason(process)) for _ in range(5)]
            await asyncio.sleep(0)
            os.kill(pid, signal.SIGKILL)
            assert await asyncio.gather(*asked) == ["student_down"] * 5
            while not process.up:  # none waits for it while it is loaded again
                assert await reason(process) == "student_down"
                await asyncio.sleep(0.02)
            assert (await process.ask("great phone"))["text"] == "positive"

    events: list[str] = []
    asyncio.run(main())
    assert events == ["student_down", "student_up"]


def test_the_slow_are_not_waited_for_and_the_stuck_are_started_again(root: Path, until: Until) -> None:
    async def main() -> None:
        async with opened(root, events, waiting=2, timeout_s=0.3) as process:
            pid = process.pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            slow = [asyncio.create_task(reason(process)) for _ in range(2)]
            await asyncio.sleep(0)
            assert await reason(process) == "student_busy"
            assert await asyncio.gather(*slow) == ["student_slow"] * 2
            while process.pid == pid:
                assert await reason(process) in ("student_slow", "student_down")
            await until(lambda: process.up)
            assert not alive(pid)

    events: list[str] = []
    asyncio.run(main())
    assert events[:2] == ["student_down", "student_up"]


def test_another_student_does_not_come_back(root: Path, until: Until) -> None:
    async def main() -> None:
        weights = root / "words" / "student" / "model.safetensors"
        measured = weights.read_bytes()
        async with opened(root, events) as process:
            weights.write_bytes(measured[:-1] + b"x")
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            await until(lambda: events.count("student_down") == 2)
            assert not process.up
            weights.write_bytes(measured)
            await until(lambda: process.up)

    events: list[str] = []
    asyncio.run(main())


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"engine": "torch-float32"}, "on the engine torch-float32"), ({"sha256": "ab" * 32}, "another one now")],
)
def test_another_student_than_wanted_is_refused(root: Path, changes: Any, said: str) -> None:
    async def main() -> None:
        await StudentProcess.open(kind(root, **changes), waiting=1, timeout_s=1, event=lambda *_: None)

    with pytest.raises(AasutError, match=said):
        asyncio.run(main())


def test_why_a_student_cannot_be_loaded_is_told(root: Path) -> None:
    async def main() -> None:
        await StudentProcess.open(wanted, waiting=1, timeout_s=1, event=lambda *_: None)

    wanted = kind(root)
    shutil.rmtree(root / "words" / "student")
    with pytest.raises(AasutError, match="is missing"):
        asyncio.run(main())


def test_no_student_outlives_its_gateway(root: Path, tmp_path: Path, until: Until) -> None:
    wanted = kind(root)
    code = f"""
import asyncio
from pathlib import Path
from aasut.gateway.student_process import Kind, StudentProcess
async def main():
    kind = Kind(Path({str(wanted.folder)!r}), {wanted.sha256!r}, "", {dict(wanted.scorer)!r})
    process = await StudentProcess.open(kind, waiting=1, timeout_s=1, event=print)
    print(process.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as gateway:
        assert gateway.stdout is not None
        pid = json.loads(gateway.stdout.readline())
        assert alive(pid)
        gateway.kill()
    asyncio.run(until(lambda: not alive(pid)))
