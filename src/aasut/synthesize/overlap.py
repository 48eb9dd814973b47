"""Items that repeat one another, as whole conversations, and items of train that repeat what is held out.

Of two items that are the same the one of test stays before that of tune, and that before that of train; within a split
the earlier one. Near duplicates are told by shingles (data/dedupe.py), then, where there is an embedding model, by the
cosine of embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from aasut.data import dedupe
from aasut.progress import Progress
from aasut.synthesize.item import Item

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXACT, NEAR, ALIKE = "the same as another item", "nearly the same as another item", "means the same as another item"
CONTAMINATED = "repeats what is held out"
ORDER = ("test", "tune", "train")


class Embedder(Protocol):
    """A sentence-embedding model."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[texts, width], each row of length 1."""


class Held(Protocol):
    """Texts that nothing in train may repeat."""

    def find(self, texts: Sequence[str]) -> Sequence[str]:
        """For each text what it repeats and how, in a few words; "" where it repeats nothing."""


def duplicates(
    items: Sequence[Item],
    near: float,
    alike: float,
    embedder: Embedder | None,
    seed: int,
    progress: Progress,
) -> dict[str, tuple[str, str]]:
    """(why, the id of the item that stays) by the id of each item that goes."""
    order = sorted(items, key=lambda item: ORDER.index(item.split))  # stable
    texts = [dedupe.whole(turn.content for turn in item.turns) for item in order]
    stands_for = dedupe.representatives(texts, threshold=near, seed=seed, progress=progress)
    gone: dict[str, tuple[str, str]] = {}
    for place, other in enumerate(stands_for):
        if other != place:
            gone[order[place].id] = (EXACT if texts[place] == texts[other] else NEAR, order[other].id)
    left = [item for item in order if item.id not in gone]
    if embedder is not None and left:
        stands_for = dedupe.alike(embedder.embed([item.text for item in left]), threshold=alike, progress=progress)
        for place, other in enumerate(stands_for):
            if other != place:
                gone[left[place].id] = (ALIKE, left[other].id)
    return gone


def contaminated(items: Sequence[Item], held: Held) -> dict[str, tuple[str, str]]:
    """(why, what it repeats) by the id of each item that repeats something held out: as a whole, or in one turn."""
    texts = [text for item in items for text in _looked_at(item)]
    owners = [item.id for item in items for _ in _looked_at(item)]
    found: dict[str, tuple[str, str]] = {}
    for owner, what in zip(owners, held.find(texts), strict=True):
        if what:
            found.setdefault(owner, (CONTAMINATED, what))
    return found


def _looked_at(item: Item) -> list[str]:
    """The whole, and what would be a held-out entry by itself: the questions; short answers may well be the same."""
    return list(dict.fromkeys([item.text, *item.questions]))
