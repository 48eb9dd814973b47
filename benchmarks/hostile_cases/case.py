"""One hostile case: what it writes, the command it runs, what may come of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import small
import yaml

ROWS = 40  # of the table that stands beside bad recipes


@dataclass
class Case:
    """`make(folder)` writes the case's files and returns the command's words; `{root}` in them is the runs' folder.

    may: "refuse": exit code 1 or 2 with one clear line, and no results; "pass": exit code 0, every row
    accounted for; "either". rows: how many rows the tables have, None where it cannot be said.
    failed: how many of them must be counted as failed in `data`, where the case passes.
    """

    name: str
    make: Callable[[Path], list[str]]
    may: str = "refuse"
    rows: int | None = None
    failed: int | None = None
    limit_s: float = 60
    env: Mapping[str, str] = field(default_factory=dict)
    output: str = ""  # a file that standard output goes to instead
    publishes: bool = False  # the results stand although the command fails


def run_words(folder: Path) -> list[str]:
    """The command that runs the folder's recipe."""
    return ["run", str(folder / "recipe.yaml"), "--root", str(folder / "runs")]


def changed(path: str, value: Any, plain: dict[str, Any] | None = None) -> dict[str, Any]:
    """The small recipe with one field, at a dotted path, set to `value`; numbers in the path index lists."""
    result = copy.deepcopy(plain if plain is not None else small.recipe())
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place: Any = result
    for part in way:
        place = place[part] if isinstance(part, int) else place.setdefault(part, {})
    place[last] = value
    return result


def with_recipe(name: str, plain: dict[str, Any], **more: Any) -> Case:
    """A case of a recipe given as data, beside a good table."""

    def make(folder: Path) -> list[str]:
        small.write(folder, plain, ROWS)
        return run_words(folder)

    return Case(name, make, **more)


def with_text(name: str, text: bytes | str, **more: Any) -> Case:
    """A case of a recipe file with these bytes."""

    def make(folder: Path) -> list[str]:
        small.write(folder, small.recipe(), ROWS)
        (folder / "recipe.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
        return run_words(folder)

    return Case(name, make, **more)


def with_table(name: str, data: bytes, *, file: str = "table.csv", table: Any = None, **more: Any) -> Case:
    """A case of a table with these bytes; `table`: fields of its section, `recipe`: other sections of the recipe."""
    sections = more.pop("recipe", {})

    def make(folder: Path) -> list[str]:
        plain = small.recipe(**sections)
        plain["data"]["tables"][0] |= {"source": file} | (table or {})
        small.write(folder, plain, ROWS)
        (folder / file).write_bytes(data)
        return run_words(folder)

    return Case(name, make, **more)


GOOD = yaml.safe_dump(small.recipe(), sort_keys=False)
