"""What each column of a table holds: how many values, how long, how often they come back, of which kind."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aasut.sources.collect import number, plain

MOST_LABELS = 100
_WORD = r"(?:^|[\W_])(?:{})(?:$|[\W_])"


@dataclass(frozen=True)
class Column:
    """What one column holds, over the rows that were looked at."""

    name: str
    rows: int
    filled: int
    counts: Counter[str] = field(repr=False)
    characters: float  # a filled value's mean
    words: float
    numbers: float  # share of the filled values
    objects: float  # share that are JSON objects
    nested: bool  # JSON as such, not as text

    @property
    def distinct(self) -> int:
        return len(self.counts)

    @property
    def varied(self) -> float:
        """Different values a filled row."""
        return self.distinct / max(self.filled, 1)

    def named(self, names: Sequence[str]) -> bool:
        split = re.sub(r"([a-z])([A-Z])", r"\1_\2", self.name).lower()
        return re.search(_WORD.format("|".join(names)), split) is not None

    @property
    def is_text(self) -> bool:
        """Writing, in words or in a script that parts none; not names of rows, numbers, dates or addresses."""
        if self.numbers > 0.5 or self.objects > 0.5 or self.nested or self.filled < 1:
            return False
        some = list(self.counts)[:200]
        spaced = sum(" " in value for value in some) / len(some)
        foreign = sum(not value.isascii() and len(value) > 3 for value in some) / len(some)
        coded = sum(sum(c.isdigit() for c in value) * 3 > len(value) for value in some) / len(some)
        linked = sum(value.startswith(("http://", "https://")) for value in some) / len(some)
        return (spaced >= 0.5 or foreign >= 0.5) and coded < 0.5 and linked < 0.5

    @property
    def is_label(self) -> bool:
        """2 to 100 short values that come back."""
        return (
            2 <= self.distinct <= MOST_LABELS
            and self.filled >= (3 if self.filled >= 30 else 1.5) * self.distinct
            and max(map(len, self.counts)) <= 60
            and not self.nested
            and self.words <= 4
            and not (self.numbers > 0.9 and any("." in value.rstrip("0").rstrip(".") for value in self.counts))
        )

    @property
    def is_code(self) -> bool:
        """Names of things, such as K17 or 2024-01-02, of which there are many."""
        coded = sum(any(c.isdigit() for c in value) and " " not in value for value in self.counts)
        return self.distinct > 10 and coded >= 0.9 * self.distinct

    @property
    def is_date(self) -> bool:
        """The first values are dates, such as 2024-01-02."""
        return all(re.match(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}", value) for value in list(self.counts)[:50])


def profile(rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """One entry a column, in the order in which they come."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [_column(name, [row.get(name) for row in rows]) for name in names]


def _column(name: str, cells: Sequence[Any]) -> Column:
    nested = any(isinstance(cell, (dict, list)) for cell in cells)
    values = [text for cell in cells if (text := as_text(cell).strip())]
    counts = Counter(values)
    numbers = sum(count for value, count in counts.items() if number(value) is not None)
    some = values[:: max(len(values) // 200, 1)]
    objects = sum(_is_object(value) for value in some) * len(values) // max(len(some), 1)
    filled = max(len(values), 1)
    return Column(
        name=name,
        rows=len(cells),
        filled=len(values),
        counts=counts,
        characters=sum(map(len, values)) / filled,
        words=sum(len(value.split()) for value in values) / filled,
        numbers=numbers / filled,
        objects=objects / filled,
        nested=nested,
    )


def as_text(cell: Any) -> str:
    """A cell as the reader of tables takes it; lists and objects as JSON."""
    value = plain(cell)
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, (dict, list)) else str(value)


def _is_object(value: str) -> bool:
    if not value.startswith("{"):
        return False
    try:
        return isinstance(json.loads(value), dict)
    except (ValueError, RecursionError):
        return False
