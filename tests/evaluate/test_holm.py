from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from aasut.evaluate import holm


@pytest.mark.parametrize("count", [1, 2, 3, 7, 40])
def test_adjusted_p_values_are_those_of_statsmodels(count: int) -> None:
    rng = np.random.default_rng(count)
    for _ in range(2):  # their function collects garbage, which is slow
        p = rng.beta(0.5, 3, count).round(3)  # with ties
        assert holm.adjusted(p.tolist()) == pytest.approx(multipletests(p, method="holm")[1].tolist(), abs=1e-8)


def test_by_hand() -> None:
    assert holm.adjusted([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm.adjusted([0.9, 0.8]) == [1.0, 1.0]
    assert holm.adjusted([]) == []


def test_some_false_rejection_is_no_likelier_than_the_level() -> None:
    rng = np.random.default_rng(1)
    wrong = np.mean([min(holm.adjusted(rng.random(4).tolist())) <= 0.05 for _ in range(4000)])
    assert wrong == pytest.approx(0.05, abs=0.012)
