"""Which rows to ask next: drawn with known probabilities, spread over the inputs, more often where a score is high.

A round has two arms. `random` is a simple random sample of the rows not asked yet. `chosen` is a sample of n of the M
others in which row i is drawn with probability

    π_i = min(1, c · q_i),   q_i = MIX / M + (1 − MIX) · s_i / Σ s,   s_i = exp(−r_i / n),   Σ π_i = n

where r_i is the row's rank by score (how unsure a model is of it, 0 for the most): about the n most uncertain rows,
with soft edges. Rows are drawn by systematic sampling (Madow 1949, Ann. Math. Stat. 20), which meets every π_i exactly:
they are laid end to end, each as long as its π, and taken at u, u + 1, u + 2, … for one uniform u. They lie in the
order of a tree that halves their mass along the first principal direction of each part (Boley 1998, PDDP), so that
neighbours are alike and each draw falls into another region of the inputs; regions where the model is unsure are cut
finer. So diversity comes from the order and uncertainty from the lengths, where k-means++ on gradient embeddings (Ash
et al. 2020, BADGE) has both, but no probabilities that are known. All of them are given what was drawn before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Arm = Literal["random", "chosen"]

MIX = 0.05  # of the chosen arm that goes to all rows alike, so that none is out of reach
DIRECTIONS = 48  # of the space in which inputs are near one another
LEAF = 0.5  # mass of a part, in draws, from which it is not halved further
STEPS = 12  # of the power iteration, enough to halve well


@dataclass(frozen=True, slots=True)
class Pick:
    """A row that was drawn, by its place, and the probability with which its arm draws it."""

    row: int
    arm: Arm
    probability: float


def pick(vectors: Floats, scores: Floats | None, budget: int, random_share: float, seed: Sequence[int]) -> list[Pick]:
    """`budget` of the rows, all where there are fewer; the random arm first.

    vectors: [rows, dimensions], see `embed`; scores: [rows], not negative, or None where nothing is known of the rows.
    """
    rows = len(vectors)
    budget = min(budget, rows)
    random = np.random.default_rng(seed)
    at_random = int(np.floor(budget * random_share + 0.5))
    drawn = np.sort(random.choice(rows, at_random, replace=False))
    rest = np.setdiff1d(np.arange(rows), drawn)
    picked = [Pick(int(row), "random", at_random / rows) for row in drawn]
    if budget > at_random:
        pi = inclusion(np.ones(len(rest)) if scores is None else scores[rest], budget - at_random)
        order = tree_order(vectors[rest], pi)
        for place in systematic(pi[order], float(random.random())):
            row = order[place]
            picked.append(Pick(int(rest[row]), "chosen", float(pi[row])))
    return picked


def uncertainty(probabilities: Floats) -> Floats:
    """How unsure a model is, [rows], of `probabilities` [rows, answers]: what the likeliest answer leaves."""
    result: Floats = 1 - probabilities.max(axis=1)
    return result


def inclusion(scores: Floats, count: int) -> Floats:
    """π [rows], none over 1, which add up to `count`: see the module. Rows of one score have one rank, their mean."""
    from scipy.stats import rankdata

    rows = len(scores)
    soft = np.exp(-(rankdata(-scores) - 1) / count)
    size = MIX / rows + (1 - MIX) * soft / soft.sum()
    pi = np.zeros(rows)
    sure = np.zeros(rows, bool)
    while True:  # who would be over 1 is 1, and the others share what is left; ends, as `sure` only grows
        pi[sure] = 1.0
        left = count - int(sure.sum())
        pi[~sure] = left * size[~sure] / size[~sure].sum() if left else 0.0
        over = ~sure & (pi >= 1)
        if not over.any():
            return pi
        sure |= over


def systematic(pi: Floats, start: float) -> Integers:
    """Places that are drawn: in whose stretch of the line a whole number plus `start`, from 0 to below 1, lies."""
    count = round(float(pi.sum()))
    ends = np.cumsum(pi) * (count / float(pi.sum()))
    ends[-1] = count  # rounding must not lose the last one
    found: Integers = np.searchsorted(ends, start + np.arange(count), side="right").astype(np.int64)
    return found


def tree_order(vectors: Floats, mass: Floats) -> Integers:
    """An order of the rows in which neighbours are alike: parts are halved by mass until one is LEAF at most."""
    order: list[Integers] = []
    stack: list[Integers] = [np.arange(len(vectors), dtype=np.int64)]
    while stack:
        part = stack.pop()
        if len(part) < 2 or mass[part].sum() <= LEAF:
            order.append(part)
            continue
        along = part[np.argsort(_direction(vectors[part]), kind="stable")]
        ends = np.cumsum(mass[along])
        cut = int(np.clip(np.searchsorted(ends, ends[-1] / 2) + 1, 1, len(along) - 1))
        stack += [along[cut:], along[:cut]]
    return np.concatenate(order) if order else np.zeros(0, np.int64)


def _direction(vectors: Floats) -> Floats:
    """How far each row lies along the first principal direction [rows]."""
    centred = vectors - vectors.mean(axis=0)
    direction = centred[int(np.argmax((centred**2).sum(axis=1)))]
    for _ in range(STEPS):
        direction = (centred @ direction) @ centred
        length = float(np.linalg.norm(direction))
        if length < 1e-12:
            break
        direction = direction / length
    result: Floats = centred @ direction
    return result


def embed(texts: Sequence[str]) -> Floats:
    """Texts as vectors [texts, dimensions] of length 1 or 0: TF-IDF, cut to its first directions (LSA)."""
    from sklearn.decomposition import TruncatedSVD

    from aasut.engine.linear import vectorizer

    settings: dict[str, Any] = {"analyzer": "char_wb", "ngram_min": 3, "ngram_max": 5, "min_df": 2}
    try:
        matrix = vectorizer(settings, max_features=20_000).fit_transform(texts)
    except ValueError:  # nothing stands in two texts
        return np.zeros((len(texts), 1))
    size = min(DIRECTIONS, min(matrix.shape) - 1)
    if size < 1:
        return np.asarray(matrix.toarray(), np.float64)
    found: Floats = TruncatedSVD(size, random_state=0).fit_transform(matrix)
    length = np.linalg.norm(found, axis=1, keepdims=True)
    result: Floats = found / np.where(length > 1e-9, length, 1.0)
    return result
