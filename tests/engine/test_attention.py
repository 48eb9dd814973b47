"""The shared-prefix attention against PyTorch's on the same inputs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from aasut.engine import attention


def _inputs(prefix: int) -> tuple[dict[str, torch.Tensor], list[tuple[torch.Tensor, torch.Tensor]] | None]:
    generator = torch.Generator().manual_seed(prefix)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    mask = torch.zeros(3, 1, 5, prefix + 5)
    mask[:, :, :, prefix:].masked_fill_(~torch.ones(5, 5, dtype=torch.bool).tril(), float("-inf"))
    if prefix:
        mask[1, :, :, 0] = float("-inf")  # one row does not see the first token of the prefix
    inputs = {"query": draw(3, 6, 5, 8), "key": draw(3, 2, 5, 8), "value": draw(3, 2, 5, 8), "attention_mask": mask}
    return inputs, [(draw(1, 2, prefix, 8), draw(1, 2, prefix, 8))] if prefix else None


@pytest.mark.parametrize("prefix", [0, 7])
@pytest.mark.parametrize("scaling", [None, 0.3])
def test_equals_attention_over_the_whole_row(prefix: int, scaling: float | None) -> None:
    inputs, past = _inputs(prefix)
    key, value = inputs["key"], inputs["value"]
    if past:
        key = torch.cat([past[0][0].expand(3, -1, -1, -1), key], 2)
        value = torch.cat([past[0][1].expand(3, -1, -1, -1), value], 2)
    wanted = torch.nn.functional.scaled_dot_product_attention(
        inputs["query"],
        key.repeat_interleave(3, 1),
        value.repeat_interleave(3, 1),
        attn_mask=inputs["attention_mask"],
        scale=scaling,
    ).transpose(1, 2)
    found, _ = attention.attend(SimpleNamespace(layer_idx=0), **inputs, scaling=scaling, shared_prefix=past)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("prefix", [0, 7])
def test_blocks_give_the_same(prefix: int, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, past = _inputs(prefix)
    module = SimpleNamespace(layer_idx=0)
    whole, _ = attention.attend(module, **inputs, shared_prefix=past)
    monkeypatch.setattr(attention, "MOST_SCORES", 0)
    blocks, _ = attention.attend(module, **inputs, shared_prefix=past)
    torch.testing.assert_close(blocks, whole, atol=1e-6, rtol=1e-5)
