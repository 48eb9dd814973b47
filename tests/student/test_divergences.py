from __future__ import annotations

import pytest
import torch

from aasut.student import divergences
from aasut.student.divergences import TINY, dense, listed, one_right, sparse
from loss_formulas import NAMES, plain, plain_sparse


def by_autograd(name: str, z: torch.Tensor, u: torch.Tensor, beta: float, alpha: float) -> tuple[torch.Tensor, ...]:
    exact = z.double().requires_grad_(True)
    losses = plain(name, exact, u.double(), beta, alpha)
    losses.sum().backward()
    assert exact.grad is not None
    return losses.detach(), exact.grad


def ours(name: str, z: torch.Tensor, u: torch.Tensor, beta: float, alpha: float) -> tuple[torch.Tensor, torch.Tensor]:
    gradient = z.clone()
    losses = dense(name, beta, alpha)(gradient, u.clone(), torch.full((2, *z.shape), float("nan")))
    return losses, gradient


def logits(seed: int, scale: float = 3.0, rows: int = 6, columns: int = 41) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    z, u = torch.randn(2, rows, columns, generator=random) * scale
    return z, u


@pytest.mark.parametrize("beta", [0.5, 0.13, 0.9])
@pytest.mark.parametrize("name", NAMES)
def test_losses_and_gradients_are_those_of_the_formulas_in_float64(name: str, beta: float) -> None:
    for seed, scale in enumerate([0.01, 1.0, 3.0, 15.0]):
        z, u = logits(seed, scale)
        losses, gradient = ours(name, z, u, beta, alpha=beta / 2)
        expected, slope = by_autograd(name, z, u, beta, alpha=beta / 2)
        assert losses.double().numpy() == pytest.approx(expected.numpy(), rel=3e-6, abs=3e-7)
        off = (gradient.double() - slope).abs().amax(dim=1)
        assert (off <= 5e-7 * expected.clamp(min=1)).all()


@pytest.mark.parametrize("name", NAMES)
def test_extreme_logits_give_the_formulas_finite_numbers(name: str) -> None:
    """Sure and opposed rows, a flat one, logits that stand for "never", and a common shift that must not matter."""
    z = torch.zeros(6, 9)
    u = torch.zeros(6, 9)
    z[0, 1], u[0, 1] = 1e4, 1e4
    z[1, 1], u[1, 2] = 1e4, 80.0
    z[2, 3], u[2, 3] = -1e4, -1e4
    u[3, 4], z[3, 5] = -3e38, -3e38
    z[4], u[4] = 1e4, -1e4
    z[5, 0], u[5, 0] = 40.0, -40.0
    losses, gradient = ours(name, z, u, 0.3, 0.2)
    expected, slope = by_autograd(name, z, u, 0.3, 0.2)
    infinite = expected > 1e30  # 0.1 of the mass where the other has none
    assert torch.isfinite(gradient[~infinite]).all()
    assert losses[~infinite].double().numpy() == pytest.approx(expected[~infinite].numpy(), rel=1e-5, abs=1e-6)
    assert gradient[~infinite].double().numpy() == pytest.approx(slope[~infinite].numpy(), rel=1e-4, abs=1e-6)
    assert losses[infinite].gt(1e30).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_distribution_against_itself_is_exactly_zero(name: str) -> None:
    for seed, scale in enumerate([0.1, 1.0, 10.0, 1000.0]):
        z, _ = logits(seed, scale, columns=997)
        losses, gradient = ours(name, z, z, 0.3, 0.2)
        assert not gradient.any()
        if name != "cross_entropy":
            assert not losses.any()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "cross_entropy"])
def test_divergences_are_never_negative(name: str) -> None:
    """From bfloat16 inputs, teacher and student alike or a rounding apart, flat or peaked."""
    worst = 0.0
    for seed in range(300):
        random = torch.Generator().manual_seed(seed)
        columns = 2 + 13 * seed
        z = (torch.randn(4, columns, generator=random) * 10 ** (seed % 4 - 2)).bfloat16().float()
        u = z + torch.randn(z.shape, generator=random) * 10 ** -(seed % 5 + 1)
        losses, _ = ours(name, z, u.bfloat16().float() if seed % 2 else u, 0.3, 0.2)
        worst = min(worst, float(losses.min()))
    assert worst >= -1e-6


@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl"])
def test_a_student_near_its_teacher_has_a_loss_with_digits(name: str) -> None:
    """Of 1e-5 nats, the difference of sums of about 1: unbalanced terms are 1e-3 off, and below zero when nearer."""
    z, step = logits(11, 2.0, rows=8, columns=20_000)
    u = z + 0.003 * step
    losses, _ = ours(name, z, u, 0.3, 0.2)
    expected, _ = by_autograd(name, z, u, 0.3, 0.2)
    assert 1e-6 < float(expected.min()) < float(expected.max()) < 1e-3
    assert losses.double().numpy() == pytest.approx(expected.numpy(), rel=3e-3)


def test_a_flat_row_over_a_large_vocabulary_is_as_exact() -> None:
    """A plain running sum in float32 is 1e-4 off here."""
    z = torch.full((1, 131072), -0.1)
    z[0, 5] = 0.7
    u = z.flip(1)
    for name in NAMES[1:]:
        losses, gradient = ours(name, z, u, 0.3, 0.2)
        expected, slope = by_autograd(name, z, u, 0.3, 0.2)
        assert float(losses) == pytest.approx(float(expected), abs=1e-6)
        assert float((gradient - slope).norm() / slope.norm()) < 1e-3


def test_beta_weights_the_teacher() -> None:
    """As TRL's GKD and Liger have it: over beta towards 0 the JSD is KL(t‖s), towards 1 KL(s‖t)."""
    z, u = logits(3, 1.0)
    for beta, name in ((1e-3, "forward_kl"), (1 - 1e-3, "reverse_kl")):
        losses, _ = ours("jsd", z, u, beta, 0.2)
        limit, _ = ours(name, z, u, beta, 0.2)
        assert (losses / min(beta, 1 - beta)).numpy() == pytest.approx(limit.numpy(), rel=0.02)


def a_sparse(rest: bool, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Logits [5, 13] and targets of 4 columns: an id twice, padding with an id that is not listed, a row of zeros."""
    random = torch.Generator().manual_seed(seed)
    z = torch.randn(5, 13, generator=random) * 3
    ids = torch.tensor([[3, 7, 3, 0], [12, 0, 5, 5], [1, 1, 1, 1], [2, 3, 4, 6], [4, 9, 0, 0]])
    mass = torch.tensor(
        [[0.3, 0.2, 0.1, 0.0], [0.25, 0.25, 0.0, 0.0], [0.2, 0.1, 0.3, 0.1], [0.0] * 4, [0.5, 0.4, 0, 0]]
    )
    left = 1 - mass.sum(1)
    left[1] = 0.0
    return z, ids, mass, left if rest else None


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("rest", [False, True])
def test_sparse_targets_give_the_formula_in_float64(*, rest: bool, scale: float) -> None:
    z, ids, mass, left = a_sparse(rest)
    exact = (z * scale).double().requires_grad_(True)
    expected = plain_sparse(exact, ids, mass, left)
    expected.sum().backward()
    assert exact.grad is not None
    gradient = z * scale
    losses = sparse(gradient, listed(ids, mass, left, divergence=True))
    assert losses.double().numpy() == pytest.approx(expected.detach().numpy(), rel=2e-6, abs=5e-7)
    assert gradient.double().numpy() == pytest.approx(exact.grad.numpy(), rel=1e-4, abs=5e-7)
    assert not gradient[3].any()
    assert float(losses[3]) == 0


def test_the_rest_is_exact_where_the_student_gives_it_almost_nothing() -> None:
    """1 - S is 0 in float32; its logarithm is -90, and its gradient is the rest's mass."""
    z = torch.tensor([[0.0, 0.0, -90.0, -91.0]])
    target = listed(torch.tensor([[0, 1]]), torch.tensor([[0.5, 0.4]]), torch.tensor([0.1]), divergence=True)
    gradient = z.clone()
    loss = float(sparse(gradient, target))
    exact = z.double().requires_grad_(True)
    expected = plain_sparse(exact, torch.tensor([[0, 1]]), torch.tensor([[0.5, 0.4]]), torch.tensor([0.1]))
    expected.backward()
    assert exact.grad is not None
    assert loss == pytest.approx(expected.item(), rel=1e-6)
    assert gradient.double().numpy() == pytest.approx(exact.grad.numpy(), abs=1e-6)
    assert float(gradient[0, 2:].sum()) == pytest.approx(-0.1)


def test_sparse_cross_entropy_leaves_the_targets_own_part_out() -> None:
    z, ids, mass, left = a_sparse(rest=True)
    whole, part = z.clone(), z.clone()
    difference = sparse(whole, listed(ids, mass, left, divergence=True)) - sparse(
        part, listed(ids, mass, left, divergence=False)
    )
    t = torch.zeros(z.shape).scatter_add_(1, ids, mass)
    assert left is not None
    r = torch.where(mass.sum(1) > 0, left, 0.0)
    own = torch.special.xlogy(t, t).sum(1) + torch.special.xlogy(r, r)
    assert difference.numpy() == pytest.approx(own.numpy(), abs=1e-6)
    assert torch.equal(whole, part)


def test_all_mass_listed_is_the_dense_loss() -> None:
    z, u = logits(5)
    ids = torch.stack([torch.randperm(41, generator=torch.Generator().manual_seed(i)) for i in range(6)])
    gradient = z.clone()
    losses = sparse(gradient, listed(ids, u.softmax(1).gather(1, ids), None, divergence=True))
    expected, slope = ours("forward_kl", z, u, 0.5, 0.1)
    assert losses.numpy() == pytest.approx(expected.numpy(), rel=1e-5)
    assert gradient.numpy() == pytest.approx(slope.numpy(), abs=1e-6)


def test_one_right_token_is_torchs_cross_entropy() -> None:
    z, _ = logits(1, 20.0)
    ids = torch.tensor([0, 40, 3, 3, 17, 20])
    exact = z.double().requires_grad_(True)
    expected = torch.nn.functional.cross_entropy(exact, ids, reduction="none")
    expected.sum().backward()
    assert exact.grad is not None
    gradient = z.clone()
    assert one_right(gradient, ids).double().numpy() == pytest.approx(expected.detach().numpy(), rel=1e-6, abs=1e-6)
    assert gradient.double().numpy() == pytest.approx(exact.grad.numpy(), abs=1e-6)


def test_the_floor_is_a_normal_number() -> None:
    """Subnormal numbers slow the passes down, and some devices make them zero."""
    assert torch.finfo(torch.float32).tiny == TINY == divergences.TINY
