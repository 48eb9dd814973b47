from __future__ import annotations

import numpy as np
import pytest
import torch

from aasut.errors import RecipeError
from aasut.student.fused import BLOCK_ROWS
from aasut.student.losses import LOSSES, cross_entropy, entropy, get, refusal
from aasut.student.targets import Sparse
from loss_formulas import NAMES, plain


def case(seed: int = 0, rows: int = 7, width: int = 16, columns: int = 5) -> tuple[torch.Tensor, ...]:
    """Hidden states, output weight, targets of various total mass."""
    random = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, width, generator=random)
    weight = torch.randn(columns, width, generator=random)
    target = torch.rand(rows, columns, generator=random) * torch.rand(rows, 1, generator=random)
    return hidden, weight, target


def by_numpy(hidden: torch.Tensor, weight: torch.Tensor, target: torch.Tensor, allowed: torch.Tensor) -> float:
    """Row by row in float64."""
    total = 0.0
    for h, t, a in zip(hidden.double().numpy(), target.double().numpy(), allowed.numpy(), strict=True):
        logits = weight.double().numpy()[a] @ h
        logq = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
        total -= float(t[a] @ logq)
    return total


def some_allowed(rows: int, columns: int) -> torch.Tensor:
    allowed = torch.rand(rows, columns, generator=torch.Generator().manual_seed(3)) < 0.6
    allowed[:, 1] = True
    return allowed


def test_cross_entropy_equals_float64() -> None:
    hidden, weight, target = case()
    everything = torch.ones(7, 5, dtype=torch.bool)
    expected = by_numpy(hidden, weight, target, everything)
    assert float(cross_entropy(hidden, weight, target)) == pytest.approx(expected, rel=1e-6)
    assert float(cross_entropy(hidden, weight, target, everything)) == pytest.approx(expected, rel=1e-6)


def test_only_allowed_columns_are_normalised_over() -> None:
    hidden, weight, target = case()
    allowed = some_allowed(7, 5)
    target = target * allowed
    found = float(cross_entropy(hidden, weight, target, allowed))
    assert found == pytest.approx(by_numpy(hidden, weight, target, allowed), rel=1e-6)
    assert found < float(cross_entropy(hidden, weight, target)) - 0.1


def test_it_is_a_sum_over_rows() -> None:
    hidden, weight, target = case()
    parts = sum(float(cross_entropy(hidden[i : i + 1], weight, target[i : i + 1])) for i in range(7))
    assert float(cross_entropy(hidden, weight, target)) == pytest.approx(parts, rel=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_the_gradient_in_the_logits_is_mass_times_q_minus_target(*, masked: bool) -> None:
    hidden, weight, target = case()
    allowed = some_allowed(7, 5) if masked else torch.ones(7, 5, dtype=torch.bool)
    target = target * allowed
    logits = (hidden @ weight.T).requires_grad_(True)
    cross_entropy(logits, torch.eye(5), target, allowed).backward()  # with this weight, hidden states are logits
    q = torch.softmax(logits.detach().masked_fill(~allowed, float("-inf")), dim=1)
    expected = target.sum(dim=1, keepdim=True) * q - target
    assert logits.grad is not None
    assert logits.grad.numpy() == pytest.approx(expected.numpy(), abs=1e-6)
    assert torch.isfinite(logits.grad).all()


def test_gradients_by_autograd_equal_finite_differences() -> None:
    hidden, weight, target = case(rows=3, width=4)

    def loss(h: torch.Tensor) -> torch.Tensor:
        return cross_entropy(h, weight, target)

    hidden.requires_grad_(True)
    (found,) = torch.autograd.grad(loss(hidden), hidden)
    step = 1e-2
    for i in range(3):
        for j in range(4):
            moved = torch.zeros_like(hidden)
            moved[i, j] = step
            slope = (loss(hidden + moved) - loss(hidden - moved)) / (2 * step)
            assert float(found[i, j]) == pytest.approx(slope.item(), abs=2e-3)


def test_bfloat16_inputs_are_computed_in_float32() -> None:
    hidden, weight, target = case(rows=50, width=64)
    hidden, weight = hidden.bfloat16(), weight.bfloat16()
    found = cross_entropy(hidden, weight, target)
    assert found.dtype == torch.float32
    everything = torch.ones(50, 5, dtype=torch.bool)
    assert float(found) == pytest.approx(by_numpy(hidden.float(), weight.float(), target, everything), rel=1e-5)


def test_the_divergence_is_never_negative() -> None:
    """1,000 random cases from bfloat16, half of them with the student as good as it can be."""
    worst = 0.0
    for seed in range(1000):
        hidden, weight, target = case(seed, rows=2, width=8, columns=6)
        hidden, weight = (hidden * 4).bfloat16(), weight.bfloat16()
        target = target / target.sum(dim=1, keepdim=True)
        if seed % 2:
            target = torch.softmax(hidden.float() @ weight.float().T, dim=1)
        divergence = float(cross_entropy(hidden, weight, target) - entropy(target))
        assert divergence > -2e-6
        worst = max(worst, divergence) if seed % 2 else worst
    assert worst < 2e-6


def test_sure_targets_and_impossible_answers_give_finite_numbers() -> None:
    target = torch.tensor([[1.0, 0.0, 0.0]])
    hidden = torch.tensor([[300.0, -300.0, 0.0]]).requires_grad_(True)
    loss = cross_entropy(hidden, torch.eye(3), target, torch.tensor([[True, True, False]]))
    loss.backward()
    assert loss.item() == 0.0
    assert hidden.grad is not None
    assert torch.isfinite(hidden.grad).all()
    assert float(entropy(target)) == 0.0


def test_entropy_equals_numpy() -> None:
    target = torch.softmax(torch.randn(9, 4, generator=torch.Generator().manual_seed(1)), dim=1)
    t = target.double().numpy()
    assert float(entropy(target)) == pytest.approx(float(-(t * np.log(t)).sum()), rel=1e-6)


def test_losses_have_names() -> None:
    assert get("cross_entropy") is cross_entropy
    assert set(LOSSES) == set(NAMES)
    with pytest.raises(RecipeError, match=r"'mse'.*cross_entropy"):
        get("mse")


@pytest.mark.parametrize(("name", "word"), [("jsd", "beta"), ("skewed_kl", "alpha")])
@pytest.mark.parametrize("weight", [0.0, 1.0, -0.1, 1.5])
def test_a_mixture_of_one_distribution_alone_is_refused(name: str, word: str, weight: float) -> None:
    with pytest.raises(RecipeError, match=f"{name} has {word} {weight}.*forward_kl"):
        get(name, **{word: weight})
    get("forward_kl", **{word: weight})  # which has no mixture


def test_what_is_not_linear_in_the_teacher_is_refused_on_samples_of_it() -> None:
    """And nothing else: over many draws only the gradients of the others come to the dense one."""
    random = torch.Generator().manual_seed(0)
    z = torch.randn(1, 6, generator=random, dtype=torch.float64)
    t = torch.randn(1, 6, generator=random, dtype=torch.float64).softmax(1)
    draws = 20_000
    counts = torch.distributions.Multinomial(3, t).sample((draws,))[:, 0] / 3  # of three tokens each
    for name in NAMES:
        dense, sampled = z.clone().requires_grad_(True), z.expand(draws, -1).clone().requires_grad_(True)
        plain(name, dense, t.log(), 0.5, 0.1).sum().backward()
        plain(name, sampled, counts.clamp(min=1e-30).log(), 0.5, 0.1).sum().backward()
        assert dense.grad is not None
        assert sampled.grad is not None
        error = sampled.grad.std(dim=0) / draws**0.5
        unbiased = bool(((sampled.grad.mean(dim=0) - dense.grad[0]).abs() < 5 * error + 1e-12).all())
        assert unbiased == (refusal(name, sparse=True) == ""), name
        assert refusal(name, sparse=False) == ""


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"cross_entropy", "forward_kl"}))
def test_a_loss_is_refused_on_what_it_cannot_be_taken_on(name: str) -> None:
    hidden, weight, _ = case()
    some = Sparse(torch.zeros(7, 1, dtype=torch.long), torch.ones(7, 1))
    with pytest.raises(RecipeError, match=f"{name} is biased on sampled targets.*forward_kl"):
        get(name)(hidden, weight, some, None)
    with pytest.raises(RecipeError, match=f"{name} needs a teacher's distribution.*cross_entropy"):
        get(name)(hidden, weight, torch.zeros(7, dtype=torch.long), None)


def test_allowed_columns_go_with_a_float_target() -> None:
    hidden, weight, _ = case()
    allowed = some_allowed(7, 5)
    for name in ("cross_entropy", "forward_kl"):
        with pytest.raises(ValueError, match="allowed columns go with"):
            get(name)(hidden, weight, torch.zeros(7, dtype=torch.long), allowed)


def one_right(rows: int, columns: int = 37, width: int = 24) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states, output weight, the right column of each row: the first and the last occur."""
    random = torch.Generator().manual_seed(rows)
    hidden = torch.randn(rows, width, generator=random)
    weight = torch.randn(columns, width, generator=random)
    target = torch.randint(columns, (rows,), generator=random)
    target[: min(rows, 2)] = torch.tensor([0, columns - 1])[: min(rows, 2)]
    return hidden, weight, target


@pytest.mark.parametrize("rows", [1, 2, BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1, 2 * BLOCK_ROWS, 2 * BLOCK_ROWS + 5])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_one_right_column_a_row_is_torchs_own_cross_entropy(rows: int, scale: float) -> None:
    hidden, weight, target = one_right(rows)
    ours, theirs = (hidden * scale).requires_grad_(True), (hidden * scale).requires_grad_(True)
    found = cross_entropy(ours, weight, target)
    expected = torch.nn.functional.cross_entropy(theirs @ weight.T, target, reduction="sum")
    (found / 3).backward()  # what the caller divides by goes into the gradient
    (expected / 3).backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)
    assert ours.grad is not None
    assert theirs.grad is not None
    assert float((ours.grad - theirs.grad).norm()) < 1e-4 * float(theirs.grad.norm())


def test_one_right_column_is_the_same_as_all_mass_on_it() -> None:
    hidden, weight, target = one_right(9)
    dense = torch.nn.functional.one_hot(target, len(weight)).float()
    assert float(cross_entropy(hidden, weight, target)) == pytest.approx(float(cross_entropy(hidden, weight, dense)))


def test_one_right_column_in_bfloat16_is_computed_in_float32() -> None:
    hidden, weight, target = one_right(BLOCK_ROWS + 30, width=96)
    hidden, weight = hidden.bfloat16(), weight.bfloat16()
    ours, exact = hidden.clone().requires_grad_(True), hidden.float().requires_grad_(True)
    found = cross_entropy(ours, weight, target)
    expected = torch.nn.functional.cross_entropy(exact @ weight.float().T, target, reduction="sum")
    found.backward()
    expected.backward()
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    assert ours.grad is not None
    assert exact.grad is not None
    assert float((ours.grad.float() - exact.grad).norm()) < 2**-8 * float(exact.grad.norm())


def test_a_row_that_is_surely_right_or_surely_wrong_gives_finite_numbers() -> None:
    hidden = torch.tensor([[500.0, -500.0], [500.0, -500.0]]).requires_grad_(True)
    loss = cross_entropy(hidden, torch.eye(2), torch.tensor([0, 1]))
    loss.backward()
    assert loss.item() == pytest.approx(1000)
    assert hidden.grad is not None
    assert hidden.grad.tolist() == [[0.0, 0.0], [1.0, -1.0]]
