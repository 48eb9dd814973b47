"""`aasut adapt`: trains a student on a field, and says what that brought there and cost elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from aasut.progress import Progress


def adapt(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe of a field, with student and adapt.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Override a field, e.g. student.epochs=2.")
    ] = None,
    scale: Annotated[str, typer.Option(help="full, or ci for small slices of everything.")] = "full",
    root: Annotated[Path, typer.Option("--root", help="Folder that holds the runs.")] = Path("runs"),
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
    beside: Annotated[bool, typer.Option("--beside", hidden=True)] = False,
) -> None:
    """Train a student on documents and what was made of them, and measure the gain there and the loss elsewhere."""
    from aasut import field
    from aasut.recipe import field as recipes

    loaded = recipes.load(recipe, overrides or [])
    made = field.adapt(loaded, recipe.parent, root, Progress(quiet=quiet), scale, beside=beside)
    if as_json:
        print(json.dumps({"folder": str(made.folder), "calls_made_now": made.calls_made, **made.facts}))
        return
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
    console.print(render(made.facts["adaptation"], made.folder))


def render(facts: Mapping[str, Any], folder: Path) -> Any:
    """For a terminal: a row a set, bits per byte of each model, and what became of the student's own."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from aasut.report import adaptation

    sets = facts["evaluate"]["sets"]
    roles = [role for role in adaptation.ROLES if any(role in found["models"] for found in sets.values())]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("bits per byte, held out", no_wrap=True)
    for head in ("documents", *roles, "after / before"):
        table.add_column(head, justify="right", no_wrap=True)
    for name, found in sets.items():
        cells = [adaptation.bits_per_byte(found["models"].get(role)) for role in roles]
        change = adaptation.quotient(found["after_over"]["before"])
        table.add_row(Text(name), f"{found['documents']:,}", *cells, change)
    said = [Text(sentence) for sentence in adaptation.sentences(facts)]
    return Group(table, *said, Text(f"{folder}/ {adaptation.PAGE} · report.json · adapted/", style="dim"))
