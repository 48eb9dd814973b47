"""Attention within the segments of a packed row: causal in each, nothing across, and no [T, T] mask.

The first segment may be what all others begin with, and stands there once: they see its keys, too.

Segments of like length are laid side by side for the attention alone, at most `WASTE` of it padding;
long ones are walked in blocks of queries that meet only the keys they may see. The gradient is made
by hand from the weights, or from weights computed again where they would be large.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

WASTE = 0.2  # most padding, as a share of a group's tokens
BLOCK = 128  # queries of a block
KEPT = 512  # longest segments whose attention weights are kept for the backward pass


@dataclass(frozen=True)
class Group:
    """n segments of like length, at most W tokens each, that all see the keys of the packed row's first P tokens.

    index [n · W] the packed row's token at each place, any token where a segment is shorter · kept [tokens] the
    places that hold a segment's own token · tokens [tokens] which token that is · begin: P.
    """

    shape: tuple[int, int]
    index: torch.Tensor
    kept: torch.Tensor
    tokens: torch.Tensor
    begin: int = 0

    def blocks(self, window: int | None) -> list[tuple[slice, slice]]:
        """Blocks of queries, each with the keys, of the P and its own, that some query of it may see."""
        width, result = self.shape[1], []
        for first in range(0, width, BLOCK):
            end = min(first + BLOCK, width)
            start = 0 if window is None else max(0, self.begin + first - window + 1)
            result.append((slice(first, end), slice(start, self.begin + end)))
        return result

    def keys(self, every: torch.Tensor) -> torch.Tensor:
        """[n, heads, P + W, D] of keys or values [T, heads, D]."""
        n, width = self.shape
        own = every.index_select(0, self.index).view(n, width, *every.shape[1:])
        if self.begin:
            own = torch.cat([every[None, : self.begin].expand(n, -1, -1, -1), own], dim=1)
        return own.transpose(1, 2).contiguous()


class Segments:
    """Where the segments of a packed row of T tokens lie, and how far back each layer's attention looks.

    `windows` has an entry a layer: how many tokens, itself counted, a token sees; None for all before it.
    `begin`: how many tokens, before those of `lengths`, all segments begin with.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        windows: Sequence[int | None],
        device: torch.device | str = "cpu",
        begin: int = 0,
    ) -> None:
        self.windows, self.begin = windows, begin
        starts = [begin]
        for length in lengths:
            starts.append(starts[-1] + length)
        self.groups = [_group([0], [begin], 0, device)] if begin else []
        self.groups += [
            _group([starts[i] for i in part], [lengths[i] for i in part], begin, device) for part in _alike(lengths)
        ]

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, layer: int
    ) -> torch.Tensor:
        """query [1, H, T, D]; key, value [1, G, T, D], G key heads for H query heads. Gives [1, T, H, D]."""
        result: torch.Tensor = _Attention.apply(query, key, value, self.groups, scale, self.windows[layer])  # type: ignore[no-untyped-call]
        return result


def _alike(lengths: Sequence[int]) -> Iterator[list[int]]:
    """The segments in groups, shortest first."""
    part: list[int] = []
    held = 0
    for i in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if part and lengths[i] * (len(part) + 1) > (1 + WASTE) * (held + lengths[i]):
            yield part
            part, held = [], 0
        part.append(i)
        held += lengths[i]
    if part:
        yield part


def _group(starts: Sequence[int], lengths: Sequence[int], begin: int, device: torch.device | str) -> Group:
    width = max(lengths)
    order = torch.arange(width)[None]
    own = order < torch.tensor(lengths)[:, None]
    index = (torch.tensor(starts)[:, None] + order.expand(len(starts), -1)).masked_fill(~own, starts[0]).flatten()
    kept = own.flatten().nonzero()[:, 0]
    return Group((len(starts), width), index.to(device), kept.to(device), index[kept].to(device), begin)


@lru_cache(maxsize=256)
def _mask(queries: int, keys: int, window: int | None, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """[queries, keys], the last of both the same token: 0 where a query sees a key, minus infinity elsewhere."""
    back = torch.arange(keys - queries, keys)[:, None] - torch.arange(keys)[None]
    hidden = (back < 0) if window is None else (back < 0) | (back >= window)
    return torch.zeros(queries, keys, dtype=dtype).masked_fill_(hidden, float("-inf")).to(device)


def _weights(query: torch.Tensor, key: torch.Tensor, queries: int, window: int | None) -> torch.Tensor:
    """softmax(query · key), [n, G, E · queries, keys], of query [n, G, E · queries, D] and key [n, G, keys, D]."""
    scores = query @ key.transpose(2, 3)
    n, heads, rows, keys = scores.shape
    seen = scores.view(n, heads, rows // queries, queries, keys)
    if window is None:  # all queries see the keys before the block
        seen[..., keys - queries :].add_(_mask(queries, queries, None, scores.dtype, scores.device))
    else:
        seen.add_(_mask(queries, keys, window, scores.dtype, scores.device))
    return torch.softmax(scores, dim=-1)


class _Attention(torch.autograd.Function):
    """E = H / G query heads share a key head; their queries of a block are one matrix."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        groups: Sequence[Group],
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        _, heads, length, size = query.shape
        shared = key.shape[1]
        each = heads // shared
        q, k, v = (part[0].transpose(0, 1) for part in (query * scale, key, value))  # [T, heads, D]
        result = query.new_empty(length, heads, size)
        learning = any(ctx.needs_input_grad)
        saved: list[torch.Tensor] = []
        for group in groups:
            n, width = group.shape
            rows = q.index_select(0, group.index).view(n, width, shared, each, size).permute(0, 2, 3, 1, 4)
            keys, values = group.keys(k), group.keys(v)
            mixed = query.new_empty(n, width, shared, each, size)
            saved += [keys, values] if learning else []
            for at, seen in group.blocks(window):
                count = at.stop - at.start
                part = rows[:, :, :, at].reshape(n, shared, each * count, size)
                weights = _weights(part, keys[:, :, seen], count, window)
                out = (weights @ values[:, :, seen]).view(n, shared, each, count, size)
                mixed[:, at] = out.permute(0, 3, 1, 2, 4)
                if learning:
                    saved += [part, weights] if width <= KEPT else [part]
            result[group.tokens] = mixed.view(n * width, heads, size)[group.kept]
        ctx.save_for_backward(*saved)
        ctx.groups, ctx.scale, ctx.window, ctx.shape = groups, scale, window, (length, heads, shared, size)
        return result[None]

    @staticmethod
    def backward(ctx: Any, *grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        saved = iter(ctx.saved_tensors)
        length, heads, shared, size = ctx.shape
        each = heads // shared
        given = grad[0][0]  # [T, H, D]
        dq, dk, dv = (given.new_empty(length, count, size) for count in (heads, shared, shared))
        begin = max(group.begin for group in ctx.groups)
        to_begin = given.new_zeros(2, begin, shared, size, dtype=torch.float32)
        for group in ctx.groups:
            n, width = group.shape
            keys, values = next(saved), next(saved)
            rows = given.new_zeros(n * width, heads, size)  # none from the padding
            rows[group.kept] = given[group.tokens]
            rows = rows.view(n, width, shared, each, size).permute(0, 2, 3, 1, 4)
            to_query = given.new_empty(n, width, shared, each, size)
            to_key, to_value = (torch.zeros_like(keys, dtype=torch.float32) for _ in range(2))
            for at, seen in group.blocks(ctx.window):
                count = at.stop - at.start
                part = next(saved)
                weights = next(saved) if width <= KEPT else _weights(part, keys[:, :, seen], count, ctx.window)
                out = rows[:, :, :, at].reshape(n, shared, each * count, size)
                to_value[:, :, seen] += weights.transpose(2, 3) @ out
                met = out @ values[:, :, seen].transpose(2, 3)
                scores = torch._softmax_backward_data(met, weights, -1, weights.dtype)
                to_key[:, :, seen] += scores.transpose(2, 3) @ part
                back = (scores @ keys[:, :, seen]).view(n, shared, each, count, size)
                to_query[:, at] = back.permute(0, 3, 1, 2, 4)
            dq[group.tokens] = to_query.view(n * width, heads, size)[group.kept]
            for result, part, common in ((dk, to_key, to_begin[0]), (dv, to_value, to_begin[1])):
                own = part[:, :, group.begin :].transpose(1, 2).reshape(n * width, shared, size)
                result[group.tokens] = own[group.kept].to(result)
                if group.begin:
                    common += part[:, :, : group.begin].sum(dim=0).transpose(0, 1)
        for result, common in ((dk, to_begin[0]), (dv, to_begin[1])):
            result[:begin] += common.to(result)
        dq *= ctx.scale
        return (*(part.transpose(0, 1)[None] for part in (dq, dk, dv)), None, None, None)
