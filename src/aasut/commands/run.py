"""`aasut run`: a whole run. Parses, calls, prints."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from aasut.progress import Progress

NOT_PROVEN = 3


def run(
    recipe: Annotated[
        Path | None, typer.Argument(metavar="[RECIPE]", help="A recipe.yaml; docs/recipe.md lists its fields.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Override a field, e.g. student.epochs=2.")
    ] = None,
    from_traffic: Annotated[
        bool,
        typer.Option(
            "--from-traffic", help="Learn from what the gateway saw; without a RECIPE one is written for it first."
        ),
    ] = False,
    store: Annotated[
        Path | None, typer.Option("--store", help="With --from-traffic: the gateway's folder, traffic if not given.")
    ] = None,
    most: Annotated[
        int | None,
        typer.Option(min=1, metavar="ROWS", help="With --from-traffic: take so many requests, escalated ones first."),
    ] = None,
    buy: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="ROWS",
            help="With --from-traffic: ask the teacher for so many requests that it never answered.",
        ),
    ] = 0,
    scale: Annotated[str, typer.Option(help="full, or ci for small slices of everything.")] = "full",
    root: Annotated[Path, typer.Option("--root", help="Folder that holds the runs.")] = Path("runs"),
    require: Annotated[bool, typer.Option("--require", help="Exit with 3 unless the verdict is non_inferior.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what the run will take, and begin nothing that costs.")
    ] = False,
    probe: Annotated[
        bool, typer.Option("--probe/--no-probe", help="With --dry-run: try the models for some seconds, or guess.")
    ] = True,
    latency_s: Annotated[
        float | None,
        typer.Option("--latency-s", min=0, help="With --dry-run: seconds that a call to the endpoint takes."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, or JSON lines, instead of text.")
    ] = False,
) -> None:
    """Turn a teacher into a student: label, train, export, prove and price it."""
    from aasut import pipeline
    from aasut import recipe as recipes

    if not dry_run and (not probe or latency_s is not None):
        raise typer.BadParameter("--no-probe and --latency-s go with --dry-run.")
    progress, taken = Progress(quiet=quiet), None
    if from_traffic:
        from aasut.commands import from_traffic as saw

        taken = saw.take(recipe, overrides or [], store or Path("traffic"), root, progress, scale, most, buy)
        loaded, base = taken.recipe, taken.base
    elif store is not None or most is not None or buy:
        raise typer.BadParameter("--store, --most and --buy go with --from-traffic.")
    elif recipe is None:
        raise typer.BadParameter("Give a RECIPE, or --from-traffic.")
    else:
        loaded, base = recipes.load(recipe, overrides or []), recipe.parent
    if dry_run:
        from aasut.forecast import command

        command.run(loaded, base, root, progress, scale, probe, latency_s, as_json)
        return
    finished = pipeline.run(loaded, base, root, progress, scale)
    if taken is not None:
        taken.finish(finished, progress)
    if as_json:
        print(json.dumps({"folder": str(finished.folder), "calls_made_now": finished.calls_made, **finished.facts}))
    else:
        _print(finished)
    if require and finished.facts["verdict"]["result"] != "non_inferior":
        raise typer.Exit(NOT_PROVEN)


def _print(finished: Any) -> None:
    from rich.console import Console

    from aasut.report import table

    console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
    console.print(table.render(finished.facts, finished.folder))
    console.print(f"Calls made of the teacher just now: {finished.calls_made:,}")
