"""Stage `filtered`: what of the teacher's writing is kept, and why the rest is not.

The checks, in this order, of which the first that fails is the item's reason: its text alone (shape.py), its grounding
in the span (grounding.py), a second answer of the teacher's (round_trip.py), repetition of other items, and repetition
of what is held out (overlap.py). Held out, for items of train, are the kept items of tune and test, their documents,
and the recipe's `held_out` sets.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from aasut.data.ask import Tally, completions, in_batches
from aasut.errors import TeacherError
from aasut.files import disk_errors
from aasut.progress import Progress
from aasut.recipe.field import FieldRecipe
from aasut.synthesize import grounding, overlap, round_trip, shape
from aasut.synthesize import item as items_of
from aasut.synthesize.item import SPLITS, Item
from aasut.synthesize.overlap import Embedder, Held
from aasut.synthesize.sources import Source, Sources
from aasut.teacher.ledger import Ledger
from aasut.types import Chunk, Completion, Conservation, Request

VERSION = 2
NO_SPAN = "its span is in no document"
KEPT = "kept"
SHOWN = 3  # samples of each reason
DROPPED = "dropped.jsonl"

Search = Callable[[str], Sequence[str]]


@dataclass
class Sieve:
    """The items that are left, and why others went: the first reason by id, with what it is about."""

    left: list[Item]
    gone: dict[str, tuple[str, str]] = field(default_factory=dict)
    rates: dict[str, dict[str, Any]] = field(default_factory=dict)

    def take(self, found: Mapping[str, tuple[str, str]], rate: str = "", of: Iterable[Item] | None = None) -> None:
        """Let items go for a reason; `rate`: under which name it is told how many of the items, or `of` some, stay."""
        reached = list(self.left if of is None else of)
        passed = sum(item.id not in found for item in reached)
        if rate:
            share = passed / len(reached) if reached else None
            self.rates[rate] = {"reached": len(reached), "passed": passed, "share": share}
        self.gone.update(found)
        self.left = [item for item in self.left if item.id not in found]


def build(
    recipe: FieldRecipe,
    items: Iterable[Item],
    chunks: Iterable[Chunk],
    teacher: Ledger,
    held: Callable[[Sequence[Item]], Held],
    embedder: Embedder | None,
    search: Search | None,
    folder: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Write train.jsonl, tune.jsonl, test.jsonl and dropped.jsonl (items with `reason` and `detail`); gives facts.

    held: makes what train must not repeat, the kept items of tune and test given to it among that.
    search: finds passages for a question, best first; where `filter.context` is `retrieved`.
    Facts: `conservation` (of all, and by split), `reasons` (by split), `kinds` (items in and kept), `rates` (of the
    items that reached a check, those that passed), `samples` (by reason, and of what was kept).
    Raises TeacherError where more than `filter.max_failed` of the second answers fail.
    """
    every = list(items)
    sources = Sources(chunks, every)
    sieve = Sieve(every)
    resting = {item.id: source for item in every if (source := sources.of(item)) is not None}
    sieve.take({item.id: (NO_SPAN, "") for item in every if item.id not in resting})
    sieve.take(_each(sieve.left, lambda item: _of_text(recipe, item, resting[item.id])))
    sieve.take(_each(sieve.left, partial(_grounded, recipe, sources, resting)), "grounding")
    if recipe.filter.round_trip:
        asked = [item for item in sieve.left if not item.is_text]
        sieve.take(_asked_again(recipe, asked, resting, teacher, search, progress), "round_trip", asked)
    near, alike = recipe.filter.near_duplicates, recipe.filter.alike
    sieve.take(overlap.duplicates(sieve.left, near, alike, embedder, recipe.seed, progress), "duplicates")
    train = [item for item in sieve.left if item.split == "train"]
    held_out = [item for item in sieve.left if item.split != "train"]
    sieve.take(overlap.contaminated(train, held(held_out)), "decontamination", train)
    _write(every, sieve, folder)
    return _facts(recipe, every, sieve, resting)


def _each(items: Iterable[Item], check: Callable[[Item], tuple[str, str]]) -> dict[str, tuple[str, str]]:
    return {item.id: found for item in items if (found := check(item))[0]}


def _of_text(recipe: FieldRecipe, item: Item, source: Source) -> tuple[str, str]:
    found = shape.fault(item, recipe.filter)
    if found[0]:
        return found
    return shape.language_fault(item, source.text, source.language, recipe.synthesize.language)


def _grounded(recipe: FieldRecipe, sources: Sources, resting: Mapping[str, Source], item: Item) -> tuple[str, str]:
    source = resting[item.id]
    common = partial(sources.common, language=source.language)
    return grounding.fault(item, source, recipe.filter.grounding, common, recipe.synthesize.tools)


def _asked_again(
    recipe: FieldRecipe,
    items: Sequence[Item],
    resting: Mapping[str, Source],
    teacher: Ledger,
    search: Search | None,
    progress: Progress,
) -> dict[str, tuple[str, str]]:
    """Why items do not stand a second look. Batches depend on the items alone, so that a broken one is done anew."""
    settings, tools = recipe.filter, recipe.synthesize.tools
    questions: list[list[Request]] = []
    for item in items:
        passage = resting[item.id].passage
        if settings.context == "retrieved" and search is not None:
            passage = "\n\n".join(search(item.questions[0]))
        questions.append(round_trip.requests(item, passage, recipe.synthesize.max_tokens, tools))
    turns = [(place, number) for place, several in enumerate(questions) for number in range(len(several))]
    turns.sort(key=lambda turn: (sum(len(m.content) for m in questions[turn[0]][turn[1]].messages), items[turn[0]].id))
    second: list[dict[int, Completion]] = [{} for _ in items]
    with progress.steps("the teacher answers again", len(turns)) as step:
        tally = Tally(step, settings.max_failed * len(turns), "filter.max_failed")
        told = completions(teacher, in_batches(turns), lambda place, number: questions[place][number], tally.count)
        for (place, number), completion in told:
            second[place][number] = completion
    if tally.failed.total() > settings.max_failed * len(turns):
        reasons = ", ".join(f"{count} × {reason}" for reason, count in tally.failed.most_common())
        raise TeacherError(
            f"{tally.failed.total()} of {len(turns)} second answers are unusable ({reasons}).",
            "Mend the endpoint's settings, or raise filter.max_failed; the usable answers are kept.",
        )
    answered = [[found[number] for number in sorted(found)] for found in second]
    faults = (round_trip.fault(*pair, settings.round_trip, tools) for pair in zip(items, answered, strict=True))
    return {item.id: found for item, found in zip(items, faults, strict=True) if found[0]}


def _write(items: Sequence[Item], sieve: Sieve, folder: Path) -> None:
    with disk_errors(folder):
        for split in SPLITS:
            items_of.save((item for item in sieve.left if item.split == split), folder / f"{split}.jsonl")
        with (folder / DROPPED).open("w", encoding="utf-8") as file:
            for item in items:
                if item.id in sieve.gone:
                    reason, detail = sieve.gone[item.id]
                    plain = items_of.as_dict(item) | {"reason": reason, "detail": detail}
                    file.write(json.dumps(plain, ensure_ascii=False) + "\n")


def _facts(recipe: FieldRecipe, items: Sequence[Item], sieve: Sieve, resting: Mapping[str, Source]) -> dict[str, Any]:
    reason_of = {item.id: sieve.gone[item.id][0] if item.id in sieve.gone else KEPT for item in items}
    counts = {split: Counter(reason_of[item.id] for item in items if item.split == split) for split in SPLITS}
    kinds: dict[str, dict[str, int]] = {}
    for item in items:
        of_kind = kinds.setdefault(item.kind, {"in": 0, KEPT: 0})
        of_kind["in"] += 1
        of_kind[KEPT] += reason_of[item.id] == KEPT
    lost = {
        split: {reason: n for reason, n in sorted(found.items()) if reason != KEPT} for split, found in counts.items()
    }
    rows = {f"filtered {split}": _rows(found[KEPT], lost[split]) for split, found in counts.items() if found.total()}
    whole = _rows(sum(found[KEPT] for found in counts.values()), _summed(lost.values()))
    return {
        "conservation": {"filtered": whole} | rows,
        "reasons": lost,
        "kinds": dict(sorted(kinds.items())),
        "rates": sieve.rates,
        "samples": _samples(recipe.seed, items, reason_of, sieve, resting),
    }


def _rows(kept: int, lost: Mapping[str, int]) -> Conservation:
    """Rows in: what was kept and what was not; where the teacher failed, that is a failure and no choice."""
    failed = {reason: count for reason, count in lost.items() if reason == round_trip.UNANSWERED}
    dropped = {reason: count for reason, count in lost.items() if reason not in failed}
    return Conservation(kept + sum(lost.values()), kept, dropped, failed)


def _summed(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for found in counts:
        total.update(found)
    return dict(sorted(total.items()))


def _samples(
    seed: int, items: Sequence[Item], reason_of: Mapping[str, str], sieve: Sieve, resting: Mapping[str, Source]
) -> dict[str, list[dict[str, Any]]]:
    by_reason: dict[str, list[Item]] = {}
    for item in sorted(items, key=lambda one: one.id):
        by_reason.setdefault(reason_of[item.id], []).append(item)
    found = {}
    for reason, several in sorted(by_reason.items()):
        drawn = random.Random(f"{seed} {reason}").sample(several, min(SHOWN, len(several)))
        found[reason] = [
            items_of.as_dict(item)
            | {
                "detail": sieve.gone[item.id][1] if item.id in sieve.gone else "",
                "text": resting[item.id].text if item.id in resting else "",
            }
            for item in drawn
        ]
    return found
