"""Returns by hand; their intervals exactly, against closed forms, and against numerical integration."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from cases import case
from scipy import integrate, stats

from aasut.economics.case import Case
from aasut.economics.returns import Difference, Noise, returns
from aasut.errors import DataError

SEEN = Difference(-0.02, -0.038, -0.004, 0.95)
EXACT = Difference(0.0, 0.0, 0.0, 0.95)


def test_a_dollar_comes_back_at_the_break_even() -> None:
    found = returns(case(), EXACT)
    assert found.gives_back == pytest.approx(1.0)
    assert found.as_dict()["roi"] == pytest.approx(0.0)
    assert found.net == pytest.approx(0.0)


def test_returns_by_hand() -> None:
    """10,000,000 requests: $40 - 10,000,000 * .02 * $.00001 = $38 back, $13 put in; K = $24 is back after 24 / 27."""
    found = returns(case(requests_per_month=1e7, usd_per_correct_answer=1e-5), SEEN)
    assert found.gives_back == pytest.approx(38 / 13)
    assert found.net == pytest.approx(25.0)
    assert found.payback_months == pytest.approx(24 / 27)
    assert found.flips_at == pytest.approx(-0.27)
    assert found.result == "pays"
    said = found.as_dict()["sentence"]
    assert said == (
        "Every dollar put in gives back $2.92 (95 %: $2.78 to $3.05) in 12 months, at 10,000,000 requests a month and "
        "$0.01 for a thousand right answers: $25.00 a month (95 %: $23.20 to $26.60) net."
    )


def test_the_interval_of_accuracy_is_carried_over_exactly() -> None:
    """x = (V p + V v d) / (F + K/M + V c), solved here by itself."""
    found = returns(case(requests_per_month=3e6, usd_per_correct_answer=1e-4, deferred_share=0.2), SEEN)
    ends = [3e6 * 0.8 * (4e-6 + 1e-4 * d) / (1 + 24 / 12 + 3.0) for d in (-0.038, -0.004)]
    assert found.interval == pytest.approx(ends, abs=1e-8)
    assert found.net_interval == pytest.approx([end * 6 - 6 for end in ends], abs=1e-8)


def test_the_confidence_distribution_has_the_intervals_ends_as_quantiles() -> None:
    drawn = SEEN.draws(np.array([0.025, 0.5, 0.975]))
    assert drawn == pytest.approx([-0.038, -0.02, -0.004], abs=1e-12)
    even = Difference(0.1, 0.1 - 1.96 * 0.03, 0.1 + 1.96 * 0.03, 2 * stats.norm.cdf(1.96) - 1)
    uniform = np.linspace(0.001, 0.999, 99)
    assert even.draws(uniform) == pytest.approx(stats.norm.ppf(uniform, 0.1, 0.03), abs=1e-12)


def test_noise_pools_the_variances_of_logarithms() -> None:
    """Two models, two repetitions each: an unpaired t-test's pooled variance, which scipy has."""
    one, other = [100.0, 104.0], [20.0, 19.0]
    noise = Noise.of([one, other, [5.0]])
    assert noise is not None
    tested = stats.ttest_ind(np.log(one), np.log(other), equal_var=True)
    between = np.mean(np.log(one)) - np.mean(np.log(other))
    assert abs(between / tested.statistic) == pytest.approx(math.sqrt(2) * noise.error, abs=1e-12)
    assert noise.freedom == tested.df == 2
    assert Noise.of([[5.0], []]) is None


@pytest.mark.parametrize("freedom", [1, 2, 7])
def test_speed_alone_against_the_closed_form(freedom: int) -> None:
    """With nothing fixed x = p / c, in proportion to the student's speed: the exponential of Student's t."""
    noise = Noise(0.03, freedom)
    alone = case(fixed_usd_per_month=0.0, labels_usd=0.0, labelling_hours=0.0, training_hours=0.0)
    found = returns(alone, EXACT, noise)
    assert found.interval is not None
    for end, tail in zip(found.interval, (0.025, 0.975), strict=True):
        assert math.log(end / 4) == pytest.approx(0.03 * stats.t.ppf(tail, freedom), rel=2e-3)


def test_both_speeds_count_where_the_teacher_has_a_machine_too() -> None:
    """x is the ratio of two speeds; its logarithm, about normal, has a standard error of .03 sqrt(2)."""
    alone = case(
        fixed_usd_per_month=0.0, labels_usd=0.0, labelling_hours=0.0, training_hours=0.0, teacher_requests_per_s=25.0
    )
    found = returns(alone, EXACT, Noise(0.03, 100_000))
    assert found.interval is not None
    assert math.log(found.interval[1] / 4) == pytest.approx(1.96 * math.sqrt(2) * 0.03, rel=0.02)


def test_accuracy_and_speed_together_against_integration() -> None:
    """P(x <= bound) is integrated over the speed: given it, x is a straight line of a normal difference."""
    normal = Difference(-0.02, -0.02 - 1.959964 * 0.01, -0.02 + 1.959964 * 0.01, 0.95)
    each, noise = case(requests_per_month=2e6, usd_per_correct_answer=1e-4), Noise(0.1, 5)
    found = returns(each, normal, noise)
    assert found.interval is not None
    for bound, wanted in zip(found.interval, (0.025, 0.975), strict=True):

        def below(t: float, bound: float = bound) -> float:
            put = 3 + 2 / math.exp(0.1 * t)
            return float(stats.norm.cdf(((bound * put - 8) / 200 + 0.02) / 0.01) * stats.t.pdf(t, 5))

        assert integrate.quad(below, -60, 60, limit=200)[0] == pytest.approx(wanted, abs=1.5e-3)


def test_whole_machines_are_counted_in_every_draw() -> None:
    """2 % more requests than a machine takes: two machines, but one in a third of the draws, as it may be faster."""
    capacity = 100 * 0.5 * 3600 * 730
    whole = case(
        requests_per_month=1.02 * capacity, dedicated=True, fixed_usd_per_month=0.0, labels_usd=0.0,
        labelling_hours=0.0, training_hours=0.0,
    )  # fmt: skip
    found = returns(whole, EXACT, Noise(0.05, 1_000))
    assert found.gives_back == pytest.approx(4 * 1.02 / 2)
    assert found.interval == (pytest.approx(4 * 1.02 / 2), pytest.approx(4 * 1.02))


def test_draws_are_the_same_each_time() -> None:
    once, again = (returns(case(), SEEN, Noise(0.05, 2)).as_dict() for _ in range(2))
    assert once == again == json.loads(json.dumps(once))


def undecided() -> Case:
    return case(requests_per_month=1e7, usd_per_correct_answer=1.5e-4)


@pytest.mark.parametrize(
    ("each", "seen", "result", "words"),
    [
        (
            undecided(), SEEN, "undecided",
            "It pays from a difference in accuracy of −1.8 points on, and what is seen is −2.0 points (95 %: −3.8 to "
            "−0.4): the interval holds both answers.",
        ),
        (
            replace(undecided(), usd_per_correct_answer=1e-3), SEEN, "never_pays",
            "Owning never pays: every dollar put in gives back −$12.31 (95 %",
        ),
        (
            case(requests_per_month=1e5), SEEN, "does_not_pay",
            "Owning does not pay: every dollar put in gives back $0.13 (95 %: $0.13 to $0.13) in 12 months, at 100,000 "
            "requests a month and $0 for a thousand right answers. No difference in accuracy would change that.",
        ),
        (
            case(requests_per_month=1e5, usd_per_correct_answer=5e-5), SEEN, "does_not_pay",
            "It pays from a difference in accuracy of +54.0 points on, and what is seen is −2.0 points (95 %: −3.8 to "
            "−0.4); as it is, from about 1,500,000 requests a month.",
        ),
        (
            case(requests_per_month=1e5, usd_per_correct_answer=5e-4), SEEN, "does_not_pay",
            "Owning does not pay: every dollar put in gives back −$0.19",
        ),
        (
            case(usd_per_machine_hour=0.0, labels_usd=0.0, fixed_usd_per_month=0.0), SEEN, "pays",
            "Nothing has to be put in; at 1,000,000 requests a month and $0 for a thousand right answers owning gains "
            "$4.00 a month",
        ),
    ],
)  # fmt: skip
def test_what_is_said(each: Case, seen: Difference, result: str, words: str) -> None:
    found = returns(each, seen).as_dict()
    assert found["result"] == result
    assert words in found["sentence"]


def test_where_it_flips_a_dollar_comes_back() -> None:
    found = returns(undecided(), SEEN)
    assert found.flips_at is not None
    turned = returns(undecided(), Difference(found.flips_at, found.flips_at, found.flips_at, 0.95))
    assert turned.gives_back == pytest.approx(1.0, abs=1e-12)


def test_a_better_student_on_a_machine_that_is_not_full_is_not_said_never_to_pay() -> None:
    whole = case(teacher_requests_per_s=100.0, dedicated=True, usd_per_correct_answer=1e-7)
    assert returns(whole, Difference(0.01, 0.005, 0.02, 0.95)).result == "does_not_pay"


def test_an_interval_without_its_estimate_is_refused() -> None:
    with pytest.raises(DataError, match="not within its interval"):
        returns(case(), Difference(0.1, 0.2, 0.3, 0.95))
