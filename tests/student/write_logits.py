"""Writes a logit cache of random texts, for tests that kill the process that does."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import numpy as np
import torch

from aasut.engine.torch import load_model
from aasut.progress import Progress
from aasut.student import score_logits
from aasut.student.logit_cache import Binding
from aasut.student.score_logits import Asked, settings

VOCABULARY = 290  # of the model's 300 columns, the last stand for no token
BINDING = Binding("tok", "prompt", "weights", VOCABULARY, settings=settings(1))


def texts_of(count: int, seed: int = 1, longest: int = 30, shared: int = 5) -> list[Asked]:
    """Random prompts that begin alike, with answers of 0 to `longest` tokens."""
    draw = np.random.default_rng(seed)
    begin = draw.integers(0, 260, shared).tolist()

    def some(least: int) -> list[int]:
        return draw.integers(0, 260, draw.integers(least, longest + 1)).tolist()  # type: ignore[no-any-return]

    return [Asked(f"e{number}#0", [*begin, *some(1)], some(0)) for number in range(count)]


def write(teacher: Path, folder: Path, said: Path) -> None:
    """300 texts in shards of 300 answer tokens; what is told, a traceback too, goes to the file `said`."""
    score_logits.SHARD_ANSWERS = 300
    torch.set_num_threads(1)
    with said.open("w", encoding="utf-8") as stream:
        try:
            model = load_model(teacher, torch.bfloat16)
            score_logits.write(model, texts_of(300), folder, BINDING, Progress(stream, every_s=0))
        except Exception:
            traceback.print_exc(file=stream)
            sys.exit(1)
