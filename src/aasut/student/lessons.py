"""What training takes a text's targets from, by method: the rows as they are then learned, and their teaching."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aasut.data.panel import Panel
from aasut.files import digest
from aasut.formats.same_tokens import identity
from aasut.formats.tokenizer import Tokenizer
from aasut.recipe import Recipe
from aasut.student import asked
from aasut.student.method import CACHED
from aasut.teacher.ledger import Ledger
from aasut.types import Example, Label

if TYPE_CHECKING:
    from aasut.student.logit_cache import Binding
    from aasut.student.objective import Row
    from aasut.student.teaching import Teaching


@dataclass(frozen=True)
class Given:
    """What a run has for teaching text. The teacher's model and its ledger are loaded where they are needed.

    student     folder of the model that the student starts from
    method      one of `method.METHODS`
    vocabulary  token ids that teacher and student share
    revision    hash of the teacher's weights, or what names an endpoint's model
    """

    recipe: Recipe
    panel: Panel
    pool: Sequence[Example]
    labels: Sequence[Label]
    student: Path
    method: str
    vocabulary: int
    revision: str
    model: Callable[[], tuple[Any, Tokenizer]]
    ledger: Callable[[], Ledger]

    @property
    def examples(self) -> list[Example]:
        """Those of the pool that have an answer."""
        answered = {label.id for label in self.labels}
        return [example for example in self.pool if example.id in answered]

    def binding(self, tokenizer: Tokenizer) -> Binding:
        """What a logit cache for a student of this tokenizer is true for."""
        from aasut.student import score_logits
        from aasut.student.logit_cache import Binding

        recipe, shots = self.recipe, self.panel.members[0]
        template = [recipe.teacher_template().plain(), [[dict(shot.slots), shot.answer] for shot in shots]]
        sampled = self.method == "cached_kd"
        settings = score_logits.settings(recipe.seed) if sampled else {"seed": recipe.seed}
        settings |= {"precision": recipe.teacher.precision}
        return Binding(
            identity(tokenizer), digest(template), self.revision, self.vocabulary,
            "sampled" if sampled else "unknown", settings,
        )  # fmt: skip


@dataclass(frozen=True)
class Lessons:
    """A teaching, and what it needs of the rows.

    `prompts`: by example id, the prompt that a teacher alongside reads.
    `alone`: keys of texts of which no distribution is known; they are learned as right answers.
    `stop`: texts before which a teacher alongside ends an answer. `ends`: it ends others with the student's end token.
    """

    teaching: Teaching
    prompts: Mapping[str, Sequence[int]] | None = None
    alone: frozenset[str] = frozenset()
    stop: tuple[str, ...] = ()
    ends: bool = False

    def rows(self, example: Example, rows: Sequence[Row]) -> list[Row]:
        """An example's rows as they are taught."""
        return [self._row(example, row) for row in rows]

    def _row(self, example: Example, row: Row) -> Row:
        if self.prompts is not None:
            row = replace(row, asked=self.prompts[example.id])
        return replace(row, own=row.answer) if row.key in self.alone else row


def build(given: Given, start: Path, cache: Path | None) -> Lessons | None:
    """The lessons for the student in `start`; None where texts alone are learned.

    Raises DataError where `cache`, which the stage `logits` left, is for other answers, models or prompts.
    """
    if given.method in CACHED and cache is not None:
        return _cached(given, Tokenizer.load(start), cache)
    return _alongside(given, Tokenizer.load(start)) if given.method == "live_kd" else None


def _cached(given: Given, tokenizer: Tokenizer, folder: Path) -> Lessons:
    from aasut.student import logits
    from aasut.student.logit_cache import Cache
    from aasut.student.teaching import Cached

    cache = Cache.open(folder, given.binding(tokenizer))
    return Lessons(Cached(cache.batch), alone=frozenset(logits.alone(folder)))


def _alongside(given: Given, own: Tokenizer) -> Lessons:
    from aasut.student.teaching import Live

    model, tokenizer = given.model()
    examples = given.examples
    prompts = asked.prompts(given.recipe, given.panel, tokenizer, examples)
    by_id = {example.id: prompt for example, prompt in zip(examples, prompts, strict=True)}
    stop = asked.stop(given.recipe, given.panel)
    ends = not stop and own.eos_id in tokenizer.end_ids
    return Lessons(Live(model, given.recipe.student.micro_tokens), by_id, stop=stop, ends=ends)
