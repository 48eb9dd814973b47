"""Commands of aasut in processes of their own, some at once, that end with the one that started them.

As a module: one of them.
"""

from __future__ import annotations

import json
import os
import queue
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence

from aasut.errors import ModelError
from aasut.progress import Progress

WATCH_S = 1.0
Heard = tuple[str, str | None]  # name, and a line that its process said; None where it said its last


def run(commands: Mapping[str, Sequence[str]], at_once: int, progress: Progress) -> None:
    """Run each command, named by its key; what they tell of their progress is told on behind their names.

    Raises ModelError, with what was said last, for the first that fails; the others are ended, and none outlives this.
    """
    waiting, running = list(commands.items()), dict[str, subprocess.Popen[str]]()
    heard: queue.Queue[Heard] = queue.Queue()
    last: dict[str, str] = {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                name, words = waiting.pop(0)
                running[name] = _started(name, words, at_once, heard)
            name, line = heard.get()
            if line is not None:
                if told := _told(line):
                    progress.say(f"{name}: {told}")
                elif line.strip():
                    last[name] = line.strip()
            elif code := running.pop(name).wait():
                said = last.get(name, f"its process ended with code {code}.").removeprefix("aasut: ")
                raise ModelError(f"{name}: {said}", "What is done is kept: mend this, and run the same command again.")
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()


def _started(name: str, words: Sequence[str], at_once: int, heard: queue.Queue[Heard]) -> subprocess.Popen[str]:
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // at_once))
    process = subprocess.Popen(
        [sys.executable, "-m", "aasut.mixture.children", str(os.getpid()), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, "OMP_NUM_THREADS": threads},
        start_new_session=True,  # an interrupt is for who started it, who then ends it
    )
    threading.Thread(target=_listen, args=(name, process, heard), daemon=True).start()
    return process


def _listen(name: str, process: subprocess.Popen[str], heard: queue.Queue[Heard]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        heard.put((name, line))
    heard.put((name, None))


def _told(line: str) -> str:
    """What a line of progress says; "" for any other line."""
    try:
        plain = json.loads(line)
        if "message" in plain:
            return str(plain["message"])
        return f"{plain['step']}, {plain['done']} of {plain['total']}"
    except (ValueError, KeyError, TypeError):
        return ""


def main(starter: int, words: Sequence[str]) -> None:
    """`aasut WORDS`, until the process that started this one is gone."""
    threading.Thread(target=_watch, args=(starter,), daemon=True).start()
    sys.argv = ["aasut", *words]
    runpy.run_module("aasut", run_name="__main__", alter_sys=True)


def _watch(starter: int) -> None:
    while True:
        if os.getppid() != starter:
            os.kill(os.getpid(), signal.SIGTERM)  # as if interrupted: what is done is kept
        time.sleep(WATCH_S)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
