"""Accuracy intervals, class scores and calibration against scipy, scikit-learn and hand-worked numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, norm, t
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from aasut.errors import DataError
from aasut.evaluate import metrics


@pytest.mark.parametrize(("right", "n"), [(0, 20), (1, 20), (13, 20), (20, 20), (871, 946)])
def test_items_that_are_groups_of_their_own_give_plain_wilson(right: int, n: int) -> None:
    found = metrics.accuracy([i < right for i in range(n)], range(n), 0.95)
    exact = binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert found.design_effect == 1.0
    assert (found.lower, found.upper) == pytest.approx((exact.low, exact.high), abs=1e-12)


def test_design_effect_by_hand() -> None:
    # Groups a: 1 1, b: 1 0, c: 0 0; mean 1/2; sums of residuals 1, 0, -1.
    # Clustered variance 3/2 * 2 / 36 = 1/12; independent 1.5 / 30 = 1/20; ratio 5/3.
    found = metrics.accuracy([True, True, True, False, False, False], list("aabbcc"), 0.95)
    assert found.design_effect == pytest.approx(5 / 3)
    z = norm.ppf(0.975) * t.ppf(0.975, 2) / t.ppf(0.975, 5)
    assert (found.lower, found.upper) == pytest.approx(metrics.wilson(0.5, 6 / (5 / 3), z))


def test_doubling_every_item_inside_its_group_adds_no_information() -> None:
    rng = np.random.default_rng(3)
    right = (rng.random(300) < 0.8).tolist()
    once = metrics.accuracy(right, range(300))
    twice = metrics.accuracy(right * 2, [*range(300), *range(300)])
    assert twice.design_effect == pytest.approx(2, rel=0.01)
    assert twice.upper - twice.lower == pytest.approx(once.upper - once.lower, rel=0.01)
    naive = metrics.accuracy(right * 2, range(600))
    assert naive.upper - naive.lower < 0.75 * (twice.upper - twice.lower)


def test_effect_is_never_below_one() -> None:
    found = metrics.accuracy([True, False] * 50, [i // 2 for i in range(100)])
    assert found.design_effect == 1.0


@pytest.mark.parametrize("right", [True, False])
def test_all_alike_has_width_and_counts_groups_not_items(right: bool) -> None:
    found = metrics.accuracy([right] * 400, [i // 10 for i in range(400)])
    assert found.design_effect == pytest.approx(10)
    assert found.upper - found.lower > 0.05
    assert found.lower >= 0
    assert found.upper <= 1


def test_clustered_interval_covers() -> None:
    rng = np.random.default_rng(11)
    truth, groups = 0.85, np.repeat(np.arange(60), 8)
    hit = naive = 0
    for _ in range(600):
        chance = rng.beta(truth * 3, (1 - truth) * 3, 60)
        right = rng.random(480) < chance[groups]
        found = metrics.accuracy(right.tolist(), groups.tolist())
        hit += found.lower <= truth <= found.upper
        low, high = metrics.wilson(right.mean(), 480, 1.96)
        naive += low <= truth <= high
    assert 0.92 <= hit / 600 <= 0.98
    assert naive / 600 < 0.85  # the setting is one in which ignoring groups is wrong


@pytest.mark.parametrize(
    ("right", "groups", "says"),
    [([True], ["a"], "too few"), ([], [], "too few"), ([True, False], ["a", "a"], "one group"), ([True], [], "groups")],
)
def test_no_made_up_error_bar(right: list[bool], groups: list[str], says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        metrics.accuracy(right, groups)
    assert caught.value.remedy


def drawn(n: int = 500) -> tuple[list[str], list[str], list[str]]:
    rng = np.random.default_rng(5)
    answers = ["billing_refund", "billing_dispute", "other"]
    gold = rng.choice(answers, n, p=[0.6, 0.3, 0.1]).tolist()
    predicted = [g if rng.random() < 0.7 else rng.choice(answers) for g in gold]
    return answers, gold, predicted


def test_confusion_and_scores_equal_scikit_learn() -> None:
    answers, gold, predicted = drawn()
    matrix = metrics.confusion(gold, predicted, answers)
    assert (matrix == confusion_matrix(gold, predicted, labels=answers)).all()
    expected = precision_recall_fscore_support(gold, predicted, labels=answers)
    for i, score in enumerate(metrics.per_class(matrix, answers)):
        found = (score.precision, score.recall, score.f1, score.support)
        assert found == pytest.approx([column[i] for column in expected])
    assert metrics.macro_f1(matrix) == pytest.approx(f1_score(gold, predicted, average="macro"))


def test_an_answer_that_never_occurs_does_not_count_in_macro_f1() -> None:
    answers, gold, predicted = drawn()
    with_idle = metrics.confusion(gold, predicted, [*answers, "never"])
    assert metrics.macro_f1(with_idle) == pytest.approx(f1_score(gold, predicted, average="macro"))
    assert metrics.per_class(with_idle, [*answers, "never"])[-1].f1 == 0


def test_an_unknown_answer_is_refused() -> None:
    with pytest.raises(DataError, match="maybe"):
        metrics.confusion(["yes"], ["maybe"], ["yes", "no"])


def test_calibration_by_hand() -> None:
    found = metrics.calibration([0.95, 0.92, 0.6, 0.7, 1.0], [True, False, True, True, True])
    # Bins: [.9, 1] has .95, .92 and 1.0, 2 of 3 right; [.6, .7) has .6, right; [.7, .8) has .7, right.
    assert [b["n"] for b in found.bins] == [1, 1, 3]
    assert found.bins[-1] == {"confidence": pytest.approx(2.87 / 3), "accuracy": pytest.approx(2 / 3), "n": 3}
    assert found.error == pytest.approx((0.4 + 0.3 + 0.87) / 5)
    assert found.as_dict()["calibration_error"] == found.error


@pytest.mark.parametrize(("confidence", "correct"), [([0.5], [True, False]), ([], [])])
def test_confidences_of_other_items_are_refused(confidence: list[float], correct: list[bool]) -> None:
    with pytest.raises(DataError, match="confidences"):
        metrics.calibration(confidence, correct)


def test_field_accuracy_is_over_all_items_whatever_fields_they_have() -> None:
    gold = ['{"a": 1, "b": "x"}', '{"a": 2}', '{"a": 3, "c": null}', '{"a": [4, 5]}']
    said = ['{"a": 1, "b": "y"}', '{"a": 2, "b": "x"}', '{"a": 3, "c": null, "d": 1}', '{"a": [5, 4]}']
    assert metrics.field_accuracy(said, gold) == {"a": 3 / 4, "b": 2 / 4, "c": 1.0}
    assert metrics.field_accuracy(gold, gold) == {"a": 1.0, "b": 1.0, "c": 1.0}


def test_no_answer_has_no_field_right_not_even_one_that_is_rightly_lacking() -> None:
    gold = ['{"a": 1}', '{"a": 1, "b": 2}', "{}"]
    assert metrics.field_accuracy(["", "", ""], gold) == {"a": 0.0, "b": 0.0}
    assert metrics.field_accuracy(['{"a": 1}', "", "{}"], gold) == {"a": 2 / 3, "b": 2 / 3}
