"""`aasut runs clean`: makes room without breaking lineage.

What a run that stays was made from stays too, whoever made it; the ledger of answers is never
touched, and a run's folder keeps its recipe. Records go first, all at once, then files: a kill in
between leaves files without a record, which the store does not count as its own and the next
clean-up takes away.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from aasut.errors import RecipeError
from aasut.files import disk_errors
from aasut.records import FinishedRun
from aasut.runs.catalogue import REPORT, STORE, Catalogue, amount, size, when
from aasut.store import Store

Plain = dict[str, Any]
AGES = {"h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
SIZES = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}


@dataclass(frozen=True)
class Rules:
    """What may go. `older_than` in seconds, `larger_than` in bytes; None for no such rule."""

    older_than: float | None = None
    keep_runs: int | None = None
    larger_than: float | None = None

    @classmethod
    def of(cls, older_than: str | None, keep_runs: int | None, larger_than: str | None) -> Rules:
        """From options: an age such as 30d, a number of runs, a size such as 5GB. RecipeError for anything else."""
        if older_than is None and keep_runs is None and larger_than is None:
            raise RecipeError(
                "Nothing says what may go.", "Give --older-than 30d, --keep-runs 5, or --larger-than 5GB, or several."
            )
        if keep_runs is not None and keep_runs < 0:
            raise RecipeError(f"--keep-runs {keep_runs} is no number of runs.", "Give 0 or more.")
        age = None if older_than is None else _quantity("--older-than", older_than, AGES, "an age", "12h, 30d or 8w")
        most = None if larger_than is None else _quantity("--larger-than", larger_than, SIZES, "a size", "500MB or 5GB")
        return cls(age, keep_runs, most)


@dataclass
class Plan:
    """What would go. `work`: folders of unfinished work; `rubbish`: folders that the store has no record of."""

    runs: list[FinishedRun] = field(default_factory=list)
    artefacts: list[str] = field(default_factory=list)
    published: list[Path] = field(default_factory=list)
    left: list[Path] = field(default_factory=list)
    work: list[Path] = field(default_factory=list)
    rubbish: list[Path] = field(default_factory=list)
    freed: int = 0
    total: int = 0


def clean(root: Path, rules: Rules, *, delete: bool) -> Plain:
    """What goes by these rules, and the bytes that frees; it is deleted only where `delete` says so.

    Raises StoreError where a run is under way and something is to be deleted.
    """
    with Store(root / STORE, read_only=True):  # no store is made where there is none
        pass
    with Store(root / STORE, read_only=not delete) as store:
        catalogue = Catalogue(root, store)
        plan = _plan(catalogue, rules, now=time.time(), idle=delete or not store.in_use())
        found = _plain(catalogue, plan, rules, deleted=delete)
        if delete:
            _delete(catalogue, plan)
    return found


def _quantity(option: str, text: str, units: dict[str, float], what: str, examples: str) -> float:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+)", text, re.ASCII)
    factor = next((f for name, f in units.items() if match and name.casefold() == match[2].casefold()), None)
    if match is None or factor is None:
        raise RecipeError(f"{option} {text}: this is not {what}.", f"Write for example {examples}.")
    return float(match[1]) * factor


def _plan(catalogue: Catalogue, rules: Rules, now: float, *, idle: bool) -> Plan:
    store = catalogue.store
    plan = Plan(total=size(store.root / "artefacts", store.root / "work"))
    plan.total += sum(size(catalogue.root / name) for name in catalogue.current)
    plan.rubbish = _without_record(catalogue)
    plan.freed = size(*plan.rubbish)
    if idle and rules.older_than is not None:
        _add_unfinished(catalogue, plan, now - rules.older_than)
    for run in reversed(_by_worth(catalogue)[rules.keep_runs or 0 :]):
        if rules.larger_than is not None and plan.total - plan.freed <= rules.larger_than:
            break
        if rules.older_than is None or run.at < now - rules.older_than:
            _add_run(catalogue, plan, run)
    return plan


def _by_worth(catalogue: Catalogue) -> list[FinishedRun]:
    """Runs that stand in a folder of their own, then earlier ones of their names; the newest first."""
    return sorted(catalogue.runs, key=lambda run: (catalogue.current[run.name] != run, -run.at))


def _add_run(catalogue: Catalogue, plan: Plan, run: FinishedRun) -> None:
    """Let a run go, with the parts that nothing which stays was made from."""
    plan.runs.append(run)
    own = set(catalogue.ancestry([run.report])) & set(catalogue.entries)
    needed = catalogue.ancestry(
        [
            *(other.report for other in catalogue.runs if other not in plan.runs),
            *(name for name in _loose(catalogue) if name not in plan.artefacts),
            *_wanted_by_work(catalogue, plan),
        ]
    )
    going = sorted(own.difference(needed, plan.artefacts))
    plan.artefacts += going
    plan.freed += sum(size(catalogue.path(name)) for name in going)
    for copy, source in catalogue.published(run).items():
        if copy.is_file():
            (plan.published if _unchanged(copy, source) else plan.left).append(copy)
    folder = catalogue.root / run.name
    if catalogue.current[run.name] == run and folder.is_dir():
        copies = catalogue.published(run)
        plan.left += sorted(path for path in folder.rglob("*") if path.is_file() and path not in copies)
        plan.freed += sum(path.stat().st_size for path in plan.published if path.is_relative_to(folder))


def _loose(catalogue: Catalogue) -> list[str]:
    """Finished parts of runs that did not finish."""
    needed = set(catalogue.ancestry(run.report for run in catalogue.runs))
    return [name for name in catalogue.entries if name not in needed]


def _wanted_by_work(catalogue: Catalogue, plan: Plan) -> list[str]:
    """Parts that unfinished work which stays is being made from."""
    folder = catalogue.store.root / "work"
    begun = [attempt for attempt in catalogue.store.attempts().values() if (folder / attempt.fingerprint).is_dir()]
    return [parent for attempt in begun if folder / attempt.fingerprint not in plan.work for parent in attempt.parents]


def _add_unfinished(catalogue: Catalogue, plan: Plan, before: float) -> None:
    """Unfinished work that was last touched before then, and finished parts of runs that did not finish."""
    store = catalogue.store
    plan.work = [path for path in sorted((store.root / "work").glob("*")) if _touched(path) < before]
    loose = _loose(catalogue)
    young = [name for name in loose if catalogue.entries[name].created >= before]
    needed = set(catalogue.ancestry([*young, *_wanted_by_work(catalogue, plan)]))
    plan.artefacts += [name for name in loose if name not in needed]
    plan.freed += size(*plan.work, *(catalogue.path(name) for name in plan.artefacts))


def _touched(folder: Path) -> float:
    """When a file below a folder last changed."""
    return max(path.lstat().st_mtime for path in [folder, *folder.rglob("*")])


def _without_record(catalogue: Catalogue) -> list[Path]:
    """Folders that a killed clean-up or a killed move has left."""
    if catalogue.store.in_use() and catalogue.store.read_only:
        return []  # a run may be about to record one
    folders = (catalogue.store.root / "artefacts").glob("*")
    return sorted(path for path in folders if path.name not in catalogue.entries)


def _unchanged(copy: Path, source: Path) -> bool:
    """Is a published file still as it was copied?"""
    if not source.is_file():
        return False
    here, there = copy.stat(), source.stat()
    return (here.st_size, here.st_mtime_ns) == (there.st_size, there.st_mtime_ns)


def _plain(catalogue: Catalogue, plan: Plan, rules: Rules, *, deleted: bool) -> Plain:
    attempts = catalogue.store.attempts()
    own = catalogue.entries
    stay = plan.total - plan.freed
    return {
        "deleted": deleted,
        "runs": [{"name": catalogue.label(r), "fingerprint": r.report, "at": r.at} for r in plan.runs],
        "parts": [{"stage": own[name].stage, "fingerprint": name} for name in plan.artefacts],
        "unfinished": [
            {"fingerprint": p.name, "stage": attempts[p.name].stage if p.name in attempts else None} for p in plan.work
        ],
        "without_record": [path.name for path in plan.rubbish],
        "published_files": [str(path) for path in plan.published],
        "files_left": [str(path) for path in plan.left],
        "runs_kept": len(catalogue.runs) - len(plan.runs),
        "bytes_freed": plan.freed,
        "bytes_before": plan.total,
        "bytes_after": stay,
        "in_use_by": catalogue.store.in_use() if catalogue.store.read_only else "",
        "too_large_still": rules.larger_than is not None and stay > rules.larger_than,
    }


def _delete(catalogue: Catalogue, plan: Plan) -> None:
    store = catalogue.store
    store.forget([*plan.artefacts, *(path.name for path in plan.work)], [run.report for run in plan.runs])
    with disk_errors(store.root):
        for path in sorted(plan.published, key=lambda path: path.name != REPORT):  # no half of a run looks whole
            path.unlink(missing_ok=True)
        for folder in {path.parent for path in plan.published} | {catalogue.root / run.name for run in plan.runs}:
            _remove_if_empty(folder, catalogue.root)
        for folder in [*(catalogue.path(name) for name in plan.artefacts), *plan.work, *plan.rubbish]:
            if folder.is_dir():
                shutil.rmtree(folder)
            else:
                folder.unlink(missing_ok=True)


def _remove_if_empty(folder: Path, root: Path) -> None:
    while folder != root and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def render(found: Plain) -> Group:
    """What went, or would go, for a terminal."""
    goes, frees = ("gone", "Freed") if found["deleted"] else ("would go", "Frees")
    parts: list[RenderableType] = [Text(f"{goes}: {line}") for line in _lines(found)]
    if not parts:
        parts.append(Text("Nothing is to go by these rules."))
    for path in found["files_left"]:
        parts.append(Text(f"left: {path}, which is no result of the run or has changed since"))
    parts.append(
        Text(
            f"{frees} {amount(found['bytes_freed'])} of {amount(found['bytes_before'])}; "
            f"{_runs(found['runs_kept'])} and {amount(found['bytes_after'])} stay. The ledger of answers is kept."
        )
    )
    if found["too_large_still"]:
        parts.append(
            Text("That is still more than --larger-than: what stays is protected by the other rules or shared.")
        )
    if found["in_use_by"]:
        parts.append(Text(f"A run is under way ({found['in_use_by']}): unfinished work stays, and --yes is refused."))
    if not found["deleted"] and found["bytes_freed"] + len(found["runs"]):
        parts.append(Text("Nothing was deleted; --yes does it."))
    return Group(*parts)


def _lines(found: Plain) -> Iterable[str]:
    for run in found["runs"]:
        yield f"run {run['name']}, finished {when(run['at'])}"
    stages: dict[str, int] = {}
    for part in found["parts"]:
        stages[part["stage"]] = stages.get(part["stage"], 0) + 1
    if stages:
        yield "parts " + ", ".join(f"{n} × {stage}" if n > 1 else stage for stage, n in stages.items())
    for work in found["unfinished"]:
        yield f"unfinished {work['stage'] or 'work'} {work['fingerprint']}"
    if found["without_record"]:
        yield f"{len(found['without_record'])} folders without a record, left by something that was killed"


def _runs(number: int) -> str:
    return "1 run" if number == 1 else f"{number:,} runs"
