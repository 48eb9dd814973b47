"""Whether the intervals hold what they promise, on populations whose truth is known. The last line is one JSON object.

Populations: drawn from a model of right and wrong answers, and the answers of two linear models to real human-labelled
text (Amazon reviews by sentence, which fall in groups; tweets). A study draws items or whole groups with replacement
and asks what the stages ask. 2,000 studies of each kind; with --full 20,000.

    aa_false_verdicts   student worse by exactly the margin, yet "may replace": share of studies, .05 at most
    aa_false_claims     student and teacher equal, yet one "better" or the student "inferior": share, .05 at most
    power_observed      share of "may replace" at the advised number of answers; power_stated is what was promised
    cover_tango         two-sided 95 % interval of the verdict, independent items
    cover_clustered     the same where items fall in groups; cover_cr1 with the clustered standard error instead
    cover_bca           BCa bootstrap of macro-F1 and of a real-valued score, items and groups
    cover_ppi           PPI++ with 100 to 300 human answers
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline, make_union

from aasut import recipe as recipes
from aasut.evaluate import bootstrap, clustered, paired, power, ppi
from aasut.progress import Progress
from aasut.sources import tables

REVIEWS = Path(__file__).parents[1] / "examples" / "reviews" / "recipe.yaml"
RANGES = {
    "amazon": [{"label": "negative", "at_most": -0.5}, {"label": "positive", "at_least": 0.5}],
    "tweets": [
        {"label": "negative", "at_most": -0.8},
        {"label": "neutral", "at_least": -0.5, "at_most": 0.5},
        {"label": "positive", "at_least": 0.8},
    ],
}
STUDIES, FULL = 2_000, 20_000
CONFIDENCE, MARGIN = 0.95, 0.03
RESAMPLES = 1000
Rates = dict[str, list[bool]]


@dataclass(frozen=True)
class Population:
    """Items [n]: the human answer and both models', as numbers; a score of each model, 0 to 1; groups 0 to G - 1."""

    name: str
    gold: Any
    student: Any
    teacher: Any
    student_score: Any
    teacher_score: Any
    group: Any

    @property
    def difference(self) -> float:
        return float(np.mean(self.student == self.gold) - np.mean(self.teacher == self.gold))

    def take(self, items: Any, group: Any) -> Population:
        named = {k: getattr(self, k)[items] for k in ("gold", "student", "teacher", "student_score", "teacher_score")}
        return replace(self, group=group, **named)

    def balanced(self) -> Population:
        """Twice the population, once with the sides changed: both sides are equally good, by every group."""
        turned = replace(
            self, student=self.teacher, teacher=self.student,
            student_score=self.teacher_score, teacher_score=self.student_score,
        )  # fmt: skip
        parts = {
            k: np.concatenate([getattr(self, k), getattr(turned, k)])
            for k in ("gold", "student", "teacher", "student_score", "teacher_score")
        }
        return replace(self, group=np.concatenate([self.group, self.group + self.group.max() + 1]), **parts)


class Drawer:
    """Draws studies from a population with replacement: items, or whole groups."""

    def __init__(self, population: Population, size: int, by_group: bool) -> None:
        self.population, self.size, self.by_group = population, size, by_group
        order = np.argsort(population.group, kind="stable")
        self.members = np.split(order, np.cumsum(np.bincount(population.group))[:-1])

    def study(self, draw: np.random.Generator) -> Population:
        if not self.by_group:
            return self.population.take(draw.integers(0, len(self.population.gold), self.size), np.arange(self.size))
        drawn = [self.members[g] for g in draw.integers(0, len(self.members), self.size)]
        return self.population.take(np.concatenate(drawn), np.repeat(np.arange(self.size), [len(d) for d in drawn]))


def real(name: str) -> Population:
    """Answers to text that was not trained on: the teacher learned from half of the groups, the student from less."""
    plain = yaml.safe_load(REVIEWS.read_text(encoding="utf-8"))
    table = plain["data"]["tables"][0]
    if name == "tweets":
        table["source"] = table["source"].replace("amazonReviewSnippets", "tweets")
        del table["group"]
    table["label"]["ranges"] = RANGES[name]
    labels = [part["label"] for part in RANGES[name]]
    task = plain["task"] | {"labels": labels}
    recipe = recipes.parse(
        {"name": name, "task": task, "data": {"tables": [table]}, "teacher": {"scripted": {"": labels[0]}},
         "student": {"initialise": "linear"}},
        "recipe",
    )  # fmt: skip
    found = tables.read(
        recipe.data.tables[0], task=recipe.task.build(), base=REVIEWS.parent, progress=Progress(quiet=True)
    )
    rows = [example for example in found.examples if example.answer is not None]
    draw = np.random.default_rng(1)
    names = sorted({row.group for row in rows})
    place = dict(zip(names, draw.permutation(len(names)) / len(names), strict=True))
    learn = [row for row in rows if place[row.group] < 0.5]
    less = [row for row in rows if place[row.group] < 0.45]
    held = [row for row in rows if place[row.group] >= 0.5]
    words = TfidfVectorizer(sublinear_tf=True)
    both = make_union(TfidfVectorizer(sublinear_tf=True), TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4)))
    teacher = make_pipeline(both, LogisticRegression(C=10, max_iter=500))
    student = make_pipeline(words, MultinomialNB(alpha=0.3))
    number = {label: i for i, label in enumerate(labels)}
    text = [row.slots["text"] for row in held]
    chances = []
    for model, seen in ((student, less), (teacher, learn)):
        model.fit([row.slots["text"] for row in seen], [number[str(row.answer)] for row in seen])
        chances.append(model.predict_proba(text))
    gold = np.array([number[str(row.answer)] for row in held])
    at = {group: i for i, group in enumerate(dict.fromkeys(row.group for row in held))}
    own, other = chances
    items = np.arange(len(gold))
    return Population(
        name, gold, own.argmax(axis=1), other.argmax(axis=1), own[items, gold], other[items, gold],
        np.array([at[row.group] for row in held]),
    )  # fmt: skip


def simulated(name: str, groups: int, largest: int, sway: float, difference: float = -0.03) -> Population:
    """Three answers; a group's own mood moves both models (by `sway`) and their difference (by half as much)."""
    draw = np.random.default_rng(2)
    group = np.repeat(np.arange(groups), draw.integers(1, largest + 1, groups))
    n = len(group)
    mood, lean = draw.normal(0, sway, groups)[group], draw.normal(0, sway / 2, groups)[group]
    gold = draw.choice(3, n, p=[0.55, 0.3, 0.15])
    hard = draw.random(n)

    def said(right: Any) -> tuple[Any, Any]:
        own = draw.random(n)
        correct = np.where(draw.random(n) < 0.7, hard, own) < right
        score = np.clip(np.where(correct, 0.75, 0.25) + draw.normal(0, 0.12, n), 0, 1)
        return np.where(correct, gold, (gold + draw.integers(1, 3, n)) % 3), score

    teacher, teacher_score = said(0.85 + mood - lean)
    student, student_score = said(0.85 + difference + mood + lean)
    return Population(name, gold, student, teacher, student_score, teacher_score, group)


def paired_study(found: Population, truth: dict[str, float], rates: Rates, seed: int, clustering: bool) -> None:
    """One study with a student that is worse by exactly the margin, where it is worse."""
    groups = found.group.tolist()
    student, teacher = (found.student == found.gold).tolist(), (found.teacher == found.gold).tolist()
    margin = -truth["accuracy"]
    verdict = paired.verdict(student, teacher, groups, margin, CONFIDENCE)
    rates["aa_false_verdicts"].append(verdict.result == "non_inferior")
    pair = verdict.paired
    rates["cover_clustered" if clustering else "cover_tango"].append(pair.lower <= truth["accuracy"] <= pair.upper)
    rates["low"].append(truth["accuracy"] < pair.lower)
    rates["high"].append(truth["accuracy"] > pair.upper)
    mean = clustered.difference(found.student_score, found.teacher_score, groups, CONFIDENCE)
    rates["cover_cr1"].append(mean.lower <= truth["score"] <= mean.upper)
    samples = {
        "score": bootstrap.of_mean(found.student_score - found.teacher_score, found.group),
        "macro_f1": bootstrap.of_macro_f1(found.gold, found.student, found.teacher, found.group),
    }
    for name, sample in samples.items():
        low, high = bootstrap.bca(sample, seed=seed, resamples=RESAMPLES).interval(CONFIDENCE)
        rates[f"cover_bca {name}"].append(low <= truth[name] <= high)


def true_values(population: Population) -> dict[str, float]:
    sample = bootstrap.of_macro_f1(population.gold, population.student, population.teacher, population.group)
    return {
        "accuracy": population.difference,
        "score": float(np.mean(population.student_score - population.teacher_score)),
        "macro_f1": float(sample.statistic(sample.totals.sum(axis=0)[None])[0]),
    }


def null_study(found: Population, rates: Rates) -> None:
    """One study of two equals."""
    student, teacher = (found.student == found.gold).tolist(), (found.teacher == found.gold).tolist()
    verdict = paired.verdict(student, teacher, found.group.tolist(), MARGIN, CONFIDENCE)
    claims = verdict.paired.better or verdict.paired.upper < 0 or verdict.result == "inferior"
    rates["aa_false_claims"].append(claims)


def power_studies(population: Population, by_group: bool, studies: int) -> dict[str, float]:
    """Verdicts on two equals at the number of answers that power.py advises for them."""
    both = population.balanced()
    student, teacher = both.student == both.gold, both.teacher == both.gold
    discordance = float(np.mean(student != teacher))
    per_group, effect = 1.0, 1.0
    if by_group:
        groups = both.group.tolist()
        effect = paired.compare(student.tolist(), teacher.tolist(), groups).design_effect
        per_group = len(groups) / (max(groups) + 1)
    needed = power.examples_needed(MARGIN, CONFIDENCE, discordance, effect)
    drawer = Drawer(both, round(needed / per_group), by_group)
    stated = power.power_of(round(drawer.size * per_group), MARGIN, CONFIDENCE, discordance, effect)
    draw = np.random.default_rng(5)
    reached = 0
    for _ in range(studies):
        found = drawer.study(draw)
        right = ((side == found.gold).tolist() for side in (found.student, found.teacher))
        reached += paired.verdict(*right, found.group.tolist(), MARGIN, CONFIDENCE).result == "non_inferior"
    return {"observed": reached / studies, "stated": stated, "answers": needed}


def ppi_studies(population: Population, n: int, unlabelled: int, studies: int) -> float:
    """Student's accuracy from n human answers and many judged by the teacher's answer."""
    right = (population.student == population.gold).astype(float)
    judged = (population.student == population.teacher).astype(float)
    draw, truth, covered = np.random.default_rng(6), float(right.mean()), 0
    for _ in range(studies):
        own, rest = draw.integers(0, len(right), n), draw.integers(0, len(right), unlabelled)
        found = ppi.estimate(right[own].tolist(), judged[own].tolist(), judged[rest].tolist(), confidence=CONFIDENCE)
        covered += found.lower <= truth <= found.upper
    return covered / studies


def kinds() -> Iterator[tuple[Drawer, bool]]:
    """Studies with the sizes that recipes have: 200 to 1,000 items, or 40 to 120 groups."""
    amazon, tweets = real("amazon"), real("tweets")
    alone = simulated("simulated", 40_000, 1, 0.0)
    grouped = simulated("simulated", 20_000, 12, 0.12)
    for size in (200, 600):
        yield Drawer(alone, size, False), False
    yield Drawer(amazon, 500, False), False
    yield Drawer(tweets, 400, False), False
    yield Drawer(grouped, 60, True), True
    yield Drawer(amazon, 40, True), True
    yield Drawer(amazon, 90, True), True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="20,000 studies of each kind")
    studies = FULL if parser.parse_args().full else STUDIES
    pooled: Rates = defaultdict(list)
    detail: dict[str, dict[str, float]] = {}
    powers: dict[str, dict[str, float]] = {}
    for drawer, by_group in kinds():
        population = drawer.population
        name = f"{population.name}, {drawer.size} {'groups' if by_group else 'items'}"
        truth, rates, draw = true_values(population), defaultdict(list), np.random.default_rng(3)
        even = Drawer(population.balanced(), drawer.size, by_group)
        for number in range(studies):
            paired_study(drawer.study(draw), truth, rates, number, by_group)
            null_study(even.study(draw), rates)
        for key, values in rates.items():
            pooled[key.partition(" ")[0]] += values
        detail[name] = {key: float(np.mean(values)) for key, values in rates.items()} | {
            "difference": truth["accuracy"]
        }
        print(name, json.dumps(detail[name]), file=sys.stderr, flush=True)
        if drawer.size in (600, 500, 400, 60, 90):
            powers[name] = power_studies(population, by_group, studies)
            print(name, json.dumps(powers[name]), file=sys.stderr, flush=True)
    ppis = {}
    for population in (simulated("simulated", 40_000, 1, 0.0), real("amazon"), real("tweets")):
        for n in (100, 300):
            ppis[f"{population.name}, {n} of {10 * n}"] = ppi_studies(population, n, 10 * n, studies)
    print(json.dumps(ppis), file=sys.stderr, flush=True)
    figures = {key: round(float(np.mean(pooled[key])), 4) for key in pooled if key not in ("low", "high")}
    figures |= {
        f"power_{key}": round(float(np.mean([p[key] for p in powers.values()])), 4) for key in ("observed", "stated")
    }
    figures["cover_ppi"] = round(float(np.mean(list(ppis.values()))), 4)
    print(json.dumps(figures | {"studies": studies, "by_kind": detail, "power": powers, "ppi": ppis}))


if __name__ == "__main__":
    main()
