from __future__ import annotations

import numpy as np
import pytest
import torch

from aasut.errors import DataError
from aasut.student import thinning
from aasut.student.logit_cache import sparse
from aasut.student.thinning import Entries, join, known, thin, uniform

DRAWS = 20_000


def logits_of(width: int, seed: int = 1, spread: float = 2.5) -> torch.Tensor:
    return torch.randn(width, generator=torch.Generator().manual_seed(seed)) * spread


def dense(entries: Entries, width: int, *, unknown: bool = False) -> torch.Tensor:
    """[n, width] float64: the mass of each token."""
    found = sparse(entries, unknown=unknown)
    return torch.zeros(len(entries), width, dtype=torch.float64).scatter_add_(1, found.ids, found.mass.double())


def many(row: torch.Tensor, threshold: float, count: int = DRAWS) -> Entries:
    """One distribution, thinned again and again."""
    draws = torch.from_numpy(uniform(count, bytes(16)))
    parts = [thin(row.repeat(len(part), 1), threshold, part) for part in draws.split(500)]
    return join(parts)


@pytest.mark.parametrize("width", [10, 64, 100, 640])
@pytest.mark.parametrize("threshold", [0.01, 0.05, 0.3])
def test_each_token_gets_its_probability_on_average(width: int, threshold: float) -> None:
    """Within five standard errors for every token, and the masses of every draw sum to 1."""
    row = logits_of(width)
    p = torch.softmax(row.double(), 0)
    got = dense(many(row, threshold), width)
    assert torch.allclose(got.sum(1), torch.ones(DRAWS, dtype=torch.float64), atol=1e-6)
    # A draw has a mass of at most threshold + 1 share, so that a token's variance is at most p times that.
    heaviest = threshold + 1 / 255
    error = (p * heaviest / DRAWS).sqrt()
    off = (got.mean(0) - p).abs()
    assert (off <= 5 * error + 2 * heaviest / DRAWS).all()  # the rarest are drawn once, or not at all
    assert (off / error).pow(2)[p * DRAWS > heaviest].mean() < 1.5


def test_a_tail_token_comes_as_often_as_it_is_likely() -> None:
    """Systematic sampling: each tail token is drawn floor or ceil of its expected number of times."""
    width, threshold = 300, 0.04
    row = logits_of(width, seed=3, spread=1.0)
    p = torch.softmax(row.double(), 0)
    tail = p < threshold
    for entries in (many(row, threshold, 1)[0:1], many(row, threshold, 200)[199:200]):
        n = int(entries.tail[0])
        assert n == np.ceil(float(p[tail].sum()) / threshold)
        drawn = np.bincount(entries.ids[int(entries.head[0]) :], minlength=width)
        expected = (p * tail / p[tail].sum() * n).numpy()
        assert ((drawn == np.floor(expected)) | (drawn == np.ceil(expected))).all()


def test_the_head_is_exact_to_a_share() -> None:
    row = torch.log(torch.tensor([0.5, 0.3, 0.1, 0.04, 0.03, 0.02, 0.01]))
    for entries in (many(row, 0.05, 50)[n : n + 1] for n in range(50)):
        assert entries.ids[: entries.head[0]].tolist() == [0, 1, 2]
        assert np.abs(entries.mass / 255 - [0.5, 0.3, 0.1]).max() <= 1 / 255
        assert set(entries.ids[3:]) <= {3, 4, 5, 6}


def test_errors_are_smaller_than_those_of_independent_draws() -> None:
    row = logits_of(500, seed=5, spread=3.0)
    p = torch.softmax(row.double(), 0)
    entries = many(row, 0.03, 2000)
    draws = float((entries.head.astype(int) + entries.tail).mean())
    independent = float((p * (1 - p)).sum()) / draws
    assert float((dense(entries, 500) - p).pow(2).sum(1).mean()) < 0.5 * independent


def test_rows_do_not_meet() -> None:
    """Rows of very different shapes in one call give what each gives alone."""
    rows = torch.stack([logits_of(200, seed, spread) for seed, spread in enumerate((0.0, 9.0, 0.3, 3.0, 40.0))])
    draws = torch.from_numpy(uniform(len(rows), b"0123456789abcdef"))
    together = thin(rows.clone(), 0.02, draws)
    for n in range(len(rows)):
        alone = thin(rows[n : n + 1].clone(), 0.02, draws[n : n + 1])
        mine = together[n : n + 1]
        for name in ("head", "tail", "ids", "mass"):
            assert np.array_equal(getattr(alone, name), getattr(mine, name))


def test_extreme_distributions() -> None:
    certain, even = torch.full((4000,), -1e4), torch.zeros(4000)
    certain[7] = 0.0
    draws = torch.tensor([[0.0, 0.0], [1 - 2**-53, 1 - 2**-53]], dtype=torch.float64)
    for start in draws:
        entries = thin(torch.stack([certain, even]), 1 / 250, start.repeat(2, 1))
        assert (entries.head.tolist(), entries.tail.tolist()) == ([1, 0], [0, 250])
        assert entries.ids[0] == 7
        assert len(set(entries.ids[1:].tolist())) == 250
        assert dense(entries, 4000).sum(1).tolist() == pytest.approx([1, 1], abs=1e-6)


def test_tokens_without_mass_are_never_drawn() -> None:
    row = torch.full((1000,), float("-inf"))
    row[::10] = torch.linspace(-3, 3, 100)
    assert set(many(row, 0.02, 500).ids.tolist()) <= set(range(0, 1000, 10))


def test_logits_that_are_no_numbers_are_refused() -> None:
    for bad in (float("nan"), float("inf")):
        row = torch.zeros(2, 100)
        row[1, 3] = bad
        with pytest.raises(DataError, match="finite"):
            thin(row, 0.02, torch.zeros(2, 2, dtype=torch.float64))


def test_thresholds_that_a_byte_cannot_count_are_refused() -> None:
    with pytest.raises(ValueError, match="threshold"):
        thin(torch.zeros(1, 100), 0.003, torch.zeros(1, 2, dtype=torch.float64))


def test_parts_of_entries_join_to_the_whole() -> None:
    whole = thin(torch.stack([logits_of(300, n) for n in range(9)]), 0.02, torch.from_numpy(uniform(9, bytes(16))))
    again = join([whole[0:4], whole[4:4], whole[4:9]])
    for name in ("head", "tail", "ids", "mass"):
        assert np.array_equal(getattr(whole, name), getattr(again, name))
    assert len(whole[2:5]) == 3


def test_named_tokens_keep_their_mass_and_the_rest_is_one_bucket() -> None:
    ids = np.array([[5, 9, 2], [4, 0, 0]])
    mass = np.array([[0.5, 0.25, 0.0001], [0.9999, 0.0, 0.0]], np.float32)
    starts = np.linspace(0, 1, 2000, endpoint=False)
    parts = [known(ids, mass, np.array([start, start])) for start in starts]
    for entries in parts[::100]:
        found = sparse(entries, unknown=True)
        assert found.rest is not None
        assert (entries.head.tolist(), entries.tail.tolist(), entries.ids.tolist()) == ([3, 1], [0, 0], [5, 9, 2, 4])
        assert (found.mass.sum(1) + found.rest).tolist() == pytest.approx([1, 1], abs=1e-6)
        assert found.mass[0].tolist() == pytest.approx([0.5, 0.25, 0.0001], abs=1.01 / 65535)
    mean = torch.stack([sparse(part, unknown=True).mass for part in parts]).mean(0)
    assert mean[0].tolist() == pytest.approx([0.5, 0.25, 0.0001], abs=1e-7 + 1 / 2000 / 65535)


@pytest.mark.parametrize(("ids", "mass"), [([3, 3], [0.2, 0.3]), ([3, 4], [0.9, 0.3]), ([3, 4], [0.9, -0.1])])
def test_impossible_log_probabilities_are_refused(ids: list[int], mass: list[float]) -> None:
    with pytest.raises(DataError, match="log-probabilities"):
        known(np.array([ids]), np.array([mass]), np.zeros(1))


def test_uniform_numbers_depend_on_the_seed_and_place_alone() -> None:
    assert np.array_equal(uniform(5, b"a" * 16), uniform(9, b"a" * 16)[:5])
    assert not np.array_equal(uniform(5, b"a" * 16), uniform(5, b"b" * 16))
    assert uniform(4000, bytes(16)).mean(0) == pytest.approx([0.5, 0.5], abs=0.03)


def test_size_on_disk() -> None:
    entries = thin(logits_of(300)[None], 0.02, torch.zeros(1, 2, dtype=torch.float64))
    head, tail = int(entries.head[0]), int(entries.tail[0])
    assert thinning.byte_size(entries, wide=False) == 2 + 3 * head + 2 * tail
    assert thinning.byte_size(entries, wide=True) == 2 + 4 * head + 3 * tail
