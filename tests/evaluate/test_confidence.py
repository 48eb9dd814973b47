from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize

from aasut.errors import DataError
from aasut.evaluate import confidence
from aasut.evaluate.confidence import LEAST_LOGPROB, QUANTILES, Scorer


def test_features_are_quantiles_of_the_tokens() -> None:
    logprobs = [-0.1, -3.0, -0.5, -1.0, -0.2]
    assert confidence.quantiles(logprobs) == pytest.approx(np.quantile(logprobs, QUANTILES))
    assert confidence.quantiles([]) == [LEAST_LOGPROB] * len(QUANTILES)
    assert min(confidence.quantiles([float("-inf"), -1.0])) == LEAST_LOGPROB


def test_length_alone_changes_no_feature() -> None:
    logprobs = list(-np.random.default_rng(0).exponential(size=200))
    assert confidence.quantiles(logprobs * 10) == pytest.approx(confidence.quantiles(logprobs), abs=0.02)


def test_the_fit_is_the_ridge_of_its_likelihood() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 3)) * [1, 5, 0.1] + [0, 3, -1]
    right = rng.random(300) < 1 / (1 + np.exp(-features[:, 0] - 0.3 * features[:, 1]))
    scorer = confidence.fit(features, right)
    x = (features - features.mean(axis=0)) / features.std(axis=0)

    def loss(w: np.ndarray) -> float:
        z = x @ w[:3] + w[3]
        return float((np.logaddexp(0, z) - right * z).sum() + w[:3] @ w[:3] / 2)

    best = scipy.optimize.minimize(loss, np.zeros(4), tol=1e-10).x
    assert [*scorer.weights, scorer.bias] == pytest.approx(best, abs=2e-3)
    assert scorer.scores(features) == pytest.approx(x @ best[:3] + best[3], abs=1e-2)


@pytest.mark.parametrize("right", [[True] * 5, [False] * 5, []])
def test_without_anything_to_fit_the_least_likely_token_decides(right: list[bool]) -> None:
    features = np.arange(5.0 * len(right)).reshape(len(right), 5)
    scorer = confidence.fit(features, np.array(right, bool))
    assert scorer.kind == "least_token"
    assert scorer.scores(features).tolist() == features[:, 0].tolist()


def test_a_constant_feature_does_not_spoil_the_fit() -> None:
    features = np.column_stack([np.arange(20.0), np.ones(20)])
    scores = confidence.fit(features, np.arange(20) > 9).scores(features)
    assert np.isfinite(scores).all()
    assert (np.diff(scores) > 0).all()


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(DataError, match="3 answers have 2 rows"):
        confidence.fit(np.zeros((2, 1)), np.ones(3, bool))


def test_a_scorer_survives_its_plain_form() -> None:
    scorer = Scorer("token_quantiles", (1.0, 2.0), 0.5, (0.0, 1.0), (1.0, 2.0))
    plain = scorer.as_dict()
    del plain["quantiles"]
    assert Scorer(**plain) == scorer


def test_the_risk_coverage_curve() -> None:
    scores = [0.9, 0.8, 0.8, 0.6]
    curve = confidence.risk_coverage(scores, [False, True, False, True])
    assert curve == {"coverage": [0.25, 0.75, 1.0], "risk": [0.0, pytest.approx(1 / 3), 0.5]}
    many = confidence.risk_coverage(list(np.random.default_rng(0).random(5000)), [True] * 5000)
    assert len(many["coverage"]) == 100
    assert many["coverage"][-1] == 1.0


def test_a_score_is_the_same_alone_and_among_others() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(257, len(QUANTILES)))
    scorer = confidence.fit(rows, rng.random(257) < 0.5)
    together = scorer.scores(rows)
    assert [scorer.scores(rows[i : i + 1])[0] for i in range(257)] == together.tolist()
