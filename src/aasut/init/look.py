"""What the columns of a table are for: the input, the human answers, the names of rows, what keeps rows together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aasut.init.columns import Column, as_text, profile
from aasut.sources.collect import number

_TEXT_NAMES = (
    "text", "texts", "review", "reviews", "body", "comment", "comments", "message", "content", "question", "query",
    "input", "sentence", "document", "description", "tweet", "mail", "email", "utterance", "request", "prompt",
    "article", "post", "ticket", "feedback",
)  # fmt: skip
_LABEL_NAMES = (
    "label", "labels", "sentiment", "category", "class", "intent", "target", "topic", "verdict", "rating", "stars",
    "score", "polarity", "tag", "gold", "y", "priority", "team", "department", "toxic", "spam",
)  # fmt: skip
_ANSWER_NAMES = (
    "answer", "answers", "response", "reply", "output", "summary", "completion", "translation", "target", "rewrite",
    "extraction", "json", "result", "gold", "reference",
)  # fmt: skip
_RATING_NAMES = ("rating", "ratings", "stars", "score", "mean", "grade", "polarity", "overall")
_ID_NAMES = ("id", "uuid", "guid", "key", "index", "no", "nr", "number", "row")
_GROUP_NAMES = (
    "customer", "user", "client", "author", "doc", "document", "review", "thread", "conversation", "account",
    "session", "ticket", "product", "source", "group", "article", "item", "reviewer", "company", "patient", "case",
    "order", "speaker", "page", "url",
)  # fmt: skip
_PART = re.compile(r"(.+?)[_\-./:#]\d+")  # a row's name that is the name of its source and a number


@dataclass(frozen=True)
class Table:
    """Columns by what they are for; None where there is none. `ranges` maps numbers to labels.

    `kind` is classify, generate or extract, empty where nothing tells. `conflicts` counts inputs
    that stand there several times with different answers.
    """

    columns: tuple[Column, ...]
    text: Column
    kind: str = ""
    answer: Column | None = None
    labels: tuple[str, ...] = ()
    ranges: tuple[tuple[str, float | None, float | None], ...] = ()
    id: Column | None = None
    group: Column | None = None
    group_pattern: str = ""
    groups: int = 0
    duplicates: int = 0
    conflicts: int = 0
    other_texts: tuple[str, ...] = ()
    other_labels: tuple[str, ...] = ()


def look(rows: Sequence[Mapping[str, Any]]) -> Table | None:
    """The columns of a table's rows; None where no column holds text."""
    columns = profile(rows)
    text = _text(columns)
    if text is None:
        return None
    others = [column for column in columns if column is not text and column.filled]
    kind, answer, candidates = _answer(others)
    labels: tuple[str, ...] = ()
    ranges: tuple[tuple[str, float | None, float | None], ...] = ()
    if kind == "classify" and answer is not None:
        labels, ranges = _labels(answer)
    rest = [column for column in others if column is not answer]
    row_id = _id(rest)
    group, pattern, groups = _group([column for column in rest if column is not row_id], row_id)
    duplicates, conflicts = _duplicates(rows, text.name, answer.name if answer else None)
    return Table(
        columns=tuple(columns),
        text=text,
        kind=kind,
        answer=answer,
        labels=labels,
        ranges=ranges,
        id=row_id,
        group=group,
        group_pattern=pattern,
        groups=groups,
        duplicates=duplicates,
        conflicts=conflicts,
        other_texts=tuple(c.name for c in rest if c.is_text and c not in (row_id, group)),
        other_labels=tuple(c.name for c in candidates if c is not answer and c not in (row_id, group)),
    )


def _text(columns: Sequence[Column]) -> Column | None:
    """The column with the longest, most varied writing; a telling name counts as three times the length."""
    texts = [column for column in columns if column.is_text and not column.named(_ID_NAMES)]
    asked = [column for column in texts if not (column.named(_ANSWER_NAMES) and not column.named(_TEXT_NAMES))]

    def worth(column: Column) -> float:
        told = 3.0 if column.named(_TEXT_NAMES) else 1.0
        return told * column.characters * column.varied * column.filled / max(column.rows, 1)

    return max(asked or texts, key=worth, default=None)


def _answer(columns: Sequence[Column]) -> tuple[str, Column | None, list[Column]]:
    """The kind of task, its column, and all columns that could be labels."""
    # Objects within a JSONL file may be anything, such as metadata; those in a cell of text are somebody's answer.
    objects = [
        column
        for column in columns
        if column.objects >= 0.9 and (not column.nested or column.named(_LABEL_NAMES + _ANSWER_NAMES))
    ]
    if objects:
        return "extract", max(objects, key=lambda c: (c.named(_ANSWER_NAMES), c.filled)), []
    few = [column for column in columns if column.is_label]
    told = [column for column in few if column.named(_LABEL_NAMES + _ANSWER_NAMES)]
    rated = [
        column for column in columns if column.named(_RATING_NAMES) and column.numbers == 1 and column.distinct > 1
    ]
    plain = [column for column in few if not column.named(_ID_NAMES + _GROUP_NAMES) and not column.is_code]
    for candidates in (told, rated, plain):
        if candidates:
            return "classify", min(candidates, key=lambda c: (c.numbers > 0.5, c.distinct)), few
    written = [column for column in columns if column.named(_ANSWER_NAMES) and column.is_text]
    if written:
        return "generate", max(written, key=lambda c: c.characters), []
    return "", None, []


def _labels(column: Column) -> tuple[tuple[str, ...], tuple[tuple[str, float | None, float | None], ...]]:
    """The labels, the commonest spelling of each; or for a rating, two labels with their ranges of numbers."""
    numbers = sorted(found for value in column.counts if (found := number(value)) is not None)
    whole = all(number == int(number) for number in numbers)
    if len(numbers) == column.distinct and ((column.named(_RATING_NAMES) and len(numbers) > 2) or not column.is_label):
        low, high = numbers[0], numbers[-1]
        middle = 0.0 if low < 0 < high else (low + high) / 2
        gap = 1.0 if whole and high - low >= 4 else 0.5 if whole else (high - low) / 16
        ranges = (("negative", None, _round(middle - gap)), ("positive", _round(middle + gap), None))
        return ("negative", "positive"), ranges
    spelled: dict[str, str] = {}
    for value, _ in column.counts.most_common():
        spelled.setdefault(value.casefold(), value)
    return tuple(sorted(spelled.values())), ()


def _round(number: float) -> float:
    return float(f"{number:.3g}")


def _id(columns: Sequence[Column]) -> Column | None:
    """A column of different short values in every row."""
    unique = [
        column
        for column in columns
        if column.filled == column.rows == column.distinct and column.rows > 1 and not column.is_text
        and column.characters <= 80 and not column.nested
    ]  # fmt: skip
    told = [column for column in unique if column.named(_ID_NAMES) or re.search(r"[iI][dD]$", column.name)]
    return told[0] if told else None


def _group(columns: Sequence[Column], row_id: Column | None) -> tuple[Column | None, str, int]:
    """A column whose values come back and name a source; or the part of the row's name that does."""
    found = []
    for column in columns:
        named = column.named(_GROUP_NAMES + _ID_NAMES) or column.name.lower().endswith("id")
        named = named or (column.is_code and column.numbers == 0 and not column.is_date)
        repeated = 10 <= column.distinct <= column.filled / 1.1 and column.filled == column.rows
        if named and repeated and not (column.words > 5 and column.characters > 80) and not column.nested:
            found.append(column)
    if found:
        best = max(found, key=lambda c: (c.named(_GROUP_NAMES), c.distinct))
        return best, "", best.distinct
    if row_id is not None:
        parts = Counter(match[1] for value in row_id.counts if (match := _PART.fullmatch(value)))
        if parts.total() == row_id.filled and 10 <= len(parts) <= row_id.filled / 1.5:
            return row_id, r"(.+?)[_\-./:#]\d+$", len(parts)
    return None, "", 0


def _duplicates(rows: Sequence[Mapping[str, Any]], text: str, answer: str | None) -> tuple[int, int]:
    """Rows whose text stood there before, and texts that have different answers."""
    answers: dict[str, set[str]] = {}
    repeated = 0
    for row in rows:
        value = as_text(row.get(text)).strip()
        if not value:
            continue
        repeated += value in answers
        answers.setdefault(value, set())
        if answer is not None and (said := as_text(row.get(answer)).strip().casefold()):
            answers[value].add(said)
    return repeated, sum(len(said) > 1 for said in answers.values())
