"""A bad document: how its file is made, and what may come of reading it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Lure:
    """What files try to reach: a server that must hear nothing, a path that must not appear, a secret file."""

    port: int
    canary: str
    secret: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/canary"


@dataclass(frozen=True)
class BadFile:
    """`make(path, lure)` writes the file. may: "read", "fail", or "either"; `reason` is a part of the fault's."""

    name: str
    make: Callable[[Path, Lure], object]
    may: str = "fail"
    reason: str = ""
    text: str = ""  # that must be among what is read


def given(name: str, data: bytes, may: str = "fail", reason: str = "", text: str = "") -> BadFile:
    return BadFile(name, lambda path, _: path.write_bytes(data), may, reason, text)


def made(name: str, make: Callable[[Lure], bytes], may: str = "fail", reason: str = "", text: str = "") -> BadFile:
    return BadFile(name, lambda path, lure: path.write_bytes(make(lure)), may, reason, text)
