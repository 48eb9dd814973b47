"""Proof that a student's written forms are one model: same tokens, same weights, same greedy answers."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from aasut.engine import torch as torch_engine
from aasut.engine.base import Prompt, write
from aasut.engine.common import begin
from aasut.errors import RoundTripError
from aasut.formats import gguf, gguf_read, safetensors, template
from aasut.formats.gguf_write import chat_template
from aasut.formats.tokenizer import Tokenizer, read_json
from aasut.types import Message

GREEDY_TOKENS = 4  # of free text
TEXT_TOKENS = 16  # of free text where that is the answer
GREEDY_PROMPTS = 4  # that get free text where labels are compared already

REMEDY = "The student is not exported. This is a defect of aasut; please report it with the model's address."


def prove(start: Path, folder: Path, file: Path, prompts: Sequence[str], answers: Sequence[str]) -> dict[str, Any]:
    """Compare the safetensors `folder` with the bfloat16 GGUF `file` on `prompts`, both computed in float32.

    `answers` are the labels that the student chooses from, none where it writes free text. `start` is the
    folder that the student was trained with. Prompts that pass the context have their tokens compared and
    no answer; `answered` counts the others. Raises RoundTripError at the first difference.
    """
    tokenizers = {
        "training": Tokenizer.load(start),
        "safetensors": Tokenizer.load(folder),
        "GGUF": Tokenizer.from_gguf(gguf_read.read(file)),
    }
    templates = {
        "safetensors": chat_template(folder) or "",
        "GGUF": str(gguf_read.read(file).metadata.get("tokenizer.chat_template", "")),
    }
    for prompt in prompts:
        wanted = begin(tokenizers["training"], prompt)
        for where, tokenizer in tokenizers.items():
            if begin(tokenizer, prompt) != wanted:
                raise RoundTripError(f"{where} and training give different tokens for {prompt[:60]!r}.", REMEDY)
        for where, source in templates.items():
            if template.render(source, [Message("user", prompt)]) != prompt:
                raise RoundTripError(f"The chat template in {where} changes {prompt[:60]!r}.", REMEDY)
    with tempfile.TemporaryDirectory() as scratch:
        back = Path(scratch)
        gguf.to_folder(file, back)
        same_weights(folder, back)
        first, second = _greedy(folder, prompts, answers), _greedy(back, prompts, answers)
    for (prompt, one), (_, other) in zip(first, second, strict=True):
        if one != other:
            raise RoundTripError(f"safetensors answers {one!r} and GGUF {other!r} to {prompt[:60]!r}.", REMEDY)
    return {
        "prompts": len(prompts),
        "answered": len({prompt for prompt, _ in first}),
        "tokens_equal": True,
        "weights_equal": True,
        "greedy_answers_equal": bool(first),
    }


def same_weights(folder: Path, other: Path) -> None:
    """Raise RoundTripError unless both model folders hold the same weights, bit by bit.

    Gemma multiplies by 1 + weight of a norm: there that sum in float32 is the weight.
    """
    gemma = str(read_json(folder / "config.json").get("model_type")).startswith("gemma")
    ours, theirs = safetensors.load(folder), safetensors.load(other)
    if ours.keys() != theirs.keys():
        raise RoundTripError(f"One form lacks {min(ours.keys() ^ theirs.keys())}.", REMEDY)
    for name, tensor in ours.items():
        plus = 1 if gemma and name.endswith("norm.weight") else 0
        if not torch.equal(tensor.float() + plus, theirs[name].float() + plus):
            raise RoundTripError(f"The weight {name} differs.", REMEDY)


def _greedy(folder: Path, prompts: Sequence[str], answers: Sequence[str]) -> list[tuple[str, str]]:
    """Prompts with their answers: the label chosen, and free text."""
    engine = torch_engine.load(folder, precision="float32")
    tokens = GREEDY_TOKENS if answers else TEXT_TOKENS
    room = max(tokens, sum(engine.count_tokens(answer) for answer in answers))
    fits = [prompt for prompt in prompts if engine.count_tokens(prompt) + room <= engine.context]
    found: list[tuple[str, str]] = []
    if answers and fits:
        rows = engine.score(fits, answers).logprobs
        found += [(prompt, answers[int(row.argmax())]) for prompt, row in zip(fits, rows, strict=True)]
    free = fits[:GREEDY_PROMPTS] if answers else fits
    written = write(engine, [Prompt(prompt, tokens) for prompt in free])
    found += [(prompt, answer.text) for prompt, answer in zip(free, written, strict=True)]
    engine.close()
    return found
