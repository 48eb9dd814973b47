"""Does choosing pay? The same number of labels, chosen as `aasut label` does and drawn at random. Last line: JSON.

Three sets of texts: sentences of reviews and tweets with human sentiment, and smart-home commands with their intents.
Human answers stand for the teacher's. In each draw the texts are parted into a pool of 2,000 and a test, whole groups
each; the pool is asked in five rounds of 60, and a linear model of the answers so far (words and word pairs, C = 10) is
judged on the test after three rounds and after five. Ways:

    aasut         `acquire.pick` with a fifth at random: what the command does
    diversity     the same without a score: rows alike are seldom asked both
    lean          the same with a twentieth at random
    proportional  probabilities in proportion to the uncertainty, a fifth at random
    first         the most uncertain rows first, which has no probabilities and so no estimate of the pool

Differences of accuracy to simple random sampling are paired by draw; intervals are Student's t at 95 % over draws. Also
the share of draws in which the interval of `aasut label` for the commonest answer's share in the pool holds it.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from home_commands import commands
from scipy import stats
from sklearn.linear_model import LogisticRegression

from aasut import recipe as recipes
from aasut.data import acquire, asked
from aasut.data.asked import Line
from aasut.engine.linear import vectorizer
from aasut.progress import Progress
from aasut.sources import tables
from aasut.student.linear import NGRAMS

RECIPE = Path(__file__).parents[1] / "examples" / "reviews" / "recipe.yaml"
REVIEWS, TWEETS, HOME = "reviews", "tweets", "home commands"
POOL, ROUND, ROUNDS, JUDGED = 2000, 60, 5, (3, 5)
DRAWS, FULL = 20, 100
WAYS = ("aasut", "diversity", "lean", "proportional", "first")


@dataclass(frozen=True)
class Texts:
    """Texts as the linear model and as `acquire` see them, with answers by number and the groups they belong to."""

    features: Any
    vectors: Any
    answers: Any
    groups: Any


def texts(name: str) -> Texts:
    if name == HOME:
        found, answers = commands(5000, 1)
        groups = list(map(str, range(len(found))))
    else:
        loaded = recipes.load(RECIPE)
        task, table = loaded.task.build(), loaded.data.tables[0]
        if name == TWEETS:
            source = table.source.replace("amazonReviewSnippets", "tweets")
            table = table.model_copy(update={"source": source, "group": None})
        read = tables.read(table, task=task, base=RECIPE.parent, progress=Progress(quiet=True)).examples
        rows = [row for row in read if row.answer is not None]
        found, answers = [row.slots["text"] for row in rows], [str(row.answer) for row in rows]
        groups = [row.group or row.id for row in rows] if table.group else [row.id for row in rows]
    names = sorted(set(answers))
    numbers = np.array([names.index(one) for one in answers])
    return Texts(vectorizer(NGRAMS[0]).fit_transform(found), acquire.embed(found), numbers, np.array(groups))


def fitted(given: Texts, rows: Any) -> Any:
    return LogisticRegression(C=10, max_iter=100).fit(given.features[rows], given.answers[rows])


def right(given: Texts, rows: Any, test: Any) -> float:
    if len(set(given.answers[rows].tolist())) < 2:
        return float((given.answers[test] == given.answers[rows[0]]).mean())
    return float((fitted(given, rows).predict(given.features[test]) == given.answers[test]).mean())


def score(way: str, given: Texts, done: Any, rest: Any) -> Any:
    """What a way makes of the model's probabilities; None where there is no model."""
    if way == "diversity" or not len(done) or len(set(given.answers[done].tolist())) < 2:
        return None
    return acquire.uncertainty(fitted(given, done).predict_proba(given.features[rest]))


def drawn(way: str, given: Texts, pool: Any, seed: int) -> list[list[Line]]:
    """Rounds of rows, by number in `id`."""
    done: list[Line] = []
    rounds = []
    for number in range(1, ROUNDS + 1):
        places = np.array([int(line.id) for line in done], int)
        rest = np.setdiff1d(pool, places)
        scores = score(way, given, places, rest)
        if way == "first" and scores is not None:
            lines = [Line(str(rest[i]), "h", number, "chosen", 1.0, 0) for i in np.argsort(-scores)[:ROUND]]
        elif way == "proportional" and scores is not None:
            lines = proportional(rest, scores, number, seed)
        else:
            picked = acquire.pick(given.vectors[rest], scores, ROUND, 0.05 if way == "lean" else 0.2, (seed, number))
            lines = [Line(str(rest[one.row]), "h", number, one.arm, one.probability, 0) for one in picked]
        rounds.append(lines)
        done += lines
    return rounds


def proportional(rest: Any, scores: Any, number: int, seed: int) -> list[Line]:
    """A fifth at random, the others by systematic sampling in proportion to their scores."""
    random = np.random.default_rng((seed, number))
    plain = random.choice(len(rest), ROUND // 5, replace=False)
    others = random.permutation(np.setdiff1d(np.arange(len(rest)), plain))
    count = ROUND - len(plain)
    pi = np.minimum(count * scores[others] / scores[others].sum(), 1.0)
    taken = others[acquire.systematic(pi, float(random.random()))]
    return [Line(str(rest[i]), "h", number, "chosen", 1.0, 0) for i in (*plain, *taken)]


def holds(given: Texts, pool: Any, lines: list[Line]) -> bool:
    """Is the share of the pool's commonest answer within its estimated interval?"""
    weights = asked.weigh(lines, len(pool) - len(lines))
    answers = given.answers[[int(line.id) for line in lines]]
    common, times = Counter(given.answers[pool].tolist()).most_common(1)[0]
    share = sum(weights.rows[line.id] for line, one in zip(lines, answers, strict=True) if one == common) / len(pool)
    return abs(share - times / len(pool)) <= 1.96 * np.sqrt(share * (1 - share) * weights.variance)


def study(given: Texts, seed: int) -> tuple[dict[str, list[float]], bool]:
    """Accuracies after JUDGED rounds of each way, `random` among them, and whether the estimate holds."""
    random = np.random.default_rng(seed)
    names = random.permutation(np.unique(given.groups))
    sizes = Counter(given.groups.tolist())
    ends = np.cumsum([sizes[name] for name in names])
    chosen = np.isin(given.groups, names[: int(np.searchsorted(ends, min(POOL, 0.6 * ends[-1])))])
    pool, test = np.flatnonzero(chosen), np.flatnonzero(~chosen)
    plain = random.permutation(pool)
    found = {"random": [right(given, plain[: ROUND * rounds], test) for rounds in JUDGED]}
    held = False
    for way in WAYS:
        rounds = drawn(way, given, pool, seed)
        rows = [[int(line.id) for line in lines] for lines in rounds]
        found[way] = [right(given, np.concatenate(rows[:count]).astype(int), test) for count in JUDGED]
        if way == "aasut":
            held = holds(given, pool, [line for lines in rounds for line in lines])
    return found, held


def points(differences: Any) -> list[float]:
    """Mean difference in points with its interval."""
    mean, error = float(np.mean(differences)), float(stats.sem(differences))
    reach = float(stats.t.ppf(0.975, len(differences) - 1)) * error
    return [round(100 * one, 2) for one in (mean, mean - reach, mean + reach)]


def main() -> None:
    warnings.filterwarnings("ignore")  # of fits that stop at 100 steps
    draws = FULL if "--full" in sys.argv[1:] else DRAWS
    result: dict[str, Any] = {"draws": draws, "labels": [ROUND * rounds for rounds in JUDGED]}
    for name in (REVIEWS, TWEETS, HOME):
        given = texts(name)
        studies = []
        for seed in range(draws):
            studies.append(study(given, seed))
            print(f"{name} {seed}: " + " ".join(f"{w} {a[-1]:.3f}" for w, a in studies[-1][0].items()), flush=True)
        found = {way: np.array([one[way] for one, _ in studies]) for way in ("random", *WAYS)}
        result[name] = {"random": [round(float(one), 4) for one in found["random"].mean(axis=0)]} | {
            way: [points(found[way][:, i] - found["random"][:, i]) for i in range(len(JUDGED))] for way in WAYS
        }
        result[name]["share_held"] = float(np.mean([held for _, held in studies]))
        print(json.dumps({name: result[name]}), flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
