"""What kind of task answers tell of: a few labels, JSON objects of one shape, or free text."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_FENCE = re.compile(r"\s*```(?:json)?\s*\n?(.*?)\n?\s*```\s*", re.DOTALL)
_LEAST = 10  # answers that tell a kind


@dataclass(frozen=True)
class Answers:
    """`kind` is classify, generate or extract. `labels` by count; `rare` counts answers that are none of them."""

    kind: str
    count: int
    labels: Mapping[str, int] = field(default_factory=dict)
    rare: int = 0
    schema: Mapping[str, Any] = field(default_factory=dict)
    characters: int = 0  # of the longest answer


def of(answers: Sequence[str], most_labels: int) -> Answers | None:
    """The kind of task that these answers belong to; None for fewer than 10."""
    texts = [text for answer in answers if (text := answer.strip())]
    if len(texts) < _LEAST:
        return None
    longest = max(map(len, texts))
    values = [value for text in texts if (value := _object(text)) is not None]
    if len(values) >= 0.9 * len(texts):
        return Answers("extract", len(texts), rare=len(texts) - len(values), schema=schema(values), characters=longest)
    labels = _labels(texts, most_labels)
    if labels:
        return Answers("classify", len(texts), labels, len(texts) - sum(labels.values()), characters=longest)
    return Answers("generate", len(texts), characters=longest)


def _labels(texts: Sequence[str], most: int) -> dict[str, int]:
    """Short answers that come back, in their commonest spelling; nothing where they are not nearly all."""
    bare = [text.strip("\"'`*. \n") for text in texts]
    counts = Counter(text.casefold() for text in bare)
    least = max(2, len(texts) // 500)
    chosen = {
        folded: count
        for folded, count in counts.items()
        if count >= least and len(folded) <= 40 and folded.split()[5:] == []
    }
    chosen.pop("", None)
    if not 2 <= len(chosen) <= most or sum(chosen.values()) < 0.9 * len(texts) or len(chosen) * 3 > len(texts):
        return {}
    spelled: dict[str, str] = {}
    for text, _ in Counter(bare).most_common():
        spelled.setdefault(text.casefold(), text)
    return {spelled[folded]: count for folded, count in sorted(chosen.items())}


def _object(text: str) -> dict[str, Any] | None:
    fenced = _FENCE.fullmatch(text)
    inner = fenced[1] if fenced else text
    if not inner.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(inner)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def schema(values: Sequence[Any]) -> dict[str, Any]:
    """A JSON Schema that all the values meet: types, fields that all have, strings that are a few words alone."""
    types = sorted({_type(value) for value in values})
    if types == ["integer", "number"]:
        types = ["number"]
    result: dict[str, Any] = {"type": types[0] if len(types) == 1 else types} if types else {}
    objects = [value for value in values if isinstance(value, dict)]
    if objects:
        names = dict.fromkeys(name for value in objects for name in value)
        result["properties"] = {name: schema([value[name] for value in objects if name in value]) for name in names}
        result["required"] = [name for name in names if all(name in value for value in objects)]
        result["additionalProperties"] = False
    items = [item for value in values if isinstance(value, list) for item in value]
    if items:
        result["items"] = schema(items)
    words = Counter(value for value in values if isinstance(value, str))
    if types == ["string"] and len(values) >= 20 and len(words) <= 12 and min(words.values()) > 1:
        result["enum"] = sorted(words)
    return result


def _type(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    names = {int: "integer", float: "number", str: "string", list: "array"}
    return names.get(type(value), "object")
