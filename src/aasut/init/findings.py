"""All that was found out about a file: what its recipe says, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aasut.errors import DataError
from aasut.init import answers, look, names, slots
from aasut.init.columns import MOST_LABELS
from aasut.init.sample import Sample
from aasut.sources import logs
from aasut.sources.rows import RowFault


@dataclass(frozen=True)
class Findings:
    """Of a table or, where `log` is there, of a log. `kind` is empty where nothing tells it.

    `prompt` has a (role, text) for each message and is made up for a table. `faults` counts rows that
    cannot be used, by reason. `recorded`: a log's answers are the teacher's own.
    """

    path: Path
    sample: Sample
    kind: str
    prompt: tuple[tuple[str, str], ...]
    labels: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    schema: Mapping[str, Any] = field(default_factory=dict)
    longest_answer: int = 0
    table: look.Table | None = None
    slot: str = ""
    log: slots.Found | None = None
    answered: answers.Answers | None = None
    model: str = ""
    base_url: str = ""
    row_id: str = ""
    faults: Mapping[str, int] = field(default_factory=dict)
    said_by: str = ""
    recorded: bool = False


def of(path: Path, sample: Sample) -> Findings:
    """Find out what a sample tells. Raises DataError where it has no input to learn from."""
    return _of_log(path, sample) if sample.kind == "chat" else _of_table(path, sample)


def _of_table(path: Path, sample: Sample) -> Findings:
    table = look.look(sample.rows)
    if table is None:
        columns = ", ".join(dict.fromkeys(str(name) for row in sample.rows[:100] for name in row)) or "none"
        raise DataError(
            f"No column of {path} holds text to learn from (columns: {columns[:200]}).",
            "Give a table with a column of inputs: sentences, messages or documents.",
        )
    slot = names.identifier(table.text.name) if sample.header else ""
    slot = slot or "text"
    counts: dict[str, int] = {}
    schema: Mapping[str, Any] = {}
    if table.answer is not None and table.kind == "classify" and not table.ranges:
        folded = Counter[str]()
        for value, count in table.answer.counts.items():
            folded[value.casefold()] += count
        counts = {label: folded[label.casefold()] for label in table.labels}
    if table.answer is not None and table.kind == "extract":
        found = answers.of(list(table.answer.counts.elements()), MOST_LABELS)
        schema = found.schema if found is not None else {}
    longest = max(map(len, table.answer.counts)) if table.answer is not None and table.answer.counts else 0
    kind = table.kind if table.kind != "extract" or schema.get("properties") else "generate"
    faults = Counter(sample.faults)
    if table.text.rows > table.text.filled:
        faults["no text"] += table.text.rows - table.text.filled
    return Findings(
        path=path,
        sample=sample,
        kind=kind,
        prompt=(("user", _made_up(kind, slot, table.labels)),),
        labels=table.labels,
        counts=counts,
        schema=schema,
        longest_answer=longest,
        table=table,
        slot=slot,
        faults=faults,
    )


def _made_up(kind: str, slot: str, labels: tuple[str, ...]) -> str:
    """A prompt for a table: it does not say what the application sends."""
    words = slot.replace("_", " ")
    what = {
        "classify": f"Read the {words} and answer with exactly one of: {', '.join(labels)}.",
        "extract": f"Read the {words} and answer with a JSON object.",
        "generate": f"Read the {words} and answer.",
    }.get(kind, f"Read the {words} and answer with exactly one of: yes, no.")
    what = what.replace("{", "{{").replace("}", "}}")
    return f"{what}\n\n{words.capitalize()}: {{{slot}}}"


def _of_log(path: Path, sample: Sample) -> Findings:
    requests, faults = _requests(sample)
    if not requests:
        reasons = "; ".join(f"{reason}: {count}" for reason, count in sorted(faults.items())) or "no requests"
        raise DataError(f"No request of {path} can be used ({reasons}).", "Give a log of text requests without tools.")
    found = slots.infer([request.messages for request in requests])
    mine = [request for request in requests if slots.reads(found.template, request.messages)]
    told = answers.of([request.answer for request in mine if request.answer is not None], MOST_LABELS)
    asked = next(
        (request.schema for request in mine if request.schema is not None and request.schema.get("properties")), None
    )
    models = Counter(request.model for request in mine if request.model)
    bases = Counter(request.base_url for request in mine if request.base_url)
    if asked is not None:
        kind = "extract"
    else:
        kind = told.kind if told is not None else ""
    lost = {
        "does not match the prompt": found.other_prompt + found.other_roles,
        "ambiguous slots": found.ambiguous,
        **faults,
    }
    return Findings(
        path=path,
        sample=sample,
        kind=kind,
        prompt=tuple((message.role, message.content) for message in found.template.messages),
        labels=tuple(told.labels) if told is not None else (),
        counts=told.labels if told is not None else {},
        schema=asked or (told.schema if told is not None else {}),
        longest_answer=told.characters if told is not None else 0,
        log=found,
        answered=told,
        model=models.most_common(1)[0][0] if models else "",
        base_url=bases.most_common(1)[0][0] if bases else "",
        row_id=next((name for name in ("custom_id", "id") if _names_rows(sample, name, len(requests))), ""),
        faults={reason: count for reason, count in lost.items() if count},
        said_by="the request" if asked is not None else "",
    )


def _names_rows(sample: Sample, column: str, requests: int) -> bool:
    """Has every request a value of its own there?"""
    ids = [row.get(column) for row in sample.rows if column in row and not logs.answers_a_batch(row)]
    return all(isinstance(one, str) for one in ids) and len(ids) == len(set(ids)) >= requests


def _requests(sample: Sample) -> tuple[list[logs.Logged], Counter[str]]:
    """The requests in a log, with the answers of a batch joined to them, and what could not be used."""
    faults = Counter(sample.faults)
    said: dict[str, str | None] = {}
    requests: list[tuple[str, logs.Logged]] = []
    for row in sample.rows:
        if logs.answers_a_batch(row):
            said[str(row["custom_id"])] = logs.batch_answer(row)
            continue
        try:
            requests.append((str(row.get("custom_id")), logs.logged(row)))
        except RowFault as fault:
            faults[str(fault)] += 1
    asked = {name for name, _ in requests}
    alone = sum(name not in asked for name in said)
    if alone and sample.whole:
        faults["an answer without its request"] += alone
    joined = [
        logs.Logged(one.messages, said[name], one.model, one.base_url, one.schema)
        if one.answer is None and said.get(name) is not None
        else one
        for name, one in requests
    ]
    return joined, faults
