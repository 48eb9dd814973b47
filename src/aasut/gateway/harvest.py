"""Requests that a gateway saw, as a table of a recipe: which of them teach, and why the others are left out.

A request teaches where the recipe's prompt reads it and an answer of the teacher's own was recorded that the recipe
can use (data/recorded.py), or where the teacher may be asked for one now. What the student answered is never taken for
the teacher's. Where there is room for some only, those go first that the student passed on, then the newest.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aasut.data import recorded
from aasut.data.recorded import Answers
from aasut.files import write_atomically
from aasut.gateway import traffic
from aasut.gateway.exchange import Exchange
from aasut.recipe import Recipe
from aasut.sources import logs
from aasut.sources.rows import RowFault
from aasut.types import Conservation, Message

CHAT = "/v1/chat/completions"
PREFIX = "traffic-"  # of the table's file, whose name has a hash of its content
UPSTREAM = "upstream"  # the gateway's event that names the address of the API, for what comes after it
NO_CHAT, REFUSED, FAILED = "no chat request", "refused by the gateway", "not answered"
BY_STUDENT, OVER, AGAIN = "answered by the student alone", "over the limit", "asked before"
SOME = "fewer recorded answers than the recipe draws"
_KEPT = ("id", "at", "model", "base_url", "usd", "request", "response")

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Wish:
    """`most`: different requests that are taken; `buy`: how many of them the teacher may be asked for, None for all.

    `answered`: ids of requests that people answered, which stay whatever else is left out.
    """

    most: int | None = None
    buy: int | None = 0
    answered: Collection[str] = ()


@dataclass(frozen=True)
class Harvest:
    """`lines` teach, or have people's answers; `readable` are all that the prompt reads, a fair sample of what came.

    `recorded` counts different requests with the teacher's recorded answers, `unanswered` those that it is asked for,
    `escalated` lines that a student passed on.
    """

    lines: list[dict[str, Any]]
    readable: list[dict[str, Any]]
    recorded: int
    unanswered: int
    escalated: int
    answers: Answers
    conservation: Conservation

    def facts(self) -> dict[str, Any]:
        """For the report."""
        return {
            "conservation": self.conservation.as_dict(),
            "recorded": self.recorded,
            "unanswered": self.unanswered,
            "escalated": self.escalated,
        }


@dataclass
class _Row:
    line: dict[str, Any]
    key: str
    escalated: bool
    by_student: bool
    missing: bool = False  # answers of the teacher's


def lines(folder: Path) -> list[dict[str, Any]]:
    """What a gateway's clients asked, in order, each with the upstream's answer as `response`, None where it gave none.

    An audit's answer, which no client saw, stands with the request that it audits. Raises DataError where there is no
    traffic.
    """
    told = [(event.at, event.text) for event in traffic.events(folder) if event.kind == UPSTREAM]
    found: list[dict[str, Any]] = []
    audits: dict[str, Exchange] = {}
    for exchange in traffic.exchanges(folder):
        if not exchange.beside:
            place = bisect_right(told, exchange.at, key=lambda one: one[0])
            found.append(_line(exchange) | ({"base_url": told[place - 1][1]} if place else {}))
        elif exchange.by == "upstream":
            audits[exchange.beside] = exchange
    for line in found:
        if (audit := audits.get(line["id"])) is not None:
            line |= {"response": _answer(audit), "usd": audit.usd}
    return sorted(found, key=lambda line: (line["at"], line["id"]))


def _line(exchange: Exchange) -> dict[str, Any]:
    escalated = exchange.decision is not None and exchange.decision.reason != ""
    return {
        "id": exchange.id,
        "at": exchange.at,
        "model": exchange.model,
        "by": exchange.by,
        "answered": exchange.status == 200 and not exchange.fault,
        "escalated": escalated and exchange.by == "upstream",
        "usd": exchange.usd,
        "request": _object(exchange.request) if exchange.path == CHAT else None,
        "response": _answer(exchange) if exchange.by == "upstream" else None,
    }


def _answer(exchange: Exchange) -> dict[str, Any] | None:
    if exchange.status != 200 or exchange.fault:
        return None
    return _object(exchange.response)  # of a stream too: the recorder puts its events together


def _object(raw: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def take(recipe: Recipe, given: Iterable[Line], wish: Wish) -> Harvest:
    """What lines (see `lines`) give for a recipe, in their order."""
    questions, failed, dropped = recorded.Questions(recipe), Counter[str](), Counter[str]()
    rows, total = [], 0
    for line in given:
        total += 1
        try:
            messages = conversation(line)
            questions.slots(messages)
        except RowFault as fault:
            failed[str(fault)] += 1
            continue
        by_student = line.get("by") == "student"
        rows.append(_Row(row_of(line), recorded.key_of(messages), bool(line.get("escalated")), by_student))
    answers = recorded.of(recipe, (row.line for row in rows))
    wanted = len(questions.panel.members)
    for row in rows:
        row.missing = not questions.free and answers.held.get(row.key, 0) < wanted
    people = [row for row in rows if row.line["id"] in wish.answered]
    chosen = _chosen([row for row in rows if row.line["id"] not in wish.answered], wish, answers, dropped)
    ids = {row.line["id"] for row in (*people, *chosen)}
    taken = [row for row in rows if row.line["id"] in ids]
    return Harvest(
        [row.line for row in taken],
        [row.line for row in rows],
        len({row.key for row in chosen if answers.held.get(row.key, 0) >= wanted}),
        len({row.key for row in chosen if answers.held.get(row.key, 0) < wanted}),
        sum(row.escalated for row in taken),
        answers,
        Conservation(total, len(taken), dict(sorted(dropped.items())), dict(sorted(failed.items()))),
    )


def conversation(line: Line) -> tuple[Message, ...]:
    """The messages of a line's request. Raises RowFault where it is none that a student could be asked."""
    body = line.get("request")
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
        raise RowFault(NO_CHAT)
    if line.get("by") == "gateway":
        raise RowFault(REFUSED)
    if not line.get("answered", True):
        raise RowFault(FAILED)
    return logs.logged({"request": body}).messages


def row_of(line: Line) -> dict[str, Any]:
    """A line of the table: what was asked, and the teacher's answer."""
    return {name: line[name] for name in _KEPT if name in line}


def written(lines: Sequence[Line]) -> str:
    """The lines of a table of format chat."""
    return "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines)


def write(found: Harvest, folder: Path) -> Path:
    """The table's file, with what is to be reported of it beside it."""
    text = written(found.lines)
    path = folder / f"{PREFIX}{hashlib.sha256(text.encode()).hexdigest()[:12]}.jsonl"
    if not path.is_file():
        write_atomically(path, text)
    write_atomically(path.with_suffix(".json"), json.dumps(found.facts(), indent=1) + "\n")
    return path


def facts_of(recipe: Recipe, base: Path) -> dict[str, Any] | None:
    """What is to be reported of a recipe's traffic, None where it has none."""
    for table in recipe.data.tables:
        path = (base / table.source).with_suffix(".json")
        if Path(table.source).name.startswith(PREFIX) and table.format == "chat" and path.is_file():
            return dict(json.loads(path.read_text(encoding="utf-8")))
    return None


def _chosen(rows: Sequence[_Row], wish: Wish, answers: Answers, dropped: Counter[str]) -> list[_Row]:
    """The rows that teach, in the order of their worth; the others are counted.

    The same request again is kept for its answer, which may be the one that is taken.
    """
    chosen, left = [], wish.buy
    seen: set[str] = set()
    for row in sorted(rows, key=lambda one: (not one.escalated, -one.line["at"], one.line["id"])):
        if row.key in seen:
            if row.line["response"] is None:
                dropped[AGAIN] += 1
            else:
                chosen.append(row)
        elif wish.most is not None and len(seen) >= wish.most:
            dropped[OVER] += 1
        elif row.missing and left == 0:
            dropped[_reason(row, answers)] += 1
        else:
            left = left - 1 if row.missing and left is not None else left
            seen.add(row.key)
            chosen.append(row)
    return chosen


def _reason(row: _Row, answers: Answers) -> str:
    """Why a request has no answer that can be used."""
    if row.key in answers.why:
        return f"answer {answers.why[row.key]}"
    return SOME if row.key in answers.held else BY_STUDENT if row.by_student else FAILED
