"""`aasut adapt`: trains a student on a field, and says what that brought there and cost elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from aasut.progress import Progress

Plain = Mapping[str, Any]
ROLES = ("teacher", "before", "after")


def adapt(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe of a field, with student and adapt.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Override a field, e.g. student.epochs=2.")
    ] = None,
    scale: Annotated[str, typer.Option(help="full, or ci for small slices of everything.")] = "full",
    root: Annotated[Path, typer.Option("--root", help="Folder that holds the runs.")] = Path("runs"),
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Train a student on documents and what was made of them, and measure the gain there and the loss elsewhere."""
    from aasut import field
    from aasut.recipe import field as recipes

    loaded = recipes.load(recipe, overrides or [])
    adapted = field.adapt(loaded, recipe.parent, root, Progress(quiet=quiet), scale)
    if as_json:
        print(
            json.dumps(
                {"folder": str(adapted.folder), "calls_made_now": adapted.calls_made, **adapted.facts},
                ensure_ascii=False,
            )
        )
        return
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 100, highlight=False).print(render(adapted.facts, adapted.folder))


def render(facts: Plain, folder: Path) -> Any:
    """For a terminal: a row a set, bits per byte of each model, and what became of the student's own."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    sets: Plain = facts["evaluate"]["sets"]
    roles = [role for role in ROLES if any(role in found["models"] for found in sets.values())]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("bits per byte, held out", no_wrap=True)
    for head in ("documents", *roles, "after / before"):
        table.add_column(head, justify="right", no_wrap=True)
    for name, found in sets.items():
        cells = [_bits(found["models"].get(role)) for role in roles]
        table.add_row(Text(name), f"{found['documents']:,}", *cells, _quotient(found["after_over"]["before"]))
    return Group(table, *map(Text, sentences(facts)), Text(f"{folder}/", style="dim"))


def sentences(facts: Plain) -> list[str]:
    """What was learned, and what it changed."""
    learned: Mapping[str, int] = facts["train"]["tokens_learned"]
    told = ", ".join(f"{count:,} of {name}" for name, count in learned.items() if count)
    said = [f"An epoch has {sum(learned.values()):,} tokens: {told}."]
    for name, found in facts["evaluate"]["sets"].items():
        change = found["after_over"]["before"]
        said.append(f"{name}: {_change(change)} (95 % interval {_percent(change['lower'])} to "
                    f"{_percent(change['upper'])}).".replace("95", f"{100 * change['confidence']:g}"))  # fmt: skip
        if other := found["after_over"].get("teacher"):
            said.append(f"{name}: against the teacher {_percent(other['value'])}.")
    anchor = facts["train"]["anchor"]
    if anchor["model"]:
        said.append(f"General text was learned from the {anchor['model']}'s distribution too: {anchor['reason']}.")
    return said


def _bits(found: Plain | None) -> str:
    if found is None:
        return "\N{EN DASH}"
    value = found["bits_per_byte"]
    return f"{value['value']:.3f} ± {(value['upper'] - value['lower']) / 2:.3f}"


def _quotient(found: Plain) -> str:
    return f"{found['value']:.3f} ± {(found['upper'] - found['lower']) / 2:.3f}"


def _change(found: Plain) -> str:
    word = "fewer" if found["value"] < 1 else "more"
    return f"{abs(found['value'] - 1) * 100:.1f} % {word} bits per byte than before"


def _percent(value: float) -> str:
    return f"{(value - 1) * 100:+.1f} %"
