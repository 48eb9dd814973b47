"""`aasut teacher`: a teacher that answers by rule behind OpenAI's protocol, and fails as planned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from aasut.progress import Progress


def teacher(
    rules: Annotated[
        Path,
        typer.Argument(
            metavar="RULES",
            help="YAML or JSON: a word of the input to its answer; '' for the rest. Or Python: a file with a function "
            "answer(text).",
        ),
    ],
    faults: Annotated[
        Path | None,
        typer.Option(
            metavar="PLAN",
            help="YAML or JSON, e.g. {seed: 1, latency_s: 0.1, most_at_once: 8, faults: [{fault: 429, share: 0.1, "
            "retry_after_s: 2}, {fault: stall, at: [3]}, {fault: 500, first: 90, last: 99}]}.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8001,
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="Folder of a model with whose tokens it answers; else they are pieces of four letters."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines instead of text.")] = False,
) -> None:
    """Serve a teacher that answers by rule, and fails as planned, to try an endpoint out for nothing."""
    from aasut.teacher import server

    progress = Progress()
    progress.terminal = progress.terminal and not as_json
    stats = server.run(rules, faults, host, port, progress, tokenizer)
    print(json.dumps(stats) if as_json else "\n".join(f"{name}: {value}" for name, value in stats.items()))
