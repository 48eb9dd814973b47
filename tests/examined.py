"""What examinations say; and a model in the cache to be examined."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from aasut.doctor.finding import Finding
from aasut.sources.models import CONVERTER


def faults(found: Iterator[Finding]) -> list[str]:
    return [finding.problem for finding in found if finding.level == "fault"]


def problems(found: Iterator[Finding]) -> list[str]:
    return [finding.problem for finding in found if finding.level != "ok"]


def model(folder: Path, files: Mapping[str, str | bytes], sizes: Mapping[str, int] | None = None) -> Path:
    """A cached model as `sources.models` leaves it."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    record = {"address": "pypi:tiny==1#*.gguf", "sha256": "0" * 64, "licence": "", "converter": CONVERTER}
    record["files"] = sizes or {name: (folder / name).stat().st_size for name in files}
    (folder / "source.json").write_text(json.dumps(record))
    return folder


def safetensors(length: int) -> bytes:
    header = json.dumps({"a": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(length)
