"""`aasut gateway status` and `aasut gateway export`: what a gateway did, and what it recorded as a log of chat."""

from __future__ import annotations

import json
import re
import sys
import time
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

Store = Annotated[Path, typer.Option("--store", help="The gateway's folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def status(
    store: Store = Path("traffic"),
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it live until Ctrl-C; with --json one object a second.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Requests, who answered them, dollars paid and saved, audits and alarms of a gateway, running or not."""
    from rich.console import Console

    from aasut.gateway import status as statuses

    if not watch:
        found = statuses.state(store)
        if as_json:
            print(json.dumps(found, ensure_ascii=False))
        else:
            Console(width=None if sys.stdout.isatty() else 120, highlight=False).print(statuses.render(found))
    elif as_json:
        with closing(statuses.Look(store)) as look:
            while True:
                print(json.dumps(look.state(), ensure_ascii=False), flush=True)
                time.sleep(1)
    elif not sys.stdout.isatty():
        raise typer.BadParameter("--watch needs a terminal, or --json.")
    else:
        statuses.watch(store)


def export(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where to write: .jsonl, .jsonl.gz or .parquet, by its ending.")
    ],
    store: Store = Path("traffic"),
    since: Annotated[
        str | None,
        typer.Option(
            metavar="WHEN", help="Only what came since: 2026-01-31, 2026-01-31T08:00:00Z, or 12h, 7d, 2w ago."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write recorded chat completions to a file, which recipes read as a table of the format chat."""
    from aasut.gateway import traffic

    counts = traffic.export(store, file, since=None if since is None else moment(since))
    if as_json:
        print(json.dumps({"file": str(file), **counts}))
        return
    left = ", ".join(f"{count:,} {_WHY[name]}" for name, count in counts.items() if name != "exported" and count)
    print(f"{counts['exported']:,} exchanges in {file}" + (f"; left out: {left}" if left else ""))


_WHY = {"other_paths": "no chat completions", "refused": "refused by the gateway", "no_request": "without a request"}


def moment(text: str) -> float:
    """Seconds since 1970 of a date, of a date with a time, or of so long ago; days begin in this machine's time zone.

    Raises typer's BadParameter for anything else.
    """
    if found := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([mhdw])", text.strip()):
        return time.time() - float(found[1]) * _UNITS[found[2]]
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r} is no time. Write 2026-01-31, 2026-01-31T08:00:00Z, or 12h, 7d, 2w for so long ago."
        ) from None
