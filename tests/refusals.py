"""The sentences by which validators refuse a recipe, found in their source."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path


def untested(modules: Iterable[Path], tested: Sequence[str]) -> list[str]:
    """Sentences of ValueErrors of which no part stands among the `tested` words, nor these in it."""
    source = "".join(path.read_text(encoding="utf-8") for path in modules)
    found = []
    for sentence in re.findall(r'raise ValueError\(\s*f?"([^"]*)"', source):
        parts = [part.strip(" :(,'") for part in re.split(r"\{\{|\}\}|\{[^}]*\}", sentence)]
        if not any(part and (part in says or says in part) for part in parts for says in tested):
            found.append(sentence)
    return found
