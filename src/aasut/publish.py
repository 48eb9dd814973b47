"""A run's results, copied to where people look for them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from aasut.files import disk_errors, write_atomically
from aasut.store import Artefact


def publish(artefacts: list[Artefact], folder: Path, recipe: str, stale: Sequence[str] = ()) -> None:
    """Copy the files of artefacts and the text of their recipe into `folder`. What is there already is left alone.

    Of the files `stale` those go that no artefact has. Raises StoreError where the disk is full or may not be written.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in stale:
            if not any((artefact.path / name).exists() for artefact in artefacts):
                (folder / name).unlink(missing_ok=True)
        kept = folder / "recipe.yaml"
        if not kept.is_file() or kept.read_bytes() != recipe.encode("utf-8"):
            write_atomically(kept, recipe)
        for artefact in artefacts:
            for source in sorted(p for p in artefact.path.rglob("*") if p.is_file()):
                target = folder / source.relative_to(artefact.path)
                here = target.stat() if target.exists() else None
                there = source.stat()
                if here and (here.st_size, here.st_mtime_ns) == (there.st_size, there.st_mtime_ns):
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                partial = target.with_name(target.name + ".partial")
                shutil.copy2(source, partial)
                os.replace(partial, target)
