"""A real model from a package behind OpenAI's API, for benchmarks that need an upstream: Gemma 3 270M, few-shot.

python benchmarks/embedded.py PORT serves it, with the prompt that `PROMPT` is. What the model said once of a text is
kept in the cache, so that a repeated benchmark does not compute it again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from populations import FOLDER, LABELS, REVIEWS, sentences

from aasut import recipe as recipes
from aasut.engine import base as engines
from aasut.engine.base import Engine, Piece, Prompt, Scores
from aasut.errors import EngineError
from aasut.progress import Progress
from aasut.prompts import PromptTemplate
from aasut.recipe import ModelAddress
from aasut.serve import api
from aasut.serve.student import ServedStudent
from aasut.sources import models
from aasut.sources.models import cache_root
from aasut.store import digest
from aasut.tasks import Classify
from aasut.types import Example, Usage

NAME = "gemma-3-270m"
SHOTS = 8
SEED = 4  # of the worked examples: the best of four on SHOWN tweets
SHOWN = 200  # tweets that may be looked at to choose the prompt; nothing is measured on them
VERSION = 1


def tweets() -> tuple[list[Example], list[Example]]:
    """(the tweets that may be looked at, all others), in an order by hash."""
    rows = sorted(sentences("tweets"), key=lambda row: digest([FOLDER, row.id]))
    return rows[:SHOWN], rows[SHOWN:]


def prompt(seed: int = SEED) -> str:
    """What the application sends: worked examples, as even over the labels as they go, and the slot {text}."""
    random = np.random.default_rng(seed)
    shown = tweets()[0]
    piles = [[row for row in shown if row.answer == label] for label in LABELS]
    chosen = [pile[i] for pile in piles for i in random.choice(len(pile), SHOTS // len(LABELS), replace=False)]
    mixed = [chosen[i] for i in random.permutation(len(chosen))]
    worked = "".join(f"Tweet: {row.slots['text']}\nSentiment: {row.answer}\n\n" for row in mixed)
    return worked.replace("{", "{{").replace("}", "}}") + "Tweet: {text}\nSentiment:"


def fixed(template: str) -> str:
    """The text before the slot, as it is sent."""
    return PromptTemplate.of(template).render({"text": "\0"})[0].content.partition("\0")[0]


class Kept:
    """An engine that is loaded when there is something to compute; what it said stands in a file."""

    prefix_cache, parameters, context, alternatives = True, 268_098_176, 32_768, 0

    def __init__(self, prefix: str) -> None:
        self.prefix, self.name = prefix, "torch, kept"
        self.path = cache_root() / "benchmarks" / f"{NAME}-{digest([VERSION, prefix])[:12]}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        whole = [line for line in lines if line.endswith("]")]  # a kill may have cut the last one
        self.said: dict[str, tuple[list[float], int]] = {key: (row, n) for key, row, n in map(json.loads, whole)}
        self.computed = 0
        self._engine: Engine | None = None

    def score(self, prompts: Sequence[str], answers: Sequence[str], *, prefix: str = "") -> Scores:
        """As Engine.score; for prompts that begin with this one's prefix."""
        keys = [digest([text, list(answers)])[:20] for text in prompts]
        missing = {key: text for key, text in zip(keys, prompts, strict=True) if key not in self.said}
        if missing:
            engine = self._loaded()
            rows = engine.score(list(missing.values()), answers, prefix=self.prefix).logprobs.tolist()
            self.computed += len(rows)
            with self.path.open("a", encoding="utf-8") as file:
                for (key, text), row in zip(missing.items(), rows, strict=True):
                    self.said[key] = (row, engine.count_tokens(text))
                    file.write(json.dumps([key, *self.said[key]]) + "\n")
        counts = {text: self.said[key][1] for key, text in zip(keys, prompts, strict=True)}
        self._counts = getattr(self, "_counts", {}) | counts
        return Scores(np.array([self.said[key][0] for key in keys], np.float64), Usage(sum(counts.values())))

    def generate(self, prompts: Sequence[Prompt], *, prefix: str = "") -> Iterator[Piece]:
        """Labels alone are asked for."""
        raise EngineError("This model judges labels and writes no text.")

    def count_tokens(self, text: str) -> int:
        """Of a prompt that was scored as the model counts it; of a label one, which they are."""
        return self._counts.get(text, 1 if text else 0)

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()

    def _loaded(self) -> Engine:
        if self._engine is None:
            address = recipes.load(REVIEWS).teacher.model
            assert isinstance(address, ModelAddress)
            found = models.fetch(address, base=REVIEWS.parent, progress=Progress(quiet=True))
            self._engine = engines.load("auto", found.path)
        return self._engine


def served(template: str) -> ServedStudent:
    """The model with a prompt, ready to be served."""
    task = Classify(LABELS, PromptTemplate.of(template))
    return ServedStudent(task, task.prompt, Kept(fixed(template)), NAME, digest(template))


def main() -> None:
    """Serve until SIGTERM; the template's file and the port are given."""
    api.run(served(Path(sys.argv[1]).read_text(encoding="utf-8")), port=int(sys.argv[2]), progress=Progress())


if __name__ == "__main__":
    main()
