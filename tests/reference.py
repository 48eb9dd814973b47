"""Answers by transformers alone: one whole sequence for each prompt and answer, nothing padded, shared or kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from aasut.formats.tokenizer import Tokenizer


def load(folder: Path) -> Any:
    """transformers' own model in float32, with its plainest attention."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def answer_keys(tokenizer: Tokenizer, answers: Sequence[str]) -> list[list[int]]:
    """Tokens of each answer, and the end token behind those that another answer goes on from."""
    keys = [tokenizer.encode(answer) for answer in answers]
    return [key + [tokenizer.eos_id] * any(other != key and other[: len(key)] == key for other in keys) for key in keys]


def bound_logprobs(model: Any, prompt: Sequence[int], keys: Sequence[Sequence[int]]) -> torch.Tensor:
    """Log-probability of each answer, [answers], where at each token only tokens that lead to an answer are allowed."""
    result = []
    for key in keys:
        logits = model(torch.tensor([[*prompt, *key]])).logits[0].float()
        total = logits.new_zeros(())
        for step, token in enumerate(key):
            allowed = sorted({other[step] for other in keys if list(other[:step]) == list(key[:step])})
            choice = torch.log_softmax(logits[len(prompt) - 1 + step][allowed], dim=0)
            total = total + choice[allowed.index(token)]
        result.append(total)
    return torch.stack(result)
