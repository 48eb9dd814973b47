"""`aasut mix`: one Mixture of Experts of several fields, and what it is worth in each."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from aasut.progress import Progress


def mix(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe of a mixture, which names its fields.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Override a field, e.g. train.epochs=2.")
    ] = None,
    scale: Annotated[str, typer.Option(help="full, or ci for small slices of everything.")] = "full",
    root: Annotated[Path, typer.Option("--root", help="Folder that holds the runs.")] = Path("runs"),
    processes: Annotated[int, typer.Option("--processes", min=1, help="Fields that are learned at once.")] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Learn several fields, make their students the experts of one model, and measure it in each field."""
    from aasut.mixture import stages
    from aasut.recipe import mixture as recipes

    loaded = recipes.load(recipe, overrides or [])
    made = stages.build(loaded, recipe.parent, root, Progress(quiet=quiet), scale, processes)
    if as_json:
        print(json.dumps({"folder": str(made.folder), **made.facts}))
        return
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
    console.print(render(made.facts["mixture"], made.folder))


def render(facts: Mapping[str, Any], folder: Path) -> Any:
    """For a terminal: a row a set, bits per byte of each model, and how the experts are used."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from aasut.report import adaptation, mixture

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("bits per byte", no_wrap=True)
    for head in ("documents", *mixture.HEADS.values(), "mixture / own"):
        table.add_column(head, justify="right", no_wrap=True)
    for name, found in facts["sets"].items():
        cells = [adaptation.bits_per_byte(found["models"].get(role)) for role in mixture.HEADS]
        table.add_row(Text(name), f"{found['documents']:,}", *cells, mixture.over(found, "branch"))
    said = [Text(sentence) for sentence in mixture.sentences(facts)]
    return Group(table, *said, Text(f"{folder}/ {mixture.PAGE} · report.json · mixture/", style="dim"))
