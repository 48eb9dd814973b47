"""What there is: finished runs, what each was made from, how much room it takes. Reads, and changes nothing."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from aasut.errors import StoreError
from aasut.records import Entry, FinishedRun, ancestry
from aasut.report.table import NONE, number
from aasut.store import Store

STORE = ".store"
REPORT = "report.json"
PREFIX = 8  # digits of a fingerprint that are shown
COPIED = (
    "export",
    "index",
    "handover",
    "adapt",
    "mixture",
    "report",
)  # stages whose files stand in the run's folder too


@dataclass(frozen=True)
class Catalogue:
    """The runs below `root`. Several runs may have one name: the newest of them stands in `root`/<name>."""

    root: Path
    store: Store

    @cached_property
    def runs(self) -> list[FinishedRun]:
        """The newest first."""
        return self.store.runs()

    @cached_property
    def entries(self) -> dict[str, Entry]:
        return self.store.entries()

    @cached_property
    def current(self) -> dict[str, FinishedRun]:
        """Name to the newest run of that name."""
        newest: dict[str, FinishedRun] = {}
        for run in self.runs:
            newest.setdefault(run.name, run)
        return newest

    def label(self, run: FinishedRun) -> str:
        """How a user names this run: its name, with a part of its fingerprint where a newer one has the name."""
        return run.name if self.current[run.name] == run else f"{run.name}@{run.report[:PREFIX]}"

    def find(self, word: str) -> FinishedRun:
        """A run by NAME or NAME@FINGERPRINT, of which the first digits are enough; StoreError where there is none."""
        name, _, prefix = word.partition("@")
        named = [run for run in self.runs if run.name == name]
        matching = [run for run in named if run.report.startswith(prefix)]
        if not matching:
            known = ", ".join(self.label(run) for run in (named or self.current.values()))
            raise StoreError(
                f"There is no finished run {word} in {self.root}.",
                f"There are: {known}." if known else "Make one with aasut run RECIPE.",
            )
        if prefix and len(matching) > 1:
            raise StoreError(
                f"{word} may be {' or '.join(f'{run.name}@{run.report}' for run in matching)}.", "Give more digits."
            )
        return matching[0]

    def lineage(self, run: FinishedRun) -> list[Entry]:
        """All that a run was made from, and its report, parents first; parts without a record are left out."""
        return [self.entries[name] for name in self.ancestry([run.report]) if name in self.entries]

    def ancestry(self, fingerprints: Iterable[str]) -> list[str]:
        """These and all that they were made from, parents first."""
        return ancestry(self.entries, fingerprints)

    @cached_property
    def shared(self) -> set[str]:
        """Fingerprints of the parts that several runs were made from."""
        used = Counter(name for run in self.runs for name in self.ancestry([run.report]))
        return {name for name, times in used.items() if times > 1}

    def part(self, run: FinishedRun, stage: str) -> Entry:
        """The part of a run that this stage made; StoreError where there is none."""
        for entry in reversed(self.lineage(run)):
            if entry.stage == stage:
                return entry
        raise StoreError(f"The store has no record of the {stage} of {self.label(run)}.", "Run its recipe again.")

    def path(self, fingerprint: str) -> Path:
        """Folder of a finished artefact."""
        return self.store.root / "artefacts" / fingerprint

    def artefact_facts(self, entry: Entry) -> Mapping[str, Any]:
        """What a stage said of its result."""
        found = self.store.find(entry.fingerprint)
        return found.facts if found is not None else {}

    def facts(self, run: FinishedRun) -> dict[str, Any]:
        """The content of a run's report.json, as the store keeps it; StoreError where it cannot be read."""
        return read_report(self.path(run.report) / REPORT)

    def recipe(self, run: FinishedRun) -> dict[str, Any]:
        """The whole recipe, defaults included, that a run was made with."""
        settings = self.store.settings(run.report)
        return dict(settings[0]) if isinstance(settings, list) and settings else {}

    def published(self, run: FinishedRun) -> dict[Path, Path]:
        """File in the run's folder to the store's file that it is a copy of; empty where a newer run has the name."""
        if self.current[run.name] != run:
            return {}
        last = {run.report, *(self.entries[run.report].parents if run.report in self.entries else ())}
        copied = (entry for entry in self.lineage(run) if entry.fingerprint in last)
        made = [entry.fingerprint for entry in copied if entry.stage.split()[0] in COPIED]
        sources = [(self.path(name), source) for name in made for source in files(self.path(name))]
        return {self.root / run.name / source.relative_to(folder): source for folder, source in sources}

    def unknown(self) -> list[Path]:
        """Folders with a report that no finished run of this store has left."""
        return sorted(p.parent for p in self.root.glob(f"*/{REPORT}") if p.parent.name not in self.current)


def open_at(root: Path, word: str = "") -> tuple[Store, Path, str]:
    """The store to read, the folder of runs and the run's name; `word` may be a run's folder instead of its name."""
    path = Path(word)
    if len(path.parts) > 1:
        root = path.parent
    word = path.name
    return Store(root / STORE, read_only=True), root, word


def read_report(path: Path) -> dict[str, Any]:
    """A report.json; StoreError where it cannot be read."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is damaged'}.",
            "aasut runs verify lists what is damaged; run the recipe again.",
        ) from None


def files(folder: Path) -> list[Path]:
    """All files below a folder, in order of their names."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def size(*folders: Path) -> int:
    """Bytes of all files below these folders; what goes away meanwhile counts nothing."""
    total = 0
    for folder in folders:
        for path in folder.rglob("*"):
            try:
                total += path.lstat().st_size if not path.is_dir() or path.is_symlink() else 0
            except OSError:
                continue
    return total


def amount(size_bytes: float) -> str:
    """Bytes in decimal units: 81920 is "81.9 kB"."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor * 0.9995:
            return f"{size_bytes / factor:.3g} {unit}"
    return f"{size_bytes:.0f} B"


def when(at: float) -> str:
    """A moment in local time: "2026-11-22 03:08"."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def times(factor: float | None) -> str:
    """How many times cheaper: 12.31 is "12.3×"."""
    return NONE if not factor else f"{number(factor)}\N{MULTIPLICATION SIGN}"
