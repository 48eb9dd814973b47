"""Which of its own answers to an input the teacher prefers: pairs of a student's answers, and verdicts on them.

Each pair is shown in both orders (see comparison.py), and kept only where both name the same answer. What is asked
hangs on the answers and the seed alone, and every verdict is in the ledger, so a broken run asks nothing twice.
Writes preferences.jsonl: input, group, the answer that is preferred, and the other.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from aasut.comparison import both_orders, shown_task, sides
from aasut.data.ask import Tally, completions, in_batches
from aasut.errors import DataError, TeacherError
from aasut.plain_form import plain
from aasut.progress import Progress
from aasut.recipe import Preference, Recipe
from aasut.store import write_atomically
from aasut.teacher.ledger import Ledger
from aasut.types import Completion, Conservation, Example, Request

VERSION = 1
LEAST_PAIRS = 8  # that anything is learned from
TIE, DISAGREE = "a tie", "the two orders disagree"
EQUAL, NOTHING_ELSE, NONE_KEPT = "equal to another", "no two different answers", "no pair with a preference"


@dataclass(frozen=True)
class Own:
    """A student's answers to one input, equal ones once, and why others cannot be used, by reason."""

    example: Example
    texts: Sequence[str]
    equal: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to the input `id`, the preferred one first."""

    id: str
    group: str
    chosen: str
    rejected: str


def inputs(recipe: Recipe, pool: Sequence[Example]) -> list[Example]:
    """The inputs that are answered again, drawn by the seed, in an order that is drawn too."""
    order = sorted(pool, key=lambda example: example.id)
    random.Random(f"{recipe.seed} preference").shuffle(order)
    return order[: settings_of(recipe).inputs]


def settings_of(recipe: Recipe) -> Preference:
    """The section. Raises DataError where the recipe has none, which a caller should have known."""
    if recipe.student.preference is None:
        raise DataError(f"{recipe.name} asks for no preferences.", "Give student.preference.")
    return recipe.student.preference


def pairs_of(texts: Sequence[str], most: int, draw: random.Random) -> list[tuple[str, str]]:
    """At most so many pairs of different texts, drawn, so that each text is in about as many as another."""
    left = [list(pair) for pair in combinations(range(len(texts)), 2)]
    draw.shuffle(left)
    used: Counter[int] = Counter()
    found: list[tuple[str, str]] = []
    while left and len(found) < most:
        pair = min(left, key=lambda two: sum(used[one] for one in two))
        left.remove(pair)
        used.update(pair)
        found.append((texts[pair[0]], texts[pair[1]]))
    return found


def build(recipe: Recipe, given: Sequence[Own], teacher: Ledger, folder: Path, progress: Progress) -> dict[str, Any]:
    """Ask the teacher about pairs of answers, and leave those with a preference in `folder`; gives facts.

    Raises TeacherError where more than max_failed of the verdicts are unusable, DataError where too few pairs are kept.
    """
    wanted, task = settings_of(recipe), recipe.task.build()
    asked = [
        (own.example, pair)
        for own in given
        for pair in pairs_of(own.texts, wanted.pairs, random.Random(f"{recipe.seed} {own.example.id}"))
    ]
    requests: list[Request] = []
    for example, pair in asked:
        requests += both_orders(wanted.rubric, shown_task(task, example), *map(plain, pair))
    said = _complete(requests, teacher, wanted, progress)
    kept: list[Pair] = []
    dropped: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    firsts = 0
    for place, (example, (one, other)) in enumerate(asked):
        read = sides(*said[2 * place : 2 * place + 2])
        if isinstance(read, str):
            failed[read] += 1
        elif read[0] != read[1]:
            dropped[DISAGREE] += 1
            firsts += read == (1, -1)
        elif not read[0]:
            dropped[TIE] += 1
        else:
            best, worst = (one, other) if read[0] > 0 else (other, one)
            kept.append(Pair(example.id, example.group, best, worst))
    _check(wanted, asked, kept, failed)
    write_atomically(
        folder / "preferences.jsonl", "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in kept)
    )
    return {
        "conservation": accounts(given, kept, wanted.samples)
        | {"rank, pairs": Conservation(len(asked), len(kept), dict(dropped), dict(failed))},
        "pairs": len(kept),
        "always_first": firsts,  # pairs of which the answer that stood first was named both times
    }


def accounts(given: Sequence[Own], kept: Sequence[Pair], samples: int) -> dict[str, Conservation]:
    """What became of inputs and answers."""
    dropped: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    unusable: Counter[str] = Counter()
    preferred = {pair.id for pair in kept}
    for own in given:
        unusable.update(own.failed)
        if own.example.id in preferred:
            continue
        if own.texts:
            dropped[NONE_KEPT if len(own.texts) > 1 else NOTHING_ELSE] += 1
        else:
            failed[next(iter(own.failed))] += 1
    answers = sum(len(own.texts) for own in given)
    equal = sum(own.equal for own in given)
    return {
        "rank, inputs": Conservation(len(given), len(preferred), dict(dropped), dict(failed)),
        "rank, answers": Conservation(samples * len(given), answers, {EQUAL: equal} if equal else {}, dict(unusable)),
    }


def load(folder: Path) -> list[Pair]:
    """The pairs of a finished stage."""
    with (folder / "preferences.jsonl").open(encoding="utf-8") as file:
        return [Pair(**json.loads(line)) for line in file]


def _complete(requests: Sequence[Request], teacher: Ledger, wanted: Preference, progress: Progress) -> list[Completion]:
    batches = in_batches([(0, i) for i in range(len(requests))])
    with progress.steps("teacher ranks the student's answers", len(requests)) as step:
        tally = Tally(step, wanted.max_failed * len(requests), "student.preference.max_failed")
        said = [one for _, one in completions(teacher, batches, lambda _, i: requests[i], tally.count)]
    for note, times in teacher.notes():
        progress.say(f"{times:,} {note}")
    return said


def _check(wanted: Preference, asked: Sequence[Any], kept: Sequence[Pair], failed: Counter[str]) -> None:
    if failed.total() > wanted.max_failed * len(asked):
        reasons = ", ".join(f"{count} × {why}" for why, count in failed.most_common())
        raise TeacherError(
            f"{failed.total()} of {len(asked)} verdicts of the teacher on the student's answers are unusable "
            f"({reasons}).",
            "Mend student.preference.rubric, or raise student.preference.max_failed; the usable verdicts are kept.",
        )
    if len(kept) < LEAST_PAIRS:
        raise DataError(
            f"The teacher prefers one answer of {len(kept)} of {len(asked)} pairs of the student's answers; nothing is "
            f"learned from fewer than {LEAST_PAIRS}.",
            "Raise student.preference.inputs, samples or temperature, mend its rubric, or leave the section out.",
        )
