"""What a gateway's folder says of it, running or not: figures, a picture of them for a terminal, and a live one.

Sums come from hourly totals, and of audits only the new ones are read at each look, so that looking once a second is
cheap however much was recorded.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from aasut.economics.cost import usd
from aasut.evaluate.monitor import Monitor
from aasut.gateway import schema
from aasut.gateway.keeper import STATE
from aasut.gold.terminal import visible
from aasut.lock import holder

LOCK = "gateway.lock"  # held by a gateway that runs
LATEST = 1000  # answers whose latency is shown
MINUTE = 60.0
SHOWN = 12  # rows of a table on the screen
EVENTS = 8
# An event that needs someone to look after it, and those that end it.
_TROUBLES = {
    "alarm": (),  # seen where no certificate's promise is known; else its monitor tells
    "student_down": ("student_up", "reload", "start"),
    "recording_failed": ("recording_again",),
    "reload_failed": ("reload", "start"),
}
_SUMS = (
    "SUM(requests), SUM(CASE WHEN by = 'student' THEN requests ELSE 0 END), SUM(prompt_tokens), "
    "SUM(completion_tokens), SUM(usd), SUM(saved_usd), SUM(failed), SUM(audits), SUM(differed)"
)
_NAMES = (
    "requests", "by_student", "prompt_tokens", "completion_tokens", "usd", "saved_usd", "failed", "audits", "differed",
)  # fmt: skip


def state(folder: Path) -> dict[str, Any]:
    """All figures of a gateway's folder, as plain data. Raises DataError where there is no traffic."""
    with closing(Look(folder)) as look:
        return look.state()


class Look:
    """Looks at a folder again and again. Raises DataError where there is no traffic."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._database = schema.open_to_read(folder)
        self._audits: dict[str, _Audits] = {}

    def close(self) -> None:
        self._database.close()

    def state(self) -> dict[str, Any]:
        """The figures as they are now."""
        now = time.time()
        running = holder(self.folder / LOCK)
        total = self._sums()
        answered = sum(total["by"].get(who, 0) for who in ("student", "upstream"))
        audits = self._audited()
        events = self._events(EVENTS)
        recording = self._recording()
        return {
            "folder": str(self.folder),
            "at": now,
            "running": bool(running),
            "process": running,
            **total,
            "share_answered_by_student": total["by"].get("student", 0) / answered if answered else None,
            **self._pace(now),
            "modes": self._by("mode", "mode != ''"),
            "keys": self._by("key"),
            "models": self._by("model"),
            "audits": audits,
            "recording": recording,
            "alarms": self._alarms(audits, recording if running else None),
            "events": events,
        }

    def _sums(self) -> dict[str, Any]:
        row = self._database.execute(f"SELECT {_SUMS}, SUM(cached_tokens) FROM total").fetchone()
        by = self._database.execute("SELECT by, SUM(requests) FROM total GROUP BY by HAVING SUM(requests) > 0")
        found = {name: value or 0 for name, value in zip((*_NAMES, "cached_tokens"), row, strict=True)}
        del found["by_student"], found["audits"], found["differed"]
        return {**found, "by": dict(by.fetchall())}

    def _by(self, column: str, where: str = "TRUE") -> list[dict[str, Any]]:
        rows = self._database.execute(
            f"SELECT {column}, {_SUMS} FROM total WHERE {where} GROUP BY {column} ORDER BY SUM(requests) DESC, {column}"
        )
        return [dict(zip((column, *_NAMES), row, strict=True)) for row in rows]

    def _pace(self, now: float) -> dict[str, Any]:
        """Requests a second of the last minute, and the latency of the latest answers."""
        (count,) = self._database.execute(
            "SELECT COUNT(*) FROM exchange WHERE at >= ? AND beside = ''", (now - MINUTE,)
        ).fetchone()
        rows = self._database.execute(
            "SELECT latency_s FROM (SELECT latency_s, by, beside FROM exchange ORDER BY n DESC LIMIT ?) "
            "WHERE by != 'gateway' AND beside = '' ORDER BY latency_s",
            (LATEST,),
        ).fetchall()
        latencies = [latency for (latency,) in rows]
        return {
            "requests_per_s": count / MINUTE,
            "latency_p50_s": _quantile(latencies, 0.5),
            "latency_p95_s": _quantile(latencies, 0.95),
        }

    def _audited(self) -> list[dict[str, Any]]:
        """What audits say of each certificate, the latest first; its promise is known where the gateway noted it."""
        promises = {
            certificate: (run, Monitor.begin(risk, confidence, "differed"))
            for certificate, run, risk, confidence in self._database.execute(
                "SELECT certificate, run, risk, confidence FROM promise ORDER BY at DESC"
            )
        }
        found = []
        for certificate in dict.fromkeys((*promises, *self._known())):
            run, monitor = promises.get(certificate, ("", None))
            audits = self._audits.get(certificate)
            if audits is None or (audits.monitor is None) != (monitor is None):
                audits = self._audits[certificate] = _Audits(certificate, monitor)
            audits.more(self._database)
            found.append({"certificate": certificate, "run": run or audits.run, **audits.as_dict()})
        return found

    def _known(self) -> Iterator[str]:
        """Certificates with audits, each found by a step in the index."""
        query = (
            f"SELECT certificate FROM exchange WHERE {schema.AUDITED} AND certificate > ? ORDER BY certificate LIMIT 1"
        )
        last = ""
        while row := self._database.execute(query, (last,)).fetchone():
            last = row[0]
            yield last

    def _events(self, last: int) -> list[dict[str, Any]]:
        rows = self._database.execute("SELECT at, kind, text FROM event ORDER BY n DESC LIMIT ?", (last,)).fetchall()
        return [dict(zip(("at", "kind", "text"), row, strict=True)) for row in reversed(rows)]

    def _recording(self) -> dict[str, Any] | None:
        """What the recorder last said of itself, None where it said nothing."""
        try:
            found = json.loads((self.folder / STATE).read_text())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _alarms(self, audits: list[dict[str, Any]], recording: dict[str, Any] | None) -> list[str]:
        """What needs someone to look after it, in sentences."""
        watched = [audit["monitor"] for audit in audits if audit["monitor"]][:1]  # of certificates now in use
        found = [monitor["sentence"] for monitor in watched if monitor["alarm"]]
        if recording is not None and recording.get("failing"):
            found.append(f"Recording fails: {recording['failing']}")
        if recording is not None and recording.get("lost"):
            found.append(f"{recording['lost']:,} exchanges were not recorded since the gateway was started.")
        last = {kind: (n, text) for kind, n, text in self._database.execute(
            "SELECT kind, MAX(n), text FROM event GROUP BY kind")}  # fmt: skip
        for kind, ends in _TROUBLES.items():
            if kind == "alarm" and watched:
                continue
            if kind in last and last[kind][0] > max((last[end][0] for end in ends if end in last), default=0):
                found.append(f"{kind.replace('_', ' ')}: {last[kind][1]}")
        return found


class _Audits:
    """The audits of one certificate, read on from where the last look ended."""

    def __init__(self, certificate: str, monitor: Monitor | None) -> None:
        self.certificate, self.monitor, self.run = certificate, monitor, ""
        self.count = self.differed = self._last = 0

    def more(self, database: sqlite3.Connection) -> None:
        rows = sorted(
            database.execute(
                f"SELECT n, audit = 'differed' FROM exchange WHERE certificate = ? AND {schema.AUDITED} AND n > ?",
                (self.certificate, self._last),
            )
        )
        if rows:
            self._last = rows[-1][0]
            (self.run,) = database.execute("SELECT run FROM exchange WHERE n = ?", (self._last,)).fetchone()
            self.count += len(rows)
            self.differed += sum(differed for _, differed in rows)
            if self.monitor is not None:
                self.monitor = self.monitor.saw(bool(differed) for _, differed in rows)

    def as_dict(self) -> dict[str, Any]:
        monitor = None if self.monitor is None else self.monitor.as_dict()
        return {"audits": self.count, "differed": self.differed, "monitor": monitor}


def watch(folder: Path, console: Console | None = None, every_s: float = 1.0) -> None:
    """Show the figures on the terminal, redrawn each second, until Ctrl-C. Raises DataError where there is none."""
    with closing(Look(folder)) as look:
        try:
            with Live(render(look.state()), console=console, screen=True, auto_refresh=False) as live:
                while True:
                    live.update(render(look.state()), refresh=True)
                    time.sleep(every_s)
        except KeyboardInterrupt:
            return


def render(found: dict[str, Any]) -> RenderableType:
    """The figures as a picture for a terminal."""
    parts: list[RenderableType] = [_head(found)]
    parts += [Text(f"! {visible(alarm)}", style="bold red") for alarm in found["alarms"]]
    for column, title in (("mode", "Mode"), ("key", "Key"), ("model", "Model")):
        rows = found[f"{column}s"]
        if rows and (len(rows) > 1 or column != "key" or any(row["key"] for row in rows)):
            parts.append(_table(title, column, rows))
    for audit in found["audits"]:
        said = audit["monitor"]["sentence"] if audit["monitor"] else (
            f"{audit['differed']:,} of {audit['audits']:,} audited answers differed from the upstream's."
        )  # fmt: skip
        parts.append(Text(visible(f"Audits of {audit['run']} ({audit['certificate'][:12]}): {said}")))
    parts += [Text(visible(f"{_clock(e['at'])}  {e['kind']}: {e['text']}"), style="dim") for e in found["events"]]
    return Group(*parts)


def _head(found: dict[str, Any]) -> Text:
    by = ", ".join(f"{who} {count:,}" for who, count in sorted(found["by"].items())) or "none yet"
    share = found["share_answered_by_student"]
    p50, p95 = found["latency_p50_s"], found["latency_p95_s"]
    latency = "" if p50 is None else f", latency p50 {p50 * 1000:,.0f} ms, p95 {p95 * 1000:,.0f} ms"
    recording = found["recording"] or {}
    text = Text()
    text.append(
        f"{'Running' if found['running'] else 'Not running'}", style="bold green" if found["running"] else "bold"
    )
    text.append(f" ({found['process']})" if found["running"] else "")
    text.append(f"  {visible(found['folder'])}\n")
    text.append(f"Requests {found['requests']:,} ({by}), {found['failed']:,} failed\n")
    text.append(f"Answered by the student: {'none' if share is None else f'{share * 100:.1f} %'}\n")
    text.append(f"Paid {usd(found['usd'])}, saved {usd(found['saved_usd'])}\n")
    text.append(f"Last minute: {found['requests_per_s']:,.1f} requests/s{latency}\n")
    if recording and found["running"]:
        state = "failing" if recording.get("failing") else "working"
        text.append(f"Recording: {state}, {recording.get('written', 0):,} written, {recording.get('lost', 0):,} lost\n")
    return text


def _table(title: str, column: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column(title, overflow="ellipsis", max_width=40)
    for heading in ("Requests", "By student", "Failed", "Tokens in", "Tokens out", "Paid", "Saved"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows[:SHOWN]:
        table.add_row(
            Text(visible(row[column]) or "(none)"),
            f"{row['requests']:,}",
            f"{row['by_student']:,}",
            f"{row['failed']:,}",
            f"{row['prompt_tokens']:,}",
            f"{row['completion_tokens']:,}",
            usd(row["usd"]),
            usd(row["saved_usd"]),
        )
    if len(rows) > SHOWN:
        table.add_row(f"and {len(rows) - SHOWN:,} more")
    return table


def _quantile(ordered: list[float], share: float) -> float | None:
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at).strftime("%m-%d %H:%M:%S")
