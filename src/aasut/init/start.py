"""From a file to a recipe: look, find out, write, and read the recipe back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from aasut import recipe as recipes
from aasut.errors import DataError, RecipeError
from aasut.init import compose, findings, sample
from aasut.init.findings import Findings
from aasut.progress import Progress
from aasut.recipe import Recipe
from aasut.sources import tables
from aasut.store import write_atomically


def init(path: Path, out: Path, progress: Progress, *, force: bool = False, recorded: bool = False) -> dict[str, Any]:
    """Write a commented recipe for a table or a log to `out`; facts of what was found, for people and programs.

    recorded: the log has the teacher's own answers, which are not bought again.
    Raises RecipeError where `out` is there already, DataError for a file that cannot be learned from.
    """
    if out.exists() and not force:
        raise RecipeError(f"{out} is there already.", "Give another --out, or --force to write over it.")
    taken = sample.take(path)
    found = replace(findings.of(path, taken), recorded=recorded)
    text = compose.recipe(found, out)
    loaded = recipes.parse(yaml.safe_load(text), str(out))
    if taken.whole:
        found = _checked(found, loaded, out, progress)
        text = compose.recipe(found, out)
        recipes.parse(yaml.safe_load(text), str(out))
    write_atomically(out, text)
    return facts(found, out)


def _checked(found: Findings, loaded: Recipe, out: Path, progress: Progress) -> Findings:
    """The findings, with the rows that the reader of tables itself cannot use."""
    read = tables.read(loaded.data.tables[0], task=loaded.task.build(), base=out.parent, progress=progress)
    if not read.examples:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(read.failed.items()))
        raise DataError(
            f"No row of {found.path} can be used ({reasons}).",
            "Mend the file, or write a recipe that says how to read it.",
        )
    return replace(found, faults=dict(read.failed))


def facts(found: Findings, out: Path) -> dict[str, Any]:
    """What was found, as plain data."""
    table, log, taken = found.table, found.log, found.sample
    plain: dict[str, Any] = {
        "recipe": str(out),
        "format": taken.kind,
        "encoding": taken.encoding,
        "rows": taken.total,
        "rows_looked_at": len(taken.rows) + taken.faults.total(),
        "task": found.kind or None,
        "labels": dict(found.counts) or list(found.labels),
        "unusable": dict(found.faults),
    }
    if table is not None:
        plain |= {
            "input": table.text.name,
            "answers": table.answer.name if table.answer else None,
            "id": table.id.name if table.id else None,
            "group": table.group.name if table.group else None,
            "groups": table.groups,
            "duplicates": table.duplicates,
        }
    if log is not None:
        plain |= {
            "model": found.model or None,
            "slots": dict(log.values),
            "read": log.read,
            "ambiguous": log.ambiguous,
            "other_prompts": log.other_prompt + log.other_roles,
        }
    return plain | {"summary": summary(found, out)}


def summary(found: Findings, out: Path) -> list[str]:
    """What was found and what to do next, a line each."""
    table, taken = found.table, found.sample
    how = [taken.kind if taken.kind != "chat" else "a log of chat requests"]
    how += [taken.encoding] if taken.kind != "parquet" else []
    lines = [f"{found.path.name}: {', '.join(how)}; looked at {compose.looked_at(found)}"]
    if table is not None:
        lines.append(f"input       {table.text.name}: {table.text.characters:.0f} characters on average")
        lines += [f"id          {table.id.name}"] if table.id else []
        lines += [f"group       {table.group.name}: {table.groups:,} groups"] if table.group else []
        lines += [f"duplicates  {table.duplicates:,} rows"] if table.duplicates else []
        lines.append(f"answers     {table.answer.name if table.answer else 'none: run `aasut gold` on the recipe'}")
    lines += [f"prompt      {note}" for note in compose.prompt_notes(found)]
    if found.model:
        lines.append(f"model       {found.model}")
    shown = ", ".join(f"{label} {count:,}" for label, count in list(found.counts.items())[:10]) or ", ".join(
        found.labels
    )
    lines.append(f"task        {found.kind or 'not known: see EDIT in the recipe'}" + (f": {shown}" if shown else ""))
    if found.faults:
        lines.append(
            "unusable    " + ", ".join(f"{reason} {count:,}" for reason, count in sorted(found.faults.items()))
        )
    gold = "" if table is not None and table.answer is not None else f"aasut gold {out} and "
    return [*lines, f"Wrote {out}. Mend the lines marked EDIT, then: {gold}aasut run {out}"]
