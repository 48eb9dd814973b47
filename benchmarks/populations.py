"""Outputs of real models on sentences with known answers, for benchmarks that draw samples from them.

Gemma 3 270M and SmolLM2-135M, few-shot, made once and kept in the cache; TF-IDF with logistic regression.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from home_commands import commands
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
    """A model's outputs: probability of each answer given, whether it is wrong, and groups, [n] each."""

    name: str
    score: NDArray[np.float64]
    wrong: NDArray[np.bool_]
    groups: list[str]


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

    model: `gemma` or `smollm2` (few-shot, on MOST sentences), or `linear` (fitted on a fifth of the sentences).
    The table `commands` has smart-home commands with one of 42 intents, for `linear` alone.
    """
    if model == "linear":
        if table == "commands":
            return _linear(f"{model} on {table}", *commands(4000, seed=7))
        rows = _by_hash(sentences(table))
        return _linear(f"{model} on {table}", [row.slots["text"] for row in rows], [str(row.answer) for row in rows])
    path = cache_root() / "benchmarks" / f"outputs-{table}-{model}-{VERSION}.json"
    if not path.is_file():
        write_atomically(path, json.dumps(_few_shot(sentences(table), model)))
    plain = json.loads(path.read_text(encoding="utf-8"))
    chance, gold = np.array(plain["chance"], np.float64), np.array(plain["gold"], np.int64)
    return Population(
        f"{model} on {table}", np.maximum(chance, 1 - chance), (chance > 0.5) != (gold > 0), plain["groups"]
    )


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


def _linear(name: str, texts: list[str], answers: list[str]) -> Population:
    """Fitted on the first fifth of the texts."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    fifth = len(texts) // 5
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    model = LogisticRegression(C=10, max_iter=1000).fit(words.fit_transform(texts[:fifth]), answers[:fifth])
    chance = model.predict_proba(words.transform(texts[fifth:]))
    given = model.classes_[chance.argmax(axis=1)]
    return Population(name, chance.max(axis=1), given != np.array(answers[fifth:]), [str(i) for i in range(len(given))])
