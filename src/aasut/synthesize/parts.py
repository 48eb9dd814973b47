"""The stage `parts`: documents are dealt to train, tune and test before anything is made of them.

What must not be parted goes together: documents of one group, and documents that nearly repeat each other, so that no
copy of a test document is learned.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, cast

from aasut.data import dedupe
from aasut.data.deal import part
from aasut.documents.ingest import load_chunks, load_documents
from aasut.errors import DataError
from aasut.progress import Progress
from aasut.recipe.field import FieldRecipe
from aasut.store import write_atomically
from aasut.synthesize.item import SPLITS, Split
from aasut.types import Conservation, Document

VERSION = 1  # of what `build` writes: raised when the same settings would give other files
PARTS = "parts.json"
COMPARED = 100_000  # characters of a document that are compared with others'
_ORDER = ("test", "tune", "train")  # who takes a group first where there are few


def settings(recipe: FieldRecipe) -> dict[str, Any]:
    """All that `build` depends on beside the documents."""
    weights = recipe.split.model_dump(mode="json")
    return {"split": weights, "seed": recipe.seed, "near_duplicates": recipe.filter.near_duplicates}


def build(recipe: FieldRecipe, documents: Path, folder: Path, progress: Progress) -> dict[str, Any]:
    """Deal the documents that the stage `documents` wrote in a folder, and write parts.json: {document's id: split}.

    Returns facts: `conservation`; by split, `documents`, `groups`, `chunks` and `characters`; `united`, how many groups
    were joined with another since documents in them repeat each other. Raises DataError where there are fewer groups
    than splits.
    """
    listed = list(load_documents(documents))
    texts, chunks = _texts(documents)
    group_of = _united(listed, texts, recipe, progress)
    sizes: Counter[str] = Counter()
    for document in listed:
        sizes[group_of[document.group]] += document.characters
    split_of = _dealt(sizes, recipe)
    result = {document.id: split_of[group_of[document.group]] for document in listed}
    write_atomically(folder / PARTS, json.dumps(result, ensure_ascii=False))
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("documents", "groups", "chunks", "characters")}
    counts["groups"].update(split_of.values())
    for document in listed:
        split = result[document.id]
        counts["documents"][split] += 1
        counts["chunks"][split] += chunks[document.id]
        counts["characters"][split] += document.characters
    return {
        "conservation": {"parts": Conservation(len(listed), len(result))},
        **{name: {split: found[split] for split in SPLITS} for name, found in counts.items()},
        "united": len(group_of) - len(sizes),
    }


def load(folder: Path) -> dict[str, Split]:
    """The split of each document, by its id."""
    found: dict[str, Split] = json.loads((folder / PARTS).read_text(encoding="utf-8"))
    return found


def _texts(documents: Path) -> tuple[dict[str, str], dict[str, int]]:
    """The beginning of each document's text as it is compared, and the number of its chunks."""
    texts, counts = {}, {}
    for name, chunks in groupby(load_chunks(documents), key=lambda chunk: chunk.span.document):
        parts, size, counts[name] = [], 0, 0
        for chunk in chunks:
            counts[name] += 1
            if size < COMPARED:
                parts.append(chunk.text)
                size += len(chunk.text)
        texts[name] = dedupe.fingerprint({"text": "".join(parts)[:COMPARED]}, ["text"])
    return texts, counts


def _united(
    documents: Sequence[Document], texts: Mapping[str, str], recipe: FieldRecipe, progress: Progress
) -> dict[str, str]:
    """The name of what each group is dealt with: the first group of those that hang together by repeated documents."""
    first = dedupe.united(
        [texts[document.id] for document in documents],
        threshold=recipe.filter.near_duplicates,
        seed=recipe.seed,
        progress=progress,
    )
    parents = {document.group: document.group for document in documents}

    def root(group: str) -> str:
        while parents[group] != group:
            group = parents[group]
        return group

    for document, number in zip(documents, first, strict=True):
        one, other = root(documents[number].group), root(document.group)
        parents[other] = one
    return {group: root(group) for group in parents}


def _dealt(sizes: Mapping[str, int], recipe: FieldRecipe) -> dict[str, Split]:
    """The split of each group, by characters.

    A group larger than all that is to be held out is learned from: drawn for a small split, it would leave little else.
    """
    weights: dict[str, float] = {split: getattr(recipe.split, split) for split in _ORDER}
    wanted = [split for split in _ORDER if weights[split]]
    if len(sizes) < len(wanted):
        raise DataError(
            f"There are {len(sizes)} groups of documents for {len(wanted)} splits ({', '.join(wanted)}): what shares a "
            "group or repeats itself is never parted.",
            "Give more documents, declare smaller groups or records under documents[], or set split.tune: 0.",
        )
    total = sum(sizes.values())
    shares = {split: total * weights[split] / sum(weights.values()) for split in wanted}
    held_out = total - shares["train"]
    large = sorted((group for group in sizes if sizes[group] > held_out), key=lambda group: (-sizes[group], group))
    large = large[: len(sizes) - len(wanted) + 1]  # the other splits need a group each
    rest = {group: size for group, size in sizes.items() if group not in set(large)}
    shares["train"] = max(shares["train"] - sum(sizes[group] for group in large), 0.0)
    dealt = part(rest, shares, random.Random(recipe.seed))
    return {group: cast(Split, split) for group, split in dealt.items()} | dict.fromkeys(large, "train")
