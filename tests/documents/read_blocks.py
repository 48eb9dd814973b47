"""Reading a file in the test's own process, and the office files and PDFs that the benchmarks make."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")
if BENCHMARKS not in sys.path:
    sys.path.append(BENCHMARKS)

from hostile_cases import office, pdfs  # noqa: E402, F401

from aasut.documents import readers  # noqa: E402
from aasut.documents.block import Block  # noqa: E402
from aasut.documents.fault import Fault  # noqa: E402
from aasut.documents.opened import Wanted  # noqa: E402

HINDI = "खाता खोलने के लिए पहचान पत्र और पते का प्रमाण चाहिए।"


def blocks(path: Path, unpacked: int = 64 << 20, **wanted: Any) -> list[Block]:
    """All blocks of a file."""
    return list(readers.read(str(path), Wanted(**wanted), unpacked))


def written(path: Path, data: bytes | str, **wanted: Any) -> list[Block]:
    """All blocks of a file with these bytes."""
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return blocks(path, **wanted)


def texts(found: list[Block]) -> list[str]:
    return [block.text for block in found]


def levels(found: list[Block]) -> list[tuple[int, str]]:
    """The headings, with their levels."""
    return [(block.level, block.text) for block in found if block.level]


def fault(path: Path, data: bytes | str | None = None, unpacked: int = 64 << 20, **wanted: Any) -> Fault:
    """The fault of a file that cannot be read."""
    if data is not None:
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    try:
        found = blocks(path, unpacked, **wanted)
    except Fault as error:
        return error
    raise AssertionError(f"it was read: {found[:3]}")
