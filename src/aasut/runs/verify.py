"""`aasut runs verify`: are the store's files, the published ones and the databases what was recorded?

Nothing is changed and no lock is taken: finished artefacts never change, so a run may be under way.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from aasut.errors import StoreError
from aasut.export.manifest import CARD
from aasut.files import connect_read_only, file_hash
from aasut.progress import Progress, Step
from aasut.records import MIGRATIONS, FinishedRun
from aasut.runs.catalogue import REPORT, Catalogue, files, open_at
from aasut.teacher import ledger

REMEDY = "Delete the named file or folder and run the recipe again: what is missing is put back or made anew."


def verify(root: Path, word: str, progress: Progress) -> dict[str, Any]:
    """{"problems": [one line each], ...} of one run, or of all runs and the whole store where `word` is empty."""
    store, root, word = open_at(root, word)
    with store:
        catalogue = Catalogue(root, store)
        one = catalogue.find(word) if word else None
        runs = [one] if one is not None else list(catalogue.current.values())
        entries = catalogue.lineage(one) if one is not None else list(catalogue.entries.values())
        copies = {copy: source for run in runs for copy, source in catalogue.published(run).items()}
        problems = _databases(store.root) if one is None else []
        problems += _gaps(catalogue, runs)
        with progress.steps("hashing", len(entries) + len(copies)) as step:
            for entry in entries:
                problems += [problem] if (problem := store.problem(entry)) else []
                step.advance()
            for run in runs:
                problems += _published(catalogue, run, step)
        return {
            "run": word or None,
            "artefacts": len(entries),
            "published_files": len(copies),
            "problems": problems,
            "remedy": REMEDY if problems else "",
            "in_use_by": store.in_use(),
        }


def lines(found: dict[str, Any]) -> list[str]:
    """What `verify` found, for a terminal: one line a problem, or that all is well."""
    if found["in_use_by"]:
        busy = [f"A run is under way ({found['in_use_by']}): what it is publishing just now may be named here."]
    else:
        busy = []
    if found["problems"]:
        return [*busy, *found["problems"], found["remedy"]]
    seen = f"{found['artefacts']:,} parts in the store, {found['published_files']:,} published files"
    return [*busy, f"All is as it was made: {seen}."]


def _databases(folder: Path) -> list[str]:
    problems = []
    for path, migrations in ((folder / "store.db", MIGRATIONS), (folder / "ledger.db", ledger.MIGRATIONS)):
        if path.is_file():
            problems += _damage(path, migrations)
    return problems


def _damage(path: Path, migrations: Sequence[str]) -> list[str]:
    """What SQLite finds wrong in a database."""
    try:
        database = connect_read_only(path, migrations)
        if database is None:
            return []
        with closing(database):
            found = [str(row[0]) for row in database.execute("PRAGMA integrity_check(3)")]
    except StoreError as error:
        return [error.message]
    except sqlite3.DatabaseError as error:
        found = [str(error)]
    return [f"{path}: {' '.join(line.split())}" for line in found if line != "ok"]


def _gaps(catalogue: Catalogue, runs: Sequence[FinishedRun]) -> list[str]:
    """Parts that a run was made from and of which there is no record."""
    problems = {}
    for run in runs:
        for fingerprint in catalogue.ancestry([run.report]):
            if fingerprint not in catalogue.entries:
                problems[fingerprint] = f"{catalogue.label(run)}: there is no record of its part {fingerprint}"
    return list(problems.values())


def _published(catalogue: Catalogue, run: FinishedRun, step: Step) -> list[str]:
    """Files in runs/<name>/ against the store's; a folder that is gone altogether was taken away on purpose."""
    folder = catalogue.root / run.name
    copies = catalogue.published(run)
    if not folder.is_dir():
        return []
    problems = []
    for copy, source in copies.items():
        if not copy.is_file():
            problems.append(f"{copy}: it is missing")
        elif source.is_file() and not _same(copy, source):
            problems.append(f"{copy}: it is not the file that the run made")
        step.advance()
    known = ("card.md", "report.html", REPORT, CARD)
    left = [p for p in files(folder) if p not in copies and _is_result(p.relative_to(folder), known)]
    problems += [f"{path}: it is left over from another run of this name" for path in left if copies]
    return problems


def _is_result(path: Path, known: Sequence[str]) -> bool:
    """Is this a name that only a run writes?"""
    return path.parts[0] == "student" or str(path) in known or (path.match("student*.gguf") and len(path.parts) == 1)


def _same(one: Path, other: Path) -> bool:
    try:
        return one.stat().st_size == other.stat().st_size and file_hash(one) == file_hash(other)
    except OSError:
        return False
