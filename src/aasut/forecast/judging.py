"""What the stage `judge` will ask: its own requests, with human answers for those that are not known yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aasut.data import aside, split
from aasut.evaluate.judges import both_orders, is_right, shown_task
from aasut.forecast.rehearse import Rehearsal
from aasut.forecast.stand_in import Counter, StandIn, learned, tokenizer_of
from aasut.store import Artefact
from aasut.teacher import base as teachers
from aasut.teacher.ledger import Ledger

if TYPE_CHECKING:
    from aasut.forecast.work import Stage

PARAMETERS = 270e6  # of a local judge that is not here yet


@dataclass(frozen=True)
class Bill:
    """What one judge will cost at most; `paid_usd` is what its endpoint was paid before."""

    judge: str
    calls: int
    usd: float
    usd_worst: float
    max_usd: float | None
    paid_usd: float

    @property
    def too_dear(self) -> bool:
        return self.max_usd is not None and self.paid_usd + self.usd > self.max_usd


def count(rehearsal: Rehearsal, done: dict[str, Artefact], stage: Stage, number: int) -> Bill:
    """Add one judge's calls to the stage: every test example in both orders, as if no two answers were the same."""
    recipe, task = rehearsal.recipe, rehearsal.recipe.task.build()
    judge = recipe.judges[number]
    test = split.load(done["data"].path, "test")
    more = aside.part(recipe, split.load(done["data"].path, "pool"))[1][: judge.unlabelled]
    answers = [str(example.answer) for example in test]
    requests = [r for e, answer in zip(test, answers, strict=True)
                for r in both_orders(judge, shown_task(task, e), answer, answer)]  # fmt: skip
    requests += [is_right(judge, shown_task(task, e), answers[i % len(answers)]) for i, e in enumerate([*test, *more])]
    folder, ledger = rehearsal.folder_of(judge.model), rehearsal.store.root / "ledger.db"
    real = None if judge.model else teachers.create(judge.kind, judge, None, "")
    counter = Counter(tokenizer_of(folder), chat=judge.model is None)
    identity = f"judge {number}" if real is None else real.identity
    if judge.endpoint is not None:
        counter.learned = learned(ledger, identity, counter) or (1.0, 1.0)
    stand_in = StandIn(identity, counter, [], logprobs=False, real=real)
    Ledger(stand_in, rehearsal.books).close()  # which tells it what was paid before
    stand_in.complete(requests)
    asked = stand_in.asked[""]
    tokens = sum(one.prefix + one.question for one in asked.tokens)
    stage.calls += len(requests)
    stage.tokens_in += tokens
    stage.tokens_out += sum(one.answer for one in asked.tokens)
    stage.usd, stage.worst_usd = stage.usd + asked.usd, stage.worst_usd + asked.worst_usd
    stage.ledger_bytes += asked.body_bytes
    if judge.endpoint is not None:
        stage.units["judge.calls"] += len(requests) / judge.endpoint.concurrency
    elif judge.model is not None:
        sizes = [path.stat().st_size for path in folder.glob("*.safetensors")] if folder is not None else []
        stage.units["judge.load"] += 1
        stage.units["judge.products"] += tokens * (sum(sizes) / 2 or PARAMETERS)
    return Bill(judge.source, len(requests), asked.usd, asked.worst_usd, judge.max_usd, stand_in.paid)
