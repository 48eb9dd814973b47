"""Which rows people are asked, in what order, which of them twice, and how many are enough."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aasut.data.deal import share_of
from aasut.errors import RecipeError
from aasut.evaluate.paired import points
from aasut.evaluate.power import examples_needed, margin_shown
from aasut.recipe import Recipe
from aasut.types import Example

GUESS = 0.1  # discordance of student and teacher before anything was measured


@dataclass(frozen=True, slots=True)
class Plan:
    """How many rows to ask. `wanted` is for the whole proof, `asked` what --count says or the tables allow.

    `test_wanted` counts the rows that must fall into test by hand; `where` says where `discordance`
    comes from.
    """

    asked: int
    wanted: int
    test_wanted: int
    reachable: int
    discordance: float
    where: str
    margin: float
    margin_shown: float | None

    def sentence(self) -> str:
        """Why this many, in words."""
        text = (
            f"To show a margin of {points(self.margin)}, {self.wanted:,} answers are wanted, {self.test_wanted:,} of "
            f"them for the test (student and teacher differing on {self.discordance * 100:.3g} %: {self.where})."
        )
        if self.asked < self.wanted and self.margin_shown is not None:
            rows = f"Of the tables' {self.reachable:,} rows {self.asked:,} are asked, the rest is for the teacher"
            text += f" {rows}: enough to show a margin of about {points(self.margin_shown)}."
        return text


def order(rows: Sequence[Example], seed: int) -> list[Example]:
    """The order in which rows are asked: whole groups, drawn by the seed.

    It goes by hashes, so that it stays the same however many are asked and whatever rows are added.
    """
    return sorted(
        rows, key=lambda row: (share_of(f"{seed} ask {row.group}"), row.group, share_of(f"{seed} ask {row.id}"), row.id)
    )


def twice(rows: Sequence[Example], share: float, seed: int) -> set[str]:
    """Ids of the rows that a second person is asked too: this share of any beginning of the order, by hash."""
    return {row.id for row in rows if share_of(f"{seed} twice {row.id}") < share}


def make(
    recipe: Recipe, reachable: int, tables_test: int, report: Path, *, discordance: float | None, count: int | None
) -> Plan:
    """The plan for a recipe with `reachable` rows to ask and `tables_test` human answers in test already.

    Unless `count` says otherwise, data.split's share of the pool is left to the teacher to answer.
    report: report.json of an earlier run, which need not be there. Raises RecipeError for a flag that is no share.
    """
    if discordance is not None and not 0 < discordance <= 1:
        raise RecipeError(f"--discordance {discordance:g} is no share.", "Give a number above 0, up to 1.")
    if count is not None and count < 1:
        raise RecipeError(f"--count {count} asks for nothing.", "Give a number from 1 on.")
    wish, where, effect = GUESS, "a guess", 1.0
    if discordance is not None:
        wish, where = discordance, "as given"
    elif (seen := _measured(report)) is not None:
        wish, effect, where = seen["discordance"], seen["design_effect"], f"measured on {seen['n']:,} answers"
    evaluate, split = recipe.evaluate, recipe.data.split
    test = max(0, examples_needed(evaluate.margin, evaluate.confidence, wish, effect) - tables_test)
    if test and split.test <= 0:
        raise RecipeError("data.split gives test no weight.", "Raise data.split.test.")
    by_hand = split.test + split.calibrate + split.tune
    wanted = math.ceil(test * by_hand / split.test) if test else 0
    most = math.floor(reachable * by_hand / (by_hand + split.pool)) if by_hand else 0
    asked = min(count, reachable) if count is not None else min(wanted, most)
    got = tables_test + (asked * split.test / by_hand if by_hand else 0)
    shown = margin_shown(round(got), evaluate.confidence, wish, effect) if got >= 1 else None
    return Plan(asked, wanted, test, reachable, wish, where, evaluate.margin, shown)


def _measured(report: Path) -> dict[str, Any] | None:
    """The verdict of an earlier run, None where there is none to read."""
    try:
        found = json.loads(report.read_text(encoding="utf-8"))["verdict"]
        if all(isinstance(found[key], (int, float)) for key in ("discordance", "design_effect", "n")):
            return dict(found)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None
