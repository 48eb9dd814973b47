"""A reader's process, seen from who started it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aasut
from aasut.documents.opened import Wanted
from aasut.errors import DataError
from aasut.recipe.documents import Reading

START_S = 60  # seconds that a process may need until it is ready
PASSED = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "VIRTUAL_ENV")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
LONGEST = 1 << 26  # bytes of a message
PIECE = 1 << 20  # bytes taken at a time


class Reader:
    """A process of aasut.documents.worker. `number` of the file that it reads, None where it waits for one."""

    def __init__(self, reading: Reading) -> None:
        self.said = tempfile.TemporaryFile()  # noqa: SIM115 - what it says until it is ready
        command = [sys.executable, "-P", "-m", "aasut.documents.worker"]
        self.process = subprocess.Popen(
            [*command, *map(str, (reading.memory_mb, reading.timeout_s, reading.unpacked_mb))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            env=_environment(),
            start_new_session=True,  # an interrupt is for who started it, and reaches this one by its input's end
        )
        assert self.process.stdout is not None
        self.output = self.process.stdout.fileno()
        os.set_blocking(self.output, False)
        self.ready = False
        self.number: int | None = None
        self.since = 0.0  # when it last gave something, or was asked
        self.ended = False
        self._pieces: list[bytes] = []

    def ask(self, number: int, path: Path, wanted: Wanted) -> None:
        """Have it read a file. A process that has died is noticed when its output ends."""
        self.number = number
        asked = json.dumps([os.path.abspath(path), asdict(wanted)]) + "\n"
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(asked.encode("utf-8", "surrogatepass"))
            self.process.stdin.flush()

    def messages(self) -> list[list[Any]]:
        """What it has said since the last time; `ended` is set where nothing more will come."""
        found: list[list[Any]] = []
        try:
            piece = os.read(self.output, PIECE)
        except BlockingIOError:
            return found
        if not piece:
            self.ended = True
            return found
        *whole, rest = piece.split(b"\n")
        if sum(map(len, self._pieces)) > LONGEST:
            raise ValueError("a message that does not end")
        if whole:
            whole[0] = b"".join(self._pieces) + whole[0]
            self._pieces = []
        self._pieces.append(rest)
        for line in whole:
            message = json.loads(line)
            if message[0] == "ready":
                self.ready = True
            else:
                found.append(message)
        return found

    def kill(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.close()

    def close(self) -> None:
        """Free what it holds; it ends by the end of its input, at once."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.said.close()

    def unready(self) -> DataError:
        """The error of a process that ended before it was ready: this is not a file's fault."""
        self.process.wait()
        self.said.seek(0)
        lines = self.said.read().decode("utf-8", "replace").split("\n")
        said = next((line for line in reversed(lines) if line.strip()), f"code {self.process.returncode}")
        return DataError(
            f"A process to read documents could not start: {said.strip()[:300]}.",
            "If it lacks memory, raise reading.memory_mb; else see that aasut is installed whole.",
        )

    def death(self) -> str:
        """How it ended, in words."""
        code = self.process.wait()
        if code >= 0:
            return f"exit code {code}"
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"


def _environment() -> dict[str, str]:
    """What a reader's process must know: no keys and tokens."""
    root = str(Path(aasut.__file__).parent.parent)
    kept = {name: os.environ[name] for name in PASSED if name in os.environ}
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    return kept | dict.fromkeys(THREADS, "1") | {"PYTHONPATH": path, "PYTHONUTF8": "1", "PYTHONHASHSEED": "0"}
