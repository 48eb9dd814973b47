"""`aasut runs list` and `aasut runs show`: what runs there are, and all that is known of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from aasut.errors import StoreError
from aasut.records import FinishedRun
from aasut.report import table
from aasut.runs.catalogue import PREFIX, REPORT, Catalogue, amount, open_at, read_report, size, times, when

Plain = dict[str, Any]
NONE = table.NONE


def gather(root: Path, *, everything: bool) -> Plain:
    """Runs, unfinished work and what takes room; earlier runs of a name that a newer one has only with `everything`."""
    store, root, _ = open_at(root)
    with store:
        catalogue = Catalogue(root, store)
        shown = [run for run in catalogue.runs if everything or catalogue.current[run.name] == run]
        attempts = store.attempts()
        work = sorted(path for path in (store.root / "work").glob("*") if path.is_dir())
        needed = set(catalogue.ancestry(run.report for run in catalogue.runs))
        loose = [entry for name, entry in catalogue.entries.items() if name not in needed]
        return {
            "root": str(root),
            "runs": [_run(catalogue, run) for run in shown],
            "earlier_runs": len(catalogue.runs) - len(catalogue.current),
            "unknown": [_unknown(folder) for folder in catalogue.unknown()],
            "unfinished": [
                {
                    "stage": attempts[path.name].stage if path.name in attempts else None,
                    "fingerprint": path.name,
                    "at": attempts[path.name].at if path.name in attempts else path.stat().st_mtime,
                    "bytes": size(path),
                }
                for path in work
            ],
            "parts_of_unfinished_runs": {
                "number": len(loose),
                "bytes": sum(size(catalogue.path(entry.fingerprint)) for entry in loose),
            },
            "bytes": {
                "store": size(store.root / "artefacts", store.root / "work"),
                "ledger": _ledger_bytes(store.root),
            },
            "in_use_by": store.in_use(),
        }


def _run(catalogue: Catalogue, run: FinishedRun) -> Plain:
    lineage = catalogue.lineage(run)
    folder = catalogue.root / run.name
    copies = sum(path.stat().st_size for path in catalogue.published(run) if path.is_file())
    parts = {entry.fingerprint: size(catalogue.path(entry.fingerprint)) for entry in lineage}
    try:
        facts = catalogue.facts(run)
    except StoreError:
        facts = {}
    return {
        "name": catalogue.label(run),
        "fingerprint": run.report,
        "at": run.at,
        "folder": str(folder) if catalogue.current[run.name] == run and (folder / REPORT).is_file() else None,
        **_headline(facts),
        "bytes": sum(parts.values()) + copies,
        "bytes_unshared": sum(n for fingerprint, n in parts.items() if fingerprint not in catalogue.shared) + copies,
    }


def _headline(facts: Plain) -> Plain:
    """What a report says first; None for what it does not say."""

    def at(*keys: str) -> Any:
        found: Any = facts
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return found

    return {
        "scale": at("scale"),
        "verdict": at("verdict", "result"),
        "teacher_accuracy": at("teacher", "accuracy"),
        "student_accuracy": at("student", "accuracy"),
        "cheaper_than_teacher": at("economics", "cheaper_than_teacher") or None,
    }


def _unknown(folder: Path) -> Plain:
    try:
        facts = read_report(folder / REPORT)
    except StoreError:
        facts = {}
    return {"name": folder.name, "folder": str(folder), **_headline(facts), "bytes": size(folder)}


def _ledger_bytes(store: Path) -> int:
    return sum(path.stat().st_size for path in store.glob("ledger.db*"))


def render(found: Plain) -> Group:
    """The list for a terminal."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    shown.add_column("run", overflow="fold")
    shown.add_column("when", no_wrap=True)
    for head in ("scale", "verdict"):
        shown.add_column(head, no_wrap=True)
    for head in ("teacher", "student", "cheaper", "size"):
        shown.add_column(head, justify="right", no_wrap=True)
    for row in [*found["runs"], *found["unknown"]]:
        verdict = row["verdict"]
        shown.add_row(
            Text(row["name"]),
            when(row["at"]) if "at" in row else "not in the store",
            row["scale"] or NONE,
            Text(table.RESULTS.get(verdict, NONE), style=table.STYLES.get(verdict, "")),
            table.percent(row["teacher_accuracy"]),
            table.percent(row["student_accuracy"]),
            times(row["cheaper_than_teacher"]),
            amount(row["bytes"]),
        )
    parts: list[RenderableType] = [shown if shown.rows else Text("No finished runs.")]
    for run in found["runs"]:
        if run["folder"] is None and "@" not in run["name"]:
            parts.append(Text(f"{run['name']}: its folder is gone; running its recipe puts it back from the store."))
    if found["earlier_runs"] and not any("@" in run["name"] for run in found["runs"]):
        parts.append(Text(f"{_count(found['earlier_runs'], 'earlier run')} under these names: --all lists them."))
    for work in found["unfinished"]:
        stage = work["stage"] or "unknown stage"
        parts.append(Text(f"Unfinished: {stage}, begun {when(work['at'])}, {amount(work['bytes'])}."))
    loose = found["parts_of_unfinished_runs"]
    if loose["number"]:
        made = _count(loose["number"], "finished part")
        parts.append(Text(f"{made} of runs that did not finish: {amount(loose['bytes'])}."))
    room = found["bytes"]
    parts.append(Text(f"The store takes {amount(room['store'])}, the ledger of answers {amount(room['ledger'])}."))
    if found["in_use_by"]:
        parts.append(Text(f"A run is under way ({found['in_use_by']})."))
    return Group(*parts)


def show(root: Path, word: str) -> Plain:
    """All that is known of one run; its report.json stands under `report`."""
    store, root, word = open_at(root, word)
    with store:
        catalogue = Catalogue(root, store)
        run = catalogue.find(word)
        made = {entry.stage: entry for entry in catalogue.lineage(run)}
        data = catalogue.artefact_facts(made["data"]) if "data" in made else {}
        exported = catalogue.artefact_facts(made["export"]) if "export" in made else {}
        split = data.get("split_hash", {}).get("test")
        home = root / run.name if catalogue.current[run.name] == run else None
        kept = catalogue.path(made["export"].fingerprint) if "export" in made else None
        return {
            "name": catalogue.label(run),
            "fingerprint": run.report,
            "at": run.at,
            "folder": str(home) if home is not None and home.is_dir() else None,
            "files": [
                {"path": str((home or kept or Path()) / name), "sha256": sha256}
                for name, sha256 in exported.get("files", {}).items()
            ],
            "parts": [
                {"stage": e.stage, "path": str(catalogue.path(e.fingerprint)), "content": e.content}
                for e in made.values()
            ],
            "test_split": split,
            "test_opened": store.openings(split) if split else None,
            "report": catalogue.facts(run),
        }


def render_show(found: Plain) -> Group:
    """The printed table of the run again, then where things are."""
    facts, folder = found["report"], found["folder"]
    try:
        headline: RenderableType = (
            _TOLD[facts["kind"]](facts) if "kind" in facts else table.render(facts, Path(folder) if folder else None)
        )
    except (KeyError, TypeError):
        raise StoreError(
            f"The report of {found['name']} was written by another version of aasut.", "Run its recipe again."
        ) from None
    parts = [headline, Text(f"\nFinished {when(found['at'])}, report {found['fingerprint']}.")]
    if folder is None:
        parts.append(Text("Its files are in the store alone: a newer run has the name, or its folder is gone."))
    if found["test_split"]:
        opened, then = found["test_opened"], facts["test_opened"]
        said = f"was opened {_count(opened, 'time')} so far, {then} when this report was made."
        parts.append(Text(f"test {found['test_split'][:PREFIX]} {said}"))
    parts += [Text(f"{file['path']}\n  SHA-256 {file['sha256']}", overflow="fold") for file in found["files"]]
    listed = Table(box=None, pad_edge=False, padding=(0, 1), show_header=False)
    for part in found["parts"]:
        listed.add_row(part["stage"], Text(part["path"], overflow="fold"), Text(part["content"][:12], style="dim"))
    return Group(*parts, listed)


def _field(facts: Plain) -> Text:
    """What was made of documents, and what a student learned of them."""
    from aasut.report import adaptation, synthesis

    said = synthesis.lines(facts["synthesis"]) if "synthesis" in facts else []
    return Text("\n".join([*said, *(adaptation.sentences(facts["adaptation"]) if "adaptation" in facts else [])]))


def _mixture(facts: Plain) -> Text:
    """What a mixture of fields has of each."""
    from aasut.report import mixture

    return Text("\n".join(mixture.sentences(facts["mixture"])))


_TOLD = {"field": _field, "mixture": _mixture}


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")
