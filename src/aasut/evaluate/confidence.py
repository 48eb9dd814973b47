"""How sure a student is of an answer: one number, higher where it is likelier right.

For labels it is the probability of the answer. For texts it is what a logistic model, fitted on `tune`,
says of the quantiles of the answer's token log-probabilities; their sum and mean would favour short
answers and long ones (Gupta et al. 2024, "Language model cascades: token-level uncertainty and beyond").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aasut.errors import DataError

Floats = NDArray[np.float64]

QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75)
LEAST_LOGPROB = -30.0
STRENGTH = 1.0  # of the fit: scikit-learn's C


@dataclass(frozen=True, slots=True)
class Scorer:
    """What turns an answer's features into its score.

    `label`: the score is the one feature, a probability. `token_quantiles`: weights · (features - centre)
    / scale + bias, the log-odds of being right. `least_token`: the score is the first feature, the
    logarithm of the least likely token's probability, where there was nothing to fit.
    """

    kind: str
    weights: tuple[float, ...] = ()
    bias: float = 0.0
    centre: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    def scores(self, features: Floats) -> Floats:
        """Scores [n] of features [n, F]."""
        if self.kind != "token_quantiles":
            return np.asarray(features[:, 0], dtype=np.float64)
        parts = (features - np.array(self.centre)) / np.array(self.scale) * np.array(self.weights)
        # Summed row by row: a matrix product may round a row otherwise when it stands alone.
        return np.asarray(np.cumsum(parts, axis=1)[:, -1] + self.bias, dtype=np.float64)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"quantiles": list(QUANTILES) if self.kind != "label" else []}


def quantiles(logprobs: Sequence[float]) -> list[float]:
    """Features of a text: QUANTILES of its tokens' natural log-probabilities; the least there is for no token."""
    if not logprobs:
        return [LEAST_LOGPROB] * len(QUANTILES)
    found: list[float] = np.quantile(np.maximum(np.asarray(logprobs), LEAST_LOGPROB), QUANTILES).tolist()
    return found


def fit(features: Floats, right: NDArray[np.bool_]) -> Scorer:
    """The scorer of texts from features [n, F] and whether each is right [n].

    Logistic regression on standardised features with a ridge. Where all are right, all are wrong, or there
    is none, nothing can be fitted and the least likely token decides.
    """
    if len(features) != len(right):
        raise DataError(f"{len(right)} answers have {len(features)} rows of features.", "Give one for each answer.")
    if not len(right) or right.all() or not right.any():
        return Scorer("least_token")
    from sklearn.linear_model import LogisticRegression

    centre, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    model = LogisticRegression(C=STRENGTH, max_iter=1000).fit((features - centre) / scale, right)
    weights = tuple(float(w) for w in model.coef_[0])
    return Scorer("token_quantiles", weights, float(model.intercept_[0]), tuple(centre.tolist()), tuple(scale.tolist()))


def risk_coverage(scores: Sequence[float], wrong: Sequence[bool], points: int = 100) -> dict[str, list[float]]:
    """Share wrong among the surest answers, against the share of all that these are, both 0 to 1.

    One point at each of about `points` shares (El-Yaniv & Wiener 2010, JMLR 11, 1605-1641). Answers of one
    score stand or fall together: a point lies only where the next score is lower.
    """
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    sorted_scores, bad = np.asarray(scores)[order], np.asarray(wrong, dtype=np.float64)[order]
    ends = np.flatnonzero(np.append(sorted_scores[1:] < sorted_scores[:-1], True)) + 1
    wanted = np.arange(1, points + 1) * len(order) / points
    kept = np.unique(ends[np.minimum(np.searchsorted(ends, wanted - 1e-9), len(ends) - 1)])
    total = np.cumsum(bad)
    return {"coverage": (kept / len(order)).tolist(), "risk": (total[kept - 1] / kept).tolist()}
