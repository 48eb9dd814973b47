"""What adaptation brought and cost: bits per byte of held-out documents and general text, before and after."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aasut.errors import DataError
from aasut.evaluate.ratios import ratio
from aasut.files import write_atomically
from aasut.progress import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aasut.evaluate.bits import Bits
    from aasut.student.corpus import Passage

VERSION = 1
FEWEST = 2  # documents that an interval is taken over
BEFORE, AFTER, TEACHER, BRANCH = "before", "after", "teacher", "branch"
OTHERS = (BEFORE, BRANCH, TEACHER)  # that `after` is held against


def build(
    sets: Mapping[str, Sequence[Passage]],
    models: Mapping[str, Path],
    folder: Path,
    progress: Progress,
    *,
    context: int,
    precision: str = "auto",
    confidence: float = 0.95,
) -> dict[str, Any]:
    """Every model on every set; what is measured is kept in `folder`, so that a killed stage goes on.

    `sets`: held-out passages, `field` and `general`. `models`: folders, of which `before` and `after` must be there,
    and `teacher` is where it is a local model. Intervals take a document as a whole. Raises DataError where a set has
    fewer than two documents.
    """
    overlap = context // 4
    measured = {
        name: {role: kept(passages, model, folder / f"{name}-{role}.json", progress, context, overlap, precision)
               for role, model in models.items()}
        for name, passages in sets.items()
    }  # fmt: skip
    found = {name: compared(sets[name], of, confidence) for name, of in measured.items()}
    return {"context": context, "overlap": overlap, "confidence": confidence, "sets": found}


def drawn(passages: Sequence[Passage], characters: int, seed: int) -> list[Passage]:
    """Whole documents in a drawn order until the next one would pass so many characters; two at least."""
    names = sorted({passage.documents[0] for passage in passages})
    random.Random(seed).shuffle(names)
    size: Counter[str] = Counter()
    for passage in passages:
        size[passage.documents[0]] += len(passage.text)
    taken: set[str] = set()
    for name in names:
        if len(taken) >= FEWEST and sum(size[one] for one in taken) + size[name] > characters:
            break
        taken.add(name)
    return [passage for passage in passages if passage.documents[0] in taken]


def kept(
    passages: Sequence[Passage], model: Path, path: Path, progress: Progress, context: int, overlap: int, precision: str
) -> Bits:
    """What passages cost under a model, kept in the file `path` once it is known."""
    from aasut.evaluate import bits

    if path.exists():
        plain = json.loads(path.read_text(encoding="utf-8"))
        return bits.Bits(np.array(plain["bits"]), np.array(plain["bytes"], np.int64), np.array(plain["tokens"]))
    texts = [passage.text for passage in passages]
    found = bits.measure(
        model, texts, context=context, overlap=overlap, progress=progress, precision=precision,
        what=path.stem.replace("-", ", "),
    )  # fmt: skip
    plain = {"bits": found.bits.tolist(), "bytes": found.bytes.tolist(), "tokens": found.tokens.tolist()}
    write_atomically(path, json.dumps(plain))
    return found


def by_document(passages: Sequence[Passage], values: NDArray[Any]) -> NDArray[np.float64]:
    """Sums over each document of the values [passages] of its passages, documents in the order of their names."""
    names, index = np.unique([passage.documents[0] for passage in passages], return_inverse=True)
    return np.bincount(index, weights=values, minlength=len(names)).astype(np.float64)


def compared(passages: Sequence[Passage], measured: Mapping[str, Bits], confidence: float) -> dict[str, Any]:
    """Figures of one set: bits per byte of each model, and the quotients of `after` by the others.

    Raises DataError where it has fewer than two documents.
    """
    cost = {role: by_document(passages, of.bits) for role, of in measured.items()}
    size = by_document(passages, measured[AFTER].bytes)
    if len(size) < FEWEST:
        raise DataError(
            f"{len(size)} held-out document is too few to measure on.", "Hold out more: raise split.test or add some."
        )
    against = {role: ratio(cost[AFTER], cost[role], confidence).as_dict() for role in OTHERS if role in cost}
    return {
        "documents": len(size),
        "bytes": int(size.sum()),
        "models": {
            role: {"bits_per_byte": ratio(cost[role], size, confidence).as_dict(), "tokens": int(of.tokens.sum())}
            for role, of in measured.items()
        },
        "after_over": against,
    }
