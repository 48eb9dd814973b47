"""Examples out of a table's rows, by the recipe's mapping of columns.

A row that cannot be used is counted by reason and the reading goes on. Text is taken as it stands:
nothing is trimmed, mended or cut.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from aasut.errors import DataError, PromptMismatch, RecipeError
from aasut.recipe import LabelColumn, Table
from aasut.sources import logs
from aasut.sources.rows import Row, RowFault
from aasut.tasks import Task
from aasut.types import Example

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class TableRows:
    """What a table gave: `rows_in` = usable `examples` + the sum of `failed`.

    `failed` counts rows by reason and `first` holds the line of the first row of each reason (the
    row number in Parquet), both counted from 1. An example's group is its own id where the table
    declares no group. Blank lines are no rows.
    """

    examples: list[Example]
    rows_in: int
    failed: dict[str, int] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)


class Collector:
    """Turns rows into examples by a table's column mapping, and counts those that cannot be used."""

    def __init__(self, table: Table, task: Task, name: str) -> None:
        self.table, self.name, self.task = table, name, task
        self.group_pattern = re.compile(table.group.pattern) if table.group else None
        others = [table.id, table.group and table.group.column, *(table.label.columns if table.label else [])]
        others.append(table.taught)
        self.chat = table.format == "chat"
        if self.chat and table.label is not None and table.label.column in logs.ANSWER_KEYS:
            raise RecipeError(
                f"{name}: {table.label.column} holds what a model answered, which is no human answer.",
                "Take label out and set role: pool.",
            )
        self.needed = list(dict.fromkeys([*table.slots.values(), *(column for column in others if column)]))
        self.examples: list[Example] = []
        self.ids: set[str] = set()
        self.rows_in = self.control_bytes = 0
        self.failed: dict[str, int] = {}
        self.first: dict[str, int] = {}
        self.asked: set[str] = set()
        self.strange = ""

    def add(self, row: Row) -> None:
        if self.chat and logs.answers_a_batch(row.values) and str(row.values["custom_id"]) in self.asked:
            return  # the other half of a row that was read before
        self.rows_in += 1
        try:
            if row.fault:
                raise RowFault(row.fault)
            example = self._example(row)
        except RowFault as fault:
            reason = str(fault)
            self.failed[reason] = self.failed.get(reason, 0) + 1
            self.first.setdefault(reason, row.line)
        else:
            self.ids.add(example.id)
            self.examples.append(example)

    def result(self) -> TableRows:
        """All that was added. Raises DataError for a table without rows, or mostly in another encoding."""
        if self.rows_in == 0:
            raise DataError(f"{self.name} is empty: it has no rows.", "Mend data.tables[].source, or fill the table.")
        wrong = self.failed.get(self._not_valid, 0)
        if wrong * 2 > self.rows_in:
            guess = "utf-8" if self.table.encoding != "utf-8" else "windows-1252" if self.control_bytes else "latin-1"
            raise DataError(
                f"{self.name} is not {self.table.encoding}: {wrong} of {self.rows_in} rows cannot be read, "
                f"the first in line {self.first[self._not_valid]}.",
                f"Set the table's encoding; try {guess}.",
            )
        if self.failed.get("no chat request", 0) == self.rows_in:
            raise DataError(
                f"{self.name} holds no chat requests; its first line is {self.strange}.",
                "Set another format, or export it as OpenAI's chat requests: one object a line with messages in it.",
            )
        return TableRows(self.examples, self.rows_in, self.failed, self.first)

    @property
    def _not_valid(self) -> str:
        return f"not valid {self.table.encoding}"

    def _example(self, row: Row) -> Example:
        self._check_valid(row.values.values())
        slots = self._from_log(row) if self.chat else {s: self._text(row, c) for s, c in self.table.slots.items()}
        self._check_valid(slots.values())
        if not any(text.strip() for text in slots.values()):
            raise RowFault("empty input")
        row_id = str(self.rows_in) if self.table.id is None else self._text(row, self.table.id)
        if not row_id.strip():
            raise RowFault(f"no value in column {self.table.id}")
        if row_id in self.ids:
            raise RowFault("id used before")
        return Example(row_id, slots, self._group(row, row_id), self._answer(row), self._taught(row))

    def _check_valid(self, values: Iterable[Any]) -> None:
        for value in values:
            if isinstance(value, str) and (found := _SURROGATE.search(value)):
                # Bytes 80 to 9f are letters in windows-1252 and control characters in latin-1.
                self.control_bytes += "\udc80" <= found[0] <= "\udc9f"
                raise RowFault(self._not_valid)

    def _from_log(self, row: Row) -> dict[str, str]:
        """The slots of a logged request, read as the server would read them."""
        self.asked.add(str(row.values.get("custom_id")))
        try:
            return self.task.prompt.read(logs.logged(row.values, self.task.tools).messages)
        except logs.UnknownShape as fault:
            self.strange = self.strange or fault.found
            raise
        except PromptMismatch as mismatch:
            raise logs.unread(mismatch) from None

    def _text(self, row: Row, column: str) -> str:
        value = plain(row.values.get(column))
        if value is None:
            raise RowFault(f"no value in column {column}")
        if not isinstance(value, str):
            raise RowFault(f"no text in column {column}")
        return value

    def _group(self, row: Row, row_id: str) -> str:
        if self.table.group is None or self.group_pattern is None:
            return row_id
        value = self._text(row, self.table.group.column)
        if not value.strip():
            raise RowFault(f"no value in column {self.table.group.column}")
        found = self.group_pattern.match(value)
        if found is None or not found[1]:
            raise DataError(
                f"{self.name}, line {row.line}: the group pattern {self.table.group.pattern!r} finds nothing in "
                f"{brief(value)!r}.",
                "Mend data.tables[].group.pattern: it is matched from the start of the value.",
            )
        return found[1]

    def _from_fields(self, row: Row, label: LabelColumn) -> str:
        """An answer put together from columns; a column without a value gives nothing to its field's text."""
        found = {}
        for name, columns in label.fields.items():
            texts = [str(value) for column in columns if (value := plain(row.values.get(column))) is not None]
            found[name] = " ".join(text for text in texts if text).strip(label.strip)
        answer = self.task.canonical(json.dumps(found, ensure_ascii=False))
        if answer is None:
            raise RowFault("the human answer does not fit the task")
        return answer

    def _answer(self, row: Row) -> str | None:
        if self.table.label is None:
            return None
        if self.table.label.fields:
            return self._from_fields(row, self.table.label)
        text = _said(row.values.get(self.table.label.column or ""))
        if not text:
            return None
        if self.table.label.ranges:
            value = number(text)
            if value is None:
                raise RowFault("label is no number")
            return next((r.label for r in self.table.label.ranges if r.holds(value)), None)
        answer = self.task.canonical(text)
        if answer is None and self.task.answers:
            labels = self.task.answers
            shown = ", ".join(labels[:10]) + (f" and {len(labels) - 10} more" if len(labels) > 10 else "")
            raise DataError(
                f"{self.name}, line {row.line}: the label {brief(text)!r} is not in the list ({shown}).",
                "Add it to task.labels, mend the row, or map numbers with label.ranges.",
            )
        if answer is None:
            raise RowFault("the human answer does not fit the task")
        return answer

    def _taught(self, row: Row) -> str | None:
        """The teacher's answer as it stands; whether it fits the task, the stage that learns from it says."""
        return (_said(row.values.get(self.table.taught)) or None) if self.table.taught else None


def _said(value: Any) -> str:
    """A cell that holds an answer, as text; "" where there is none."""
    value = plain(value)
    if isinstance(value, (dict, list)):
        value = json.dumps(value, ensure_ascii=False)
    return "" if value is None else str(value).strip()


def plain(value: Any) -> Any:
    """A cell as text where it can be: None and NaN are no value, lists and mappings stay what they are."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, (str, list, dict, tuple, bytes)) else str(value)


def number(value: str) -> float | None:
    """A finite number, None where the text is none."""
    try:
        found = float(value)
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def brief(text: str, limit: int = 60) -> str:
    """On one line, in so many characters."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
