"""Mixture-of-Experts layers: a router in float32, and experts on tokens sorted by expert. No token is ever dropped.

transformers' Mixtral and Qwen2-MoE classes hold the experts of a layer in two tensors, `gate_up_proj` [E, 2f, d] and
`down_proj` [E, d, f]: E experts of f neurons between d channels. `install` gives their layers this arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn import functional

NAME = "sorted_by_expert"
PIECE = 512  # rows of an expert that are worked on at a time, so that what is between products stays in the cache
LEAST = 128  # rows of the last piece, unless an expert has fewer: products of few rows take longer for each


class Router(torch.nn.Module):
    """Chooses `top_k` experts for each token by softmax(weight @ hidden), all in float32.

    weight [E, d] · bias [E] is added in training, for the choice alone: what experts are weighted by is without it
    (Wang et al. 2024, auxiliary-loss-free balancing) · normalise: the weights of the chosen sum to 1 · watch: is called
    with (hidden [T, d], logits [T, E], scores [T, E], chosen [T, k]) of every pass, where it is given.
    """

    def __init__(self, weight: torch.Tensor, top_k: int, *, normalise: bool) -> None:
        super().__init__()
        self.bias: torch.Tensor
        self.weight = torch.nn.Parameter(weight.detach().float())
        self.register_buffer("bias", torch.zeros(len(weight), device=weight.device), persistent=False)
        self.top_k, self.normalise = top_k, normalise
        self.watch: Any = None

    def forward(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(logits [T, E], weights [T, k], chosen [T, k]) of hidden states [T, d]."""
        logits = functional.linear(hidden.reshape(-1, hidden.shape[-1]).float(), self.weight.float())
        scores = logits.softmax(-1)
        chosen = (scores.detach() + self.bias if self.training else scores).topk(self.top_k, dim=-1).indices
        weights = scores.gather(1, chosen)
        if self.normalise:
            weights = weights / weights.sum(-1, keepdim=True)
        if self.watch is not None:
            self.watch(hidden, logits, scores, chosen)
        return logits, weights, chosen


def blocks(model: Any) -> list[Any]:
    """The Mixture-of-Experts blocks of a model's layers, in order."""
    found = (getattr(layer, "mlp", None) for layer in model.model.layers)
    return [block for block in found if hasattr(block, "experts") and hasattr(block, "gate")]


def routers(model: Any) -> list[Router]:
    """Their routers."""
    return [block.gate for block in blocks(model)]


def train_only(model: Any, chosen: Sequence[int]) -> None:
    """Of all weights, let these experts alone be trained: a row of a router that learned, too, would draw in others'
    tokens."""
    model.requires_grad_(False)
    for block in blocks(model):
        block.experts.requires_grad_(True)
        block.experts.trained = frozenset(chosen)


def install(model: Any) -> None:
    """Give a model's blocks, where it has any, the router and the arithmetic of this module."""
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    for block in blocks(model):
        gate = block.gate
        block.gate = Router(gate.weight, int(gate.top_k), normalise=bool(getattr(gate, "norm_topk_prob", True)))
        block.experts.config._experts_implementation_internal = NAME
    ALL_EXPERTS_FUNCTIONS.register(NAME, forward)


def forward(module: Any, hidden: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Of each token the sum of its experts' outputs, by their weights: [T, d].

    hidden [T, d] · chosen [T, k] experts · weights [T, k] float32. Differentiable in hidden, weights and the experts.
    """
    if len(hidden) == 1 and not torch.is_grad_enabled():
        return _one(hidden, weights, module.gate_up_proj, module.down_proj, chosen)
    order = _Order(chosen, module.gate_up_proj.shape[0], padded=not hidden.is_cuda)
    if hidden.is_cuda:
        return grouped(hidden, weights, module.gate_up_proj, module.down_proj, order)
    result: torch.Tensor = _Experts.apply(  # type: ignore[no-untyped-call]
        hidden, weights, module.gate_up_proj, module.down_proj, order, getattr(module, "trained", None)
    )
    return result


def _one(
    hidden: torch.Tensor, weights: torch.Tensor, gate_up: torch.Tensor, down: torch.Tensor, chosen: torch.Tensor
) -> torch.Tensor:
    """The same for one token, as in writing: there is nothing to sort, and what sorting costs would count."""
    total = torch.zeros_like(hidden)
    for expert, weight in zip(chosen[0].tolist(), weights[0].tolist(), strict=True):
        gate, up = functional.linear(hidden, gate_up[expert]).chunk(2, -1)
        total.add_(functional.linear(functional.silu(gate).mul_(up), down[expert]), alpha=weight)
    return total


class _Order:
    """Where each of the [T * k] pairs of token and expert stands among rows that are sorted by expert.

    places [T, k] of a token's rows · tokens [R] which token each row is of · counts [E] how many rows an expert has.
    Where they are `padded`, an expert's rows fill up to one of few sizes, with rows of some token that nothing is taken
    from: a CPU's matrix products are compiled for each size that they meet (oneDNN), at several times their cost.
    """

    def __init__(self, chosen: torch.Tensor, experts: int, *, padded: bool) -> None:
        flat = chosen.reshape(-1)
        count = flat.bincount(minlength=experts)
        self.counts = _filled(count) if padded else count
        order = flat.argsort(stable=True)
        shift = (self.counts.cumsum(0) - self.counts) - (count.cumsum(0) - count)
        place = torch.arange(len(flat), device=flat.device) + shift.repeat_interleave(count, output_size=len(flat))
        self.size = int(self.counts.sum()) if padded else len(flat)
        self.tokens = order.new_zeros(self.size).index_copy_(0, place, order // chosen.shape[1])
        self.places = torch.empty_like(order).index_copy_(0, order, place).view(chosen.shape)

    def pieces(self) -> Iterator[tuple[int, slice]]:
        """(expert, some of its rows), all rows in order."""
        start = 0
        for expert, count in enumerate(self.counts.tolist()):
            end = start + count
            while start < end:
                stop = end if end - start < PIECE + LEAST else start + PIECE
                yield expert, slice(start, stop)
                start = stop

    def spread(self, weights: torch.Tensor) -> torch.Tensor:
        """[T, k] as a column of the rows, [R, 1]: 0 where a row fills up."""
        return weights.new_zeros(self.size).index_copy_(0, self.places.flatten(), weights.flatten())[:, None]

    def summed(self, rows: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
        """Of each token the sum over its rows [R, d], by `weights` [T, k] where there are any: [T, d]."""
        total = rows.index_select(0, self.places[:, 0])
        given = None if weights is None else weights.to(rows.dtype)
        if given is not None:
            total.mul_(given[:, :1])
        for k in range(1, self.places.shape[1]):
            more = rows.index_select(0, self.places[:, k])
            total = total.add_(more) if given is None else total.addcmul_(more, given[:, k : k + 1])
        return total


def _filled(counts: torch.Tensor) -> torch.Tensor:
    """Each count, up to one of eight sizes between a power of two and the next, or a multiple of 32."""
    step = 2 ** (counts.clamp(16, 256).log2().floor().long() - 3)
    return -(-counts // step) * step


def grouped(
    hidden: torch.Tensor, weights: torch.Tensor, gate_up: torch.Tensor, down: torch.Tensor, order: _Order
) -> torch.Tensor:
    """The same by PyTorch's grouped matrix products, which have kernels on GPUs."""
    ends = order.counts.cumsum(0).to(torch.int32)
    rows = hidden.index_select(0, order.tokens)
    gate, up = functional.grouped_mm(rows, gate_up.transpose(-2, -1), offs=ends).chunk(2, -1)
    out = functional.grouped_mm(functional.silu(gate) * up, down.transpose(-2, -1), offs=ends)
    return order.summed(out * order.spread(weights).to(out.dtype))


class _Experts(torch.autograd.Function):
    """Expert by expert, so that what is between an expert's products stays in the cache.

    The gradient of an expert's matrices is added where they have a `main_grad`, which the sum over micro-batches is
    kept in, and returned where not.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weights: torch.Tensor,
        gate_up: torch.Tensor,
        down: torch.Tensor,
        order: _Order,
        trained: frozenset[int] | None,
    ) -> torch.Tensor:
        both, out = [], hidden.new_empty(order.size, hidden.shape[1])
        learning = any(ctx.needs_input_grad)
        for expert, rows in order.pieces():
            part = hidden.index_select(0, order.tokens[rows]) @ gate_up[expert].T
            gate, up = part.chunk(2, -1)
            active = functional.silu(gate, inplace=not learning).mul_(up)
            torch.mm(active, down[expert].T, out=out[rows])
            if learning:
                both.append(part)
        ctx.save_for_backward(hidden, weights, gate_up, down, out, *both)
        ctx.order, ctx.trained = order, trained
        return order.summed(out, weights)

    @staticmethod
    def backward(ctx: Any, *grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden, weights, gate_up, down, out, *both = ctx.saved_tensors
        order: _Order = ctx.order
        scales = order.spread(weights).to(hidden.dtype)
        of_scales = weights.new_empty(order.size, dtype=torch.float32)
        of_rows = torch.empty_like(out)
        of_gate_up = _Sum(gate_up, ctx.trained) if ctx.needs_input_grad[2] else None
        of_down = _Sum(down, ctx.trained) if ctx.needs_input_grad[3] else None
        for (expert, rows), part in zip(order.pieces(), both, strict=True):
            gate, up = part.chunk(2, -1)
            above = grad[0].index_select(0, order.tokens[rows])
            torch.sum(above * out[rows], -1, dtype=torch.float32, out=of_scales[rows])
            above.mul_(scales[rows])
            pushed = functional.silu(gate)
            of_active = above @ down[expert]
            of_both = torch.empty_like(part)
            of_gate, of_up = of_both.chunk(2, -1)
            torch.mul(of_active, pushed, out=of_up)
            torch.ops.aten.silu_backward.grad_input(of_active.mul_(up), gate, grad_input=of_gate)
            if of_down is not None:
                of_down.add(expert, above.T, pushed.mul_(up))
            if of_gate_up is not None:
                of_gate_up.add(expert, of_both.T, hidden.index_select(0, order.tokens[rows]))
            torch.mm(of_both, gate_up[expert], out=of_rows[rows])
        return (
            order.summed(of_rows) if ctx.needs_input_grad[0] else None,
            of_scales[order.places].to(weights.dtype) if ctx.needs_input_grad[1] else None,
            None if of_gate_up is None else of_gate_up.result(),
            None if of_down is None else of_down.result(),
            None,
            None,
        )


class _Sum:
    """The gradient of stacked matrices [E, m, n], of those that are `trained`; in `main_grad` if it has one.

    A matrix that has nothing yet is written, not added to: its zeros need neither be set nor read.
    """

    def __init__(self, stacked: torch.Tensor, trained: frozenset[int] | None) -> None:
        self.trained = trained
        self.main = getattr(stacked, "main_grad", None)
        self.value = torch.empty_like(stacked) if self.main is None else self.main.value
        self.empty = set(range(len(stacked))) if self.main is None or self.main.begin() else set()

    def add(self, expert: int, left: torch.Tensor, right: torch.Tensor) -> None:
        """Add left [m, r] @ right [r, n]."""
        if self.trained is not None and expert not in self.trained:
            return
        if expert in self.empty:
            self.empty.remove(expert)
            self.value[expert].copy_(left @ right)
        else:
            self.value[expert].add_(left @ right)

    def result(self) -> torch.Tensor | None:
        """The gradient, where it has no `main_grad`."""
        for expert in self.empty:
            self.value[expert].zero_()
        return self.value if self.main is None else None
