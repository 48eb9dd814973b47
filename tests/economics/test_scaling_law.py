from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from aasut.economics import scaling_law
from aasut.economics.scaling_law import Run
from aasut.errors import DataError

TRUE = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}  # Hoffmann et al. 2022


def loss(n: float, d: float) -> float:
    return TRUE["E"] + TRUE["A"] / n ** TRUE["alpha"] + TRUE["B"] / d ** TRUE["beta"]


def runs(noise: float = 0.0, seed: int = 0, sizes: int = 4) -> list[Run]:
    random = np.random.default_rng(seed)
    return [
        Run(n, d, loss(n, d) * math.exp(noise * random.standard_normal()))
        for n in np.geomspace(1e7, 1e9, sizes)
        for d in np.geomspace(1e8, 1e10, sizes)
    ]


def test_known_parameters_are_recovered() -> None:
    found = scaling_law.fit(runs(), draws=2)
    said = found.as_dict()
    for name, value in TRUE.items():
        assert said[name] == pytest.approx(value, rel=1e-6)
    assert said["held_out"]["relative_error"] == pytest.approx(0, abs=1e-6)
    assert said["held_out"]["parameters"] == pytest.approx(1e9)


def test_the_largest_run_is_told_beforehand() -> None:
    found = scaling_law.fit(runs(0.004), draws=60)
    said = found.as_dict()
    for name in TRUE:
        low, high = said["intervals"][name]
        assert low < said[name] < high
    value, low, high = found.loss(3e8, 3e9)
    assert low < loss(3e8, 3e9) < high
    assert (high - low) / value < 0.02
    assert found.held_out is not None
    largest, predicted = found.held_out
    others = [run for run in runs(0.004) if run != largest]
    assert predicted == pytest.approx(scaling_law.fit(others, draws=1).loss(1e9, 1e10)[0])
    assert abs(predicted / largest.loss - 1) < 0.01
    assert f"{100 * (predicted / largest.loss - 1):+.1f} %" in said["sentence"]


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """12 studies of 16 runs, five unknowns each, at 95 %: percentiles of the bootstrap would hold .87."""
    held = []
    for seed in range(100, 112):
        said = scaling_law.fit(runs(0.004, seed), draws=30).as_dict()
        held += [low <= TRUE[name] <= high for name, (low, high) in said["intervals"].items()]
    assert np.mean(held) >= 0.88


def test_how_many_tokens_a_loss_takes_and_what_is_beyond_the_runs() -> None:
    found = scaling_law.fit(runs(), draws=1)
    assert found.tokens(1e8, loss(1e8, 2e9)) == pytest.approx(2e9, rel=1e-4)
    assert math.isinf(found.tokens(1e8, 1.7))
    assert found.beyond(1e8, 1e11)
    assert not found.beyond(1e8, 1e9)


@pytest.mark.parametrize(
    ("some", "why"),
    [
        ([], "3 different numbers of parameters"),
        ([run for run in runs() if run.parameters < 1e8], "parameters"),
        ([run for run in runs() if run.tokens < 1e9], "tokens"),
        ([Run(n, d, 2.0) for n in (1e7, 1.1e7, 1.2e7) for d in (1e8, 1e9, 1e10)], "2 times the fewest"),
        ([Run(10.0**i, 10.0 ** (i + 1), 2.0) for i in range(5)], "6 are needed"),
        ([Run(10.0**i, 10.0 ** (i + 1), 2.0) for i in range(7)], "of one size"),
        (runs()[:1] * 3 + runs()[5:6] * 3 + runs()[10:11] * 3, "6 different pairs"),
    ],
)
def test_runs_that_do_not_tell_the_unknowns_apart_are_refused(some: list[Run], why: str) -> None:
    with pytest.raises(DataError, match=why):
        scaling_law.fit(some)


def test_with_just_enough_runs_none_is_held_out() -> None:
    few = [Run(n, d, loss(n, d)) for n, d in ((1, 1), (1, 10), (10, 1), (10, 100), (100, 10), (100, 100))]
    found = scaling_law.fit(few, draws=2)
    assert found.held_out is None
    assert "not known" in found.as_dict()["sentence"]


def test_a_table_is_read(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("name,loss,parameters,tokens\na,2.5,1e7,1e8\nb,2.25,2e7,1e8\n")
    assert scaling_law.read(path) == [Run(1e7, 1e8, 2.5), Run(2e7, 1e8, 2.25)]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("parameters,tokens\n1,2\n", "line 2 has no numbers"),
        ("parameters,tokens,loss\n1,2,3\n1,x,3\n", "line 3 has no numbers"),
        ("parameters,tokens,loss\n1,0,3\n", "line 2 has a number that is not above 0"),
        ("parameters,tokens,loss\n1,2,nan\n", "not above 0"),
        ("parameters,tokens,loss\n1,2,\xff\n", "cannot be read"),
    ],
)
def test_a_bad_table_is_refused_by_line(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=why):
        scaling_law.read(path)
    with pytest.raises(DataError, match="cannot be read"):
        scaling_law.read(tmp_path / "none.csv")
