"""The student's own answers in the place of given ones (on-policy distillation: GKD, Agarwal et al. 2024).

    step < start                  given answers alone
    then, every `refresh` steps   the student, with its weights of then, answers the prompts that the next steps need
    a step                        some of its examples, more and more, have such an answer: each token of it is
                                  learned by the loss against the teacher's whole distribution in that place

No gradient flows through the drawing. An answer's end is the teacher's to say, like any token, where it ends its
own answers with the student's end token. Where it ends them otherwise, it has no word on that token:

    cut at task.max_tokens                  no end is learned
    JSON of the task's schema is complete   the end token is right, as behind a given answer
    a text that ends the teacher's answers  so it is, in the place of that text
    the student's end token                 no end is learned: neither right nor wrong is known

What was written is on disk before any of it is learned, so that a training that is killed learns the same again.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aasut.engine.base import Prompt, Written, write
from aasut.engine.torch import TorchEngine
from aasut.files import digest, write_atomically
from aasut.formats.tokenizer import Tokenizer
from aasut.progress import Progress
from aasut.recipe import OnPolicy
from aasut.student import schedule
from aasut.student.objective import Row
from aasut.types import Conservation

if TYPE_CHECKING:
    from aasut.student.teaching import Teaching
    from aasut.student.trainer import Report, Trainer

LOOKED_AT = 32  # answers of a refresh whose loss is told
EMPTY, LEFT, SKIPPED = "empty answer", "training ended before", "step was skipped"


@dataclass(frozen=True)
class Asking:
    """How the student is asked, by example id, and where a teacher's answers end.

    `max_tokens`, `schema` and `plain` as for any answer to the task; `stop` and `ends` as in `Lessons`.
    """

    prompts: Mapping[str, str]
    max_tokens: int
    schema: str = ""
    plain: bool = False
    stop: tuple[str, ...] = ()
    ends: bool = True


@dataclass(frozen=True)
class Answer:
    """One that the student wrote: which step learns it, in the place of which text, its tokens and how they ended.

    `ended`: it was not cut. The last `end` of the ids are an end token, and `own` of them as in `Row`. One without
    ids teaches nothing: the given answer is learned in its place.
    """

    step: int
    key: str
    ids: list[int]
    end: int
    own: int
    ended: bool

    def row(self, given: Row) -> Row:
        """As it is learned."""
        prompt = given.ids[: len(given.ids) - given.answer]
        return replace(given, ids=[*prompt, *self.ids], answer=len(self.ids), own=self.own)


@dataclass
class Refresh:
    """What was written at once, before the step `step` (counted from 0), and what that took.

    `loss` is the mean in nats a token on some of the answers, as they were written; None where there is none.
    """

    step: int
    engine: str
    answers: list[Answer]
    loss: float | None = None
    seconds_rollout: float = 0.0
    seconds_scoring: float = 0.0
    seconds_updates: float = 0.0

    @classmethod
    def load(cls, path: Path) -> Refresh:
        plain = json.loads(path.read_text(encoding="utf-8"))
        return cls(**plain | {"answers": [Answer(**answer) for answer in plain["answers"]]})

    @property
    def tokens(self) -> int:
        return sum(len(answer.ids) - answer.end for answer in self.answers)

    def facts(self) -> dict[str, Any]:
        count = max(len(self.answers), 1)
        plain: dict[str, Any] = {
            "step": self.step + 1,
            "answers": len(self.answers),
            "tokens_each": round(self.tokens / count, 2),
        }
        plain |= {"ended": round(sum(answer.ended for answer in self.answers) / count, 4), "loss": self.loss}
        times = {name: getattr(self, name) for name in ("seconds_rollout", "seconds_scoring", "seconds_updates")}
        return plain | {name: round(value, 2) for name, value in times.items()}


class Rollouts:
    """The student's answers of one training; what it is in is kept in `folder` until `finish`.

    `teaching` is asked for its seconds alone.
    """

    def __init__(
        self, settings: OnPolicy, asking: Asking, tokenizer: Tokenizer, seed: int, folder: Path, progress: Progress,
        teaching: Teaching | None = None,
    ) -> None:  # fmt: skip
        self.settings, self.asking, self.tokenizer, self.seed = settings, asking, tokenizer, seed
        self.folder, self.progress, self.teaching = folder, progress, teaching
        self._examples = 0  # of all steps
        self._number, self._refresh = -1, Refresh(0, "", [])
        self._learned: dict[tuple[int, str], Answer] = {}
        self._since = self._read = 0.0

    def rows(self, trainer: Trainer, rows: Sequence[Row], steps: Sequence[Sequence[int]], step: int) -> list[Row]:
        """What a step learns: its rows, some with the student's own answers in the place of the given ones."""
        given = [rows[i] for i in steps[step]]
        self._examples = sum(map(len, steps))
        first = self._first(len(steps))
        if step < first:
            return given
        every = self.settings.refresh
        if (number := (step - first) // every) != self._number:
            self._leave()
            begin = first + number * every
            wanted = [
                (i, rows[place]) for i in range(begin, min(begin + every, len(steps))) for place in steps[i]
                if schedule.is_own(i, rows[place].key, self.seed, self._share(i, len(steps)))
            ]  # fmt: skip
            self._enter(number, begin, wanted, trainer)
        own = {row.key: self._learned.get((step, row.key)) for row in given}
        return [row if (answer := own[row.key]) is None else answer.row(row) for row in given]

    def since(self, step: int, report: Report) -> int:
        """How many of the losses before a step say nothing of what is usual in it: those on given answers alone."""
        first = self._first(report.steps)
        return 0 if step < first else first - sum(found["step"] <= first for found in report.skipped)

    def _first(self, count: int) -> int:
        return next(i for i in range(count) if self._share(i, count))

    def _share(self, step: int, count: int) -> float:
        return schedule.own_share(step, count, self.settings)

    def _enter(self, number: int, step: int, wanted: Sequence[tuple[int, Row]], trainer: Trainer) -> None:
        """Have the answers of a refresh: those on disk, or new ones."""
        path = self._path(number)
        if not path.exists():
            self._refresh = self._write(step, wanted, trainer)
            self._save(number)
        self._number, self._refresh = number, Refresh.load(path)
        self._learned = {(answer.step, answer.key): answer for answer in self._refresh.answers if answer.ids}
        self._since, self._read = time.perf_counter(), self._seconds_read

    def _leave(self) -> None:
        """Note what learning took since the refresh."""
        if self._number < 0:
            return
        scoring = self._seconds_read - self._read
        self._refresh.seconds_scoring += scoring
        self._refresh.seconds_updates += time.perf_counter() - self._since - scoring
        self._save(self._number)

    def _write(self, step: int, wanted: Sequence[tuple[int, Row]], trainer: Trainer) -> Refresh:
        model, began = trainer.model, time.perf_counter()
        training = model.training
        model.eval()
        engine = TorchEngine(model, self.tokenizer)
        written = write(engine, [self._prompt(i, row.key) for i, row in wanted]) if wanted else []
        answers = [self._answer(i, row.key, said) for (i, row), said in zip(wanted, written, strict=True)]
        made = Refresh(step, engine.name, answers, seconds_rollout=time.perf_counter() - began)
        began = time.perf_counter()
        pairs = zip(answers, (row for _, row in wanted), strict=True)
        if some := [_taught(answer, row) for answer, row in pairs if len(answer.ids) > answer.own][:LOOKED_AT]:
            made.loss = trainer.evaluate(some)
        made.seconds_scoring = time.perf_counter() - began
        model.train(training)
        self._tell(made)
        return made

    def _prompt(self, step: int, key: str) -> Prompt:
        asking, seed = self.asking, int(digest(["draw", self.seed, step, key])[:15], 16)
        return Prompt(
            asking.prompts[key.rsplit("#", 1)[0]], asking.max_tokens, temperature=self.settings.temperature, seed=seed,
            stop=asking.stop, schema=asking.schema, plain=asking.plain,
        )  # fmt: skip

    def _answer(self, step: int, key: str, said: Written) -> Answer:
        """With the end that it is to learn: see the module's docstring."""
        ids, text, end, own = list(said.ids), self.tokenizer.decode(said.ids), False, False
        cut = min((text.find(stop) for stop in self.asking.stop if stop in text), default=-1)
        if cut >= 0:
            ids = self._before(ids, cut)
            end = own = self.tokenizer.decode(ids) == text[:cut]  # a token may begin before the stop text
        elif said.finish == "stop" and self.asking.schema and text.lstrip()[:1] in ("{", "["):
            end = own = True
        elif said.finish == "stop":
            end = self.asking.ends
        last = [self.tokenizer.eos_id] if end and self.tokenizer.eos_id is not None else []
        right = len(last) if own and ids else 0
        learned = [*ids, *last] if ids or not own else []
        return Answer(step, key, learned, len(last) if learned else 0, right, said.finish == "stop")

    def _before(self, ids: Sequence[int], cut: int) -> list[int]:
        """The most of the first tokens whose text has at most `cut` characters."""
        count = len(ids)
        while count and len(self.tokenizer.decode(ids[:count])) > cut:
            count -= 1
        return list(ids[:count])

    def finish(self, report: Report) -> tuple[dict[str, Any], dict[str, Conservation]]:
        """(the facts of all that was written, its account); what was kept on disk is removed."""
        self._leave()
        paths = sorted(self.folder.glob("rollouts-*.json"))
        made = [Refresh.load(path) for path in paths]
        skipped = {found["step"] - 1 for found in report.skipped}
        reasons = Counter(_lost(answer, skipped, report.stopped) for part in made for answer in part.answers)
        total, kept = reasons.total(), reasons.pop("", 0)
        facts = {
            "engine": made[-1].engine if made else "", "refreshes": len(made), "rollouts": total,
            "tokens_written": sum(part.tokens for part in made),
            "share_learned": round(kept / max(self._examples, 1), 4),
            **{name: round(sum(getattr(part, name) for part in made), 2)
               for name in ("seconds_rollout", "seconds_scoring", "seconds_updates")},
            "curve": [part.facts() for part in made],
        }  # fmt: skip
        for path in paths:
            path.unlink()
        return {"on_policy": facts}, {"own answers": Conservation(total, kept, dict(reasons))}

    def _tell(self, made: Refresh) -> None:
        told = made.facts()
        loss = "" if made.loss is None else f", loss on them {made.loss:.4f}"
        self.progress.say(
            f"student wrote {told['answers']} answers before step {told['step']} in {told['seconds_rollout']:.1f} s: "
            f"{told['tokens_each']:.1f} tokens each, {told['ended']:.0%} ended{loss}"
        )

    def _path(self, number: int) -> Path:
        return self.folder / f"rollouts-{number:05}.json"

    def _save(self, number: int) -> None:
        write_atomically(self._path(number), json.dumps(asdict(self._refresh)))

    @property
    def _seconds_read(self) -> float:
        return float(getattr(self.teaching, "seconds", 0.0))


def _taught(answer: Answer, given: Row) -> Row:
    """An answer's row without what is right there, whatever the teacher says."""
    row = answer.row(given)
    return replace(row, ids=row.ids[: len(row.ids) - row.own], answer=row.answer - row.own, own=0)


def _lost(answer: Answer, skipped: Iterable[int], stopped: int) -> str:
    """Why an answer was not learned; "" where it was."""
    if not answer.ids:
        return EMPTY
    if stopped and answer.step >= stopped:
        return LEFT
    return SKIPPED if answer.step in skipped else ""
