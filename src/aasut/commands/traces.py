"""`aasut traces ...`: what agents did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="List and show what agents did, and make training data of it.")

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Root = Annotated[Path, typer.Option("--root", help="Folder that holds the runs, and the traces.")]
Agent = Annotated[str, typer.Option("--agent", help="Of this agent alone.")]


@app.command("list")
def list_traces(root: Root = Path("runs"), agent: Agent = "", as_json: AsJson = False) -> None:
    """Runs of agents, the oldest first."""
    from aasut.agents import listing

    found = listing.gather(root, agent)
    print(json.dumps({"traces": found}, ensure_ascii=False) if as_json else listing.render(found))


@app.command()
def show(
    trace: Annotated[str, typer.Argument(metavar="TRACE", help="Its id, a part of it, or last.")] = "last",
    root: Root = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """One run, step by step."""
    from aasut.agents import listing

    found = listing.show(root, trace)
    print(json.dumps(found, ensure_ascii=False) if as_json else listing.render_show(found))


@app.command()
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .jsonl file to write.")],
    root: Root = Path("runs"),
    agent: Agent = "",
    chat: Annotated[bool, typer.Option("--chat", help="Keep results of tools as messages of their own.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Keep runs and calls too that failed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write every answer as an example to learn from, for tables of format chat."""
    from aasut.agents import export as exporting

    rows = exporting.export(root, file, agent=agent, chat=chat, everything=everything)
    if as_json:
        print(json.dumps({"file": str(file), "examples": rows.as_dict()}))
        return
    left = "".join(f", {count} left out: {reason}" for reason, count in rows.dropped.items())
    print(f"{rows.kept} of {rows.rows_in} answers in {file}{left}")
