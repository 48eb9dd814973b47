"""BCa against scipy's, its p-values against its bounds, and the width that it keeps where nothing varies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from aasut.errors import DataError
from aasut.evaluate import bootstrap, metrics


def answers(n: int, seed: int, labels: int = 3) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    gold = rng.choice(labels, n, p=[0.6, 0.3, 0.1][:labels])
    a = np.where(rng.random(n) < 0.8, gold, rng.integers(0, labels, n))
    b = np.where(rng.random(n) < 0.9, gold, rng.integers(0, labels, n))
    return gold, a, b


def skewed(n: int, seed: int = 1) -> Any:
    return np.clip(np.random.default_rng(seed).exponential(0.2, n) - 0.1, -1, 1)


@pytest.mark.parametrize("method", ["mean", "ratio"])
def test_endpoints_equal_scipys_on_the_same_replicates(method: str) -> None:
    """Bias and acceleration have no name in scipy; that five levels agree shows both."""
    rng = np.random.default_rng(2)
    x, sizes = skewed(60), rng.integers(1, 5, 60).astype(float)
    if method == "mean":
        data: tuple[Any, ...] = (x,)
        sample = bootstrap.of_mean(x, np.arange(60))

        def statistic(*parts: Any, axis: int = -1) -> Any:
            return parts[0].mean(axis=axis)
    else:
        data = (x * sizes, sizes)
        sample = bootstrap.Sample(np.column_stack(data), lambda sums: sums[:, 0] / sums[:, 1], 60)

        def statistic(*parts: Any, axis: int = -1) -> Any:
            return parts[0].sum(axis=axis) / parts[1].sum(axis=axis)

    whole = sample.totals.sum(axis=0)
    for confidence in (0.5, 0.8, 0.9, 0.95, 0.99):
        theirs = stats.bootstrap(
            data, statistic, paired=True, n_resamples=4000, confidence_level=confidence, method="BCa", rng=3
        )
        replicates = np.sort(theirs.bootstrap_distribution)
        estimate = float(sample.statistic(whole[None])[0])
        share = (np.mean(replicates < estimate) + np.mean(replicates <= estimate)) / 2
        ours = bootstrap.Bootstrap(
            estimate, replicates, float(stats.norm.ppf(share)),
            bootstrap.acceleration(sample.statistic(whole - sample.totals)), 60, 60, 1, -1, 1,
        )  # fmt: skip
        found = [ours.endpoint(stats.norm.ppf(level)) for level in ((1 - confidence) / 2, (1 + confidence) / 2)]
        assert found == pytest.approx(list(theirs.confidence_interval), abs=1e-8)


def test_the_acceleration_of_a_mean_is_the_skewness_over_six_roots_of_n() -> None:
    x = skewed(50)
    sample = bootstrap.of_mean(x, np.arange(50))
    found = bootstrap.acceleration(sample.statistic(sample.totals.sum(axis=0) - sample.totals))
    assert found == pytest.approx(stats.skew(x) / (6 * np.sqrt(50)), abs=1e-8)


def test_the_bias_is_the_share_of_replicates_below_the_estimate() -> None:
    few = np.array([0.0] * 30 + [1.0] * 10)  # many replicates equal the estimate
    found = bootstrap.bca(bootstrap.of_mean(few, np.arange(40)), seed=5, resamples=2001)
    assert np.mean(found.replicates == found.estimate) > 0.1
    share = stats.percentileofscore(found.replicates, found.estimate, kind="mean") / 100
    assert found.bias == pytest.approx(stats.norm.ppf(share), abs=1e-8)
    assert found.bias != 0


def test_macro_f1_of_resampled_items_agrees_with_scipys_bootstrap() -> None:
    gold, a, b = answers(300, 4)

    def f1(wanted: Any, said: Any) -> Any:
        hits, total = (
            np.stack([part(wanted == k, said == k).sum(axis=-1) for k in range(3)])
            for part in (lambda w, s: w & s, lambda w, s: w * 1 + s)
        )
        return (2 * hits / total).mean(axis=0)

    def difference(*parts: Any, axis: int = -1) -> Any:
        return f1(parts[0], parts[1]) - f1(parts[0], parts[2])

    assert f1(gold, a) == pytest.approx(f1_score(gold, a, average="macro"), abs=1e-12)
    theirs = stats.bootstrap((gold, a, b), difference, paired=True, n_resamples=10_000, method="BCa", rng=6, batch=2000)
    ours = bootstrap.bca(bootstrap.of_macro_f1(gold, a, b, np.arange(300)), seed=7)
    spread = float(theirs.standard_error)
    assert ours.estimate == pytest.approx(difference(gold, a, b), abs=1e-12)
    assert float(ours.replicates.std(ddof=1)) == pytest.approx(spread, rel=0.04)
    assert ours.interval(0.95) == pytest.approx(tuple(theirs.confidence_interval), abs=0.1 * spread)


def test_macro_f1_is_that_of_the_confusion_matrix_where_an_answer_is_never_held() -> None:
    names = ["x", "y", "z", "unused"]
    gold, a, b = np.array([0, 0, 1, 1, 0]), np.array([0, 2, 1, 0, 0]), np.array([0, 0, 1, 1, 1])
    sample = bootstrap.of_macro_f1(gold, a, b, np.arange(5))
    one, other = (
        metrics.macro_f1(metrics.confusion([names[i] for i in gold], [names[i] for i in said], names))
        for said in (a, b)
    )
    assert float(sample.statistic(sample.totals.sum(axis=0)[None])[0]) == pytest.approx(one - other, abs=1e-12)
    assert sample.parts == 2  # classes that are held
    assert sample.units == 2


def test_whole_groups_are_drawn() -> None:
    """Each item ten times over, in one group: what ten times fewer items say."""
    x = skewed(80)

    def interval(values: Any, index: Any) -> tuple[float, float]:
        return bootstrap.bca(bootstrap.of_mean(values, index, lowest=-0.1), seed=8).interval(0.95)

    once = interval(x, np.arange(80))
    assert interval(np.repeat(x, 10), np.repeat(np.arange(80), 10)) == pytest.approx(once, abs=1e-12)
    assert np.ptp(interval(np.repeat(x, 10), np.arange(800))) < 0.5 * np.ptp(once)


def test_what_is_never_seen_counts_by_items_where_these_are_independent() -> None:
    """Groups of eight whose items have nothing in common: the bound is not as wide as for so few groups alike."""
    x = np.random.default_rng(3).normal(0, 0.02, 400)
    found = bootstrap.bca(bootstrap.of_mean(x, np.arange(400) // 8), seed=8)
    assert 300 < found.units <= 400
    assert found.lower(0.95) == pytest.approx(-(1 - 0.05 ** (1 / found.units)), abs=3e-3)
    alike = bootstrap.of_mean(np.repeat(x[:50], 8), np.arange(400) // 8)
    assert alike.units == pytest.approx(50, rel=0.03)


@pytest.mark.parametrize("confidence", [0.6, 0.9, 0.95, 0.99])
def test_a_p_value_is_where_the_bound_meets_the_hypothesis(confidence: float) -> None:
    found = bootstrap.bca(bootstrap.of_mean(skewed(30), np.arange(30)), seed=9)
    assert found.p_at_most(found.lower(confidence)) == pytest.approx(1 - confidence, abs=1e-6)
    assert found.p_at_least(found.upper(confidence)) == pytest.approx(1 - confidence, abs=1e-6)
    low, high = found.interval(confidence)
    assert found.p_equal(low) == pytest.approx(1 - confidence, abs=1e-6)
    assert found.p_equal(high) == pytest.approx(1 - confidence, abs=1e-6)
    assert low < found.lower(confidence) < found.estimate < found.upper(confidence) < high


def test_p_values_reach_from_hardly_any_to_one() -> None:
    found = bootstrap.bca(bootstrap.of_mean(skewed(30) + 0.5, np.arange(30)), seed=9, resamples=999)
    assert found.p_at_most(-0.9) == pytest.approx(1 / 1000)
    assert found.p_at_most(0.99) == 1
    assert found.p_at_least(0.99) == pytest.approx(1 / 1000)
    assert 0.2 < found.p_at_most(found.estimate) < 0.8
    tests = [found.p_at_most(value) for value in np.linspace(-1, 1, 101)]
    assert tests == sorted(tests)


def test_few_groups_are_given_wider_levels() -> None:
    """Six groups: for a mean of normal scores close to Student's interval, which plain BCa is far inside of."""
    x = stats.norm.ppf(np.linspace(0.1, 0.9, 6)) / 20
    found = bootstrap.bca(bootstrap.of_mean(x, np.arange(6), lowest=-0.1, highest=0.1), seed=10)
    student = stats.t.interval(0.9, 5, x.mean(), stats.sem(x))
    plain = [found.endpoint(stats.norm.ppf(level)) for level in (0.05, 0.95)]
    assert np.ptp(plain) < 0.8 * np.ptp(student)
    assert np.ptp(found.interval(0.9)) == pytest.approx(np.ptp(student), rel=0.12)


def test_bounds_are_endpoints_at_students_quantiles() -> None:
    x = np.sqrt(skewed(12) + 0.1)
    found = bootstrap.bca(bootstrap.of_mean(x, np.arange(12), lowest=0, highest=0.8), seed=10)
    assert abs(found.bias) > 0.01
    z = np.sqrt(12 / 11) * stats.t.ppf(0.95, 11)
    assert (found.lower(0.95), found.upper(0.95)) == pytest.approx((found.endpoint(-z), found.endpoint(z)), abs=1e-12)


def test_where_nothing_varies_the_bound_is_the_exact_one() -> None:
    """No difference among 50 items: a share s that is -1 goes unseen with probability (1 - s)^50."""
    found = bootstrap.bca(bootstrap.of_mean(np.zeros(50), np.arange(50)), seed=11)
    upper_share = stats.beta.ppf(0.95, 1, 50)  # Clopper and Pearson's, 0 of 50
    assert found.lower(0.95) == pytest.approx(-upper_share, abs=1e-10)
    assert found.upper(0.95) == pytest.approx(upper_share, abs=1e-10)
    assert found.p_at_most(-upper_share) == pytest.approx(0.05, abs=1e-10)
    assert found.p_at_least(upper_share) == pytest.approx(0.05, abs=1e-10)
    assert found.p_equal(0) == 1
    best = bootstrap.bca(bootstrap.of_mean(np.ones(50), np.arange(50), lowest=0), seed=11)
    assert (best.lower(0.95), best.upper(0.95)) == (pytest.approx(1 - upper_share), 1)


def test_a_first_difference_never_makes_a_bound_surer() -> None:
    """One item of 50 in the student's favour: without the floor the bound would leap from -.058 to 0."""
    none, one = np.zeros(50), np.eye(50)[0]
    before, after = (bootstrap.bca(bootstrap.of_mean(x, np.arange(50)), seed=12) for x in (none, one))
    assert after.lower(0.95) < -0.03
    assert after.lower(0.95) == pytest.approx(before.lower(0.95), abs=0.025)
    assert after.p_at_most(-0.03) > 0.05


def test_an_answer_seen_once_leaves_macro_f1_open() -> None:
    gold = np.array([0] * 100 + [1] * 100 + [2])
    found = bootstrap.bca(bootstrap.of_macro_f1(gold, gold, gold, np.arange(201)), seed=13)
    assert found.lower(0.95) == pytest.approx(-0.95 / 3)
    assert found.p_at_most(-0.05) == 0.5


def test_one_group_is_refused_and_two_are_not() -> None:
    with pytest.raises(DataError) as caught:
        bootstrap.bca(bootstrap.of_mean(skewed(9), np.zeros(9, np.int64)), seed=1)
    assert caught.value.remedy
    found = bootstrap.bca(bootstrap.of_mean(skewed(9), np.arange(9) % 2), seed=1)
    low, high = found.interval(0.95)
    assert -1 <= low < found.estimate < high <= 1


def test_the_seed_alone_decides() -> None:
    sample = bootstrap.of_mean(skewed(25), np.arange(25))
    first, again, other = (bootstrap.bca(sample, seed=seed).interval(0.95) for seed in (1, 1, 2))
    assert first == again
    assert first != other
