"""Outputs of real models on real sentences with human answers, for benchmarks that draw samples from them.

Made once and kept in the cache: Gemma 3 270M and SmolLM2-135M, few-shot, and TF-IDF with logistic regression.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aasut import recipe as recipes
from aasut.engine import base as engines
from aasut.progress import Progress
from aasut.recipe import ModelAddress, Table
from aasut.sources import models, tables
from aasut.sources.models import cache_root
from aasut.store import digest, write_atomically
from aasut.types import Example

REVIEWS = Path(__file__).parents[1] / "examples" / "reviews" / "recipe.yaml"
FOLDER = "hutto_ICWSM_2014"
TABLES = {"amazon": "amazonReviewSnippets", "tweets": "tweets", "news": "nytEditorialSnippets"}
LABELS = ("negative", "positive")
SHOTS = 8
MOST = 1500  # sentences that a language model is asked
VERSION = 1


@dataclass(frozen=True)
class Population:
    """A model's outputs: probability of `positive` [n], human answers (0 negative, 1 positive) [n], groups [n]."""

    name: str
    chance: NDArray[np.float64]
    gold: NDArray[np.int64]
    groups: list[str]

    @property
    def score(self) -> NDArray[np.float64]:
        """Probability of the answer given."""
        return np.maximum(self.chance, 1 - self.chance)

    @property
    def wrong(self) -> NDArray[np.bool_]:
        return (self.chance > 0.5) != (self.gold > 0)


def sentences(table: str) -> list[Example]:
    """The sentences of a table whose human mean is at least half a point from neutral."""
    recipe = recipes.load(REVIEWS)
    plain = recipe.data.tables[0].model_dump(exclude_unset=True)
    plain["source"] = plain["source"].replace("amazonReviewSnippets", TABLES[table])
    if table == "tweets":
        del plain["group"]
    read = tables.read(Table(**plain), task=recipe.task.build(), base=REVIEWS.parent, progress=Progress(quiet=True))
    return [example for example in read.examples if example.answer is not None]


def outputs(table: str, model: str) -> Population:
    """A model's outputs on all sentences of a table but those that it was shown or fitted on.

    model: `gemma` or `smollm2` (few-shot), or `linear` (fitted on the first fifth of the sentences, by hash).
    """
    path = cache_root() / "benchmarks" / f"outputs-{table}-{model}-{VERSION}.json"
    if path.is_file():
        plain = json.loads(path.read_text(encoding="utf-8"))
    else:
        plain = _linear(sentences(table)) if model == "linear" else _few_shot(sentences(table), model)
        write_atomically(path, json.dumps(plain))
    chance, gold = np.array(plain["chance"], np.float64), np.array(plain["gold"], np.int64)
    return Population(f"{model} on {table}", chance, gold, plain["groups"])


def _plain(rows: list[Example], chance: NDArray[np.float64]) -> dict[str, list[object]]:
    gold = [LABELS.index(str(row.answer)) for row in rows]
    return {"chance": [round(float(p), 7) for p in chance], "gold": list(gold), "groups": [row.group for row in rows]}


def _by_hash(rows: list[Example]) -> list[Example]:
    return sorted(rows, key=lambda row: digest(row.id))


def _few_shot(rows: list[Example], model: str) -> dict[str, list[object]]:
    recipe = recipes.load(REVIEWS)
    address = recipe.teacher.model if model == "gemma" else recipe.student.model
    assert isinstance(address, ModelAddress)
    found = models.fetch(address, base=REVIEWS.parent, progress=Progress(quiet=True))
    engine = engines.load("auto", found.path)
    rows = _by_hash(rows)
    shots = [row for label in LABELS for row in [r for r in rows if r.answer == label][: SHOTS // 2]]
    shots = [shot for pair in zip(shots[: SHOTS // 2], shots[SHOTS // 2 :], strict=True) for shot in pair]
    prefix = "".join(f"Review: {shot.slots['text']}\nSentiment: {shot.answer}\n\n" for shot in shots)
    asked = [row for row in rows if row not in shots][:MOST]
    prompts = [f"{prefix}Review: {row.slots['text']}\nSentiment:" for row in asked]
    answers = [f" {label}" for label in LABELS]
    chance = np.exp(engine.score(prompts, answers, prefix=prefix).logprobs)[:, 1]
    engine.close()
    # As a calibrated teacher's: shifted so that half of the answers are positive.
    odds = np.log(chance / (1 - chance))
    return _plain(asked, 1 / (1 + np.exp(-(odds - np.median(odds)))))


def _linear(rows: list[Example]) -> dict[str, list[object]]:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    rows = _by_hash(rows)
    fitted, asked = rows[: len(rows) // 5], rows[len(rows) // 5 :]
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    model = LogisticRegression(C=10, max_iter=1000)
    model.fit(words.fit_transform([r.slots["text"] for r in fitted]), [LABELS.index(str(r.answer)) for r in fitted])
    return _plain(asked, model.predict_proba(words.transform([r.slots["text"] for r in asked]))[:, 1])
