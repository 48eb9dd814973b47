"""How well two people agree on the same items, beyond what chance would give.

Cohen's kappa (1960, Educational and Psychological Measurement 20, 37-46) where the same two people
answered all items; Krippendorff's alpha for nominal data (2004, Content Analysis, chapter 11) where
the pairs change. Both are (agreement - chance) / (1 - chance). The interval is that of the agreement
(Wilson's, clustered by group; see metrics.py) put through the same formula with chance as observed,
so that it has width even where all items agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from aasut.evaluate import metrics

Pair = tuple[tuple[str, str], tuple[str, str]]  # of one item: (who, answer) twice


@dataclass(frozen=True, slots=True)
class Agreement:
    """`exact`: share of items on which both say the same, 0 to 1; `value` is at most 1, None where it is undefined.

    `measure` says what `value` is: for free text, where chance agreement means nothing, the share
    itself. `lower` and `upper` are None where there are under two items or groups.
    """

    measure: Literal["kappa", "alpha", "exact"]
    value: float | None
    lower: float | None
    upper: float | None
    exact: float
    items: int
    confidence: float

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def agreement(
    pairs: Sequence[Pair], groups: Sequence[Hashable], *, labels: bool, confidence: float = 0.95
) -> Agreement | None:
    """Agreement over items that two people each answered; None where there are none.

    pairs, groups: one entry an item; labels: are answers taken from a list, so that chance counts?
    """
    if not pairs:
        return None
    same = [first[1] == second[1] for first, second in pairs]
    exact = sum(same) / len(same)
    people = {frozenset((first[0], second[0])) for first, second in pairs}
    measure: Literal["kappa", "alpha", "exact"] = "exact" if not labels else "kappa" if len(people) == 1 else "alpha"
    chance = 0.0 if measure == "exact" else _by_person(pairs) if measure == "kappa" else _pooled(pairs)
    lower: float | None = None
    upper: float | None = None
    if len(pairs) > 1 and len(set(groups)) > 1:
        share = metrics.accuracy(same, groups, confidence)
        lower, upper = _corrected(share.lower, chance), _corrected(share.upper, chance)
    return Agreement(measure, _corrected(exact, chance), lower, upper, exact, len(pairs), confidence)


def _corrected(share: float, chance: float) -> float | None:
    """None where both always say one and the same: chance alone would give that."""
    return (share - chance) / (1 - chance) if chance < 1 else None


def _by_person(pairs: Sequence[Pair]) -> float:
    """Agreement if each of the two kept the shares of their answers and drew them at random."""
    one = pairs[0][0][0]
    ordered = [(a[1], b[1]) if a[0] == one else (b[1], a[1]) for a, b in pairs]
    first, second = (Counter(answers) for answers in zip(*ordered, strict=True))
    return sum(first[answer] * second[answer] for answer in first) / len(pairs) ** 2


def _pooled(pairs: Sequence[Pair]) -> float:
    """Agreement of two answers drawn without replacement from all that were given."""
    given = Counter(answer for pair in pairs for _, answer in pair)
    total = 2 * len(pairs)
    return sum(count * (count - 1) for count in given.values()) / (total * (total - 1))
