from __future__ import annotations

import pytest
import torch

from aasut.student import projection
from aasut.student.projection import Projection, _float32_by_onednn

ROWS, COLUMNS, WIDTH = 13, 6000, 48  # so wide that not all columns are taken again in float32


def case(dtype: torch.dtype = torch.bfloat16) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states, weight and exact logits [rows, columns]: of 11 or so, and 25 at the top, as language models'."""
    random = torch.Generator().manual_seed(0)
    hidden = torch.randn(ROWS, WIDTH, generator=random)
    hidden[:, 0] = 10
    weight = torch.randn(COLUMNS, WIDTH, generator=random) * 0.5
    weight[:, 0] = 1.1
    hidden, weight = hidden.to(dtype), weight.to(dtype)
    return hidden, weight, hidden.double() @ weight.double().T


def less_top(logits: torch.Tensor) -> torch.Tensor:
    return logits.double() - logits.double().logsumexp(dim=1, keepdim=True)


def made(hidden: torch.Tensor, weight: torch.Tensor, named: torch.Tensor | None = None) -> torch.Tensor:
    """Log-probabilities of rows 2 to the last, made in a part of a larger buffer and three rows at a time."""
    projection = Projection(hidden, weight, at_once=3)
    buffer = torch.full((ROWS + 3, COLUMNS), float("nan"), dtype=projection.held)
    spare = torch.full((3, COLUMNS), float("nan"))
    block = projection.logits(slice(2, ROWS), buffer[: ROWS - 2], spare, named)
    assert buffer[ROWS - 2 :].isnan().all()
    parts = [slice(start, min(start + 3, ROWS - 2)) for start in range(0, ROWS - 2, 3)]
    return less_top(torch.cat([block.read(part, spare).clone() for part in parts]))


@pytest.mark.parametrize("given", [("float32", "float32"), ("float32", "bfloat16"), ("bfloat16", "float32")])
def test_float32_is_computed_in_float32(given: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "PANEL_ROWS", 700)
    hidden, weight, exact = case()
    hidden, weight = hidden.to(getattr(torch, given[0])), weight.to(getattr(torch, given[1]))
    assert made(hidden, weight).numpy() == pytest.approx(less_top(exact[2:]).numpy(), abs=1e-5)


def test_bfloat16_rounds_the_unlikely_alone() -> None:
    hidden, weight, exact = case()
    expected = less_top(exact[2:])
    error = (made(hidden, weight) - expected).abs()
    rounded = (less_top((hidden[2:] @ weight.T).float()) - expected).abs()
    likely = expected > expected.amax(dim=1, keepdim=True) - 4
    assert likely.sum() > 2 * ROWS
    assert error[likely].max() < 3e-3  # the mass of the others is what is left
    assert rounded[likely].max() > 0.03
    assert error.max() < 0.08


def test_what_is_left_is_less_than_rounding_the_gradient_gives() -> None:
    hidden, weight, exact = case()
    expected = less_top(exact[2:]).exp()
    length = float((expected @ weight.double() - weight[7]).norm())  # of the hidden states' gradient, 7 being right

    def error(found: torch.Tensor) -> float:
        return float(((found.exp() - expected) @ weight.double()).norm()) / length

    assert error(made(hidden, weight)) < 1.5e-3
    assert error(less_top((hidden[2:] @ weight.T).float())) > 5e-3


def test_named_columns_are_exact_however_unlikely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "_multiplies_bfloat16", lambda: True)  # slow, and right, where it is emulated
    hidden, weight, exact = case()
    expected = less_top(exact[2:])
    named = expected.argmin(dim=1, keepdim=True)
    without, found = made(hidden, weight), made(hidden, weight, named)
    assert (without - expected).gather(1, named).abs().max() > 5e-3
    assert (found - expected).gather(1, named).abs().max() < 3e-3


def test_few_columns_are_all_exact() -> None:
    hidden, weight, exact = case()
    out = torch.empty(ROWS, 600)
    projection = Projection(hidden, weight[:600], at_once=3)
    assert projection.held == torch.float32
    assert projection.logits(slice(0, ROWS), out, torch.empty(3, 600)).held is out
    assert out.double().numpy() == pytest.approx(exact[:, :600].numpy(), abs=2e-5)


def test_a_processor_without_bfloat16_gets_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, exact = case()
    monkeypatch.setattr(projection, "_multiplies_bfloat16", lambda: False)
    assert made(hidden, weight).numpy() == pytest.approx(less_top(exact[2:]).numpy(), abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_way_back_is_the_product_of_gradient_and_weight(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projection, "PANEL_ROWS", 700)
    monkeypatch.setattr(projection, "_multiplies_bfloat16", lambda: True)
    hidden, weight, _ = case(dtype)
    gradient = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(1))
    expected = gradient.to(dtype) @ weight
    out = torch.empty(ROWS, WIDTH, dtype=dtype)
    made = Projection(hidden, weight, at_once=3)
    made.back(made.operand(gradient), out)
    assert torch.allclose(out, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-6), (torch.bfloat16, 4e-3)])
def test_the_weights_gradient_is_summed_in_float32(
    dtype: torch.dtype, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part is rounded where products are of bfloat16, but not the sum that it is added to."""
    monkeypatch.setattr(projection, "PANEL_ROWS", 700)
    hidden, weight, _ = case(dtype)
    gradient = torch.randn(ROWS - 2, COLUMNS, generator=torch.Generator().manual_seed(1))
    total = torch.full((COLUMNS, WIDTH), 1000.0)
    made = Projection(hidden, weight, at_once=3)
    made.add_to_weight(slice(2, ROWS), made.operand(gradient), total, 2.0)
    expected = gradient.double().T @ hidden[2:].double() / 2
    assert float((total.double() - 1000 - expected).norm() / expected.norm()) < max(most, 2e-5)
    assert total.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gradient_replaces_the_logits(dtype: torch.dtype) -> None:
    block = projection.Block(torch.ones(5, 6, dtype=dtype))
    part = block.read(slice(1, 3), torch.empty(2, 6))
    block.write(slice(1, 3), part.fill_(2.0))
    assert block.held[:, 0].tolist() == [1, 2, 2, 1, 1]


def test_the_processors_setting_is_put_back() -> None:
    setting = torch.backends.mkldnn.matmul
    before = setting.fp32_precision
    with _float32_by_onednn(True):
        assert setting.fp32_precision == "bf16"
    assert setting.fp32_precision == before
    with pytest.raises(ZeroDivisionError), _float32_by_onednn(True):
        raise ZeroDivisionError
    assert setting.fp32_precision == before
    with _float32_by_onednn(False):
        assert setting.fp32_precision == before
