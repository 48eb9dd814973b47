"""A gateway as a process of its own, as a user starts it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai

from aasut.gateway import traffic
from aasut.gateway.exchange import Exchange

PATIENCE_S = 60.0


class Running:
    """`url` as clients want it, `store` the gateway's folder, `said` its lines on standard error so far."""

    def __init__(self, process: subprocess.Popen[str], store: Path) -> None:
        self.process, self.store = process, store
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = until(self._ready, "the gateway says that it is ready")

    @property
    def port(self) -> int:
        return int(self.url.removesuffix("/v1").rpartition(":")[2])

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.said.extend(iter(self.process.stderr.readline, ""))

    def join(self) -> None:
        """Read to the end what it said, once it has ended."""
        self._reader.join()

    def _ready(self) -> str:
        found = re.search(r"Gateway at (\S+)", "".join(self.said))
        if found is None and self.process.poll() is not None:
            raise AssertionError(f"the gateway ended: {''.join(self.said)}")
        return found[1] if found else ""

    def client(self, key: str = "sk-of-a-client", **settings: Any) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.url, api_key=key, max_retries=0, **settings)

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url.removesuffix("/v1") + path) as response:
            return json.load(response)

    def recorded(self, count: int, *, beside: bool = False) -> list[Exchange]:
        """What was recorded, once there are so many exchanges; those beside clients' ones where they are wanted."""
        return until(lambda: self._recorded(count, beside), f"{count} exchanges are recorded")

    def _recorded(self, count: int, beside: bool) -> list[Exchange]:
        found = [one for one in traffic.exchanges(self.store) if beside or not one.beside]
        return found if len(found) >= count else []

    def events(self, kind: str) -> list[str]:
        return [event.text for event in traffic.events(self.store) if event.kind == kind]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it by a signal; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@contextmanager
def gateway(
    store: Path, *flags: object, env: dict[str, str] | None = None, largest_file: int | None = None
) -> Iterator[Running]:
    """`aasut gateway` with these flags, on a free port; it can write no file larger than so many bytes."""
    words = [sys.executable, "-m", "aasut", "gateway", "--store", str(store), "--port", "0", *map(str, flags)]
    if largest_file is not None:
        words = ["prlimit", f"--fsize={largest_file}", *words]
    with subprocess.Popen(
        words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env={**os.environ, **(env or {})}
    ) as process:
        found: Running | None = None
        try:
            found = Running(process, store)
            yield found
        finally:
            process.kill()
            process.wait()
            if found is not None:
                found.join()


def until(look: Callable[[], Any], what: str) -> Any:
    """What `look` finds, once it is true."""
    last = time.monotonic() + PATIENCE_S
    while time.monotonic() < last:
        found = look()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"in {PATIENCE_S:g} s it did not happen that {what}")
