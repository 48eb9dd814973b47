"""Attention in segments against PyTorch's, a segment at a time."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from aasut.engine import segments
from aasut.engine.segments import Segments

LENGTHS = [5, 1, 40, 6, 17, 40, 2, 33]


def inputs(length: int, heads: int = 6, shared: int = 2, size: int = 8) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    shapes = [(1, length, count, size) for count in (heads, shared, shared)]
    return [torch.randn(s, generator=generator).transpose(1, 2).requires_grad_(True) for s in shapes]


def one_by_one(given: Sequence[torch.Tensor], lengths: Sequence[int], window: int | None, scale: float) -> torch.Tensor:
    parts = []
    for query, key, value in zip(*(t.split(list(lengths), dim=2) for t in given), strict=True):
        back = torch.arange(query.shape[2])[:, None] - torch.arange(query.shape[2])[None]
        seen = (back >= 0) & (back < (window or 10**6))
        mixed = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=seen, scale=scale, enable_gqa=True
        )
        parts.append(mixed.transpose(1, 2))
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("window", [None, 1, 4, 13])
@pytest.mark.parametrize(("block", "kept"), [(128, 512), (8, 512), (8, 16), (7, 0)])
def test_equals_attention_over_each_segment_alone(
    window: int | None, block: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values and gradients, whether or not segments are walked in blocks and weights are computed again."""
    monkeypatch.setattr(segments, "BLOCK", block)
    monkeypatch.setattr(segments, "KEPT", kept)
    given = inputs(sum(LENGTHS))
    found = Segments(LENGTHS, [None, window]).attend(*given, 0.3, 1)
    wanted = one_by_one(given, LENGTHS, window, 0.3)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)
    outer = torch.randn(found.shape, generator=torch.Generator().manual_seed(4))
    for mine, theirs in zip(
        torch.autograd.grad(found, given, outer), torch.autograd.grad(wanted, given, outer), strict=True
    ):
        torch.testing.assert_close(mine, theirs, atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("window", [None, 4, 13])
@pytest.mark.parametrize(("block", "kept"), [(128, 512), (8, 16)])
def test_what_all_begin_with_is_seen_by_all(
    window: int | None, block: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values and gradients, against segments that each have the beginning as their own."""
    monkeypatch.setattr(segments, "BLOCK", block)
    monkeypatch.setattr(segments, "KEPT", kept)
    begin = 11
    given = inputs(begin + sum(LENGTHS))
    found = Segments(LENGTHS, [window], begin=begin).attend(*given, 0.3, 0)
    starts = [begin + sum(LENGTHS[:i]) for i in range(len(LENGTHS))]
    whole = [[*range(begin), *range(start, start + n)] for start, n in zip(starts, LENGTHS, strict=True)]
    spread = [t[:, :, [place for row in whole for place in row]] for t in given]
    parts = one_by_one(spread, [len(row) for row in whole], window, 0.3).split([len(row) for row in whole], dim=1)
    wanted = torch.cat([parts[0][:, :begin], *(part[:, begin:] for part in parts)], dim=1)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)
    outer = torch.randn(found.shape, generator=torch.Generator().manual_seed(4))
    for mine, theirs in zip(
        torch.autograd.grad(found, given, outer), torch.autograd.grad(wanted, given, outer), strict=True
    ):
        torch.testing.assert_close(mine, theirs, atol=3e-6, rtol=1e-4)


def test_without_a_gradient_nothing_is_kept_and_the_values_are_the_same() -> None:
    given = inputs(sum(LENGTHS))
    made = Segments(LENGTHS, [None])
    with torch.no_grad():
        assert torch.equal(made.attend(*given, 0.3, 0), made.attend(*given, 0.3, 0))
        torch.testing.assert_close(made.attend(*given, 0.3, 0), one_by_one(given, LENGTHS, None, 0.3))


def test_little_is_padded_and_every_token_is_in_one_group() -> None:
    made = Segments(LENGTHS, [None])
    held = torch.cat([group.tokens for group in made.groups])
    assert sorted(held.tolist()) == list(range(sum(LENGTHS)))
    for group in made.groups:
        assert group.shape[0] * group.shape[1] <= (1 + segments.WASTE) * len(group.tokens)
    assert len(Segments([9] * 50, [None]).groups) == 1
