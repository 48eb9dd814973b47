"""Hidden states times the output matrix, into float32 logits, and gradients back, a block of rows at a time.

Float32 is computed in float32. Where both inputs are bfloat16, so are the operands of each product:

- On a GPU products are summed and given in float32.
- On a CPU that multiplies bfloat16, a product has bfloat16 for its result, or takes twice as long. Rounded logits would
  put 2 % on the gradient (SmolLM2-135M's own, of 27 at the top), nearly all of it by the likely tokens. So the
  likeliest of a block's tokens, and those that its targets name, are taken again in float32; what is then left is
  below what rounding the logits' gradient to bfloat16 gives, which the way back does.
- On one that does not, it is all computed in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

PANEL_ROWS = 4096  # of a weight that are brought to float32 at once
EXACT_SHARE = 32  # one in so many of a block's columns is taken again in float32,
EXACT_COLUMNS = 1024  # but so many at least; where that is a quarter of all, everything is


@dataclass(frozen=True)
class Projection:
    """hidden [n, d] · weightᵀ, weight [V, d]. `at_once` rows are passed over at a time, to stay in the cache."""

    hidden: torch.Tensor
    weight: torch.Tensor
    at_once: int

    @property
    def brief(self) -> bool:
        """Whether products are of bfloat16."""
        if not self.hidden.dtype == self.weight.dtype == torch.bfloat16:
            return False
        return self.weight.is_cuda or _multiplies_bfloat16()

    def logits(self, rows: slice, out: torch.Tensor, named: torch.Tensor | None = None) -> None:
        """hidden[rows] · weightᵀ into out [rows, V], less a number a row. `named`: columns that must be exact."""
        exact = max(EXACT_COLUMNS, out.shape[1] // EXACT_SHARE)
        if self.brief and out.is_cuda:
            torch.mm(self.hidden[rows], self.weight.T, out_dtype=torch.float32, out=out)
        elif self.brief and 4 * exact < out.shape[1]:
            self._mostly_brief(rows, out, exact, named)
        else:
            hidden = self.hidden[rows].float()
            with _float32_by_onednn(self.brief):
                for columns, panel in self._panels():
                    torch.mm(hidden, panel.T, out=out[:, columns])

    def _mostly_brief(self, rows: slice, out: torch.Tensor, exact: int, named: torch.Tensor | None) -> None:
        values = out.numel()
        narrow = out.view(torch.bfloat16).view(-1)[values:].view(out.shape)  # the second half of the same memory
        torch.mm(self.hidden[rows], self.weight.T, out=narrow)
        highest = torch.empty(len(out), 1, device=out.device)
        best = torch.full(out.shape[1:], float("-inf"), device=out.device)
        for start in range(0, len(out), self.at_once):  # ascending: what is overwritten has been read
            some = slice(start, start + self.at_once)
            part = out[some].copy_(narrow[some].clone())
            torch.amax(part, dim=1, keepdim=True, out=highest[some])
            torch.maximum(best, part.sub_(highest[some]).amax(dim=0), out=best)
        columns = best.topk(exact, sorted=False).indices
        if named is not None:
            columns = torch.cat([columns, named.flatten()])
        columns = torch.unique(columns)
        with _float32_by_onednn(True):
            again = torch.mm(self.hidden[rows].float(), self.weight[columns].float().T)
        out.index_copy_(1, columns, again.sub_(highest))

    def back(self, gradient: torch.Tensor, out: torch.Tensor) -> None:
        """Logits' gradient [rows, V] · weight into out [rows, d], in hidden's type. May overwrite the gradient."""
        if self.brief:
            torch.mm(self._narrowed(gradient), self.weight, out=out)
            return
        total = torch.zeros(out.shape, dtype=torch.float32, device=out.device)
        for columns, panel in self._panels():
            total.addmm_(gradient[:, columns], panel)
        out.copy_(total)

    def add_to_weight(self, rows: slice, gradient: torch.Tensor, total: torch.Tensor) -> None:
        """total [V, d] float32 += logits' gradient [rows, V]ᵀ · hidden[rows]."""
        with _float32_by_onednn(self.brief):
            total.addmm_(gradient.T, self.hidden[rows].float())

    def _panels(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """The weight in float32: itself, or, so as not to hold a copy of it, some rows at a time."""
        if self.weight.dtype == torch.float32:
            yield slice(None), self.weight
            return
        buffer = torch.empty(min(PANEL_ROWS, len(self.weight)), self.weight.shape[1], device=self.weight.device)
        for start in range(0, len(self.weight), PANEL_ROWS):
            part = self.weight[start : start + PANEL_ROWS]
            yield slice(start, start + len(part)), buffer[: len(part)].copy_(part)

    def _narrowed(self, values: torch.Tensor) -> torch.Tensor:
        """[r, V] float32 in bfloat16, in the first half of the memory of `values`: contiguous, lost to the caller."""
        narrow = values.view(torch.bfloat16).view(-1)[: values.numel()].view(values.shape)
        for start in range(0, len(values), self.at_once):
            some = slice(start, start + self.at_once)
            narrow[some] = values[some].bfloat16()  # by way of a copy: they overlap
        return narrow


def _multiplies_bfloat16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@contextmanager
def _float32_by_onednn(wanted: bool) -> Iterator[None]:
    """Float32 products by oneDNN on a CPU, 2 to 3 times as fast as MKL on AMD's.

    The setting lets it round operands to bfloat16, which some processors do: for operands that were bfloat16.
    """
    if not wanted:
        yield
        return
    setting = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = setting.fp32_precision
    setting.fp32_precision = "bf16"
    try:
        yield
    finally:
        setting.fp32_precision = before
