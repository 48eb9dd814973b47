"""Starting several processes on one machine that train one student, by torchrun. As a module: one of them."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from aasut import errors
from aasut.errors import AasutError, ModelError
from aasut.files import disk_errors
from aasut.progress import Progress
from aasut.recipe import Student
from aasut.student import parallel

WATCH_S = 1.0


class Work(Protocol):
    """What each of the processes does, such as `fit.Fit`; it is pickled, and so is what `run` gives."""

    @property
    def settings(self) -> Student: ...

    def run(self, folder: Path, progress: Progress) -> Any: ...


def run(one: Work, folder: Path, progress: Progress, environment: Mapping[str, str] | None = None) -> Any:
    """`one.run` in `settings.processes` processes; gives what it gives in the leading one.

    Raises what one of them raises; none outlives this one. `environment`: variables that they are given.
    """
    count = one.settings.processes
    work = folder / "launch"
    with disk_errors(work):
        work.mkdir(parents=True, exist_ok=True)
        for left in work.glob("failed-*.json"):
            left.unlink()
        (work / "work.pickle").write_bytes(pickle.dumps(one))
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // count))
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    command += ["-m", "aasut.student.launch", str(folder), str(os.getpid()), "quiet" if progress.quiet else "tell"]
    with (work / "log.txt").open("w") as log:
        # torchrun's own words go to the log; what the leading process tells, where progress goes.
        process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno() if not progress.quiet else log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": threads, **(environment or {})},
        )
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    for path in sorted(work.glob("failed-*.json")):
        told = json.loads(path.read_text(encoding="utf-8"))
        raise getattr(errors, told["kind"])(told["message"], told["remedy"])
    if code:
        raise ModelError(
            f"The training in {count} processes ended with code {code}: {_reason(work / 'log.txt')}",
            "Mend that, or set student.processes: 1.",
        )
    found = pickle.loads((work / "found.pickle").read_bytes())
    for path in work.iterdir():
        path.unlink()
    work.rmdir()
    return found


def _reason(log: Path) -> str:
    """The first error that a process told of, and where the rest stands."""
    lines = (re.sub(r"^\[rank\d+\]: ", "", line) for line in log.read_text(errors="replace").splitlines())
    told = next((line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt|terminate called)\b", line)), "")
    return f"{told[:300]} ({log} says more)." if told else f"{log} says more."


def main(folder: Path, launcher: int, told: str) -> None:
    """One process of the team."""
    threading.Thread(target=_watch, args=(launcher,), daemon=True).start()
    rank, work = int(os.environ["RANK"]), folder / "launch"
    one: Work = pickle.loads((work / "work.pickle").read_bytes())
    try:
        found = one.run(folder, Progress(sys.stdout, quiet=rank > 0 or told == "quiet"))
    except AasutError as error:
        said = {"kind": type(error).__name__, "message": error.message, "remedy": error.remedy}
        (work / f"failed-{rank}.json").write_text(json.dumps(said), encoding="utf-8")
        sys.exit(1)
    if rank == 0:
        (work / "found.pickle").write_bytes(pickle.dumps(found))
    parallel.leave()
    # Threads of PyTorch's that still hold tensors abort the process if Python ends beneath them, though all is done.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _watch(launcher: int) -> None:
    """End this process once the one that wanted it is gone."""
    while True:
        try:
            os.kill(launcher, 0)
        except ProcessLookupError:
            os._exit(1)
        time.sleep(WATCH_S)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
