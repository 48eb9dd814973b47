"""The cache of models and tables: what is there, what is damaged, what downloads that broke off have left."""

from __future__ import annotations

import importlib.metadata
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aasut.doctor.finding import Finding
from aasut.files import file_hash
from aasut.lock import holder
from aasut.runs.catalogue import amount, size
from aasut.sources.folders import SOURCE
from aasut.sources.models import cache_root

HASHING_SECONDS = 15.0  # after that, sizes alone are checked


def examine() -> Iterator[Finding]:
    """Models, then the engine's graphs, tables and leftovers, below the cache folder."""
    root = cache_root()
    models = sorted(path for path in _below(root / "models") if path.is_dir() and path.suffix != ".partial")
    if not models:
        yield Finding("models", "none yet")
    for folder in models:
        yield _model(folder)
    yield from _graphs(root / "openvino")
    yield from _tables(root / "tables")
    yield from _leftovers(root)


def _model(folder: Path) -> Finding:
    room = size(folder)
    try:
        record: dict[str, Any] = json.loads((folder / SOURCE).read_text(encoding="utf-8"))
        name, sizes = _short(str(record["address"])), dict(record["files"])
    except (OSError, ValueError, LookupError, TypeError):
        return _damaged(folder.name[:12], folder, room, f"{SOURCE} is missing or cannot be read")
    for file, expected in sizes.items():
        path = folder / file
        if not path.is_file():
            return _damaged(name, folder, room, f"{file} is missing")
        if path.stat().st_size != expected:
            return _damaged(name, folder, room, f"{file} has {path.stat().st_size:,} bytes instead of {expected:,}")
        if (fault := _unreadable(path)) is not None:
            return _damaged(name, folder, room, f"{file} {fault}")
    return Finding("model", f"{name}, {amount(room)}")


def _unreadable(path: Path) -> str | None:
    """What is wrong inside a file of the right size, as far as its form tells."""
    if path.suffix == ".json":
        try:
            json.loads(path.read_bytes())
        except ValueError:
            return "is no JSON"
    if path.suffix == ".safetensors":
        try:
            with path.open("rb") as file:
                header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
                ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
                if file.tell() + max(ends, default=0) != path.stat().st_size:
                    return "is not as long as its header says"
        except (OSError, ValueError, LookupError, TypeError, AttributeError, MemoryError, OverflowError):
            return "has a damaged header"
    return None


def _damaged(name: str, folder: Path, room: int, what: str) -> Finding:
    problem = f"The cached model {name} is damaged: {what}. Delete {folder}; the next run fetches it again."
    return Finding("model", f"{name}, {amount(room)}, damaged", "fault", problem)


def _graphs(folder: Path) -> Iterator[Finding]:
    """OpenVINO's graphs; those of other versions are never read again."""
    graphs = [path for path in _below(folder) if path.is_dir() and path.suffix != ".partial"]
    if not graphs:
        return
    yield Finding("graphs", f"{len(graphs)} made by OpenVINO, {amount(size(*graphs))}")
    try:
        version = importlib.metadata.version("openvino-genai")
    except importlib.metadata.PackageNotFoundError:
        return
    old = [path for path in graphs if not path.name.endswith(f"-{version}") and not version.startswith(_version(path))]
    if old:
        problem = f"{len(old)} graphs in {folder} are of another OpenVINO and never read: delete all but *-{version}."
        yield Finding("old graphs", amount(size(*old)), "note", problem)
    for path in graphs:
        if not (path / "openvino_model.xml").is_file() or not (path / "openvino_model.bin").is_file():
            problem = f"A graph of OpenVINO is not whole. Delete {path}; the next run makes it again."
            yield Finding("graph", "damaged", "fault", problem)


def _version(graph: Path) -> str:
    return graph.name.rpartition("-")[2]


def _tables(folder: Path) -> Iterator[Finding]:
    """Tables out of packages, by the hash that was recorded when they were unpacked."""
    until = time.monotonic() + HASHING_SECONDS
    leaves = [leaf for package in _below(folder) for leaf in _below(package)]
    proofs = [leaf / "sha256" for leaf in leaves if (leaf / "sha256").is_file()]
    if proofs:
        yield Finding("tables", f"{len(proofs)}, {amount(size(folder))}")
    for proof in proofs:
        for table in proof.parent.iterdir():
            if table.name == "sha256" or not table.is_file() or time.monotonic() > until:
                continue
            if file_hash(table) != proof.read_text(encoding="utf-8", errors="replace").strip():
                problem = f"The cached table {table.name} changed. The next run puts it back; or delete {proof.parent}."
                yield Finding("table", f"{table.name}, damaged", "fault", problem)


def _leftovers(root: Path) -> Iterator[Finding]:
    """Half-made folders that no process is working on."""
    left = [path for part in ("models", "openvino") for path in _below(root / part) if path.suffix == ".partial"]
    left = [path for path in left if not _busy(path)]
    if left:
        room = amount(size(*left))
        named = ", ".join(str(path) for path in left[:3]) + (f" and {len(left) - 3} more" if len(left) > 3 else "")
        problem = f"Downloads that broke off take {room}: delete {named}."
        yield Finding("leftovers", room, "note", problem)


def _busy(partial: Path) -> bool:
    """Is a process building this? A graph's folder has the process's number in its name."""
    number = partial.stem.rpartition(".")[2]
    if partial.parent.name == "openvino":
        return number.isdigit() and Path("/proc", number).exists()
    return holder(partial.with_suffix(".lock")) != ""


def _below(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _short(address: str) -> str:
    """The address without its pattern; of several packages, the first."""
    packages = address.partition("#")[0].split(",")
    return packages[0] + (f" and {len(packages) - 1} more" if len(packages) > 1 else "")
