"""`aasut gateway keys ...`: parses, calls one function, prints. A secret is printed once, when it is made."""

from __future__ import annotations

import json
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from aasut.errors import AasutError

app = typer.Typer(no_args_is_help=True, help="Virtual keys of a gateway: add, list, rotate and revoke them.")

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Folder = Annotated[Path, typer.Option("--store", help="The gateway's folder.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The key's name, as logs and metrics show it.")]

_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 604800}


@app.command()
def add(
    name: Name,
    models: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="PATTERN", help="A model it may use, such as gpt-4o*; all where not given."),
    ] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1, help="Requests in any 60 seconds.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(min=1, help="Tokens in any 60 seconds, both ways.")] = None,
    usd_per_day: Annotated[float | None, typer.Option(min=0, help="Dollars that it may cost a day (UTC).")] = None,
    usd_per_month: Annotated[float | None, typer.Option(min=0, help="Dollars that it may cost a month (UTC).")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Requests at one time.")] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="WHEN", help="A day such as 2030-12-31 (UTC), or a time from now such as 90d.")
    ] = None,
    store: Folder = Path("traffic"),
    as_json: AsJson = False,
) -> None:
    """Make a key. Its secret goes to standard output, this once."""
    from aasut.gateway import keyring

    now = time.time()
    secret, key = keyring.add(
        store,
        name,
        now,
        models=models or None,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        usd_per_day=usd_per_day,
        usd_per_month=usd_per_month,
        concurrency=concurrency,
        expires=None if expires is None else _moment(expires, now),
    )
    _secret(secret, key, now, as_json)


@app.command("list")
def list_keys(store: Folder = Path("traffic"), as_json: AsJson = False) -> None:
    """The keys, their limits and whether they are open; no secrets."""
    from aasut.gateway import keyring

    now = time.time()
    rows = [_plain(key, now) for key in keyring.listed(store)]
    if as_json:
        print(json.dumps({"keys": rows}))
        return
    for row in rows:
        limits = [f"{field.replace('_', ' ')} {row[field]:g}" for field in _LIMITS if row[field] is not None]
        ends = f"until {row['expires']}" if row["expires"] else ""
        said = (
            row["name"],
            row["state"],
            f"since {row['created']}",
            ends,
            "models " + " ".join(row["models"]),
            *limits,
        )
        print(", ".join(part for part in said if part))
    if not rows:
        print(f"No keys in {store}.")


@app.command()
def revoke(name: Name, store: Folder = Path("traffic"), as_json: AsJson = False) -> None:
    """Close a key for good; a gateway that runs refuses it within about a second."""
    from aasut.gateway import keyring

    key = keyring.revoke(store, name)
    print(json.dumps(_plain(key, time.time())) if as_json else f"{name} is revoked.")


@app.command()
def rotate(
    name: Name,
    keep: Annotated[
        str, typer.Option("--keep", metavar="TIME", help="How long the secret before still opens, such as 30m or 2d.")
    ] = "0m",
    store: Folder = Path("traffic"),
    as_json: AsJson = False,
) -> None:
    """Give a key a new secret, which goes to standard output, this once."""
    from aasut.gateway import keyring

    now = time.time()
    secret, key = keyring.rotate(store, name, now, _span("--keep", keep))
    _secret(secret, key, now, as_json)


_LIMITS = ("requests_per_minute", "tokens_per_minute", "usd_per_day", "usd_per_month", "concurrency")


def _secret(secret: str, key: Any, now: float, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"secret": secret, **_plain(key, now)}))
        return
    print(f"The secret of {key.name}, shown this once and kept nowhere:", file=sys.stderr, flush=True)
    print(secret)


def _plain(key: Any, now: float) -> dict[str, Any]:
    return {
        "name": key.name,
        "state": key.state(now),
        "created": _shown(key.created),
        "expires": _shown(key.expires),
        "models": list(key.models),
        **{field: getattr(key, field) for field in _LIMITS},
    }


def _shown(moment: float | None) -> str | None:
    return None if moment is None else datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _moment(text: str, now: float) -> float:
    """Seconds since 1970 of a day's end or of a time from now. Raises AasutError for another text or a past moment."""
    if re.fullmatch(r"\d+[mhdw]", text):
        return _within("--expires", text, now + _span("--expires", text))
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise AasutError(f"--expires {text}: this is no time.", "Give a day such as 2030-12-31, or 90d.") from None
    end = day.timestamp() + 86400
    if end <= now:
        raise AasutError(f"--expires {text} is past.", "Give a day that is not.")
    return _within("--expires", text, end)


def _span(flag: str, text: str) -> float:
    """Seconds of a text such as 30m, 12h, 90d or 2w. Raises AasutError for another one."""
    if not re.fullmatch(r"\d{1,9}[mhdw]", text):
        raise AasutError(f"{flag} {text}: this is no length of time.", "Give one such as 30m, 12h, 90d or 2w.")
    return float(int(text[:-1]) * _UNITS[text[-1]])


def _within(flag: str, text: str, moment: float) -> float:
    if moment >= 253402300800:  # the year 10000, which dates cannot show
        raise AasutError(f"{flag} {text} is too far off.", "Leave it out for a key that does not expire.")
    return moment
