"""Values as YAML, written so that they are read back as they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml


def block(key: str, value: str, indent: int) -> list[str]:
    """The lines of `key: value` with the text as a block, or quoted where a block would not give it back."""
    pad = " " * indent
    lines = [f"{pad}{key}: |-", *(f"{pad}  {line}" if line else "" for line in value.split("\n"))]
    try:
        same = yaml.safe_load("\n".join(lines)) == {key: value}
    except yaml.YAMLError:
        same = False
    return lines if same else [f"{pad}{key}: {quoted(value)}"]


def quoted(text: str) -> str:
    """A text in double quotes, on one line."""
    return yaml.safe_dump(text, default_style='"', allow_unicode=True, width=1 << 30).strip()


def scalar(value: str) -> str:
    """A text as YAML on one line."""
    written = yaml.safe_dump(value, allow_unicode=True, width=1 << 30).strip().removesuffix("...").strip()
    return written if "\n" not in written else quoted(value)


def inline(value: str) -> str:
    """A text within brackets."""
    return flow([value])[1:-1]


def flow(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """A list or mapping in brackets, on one line."""
    simple = dict(value) if isinstance(value, Mapping) else list(value)
    return yaml.safe_dump(simple, default_flow_style=True, allow_unicode=True, width=1 << 30, sort_keys=False).strip()


def plain(text: str) -> str:
    """A text for a comment: one line, nothing that YAML refuses."""
    line = " ".join(text.split())
    line = "".join(c if c.isprintable() else "?" for c in line)
    return line if len(line) <= 200 else line[:199] + "…"
