from __future__ import annotations

import pytest
import torch

from aasut.student import fused, projection
from aasut.student.losses import LOSSES, get
from aasut.student.targets import Dense, Sparse, Target
from loss_formulas import NAMES, plain, plain_sparse

BETA, ALPHA = 0.3, 0.2


def case(dtype: torch.dtype = torch.float32, rows: int = 23, columns: int = 37) -> tuple[torch.Tensor, ...]:
    """The student's hidden states and weight, the teacher's, of another width and with more rows at its end."""
    random = torch.Generator().manual_seed(rows)
    student = torch.randn(rows, 24, generator=random), torch.randn(columns, 24, generator=random) * 0.5
    teacher = torch.randn(rows, 40, generator=random), torch.randn(columns + 6, 40, generator=random) * 0.4
    return tuple(tensor.to(dtype) for tensor in (*student, *teacher))


def by_autograd(
    name: str, hidden: torch.Tensor, weight: torch.Tensor, target: Target
) -> tuple[float, torch.Tensor, torch.Tensor]:
    """The sum and both gradients in float64, all logits at once."""
    exact, matrix = hidden.detach().double().requires_grad_(True), weight.detach().double().requires_grad_(True)
    logits = exact @ matrix.T
    if isinstance(target, Dense):
        losses = plain(name, logits, target.hidden.double() @ target.weight[: len(weight)].double().T, BETA, ALPHA)
    elif isinstance(target, Sparse):
        losses = plain_sparse(logits, target.ids, target.mass, target.rest)
    else:
        losses = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    losses.sum().backward()
    assert exact.grad is not None
    assert matrix.grad is not None
    return losses.sum().item(), exact.grad, matrix.grad


def off(found: torch.Tensor | None, expected: torch.Tensor) -> float:
    """Distance relative to the expected length."""
    assert found is not None
    return float((found.double() - expected).norm() / expected.norm())


def a_target(kind: str, rows: int, columns: int, dense: Dense) -> Target:
    random = torch.Generator().manual_seed(7)
    if kind == "dense":
        return dense
    ids = torch.randint(columns, (rows, 5), generator=random)
    if kind == "ids":
        return ids[:, 0]
    mass = torch.rand(rows, 5, generator=random)
    mass /= mass.sum(1, keepdim=True) * (1.25 if kind == "rest" else 1)
    return Sparse(ids, mass, 1 - mass.sum(1) if kind == "rest" else None)


CASES = [("dense", name) for name in NAMES] + [(kind, "forward_kl") for kind in ("sparse", "rest", "ids")]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks, passes and panels that divide neither 23 rows nor 37 columns."""
    monkeypatch.setattr(fused, "BLOCK_ROWS", 5)
    monkeypatch.setattr(fused, "PASS_VALUES", 2 * 37)
    monkeypatch.setattr(fused, "LEAST_ROWS", 5)
    monkeypatch.setattr(projection, "PANEL_ROWS", 8)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("dtypes", ["float32", "bfloat16", "bfloat16 weight"])
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_the_sum_and_both_gradients_are_autograds_in_float64(kind: str, name: str, dtypes: str) -> None:
    hidden, weight, *teacher = case(torch.float32 if dtypes == "float32" else torch.bfloat16)
    hidden = hidden.float() if dtypes == "bfloat16 weight" else hidden
    target = a_target(kind, len(hidden), len(weight), Dense(*teacher))
    hidden.requires_grad_(True)
    weight.requires_grad_(True)
    found = get(name, beta=BETA, alpha=ALPHA)(hidden, weight, target, None)
    (found / 7).backward()
    total, of_hidden, of_weight = by_autograd(name, hidden, weight, target)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(total, rel=2e-6)
    assert hidden.grad is not None
    assert weight.grad is not None
    assert (hidden.grad.dtype, weight.grad.dtype) == (hidden.dtype, weight.dtype)
    assert off(hidden.grad, of_hidden / 7) < (4e-3 if dtypes == "bfloat16" else 2e-6)
    assert off(weight.grad, of_weight / 7) < (2e-6 if dtypes == "float32" else 4e-3)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("name", NAMES)
def test_blocks_do_not_change_the_sum(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, *teacher = case()
    found = float(get(name)(hidden, weight, Dense(*teacher), None))
    monkeypatch.setattr(fused, "BLOCK_ROWS", 1000)
    assert found == pytest.approx(float(get(name)(hidden, weight, Dense(*teacher), None)), rel=1e-6)
    parts = [
        get(name)(hidden[i : i + 1], weight, Dense(teacher[0][i : i + 1], teacher[1]), None) for i in range(len(hidden))
    ]
    assert found == pytest.approx(float(sum(parts)), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"cross_entropy"}))
def test_a_student_that_is_its_teacher_has_no_loss_and_no_gradient(name: str, dtype: torch.dtype) -> None:
    hidden, weight, _, _ = case(dtype, rows=70, columns=501)
    hidden.requires_grad_(True)
    loss = get(name)(hidden, weight, Dense(hidden.detach().clone(), weight.clone()), None)
    loss.backward()
    assert loss.item() == 0
    assert hidden.grad is not None
    assert not hidden.grad.any()


@pytest.mark.parametrize("grows", ["student", "teacher"])
def test_rows_at_the_end_that_stand_for_no_token_do_not_count(grows: str) -> None:
    hidden, weight, teacher, matrix = case()
    matrix = matrix[: len(weight)]
    expected = get("forward_kl")(hidden, weight, Dense(teacher, matrix), None)
    junk = torch.full((9, 24 if grows == "student" else 40), 50.0)
    longer, other = (torch.cat([weight, junk]), matrix) if grows == "student" else (weight, torch.cat([matrix, junk]))
    longer.requires_grad_(True)
    found = get("forward_kl")(hidden, longer, Dense(teacher, other), None)
    found.backward()
    assert torch.equal(found, expected)
    assert longer.grad is not None
    assert longer.grad.shape == longer.shape
    assert not longer.grad[len(weight) :].any()


def test_only_what_requires_a_gradient_gets_one() -> None:
    hidden, weight, *teacher = case()
    get("jsd")(hidden.requires_grad_(True), weight, Dense(*teacher), None).backward()
    assert hidden.grad is not None
    assert weight.grad is None
    fixed = hidden.detach()
    get("jsd")(fixed, weight.requires_grad_(True), Dense(*teacher), None).backward()
    assert weight.grad is not None
    assert fixed.grad is None
    with torch.no_grad():
        assert not get("jsd")(hidden, weight, Dense(*teacher), None).requires_grad


def test_the_gradient_is_taken_once() -> None:
    hidden, weight, *teacher = case()
    loss = get("jsd")(hidden.requires_grad_(True), weight, Dense(*teacher), None)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="already taken"):
        loss.backward()


def test_no_rows_are_no_loss() -> None:
    hidden, weight, *teacher = case()
    empty = hidden[:0].requires_grad_(True)
    for target in (Dense(teacher[0][:0], teacher[1]), torch.zeros(0, dtype=torch.long)):
        loss = get("forward_kl")(empty, weight, target, None)
        loss.backward()
        assert loss.item() == 0


def test_positions_and_targets_must_match() -> None:
    hidden, weight, *teacher = case()
    with pytest.raises(ValueError, match="22 positions, 23 targets"):
        get("forward_kl")(hidden[1:], weight, Dense(*teacher), None)
