"""`aasut agent`: one task, tasks from a pipe, or a conversation at the terminal, done with tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def agent(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The agent's YAML file, see docs/agent.md.")],
    task: Annotated[str, typer.Argument(metavar="[TASK]", help="What to do; else tasks are read, one a line.")] = "",
    root: Annotated[Path, typer.Option("--root", help="Folder that holds the runs, and the traces.")] = Path("runs"),
    override: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the file.")
    ] = None,
    tools: Annotated[bool, typer.Option("--tools", help="Say what tools there are, and do nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a task.")] = False,
) -> None:
    """Let a model do a task with tools, within limits; every step is kept in a trace."""
    from aasut.agents import talk
    from aasut.recipe import agent as recipes

    recipe = recipes.load(file, override or ())
    if tools:
        print(talk.tools(recipe, file.parent, as_json=as_json))
        return
    raise typer.Exit(talk.talk(recipe, file.parent, root, task, as_json=as_json))
