"""What several raters say together, each weighed by how right it seems to be: Dawid & Skene.

A. P. Dawid & A. M. Skene (1979), "Maximum likelihood estimation of observer error-rates using the EM
algorithm", Journal of the Royal Statistical Society C 28, 20-28. Each rater has a confusion matrix,
items have unknown true classes, and given the class the raters err independently. Models of one family
do not: they share data and habits. So a family has one vote, the mean of its members', and three
prompts to one model do not outvote two other models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from aasut.data.panel import Floats
from aasut.errors import DataError
from aasut.recipe.families import FEWEST

STEPS = 1000
TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Consensus:
    """`posteriors` [items, classes]; `confusion` [families, true class, said class]; `prevalence` [classes].

    `log_likelihood` is of the votes, in nats, where EM ended after `steps`.
    """

    posteriors: Floats
    confusion: Floats
    prevalence: Floats
    families: tuple[str, ...]
    log_likelihood: float
    steps: int


def hard(votes: Sequence[Sequence[int | None]], classes: int) -> Floats:
    """Votes [items][raters] by number of the class, None where there is none, as [items, raters, classes]."""
    found = np.full((len(votes), len(votes[0]) if votes else 0, classes), np.nan)
    for i, row in enumerate(votes):
        for rater, vote in enumerate(row):
            if vote is not None:
                found[i, rater] = np.eye(classes)[vote]
    return found


def consensus(votes: ArrayLike, families: Sequence[str]) -> Consensus:
    """The classes' posteriors from votes [items, raters, classes] that sum to 1, or are NaN where there is none.

    families: of each rater. EM begins at the mean vote of the families, draws nothing, and ends where the
    log-likelihood rises by less than 1e-10 of itself. A soft vote counts as fractions of votes. An item
    without votes gets the prevalence. Raises DataError where fewer than three families vote.
    """
    merged, names = one_vote_a_family(np.asarray(votes, dtype=np.float64), families)
    said = ~np.isnan(merged[:, :, 0])
    voting = int(said.any(axis=0).sum())
    if voting < FEWEST:
        raise DataError(
            f"Votes of {voting} model families cannot be weighed against each other; it takes {FEWEST}.",
            "Add models of other families, or take one by itself.",
        )
    given = np.where(said[:, :, None], merged, 0.0)  # [items, families, classes]
    total = given.sum(axis=1)
    heard = total.sum(axis=1) > 0
    posteriors = np.full(total.shape, 1 / total.shape[1])
    posteriors[heard] = total[heard] / total[heard].sum(axis=1, keepdims=True)
    last, likelihood, steps = -np.inf, -np.inf, 0
    while steps < STEPS and (steps < 2 or likelihood - last > 1e-10 * abs(likelihood)):
        last, steps = likelihood, steps + 1
        prevalence = posteriors[heard].mean(axis=0)
        confusion = confusions(posteriors, given)
        logs = np.log(np.maximum(prevalence, TINY)) + np.einsum(
            "ijk,jck->ic", given, np.log(np.maximum(confusion, TINY))
        )
        most = logs.max(axis=1, keepdims=True)
        each = most[:, 0] + np.log(np.exp(logs - most).sum(axis=1))
        posteriors = np.exp(logs - each[:, None])
        likelihood = float(each[heard].sum())
    return Consensus(posteriors, confusion, prevalence, names, likelihood, steps)


def one_vote_a_family(votes: Floats, families: Sequence[str]) -> tuple[Floats, tuple[str, ...]]:
    """(mean votes [items, families, classes] of the members that voted, the families' names in order)."""
    if votes.ndim != 3 or votes.shape[1] != len(families):
        raise DataError(
            f"There are {len(families)} families for votes of shape {votes.shape}.",
            "Give votes [items, raters, classes] and one family a rater.",
        )
    names = tuple(dict.fromkeys(families))
    merged = np.full((len(votes), len(names), votes.shape[2]), np.nan)
    for place, name in enumerate(names):
        of_family = votes[:, [family == name for family in families]]
        voted = ~np.isnan(of_family[:, :, 0])
        some = voted.any(axis=1)
        merged[some, place] = np.nansum(of_family[some], axis=1) / voted[some].sum(axis=1)[:, None]
    return merged, names


def confusions(posteriors: Floats, given: Floats) -> Floats:
    """Share of each class's votes by what was said, [raters, true, said]; even where a class has no votes.

    posteriors [items, classes]; given: votes [items, raters, classes], zeros where there is none.
    """
    counts: Floats = np.einsum("ic,ijk->jck", posteriors, given)
    total = counts.sum(axis=2, keepdims=True)
    shares: Floats = np.where(total > TINY, counts / np.maximum(total, TINY), 1 / given.shape[2])
    return shares
