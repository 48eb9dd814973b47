"""`aasut runs ...`: parses, calls one function, prints."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from aasut.progress import Progress

app = typer.Typer(no_args_is_help=True, help="List, compare, verify and clean up finished runs.")

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Root = Annotated[Path, typer.Option("--root", help="Folder that holds the runs.")]
RunName = Annotated[
    str,
    typer.Argument(metavar="RUN", help="Name of a finished run, or its folder; NAME@FINGERPRINT for an earlier one."),
]


@app.command("list")
def list_runs(
    root: Root = Path("runs"),
    everything: Annotated[
        bool, typer.Option("--all", help="Earlier runs too, whose name a newer run has taken.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Finished runs, unfinished work, and the room they take."""
    from aasut.runs import listing

    found = listing.gather(root, everything=everything)
    _print(found, as_json, listing.render)


@app.command()
def show(run: RunName, root: Root = Path("runs"), as_json: AsJson = False) -> None:
    """A run's results again, where its files are, their hashes, and how often its test was opened."""
    from aasut.runs import listing

    _print(listing.show(root, run), as_json, listing.render_show)


@app.command()
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="A finished run.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    root: Root = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Two runs side by side: settings that differ, results, costs, parts that both share."""
    from aasut.runs import compare as comparing

    _print(comparing.gather(root, first, second), as_json, comparing.render)


@app.command()
def verify(
    run: Annotated[str, typer.Argument(metavar="[RUN]", help="One finished run; all runs and the store without.")] = "",
    root: Root = Path("runs"),
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check every file against its recorded hash; exit with 1, and one line a problem, where something is wrong."""
    from aasut.runs import verify as verifying

    found = verifying.verify(root, run, Progress(quiet=quiet))
    if as_json:
        print(json.dumps(found))
    else:
        print(*verifying.lines(found), sep="\n")
    raise typer.Exit(1 if found["problems"] else 0)


@app.command()
def tree(run: RunName, root: Root = Path("runs"), as_json: AsJson = False) -> None:
    """What a run was made from, as a tree, with sizes and seconds."""
    from aasut.runs import tree as trees

    _print(trees.gather(root, run), as_json, trees.render)


@app.command()
def clean(
    root: Root = Path("runs"),
    older_than: Annotated[
        str | None,
        typer.Option(metavar="AGE", help="Runs, and unfinished work, older than this may go: 12h, 30d, 8w."),
    ] = None,
    keep_runs: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="The N newest runs stay; earlier runs of a name count as older than all others."
        ),
    ] = None,
    larger_than: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Stop once runs and store together are at most this: 500MB, 5GB.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes/--dry-run", help="Delete; without it, only say what would go.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make room: let runs go by age, number and size. What a kept run was made from, and the ledger, always stay."""
    from aasut.runs import clean as cleaning

    found = cleaning.clean(root, cleaning.Rules.of(older_than, keep_runs, larger_than), delete=yes)
    _print(found, as_json, cleaning.render)


def _print(found: Any, as_json: bool, render: Any) -> None:
    from rich.console import Console

    if as_json:
        print(json.dumps(found))
    else:
        Console(width=None if sys.stdout.isatty() else 100, highlight=False).print(render(found))
