"""What judges and other teachers will ask and cost.

A judge's requests are those of the stage `judge`, with human answers for those that are not known yet; other teachers'
are noted by the rehearsal of the stage `label`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aasut.comparison import both_orders, shown_task
from aasut.data import aside, split
from aasut.evaluate.judges import is_right
from aasut.forecast.rehearse import Rehearsal
from aasut.forecast.stand_in import Asked as Calls
from aasut.forecast.stand_in import StandIn
from aasut.recipe import Asked
from aasut.store import Artefact
from aasut.teacher.ledger import Ledger

if TYPE_CHECKING:
    from aasut.forecast.work import Stage

PARAMETERS = 270e6  # of a local model that is not here yet


@dataclass(frozen=True)
class Bill:
    """What one judge or other teacher will cost at most; `paid_usd` is what its endpoint was paid before."""

    name: str
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
                for r in both_orders(judge.rubric, shown_task(task, e), answer, answer)]  # fmt: skip
    requests += [is_right(judge, shown_task(task, e), answers[i % len(answers)]) for i, e in enumerate([*test, *more])]
    stand_in = rehearsal.stand_in_for(judge, f"judge {number}")
    Ledger(stand_in, rehearsal.books).close()  # which tells it what was paid before
    stand_in.complete(requests)
    return bill(rehearsal, judge, stand_in, stage)


def bill(rehearsal: Rehearsal, wanted: Asked, stand_in: StandIn, stage: Stage) -> Bill:
    """Add to the stage what the model's stand-in was asked."""
    asked = stand_in.asked.get("", Calls())
    folder = rehearsal.folder_of(wanted.model)
    tokens = sum(one.prefix + one.question for one in asked.tokens)
    stage.calls += len(asked.tokens)
    stage.tokens_in += tokens
    stage.tokens_out += sum(one.answer for one in asked.tokens)
    stage.usd, stage.worst_usd = stage.usd + asked.usd, stage.worst_usd + asked.worst_usd
    stage.ledger_bytes += asked.body_bytes
    if wanted.endpoint is not None:
        stage.units["judge.calls"] += len(asked.tokens) / wanted.endpoint.concurrency
    elif wanted.model is not None:
        sizes = [path.stat().st_size for path in folder.glob("*.safetensors")] if folder is not None else []
        stage.units["judge.load"] += 1
        stage.units["judge.products"] += tokens * (sum(sizes) / 2 or PARAMETERS)
    return Bill(wanted.source, len(asked.tokens), asked.usd, asked.worst_usd, wanted.max_usd, stand_in.paid)
