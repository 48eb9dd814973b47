from __future__ import annotations

import pytest
import torch

from aasut.student import losses, main_grad
from aasut.student.main_grad import MainGrad
from aasut.student.targets import Dense


def parameter(rows: int = 6, width: int = 3, dtype: torch.dtype = torch.bfloat16) -> torch.nn.Parameter:
    made = torch.nn.Parameter(torch.zeros(rows, width, dtype=dtype))
    made.main_grad = MainGrad(made)  # type: ignore[attr-defined]
    return made


def test_gradients_are_summed_in_float32() -> None:
    held = MainGrad(parameter())
    for value in (256.0, 1.0):  # their sum is no bfloat16
        held.add(torch.full((6, 3), value, dtype=torch.bfloat16))
    assert held.value.unique().tolist() == [257.0]
    held.begun = False  # the next step
    held.add(torch.ones(6, 3))
    assert held.value.unique().tolist() == [1.0]


def test_some_rows_are_added_where_they_belong() -> None:
    held = MainGrad(parameter())
    held.value.fill_(7.0)  # of a step before
    values = torch.tensor([[1.0] * 3, [2.0] * 3, [256.0] * 3])
    rows = torch.sparse_coo_tensor(torch.tensor([[1, 4, 1]]), values, (6, 3), check_invariants=True)
    held.add(rows.to(torch.bfloat16))
    assert held.value[:, 0].tolist() == [0, 257, 0, 0, 2, 0]
    held.add(torch.ones(6, 3, dtype=torch.bfloat16))
    assert held.value[:, 0].tolist() == [1, 258, 1, 1, 3, 1]


def case(rows: int = 9, vocabulary: int = 40, width: int = 5) -> tuple[torch.Tensor, torch.Tensor, Dense]:
    random = torch.Generator().manual_seed(0)
    hidden, weight, other, matrix = (torch.randn(n, width, generator=random) for n in (rows, vocabulary) * 2)
    return hidden.requires_grad_(), torch.nn.Parameter(weight), Dense(other, matrix)


@pytest.mark.parametrize("name", ["forward_kl", "jsd"])
def test_a_fused_loss_adds_what_autograd_would_have_made(name: str) -> None:
    hidden, weight, target = case()
    torch.autograd.backward(losses.get(name)(hidden, weight, target, None) / 7)
    expected, of_hidden = weight.grad, hidden.grad
    assert expected is not None
    weight.grad = hidden.grad = None
    held = MainGrad(weight)
    held.divisor = 7.0
    weight.main_grad = held  # type: ignore[attr-defined]
    assert main_grad.of(weight) is held
    for _ in range(2):  # two micro-batches
        torch.autograd.backward(losses.get(name)(hidden, weight, target, None) / 7)
    assert weight.grad is None
    torch.testing.assert_close(held.value, 2 * expected)
    torch.testing.assert_close(hidden.grad, 2 * of_hidden)


def test_another_divisor_is_refused() -> None:
    hidden, weight, target = case()
    weight.main_grad = MainGrad(weight)  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="divided by another number"):
        torch.autograd.backward(losses.get("forward_kl")(hidden, weight, target, None) / 7)


def test_without_a_gradient_nothing_is_added() -> None:
    hidden, weight, target = case()
    weight.main_grad = held = MainGrad(weight)  # type: ignore[attr-defined]
    with torch.no_grad():
        losses.get("forward_kl")(hidden, weight, target, None)
    assert not held.begun
