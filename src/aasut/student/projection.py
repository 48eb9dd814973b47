"""Hidden states times the output matrix, into logits, and gradients back, a block of rows at a time.

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


@dataclass
class Block:
    """Logits of some rows, [r, V], and then their gradient, in float32 or rounded to bfloat16.

    Of rounded logits `columns` [C] are kept exact, [r, C] float32, too.
    """

    held: torch.Tensor
    columns: torch.Tensor | None = None
    exact: torch.Tensor | None = None

    def read(self, rows: slice, spare: torch.Tensor) -> torch.Tensor:
        """Logits of some of the rows in float32, in the block itself or in `spare` [r, V]; to be overwritten."""
        if self.held.dtype == torch.float32:
            return self.held[rows]
        part = spare[: rows.stop - rows.start].copy_(self.held[rows])
        if self.columns is not None and self.exact is not None:
            part.index_copy_(1, self.columns, self.exact[rows])
        return part

    def write(self, rows: slice, gradient: torch.Tensor) -> None:
        """Keep the gradient of these rows, which stands where `read` gave their logits."""
        if self.held.dtype != torch.float32:
            self.held[rows] = gradient


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

    @property
    def held(self) -> torch.dtype:
        """What logits are held in."""
        columns = len(self.weight)
        rounded = self.brief and not self.weight.is_cuda and 4 * _exact_columns(columns) < columns
        return torch.bfloat16 if rounded else torch.float32

    def logits(self, rows: slice, out: torch.Tensor, spare: torch.Tensor, named: torch.Tensor | None = None) -> Block:
        """hidden[rows] · weightᵀ in out [rows, V], of type `held`. `named`: columns that must be exact.

        spare [at_once, V] float32 is scratch.
        """
        if self.brief and out.is_cuda:
            torch.mm(self.hidden[rows], self.weight.T, out_dtype=torch.float32, out=out)
        elif self.held == torch.bfloat16:
            torch.mm(self.hidden[rows], self.weight.T, out=out)
            return self._with_exact(rows, out, spare, named)
        else:
            hidden = self.hidden[rows].float()
            with _float32_by_onednn(self.brief):
                for columns, panel in self._panels():
                    torch.mm(hidden, panel.T, out=out[:, columns])
        return Block(out)

    def _with_exact(self, rows: slice, rounded: torch.Tensor, spare: torch.Tensor, named: torch.Tensor | None) -> Block:
        best = torch.full(rounded.shape[1:], float("-inf"))
        for start in range(0, len(rounded), self.at_once):
            some = rounded[start : start + self.at_once]
            part = spare[: len(some)].copy_(some)
            torch.maximum(best, part.sub_(part.amax(dim=1, keepdim=True)).amax(dim=0), out=best)
        columns = best.topk(_exact_columns(len(best)), sorted=False).indices
        if named is not None:
            columns = torch.cat([columns, named.flatten()])
        columns = torch.unique(columns)
        with _float32_by_onednn(True):
            exact = torch.mm(self.hidden[rows].float(), self.weight[columns].float().T)
        return Block(rounded, columns, exact)

    def operand(self, gradient: torch.Tensor) -> torch.Tensor:
        """Logits' gradient [rows, V] for `back` and `add_to_weight`: in bfloat16 where products are of bfloat16."""
        return gradient.bfloat16() if self.brief else gradient

    def back(self, gradient: torch.Tensor, out: torch.Tensor) -> None:
        """`operand` [rows, V] · weight into out [rows, d], in hidden's type."""
        if self.brief:
            torch.mm(gradient, self.weight, out=out)
            return
        total = torch.zeros(out.shape, dtype=torch.float32, device=out.device)
        for columns, panel in self._panels():
            total.addmm_(gradient[:, columns], panel)
        out.copy_(total)

    def add_to_weight(self, rows: slice, gradient: torch.Tensor, total: torch.Tensor, divisor: float) -> None:
        """total [V, d] float32 += `operand` [rows, V]ᵀ · hidden[rows] / divisor."""
        hidden = self.hidden[rows]
        if not self.brief:
            total.addmm_(gradient.T, hidden.float(), alpha=1 / divisor)
        elif total.is_cuda:
            total.add_(torch.mm(gradient.T, hidden, out_dtype=torch.float32), alpha=1 / divisor)
        else:  # a block's part is rounded to bfloat16; as float32 its products would take twice as long
            narrow = hidden.new_empty(min(PANEL_ROWS, len(total)), total.shape[1])
            wide = torch.empty_like(narrow, dtype=torch.float32)
            for start in range(0, len(total), PANEL_ROWS):
                part = total[start : start + PANEL_ROWS]
                torch.mm(gradient[:, start : start + PANEL_ROWS].T, hidden, out=narrow[: len(part)])
                part.add_(wide[: len(part)].copy_(narrow[: len(part)]), alpha=1 / divisor)

    def _panels(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """The weight in float32: itself, or, so as not to hold a copy of it, some rows at a time."""
        if self.weight.dtype == torch.float32:
            yield slice(None), self.weight
            return
        buffer = torch.empty(min(PANEL_ROWS, len(self.weight)), self.weight.shape[1], device=self.weight.device)
        for start in range(0, len(self.weight), PANEL_ROWS):
            part = self.weight[start : start + PANEL_ROWS]
            yield slice(start, start + len(part)), buffer[: len(part)].copy_(part)


def _exact_columns(columns: int) -> int:
    return max(EXACT_COLUMNS, columns // EXACT_SHARE)


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
