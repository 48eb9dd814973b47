"""A few texts on which a student's start is measured: some to choose by, others to tell the loss of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from aasut.engine.common import begin
from aasut.engine.torch import hidden_states
from aasut.formats.tokenizer import Tokenizer

PROMPTS = 64  # that what goes is chosen by
HELD_OUT = 24  # further ones, that losses are told of
ROW_TOKENS = 512  # of a text that are read
ROWS_AT_ONCE = 1024  # tokens whose logits stand at once


@dataclass(frozen=True)
class Calibration:
    """Token ids of the texts; `losses` are of the same ones where there are no others."""

    measured: list[list[int]]
    losses: list[list[int]]
    held_out: bool

    @staticmethod
    def of(tokenizer: Tokenizer, prompts: Sequence[str], context: int) -> Calibration:
        """The first of these texts, each as far as the model reads."""
        most = min(ROW_TOKENS, context)
        rows = [begin(tokenizer, prompt)[:most] for prompt in prompts[: PROMPTS + HELD_OUT]]
        measured, others = rows[:PROMPTS], rows[PROMPTS:]
        return Calibration(measured, others or measured[:HELD_OUT], bool(others))


@torch.inference_mode()
def loss(model: Any, rows: Sequence[Sequence[int]]) -> float | None:
    """Mean over all tokens but the first of a row of -ln p(token | those before it); None where there is none."""
    total, tokens = 0.0, 0
    for row in rows:
        if len(row) < 2:
            continue
        ids = torch.tensor([list(row)], device=model.device)
        hidden = hidden_states(model, ids, torch.arange(ids.shape[1], device=ids.device)[None], None, None)
        for at in range(0, len(row) - 1, ROWS_AT_ONCE):
            nexts = ids[0, at + 1 : at + 1 + ROWS_AT_ONCE]
            logits = model.lm_head(hidden[0, at : at + len(nexts)]).float()
            total += float(torch.nn.functional.cross_entropy(logits, nexts, reduction="sum"))
            tokens += len(nexts)
    return round(total / tokens, 5) if tokens else None
