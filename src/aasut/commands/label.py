"""`aasut label`: asks the teacher for a budget of rows. Parses, calls, prints."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from aasut.progress import Progress


def label(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe.yaml that says data.asked.")],
    budget: Annotated[int, typer.Option(min=1, metavar="ROWS", help="How many more rows of the pool to ask.")],
    random_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of them that is drawn at random, whatever a model thinks.")
    ] = 0.2,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Override a field, e.g. teacher.max_usd=5.")
    ] = None,
    root: Annotated[Path, typer.Option("--root", help="Folder that holds the runs.")] = Path("runs"),
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Ask the teacher for some rows only: those that teach most, and a share at random."""
    from aasut import recipe as recipes
    from aasut.commands import labelling

    loaded = recipes.load(recipe, overrides or [])
    found = labelling.ask(loaded, recipe.parent, root, Progress(quiet=quiet), budget, random_share)
    if as_json:
        print(json.dumps(labelling.as_dict(found), ensure_ascii=False))
        return
    flags = "".join(f" --set {shlex.quote(one)}" for one in overrides or [])
    flags += "" if root == Path("runs") else f" --root {shlex.quote(str(root))}"
    where = shlex.quote(str(recipe))
    again, use = f"aasut label {where} --budget {budget}{flags}", f"aasut run {where}{flags}"
    print("\n".join(labelling.describe(found, again, use)))
