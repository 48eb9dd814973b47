"""How much work every stage of a run has: calls, tokens, and units of computing that `pace` puts seconds to.

Nothing is derived here that a stage knows itself: steps come from the trainer's schedule, batches
from its micro-batches, repetitions from the timing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aasut.data import label as labelling
from aasut.data import split
from aasut.data.panel import Panel
from aasut.engine.common import begin
from aasut.evaluate.timing import fewer, measure
from aasut.forecast import judging, ranking
from aasut.forecast.rehearse import Rehearsal
from aasut.forecast.stand_in import Asked, tokenizer_of
from aasut.formats.tokenizer import read_json
from aasut.recipe import Recipe
from aasut.store import Artefact
from aasut.student import linear, train
from aasut.types import Example, Usage

if TYPE_CHECKING:
    from aasut.student.objective import Row

STAGES = (
    "data", "choose", "label", "linear", "general", "heal", "initialise", "logits", "train", "rank", "prefer", "export",
    "evaluate", "judge", "report",
)  # fmt: skip

OTHERS = "others"  # the part of the stage `label` in which `teacher.others` are asked: their caps are their own


@dataclass
class Stage:
    """One stage's work. `units` counts what takes time, by the names that `pace` knows."""

    name: str
    reused: bool
    calls: int = 0
    held: int = 0  # answers that the ledger has already
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float = 0.0
    worst_usd: float = 0.0
    ledger_bytes: int = 0
    units: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))


@dataclass
class Work:
    """A whole run's work, by stage, and samples of it for measuring this machine's pace."""

    stages: list[Stage]
    asked: dict[str, Asked]
    steps: int = 0
    rows: list[Row] = field(default_factory=list)  # that the student is trained on
    validation: list[Row] = field(default_factory=list)
    judges: list[judging.Bill] = field(default_factory=list)
    others: list[judging.Bill] = field(default_factory=list)

    def __getitem__(self, name: str) -> Stage:
        return next(stage for stage in self.stages if stage.name == name)

    def total(self, unit: str) -> float:
        return sum(stage.units[unit] for stage in self.stages)


def count(rehearsal: Rehearsal, done: dict[str, Artefact]) -> Work:
    """The work of the stages that are not in the store."""
    recipe = rehearsal.recipe
    linear = recipe.student.initialise == "linear"
    artefacts = {name: done.get("train" if linear and name == "linear" else name) for name in STAGES}
    artefacts |= {"train": None} if linear else {}
    stages = [Stage(name, artefact.reused) for name, artefact in artefacts.items() if artefact is not None]
    if rehearsal.others:  # of a stage `label` that is to be made
        stages.insert(1 + [stage.name for stage in stages].index("label"), Stage(OTHERS, reused=False))
    work = Work(stages, rehearsal.stand_in.asked)
    for number, (stand_in, ledger) in sorted(rehearsal.others.items()):
        work[OTHERS].held += ledger.calls_reused
        work.others.append(judging.bill(rehearsal, recipe.teacher.others[number], stand_in, work[OTHERS]))
    ranking.rehearse(rehearsal, done)
    _teacher(rehearsal, done, work)
    ranking.count(rehearsal, done, work)
    pool = split.load(done["data"].path, "pool")
    if not work["label"].reused:
        work["label"].units["rows.labelled"] += len(pool)
    for name, add in (("linear", _linear), ("initialise", _initialise), ("export", _export), ("report", _report)):
        stage = next((s for s in stages if s.name == name), None)
        if stage is not None and not stage.reused:
            add(recipe, pool, stage)
    if "heal" in done and not work["heal"].reused:
        _heal(recipe, done["general"], work["heal"])
    if not linear and not work["train"].reused:
        _train(rehearsal, done, pool, work)
        _taught(rehearsal, done, pool, work)
    if not work["evaluate"].reused:
        _evaluate(rehearsal, done, work)
    if "judge" in done and not work["judge"].reused:
        work.judges = [judging.count(rehearsal, done, work["judge"], n) for n in range(len(recipe.judges))]
    return work


def _teacher(rehearsal: Rehearsal, done: dict[str, Artefact], work: Work) -> None:
    """Calls and tokens of the stages that ask the teacher."""
    scale = rehearsal.prefix_scale(done)
    loaded = False
    for name in ("choose", "label", "rank", "evaluate"):
        if name == "rank" and name not in done:
            continue
        stage, asked = work[name], rehearsal.asked(name)
        if stage.reused:
            continue
        even = scale if name != "choose" else 1.0
        prefix = sum(tokens.prefix for tokens in asked.tokens)
        question = sum(tokens.question for tokens in asked.tokens)
        whole = prefix * even + question
        stage.calls = len(asked.tokens)
        stage.tokens_in, stage.tokens_out = round(whole), sum(tokens.answer for tokens in asked.tokens)
        dearer = whole / (prefix + question) if prefix + question else 1.0
        stage.usd, stage.worst_usd = asked.usd * dearer, asked.worst_usd * dearer
        stage.ledger_bytes = asked.body_bytes
        stage.units["rehearsal"] += rehearsal.seconds.get(name, 0.0)
        stage.held = rehearsal.held.get(name, 0)
        if rehearsal.teacher_kind == "model":
            stage.units["teacher.load"] += 0 if loaded else 1
            loaded = True
            prefixes = {r.messages[:-1]: t.prefix for r, t in zip(asked.requests, asked.tokens, strict=True)}
            stage.units["teacher.tokens"] += question + sum(prefixes.values())
            stage.units["teacher.written"] += sum(not request.choices for request in asked.requests)
        elif rehearsal.teacher_kind == "endpoint":
            stage.units["endpoint.calls"] += stage.calls


def _linear(recipe: Recipe, pool: Sequence[Example], stage: Stage) -> None:
    stage.units["linear.fit"] += 1
    texts = [train.linear_prompt(recipe, example) for example in pool]
    stage.units["linear.characters"] += sum(map(len, texts))
    stage.units["linear.bytes"] += linear.file_bytes(texts, len(recipe.task.build().answers))


def _initialise(recipe: Recipe, pool: Sequence[Example], stage: Stage) -> None:
    from aasut.student.calibration import HELD_OUT, PROMPTS

    stage.units["copy.source_gb"] += 1
    if recipe.student.heal is not None:  # its stage has done the rest
        return
    models = 1 if recipe.student.initialise == "pretrained" else 2  # whose loss is told: the source's and the start's
    stage.units["source.load"] += models
    stage.units["calibration.prompts"] += models * min(HELD_OUT, len(pool))
    if recipe.student.initialise == "pruned":
        stage.units["influence.prompts"] += min(PROMPTS, len(pool))


def _heal(recipe: Recipe, texts: Artefact, stage: Stage) -> None:
    """Tokens that the start learns while the whole model reads them, and those that both are looked at with."""
    from aasut.student.calibration import PROMPTS
    from aasut.student.general import CHARACTERS, MOST_HELD, VALIDATION
    from aasut.student.heal import CHECKS

    assert recipe.student.heal is not None
    learned = min(recipe.student.heal.tokens, texts.facts["characters"] / CHARACTERS)
    held = min(VALIDATION * learned, MOST_HELD)
    stage.units.update({"copy.source_gb": 1, "write.student_gb": 1, "source.load": 2, "student.load": 2})
    if recipe.student.initialise == "pruned":
        stage.units["influence.prompts"] += PROMPTS
    stage.units["heal.learned"] += learned
    stage.units["heal.read"] += learned + held
    stage.units["heal.forward"] += held * (CHECKS + 4)  # the start and what it became, by two losses each


def _train(rehearsal: Rehearsal, done: dict[str, Artefact], pool: Sequence[Example], work: Work) -> None:
    """Steps, positions of the micro-batches, and looks at the validation share."""
    from aasut.student import schedule

    recipe, stage, settings = rehearsal.recipe, work["train"], rehearsal.recipe.student
    by_id = {row.id: row for row in labelling.load(done["label"].path)}
    examples = [example for example in pool if example.id in by_id]
    folder = rehearsal.folder_of(settings.model)
    tokenizer = tokenizer_of(folder)
    context = int(read_json(folder / "config.json").get("max_position_embeddings", 1 << 30)) if folder else 1 << 30
    tree, rows, _ = train.rows_of(recipe, context, tokenizer, examples, by_id)
    kept = [i for i, found in enumerate(rows) if found]
    held = set(train.validation_rows([examples[i].group for i in kept], settings.validation, recipe.seed))
    work.rows = [row for place, i in enumerate(kept) if place not in held for row in rows[i]]
    work.validation = [row for place, i in enumerate(kept) if place in held for row in rows[i]]
    objective = train.objective_of(tree)
    lengths = [len(row.ids) for row in work.rows]
    steps = schedule.steps(lengths, settings.epochs, settings.batch_examples, recipe.seed, mixed=objective.packed)
    every = max(1, len(steps) // settings.checks)
    checks = len({step for step in range(1, len(steps) + 1) if step % every == 0 or step == len(steps)})
    work.steps = len(steps)
    stage.units.update({"student.load": 1, "train.first": 1, "train.checks": checks, "write.student_gb": 1})
    for chosen in steps:
        batches = objective.batches([work.rows[i] for i in chosen], settings.micro_tokens)
        stage.units["train.positions"] += sum(batch.ids.size for batch in batches)
    if settings.on_policy is not None:
        shares = (schedule.own_share(step, len(steps), settings.on_policy) for step in range(len(steps)))
        stage.units["train.written"] += sum(share * len(chosen) for share, chosen in zip(shares, steps, strict=True))
    extra = len(tree.nodes) if tree else 0
    stage.units["train.forward"] += checks * sum(len(row.ids) + extra for row in work.validation)


def _taught(rehearsal: Rehearsal, done: dict[str, Artefact], pool: Sequence[Example], work: Work) -> None:
    """What a local teacher reads for its distributions: all answers once for a cache, or alongside, again and again."""
    recipe, rows = rehearsal.recipe, len(work.rows) + len(work.validation)
    method = done["method"].facts["name"] if "method" in done else ""
    answers = sum(row.answer - row.own for row in (*work.rows, *work.validation))
    if "logits" in done and not work["logits"].reused:
        work["logits"].units["logits.answers"] += answers
    if method not in ("cached_kd", "live_kd") or not rows:
        return
    panel = Panel.from_json((done["label"].path / "panel.json").read_text(encoding="utf-8"))
    task, template = recipe.task.build(), recipe.teacher_template()
    learned = {row.key.rsplit("#", 1)[0] for row in (*work.rows, *work.validation)}
    requests = [panel.request(template, task, e.slots, 0) for e in pool if e.id in learned]
    asked = [rehearsal.stand_in.counter.count(request, "") for request in requests]
    prefix, question = (sum(getattr(one, part) for one in asked) / len(asked) for part in ("prefix", "question"))
    if method == "cached_kd" and not work["logits"].reused:
        stage, reads = work["logits"], rows * question + prefix + answers
    elif method == "live_kd":
        stage, each = work["train"], prefix + question + answers / rows
        reads = each * (recipe.student.epochs * len(work.rows) + stage.units["train.checks"] * len(work.validation))
    else:
        return
    stage.units["teacher.read"] += reads
    stage.units["teacher.load"] += 0 if work.total("teacher.load") else 1


def _export(recipe: Recipe, pool: Sequence[Example], stage: Stage) -> None:
    if recipe.student.initialise == "linear":
        texts = [train.linear_prompt(recipe, example) for example in pool]
        copies = 2  # in the store and in the run's folder
        stage.units["linear.bytes"] += copies * linear.file_bytes(texts, len(recipe.task.build().answers))
        return
    stage.units["export.student"] += 1
    stage.units["export.q8_0"] += int(recipe.export.q8_0)
    stage.units["export.prompts"] += min(recipe.export.round_trip, len(pool))


def _report(recipe: Recipe, pool: Sequence[Example], stage: Stage) -> None:
    stage.units["report"] += 1


def _timed(requests: int, repetitions: int) -> int:
    """How many requests the timing makes of one model."""
    asked = [0]

    def ask(numbers: Sequence[int]) -> Usage:
        asked[0] += len(numbers)
        return Usage()

    measure({"one": ask}, requests, repetitions=repetitions)
    return asked[0]


def _evaluate(rehearsal: Rehearsal, done: dict[str, Artefact], work: Work) -> None:
    """The exported student, the linear one and the untrained one answer `test`; then speeds are measured."""
    recipe, stage = rehearsal.recipe, work["evaluate"]
    test = split.load(done["data"].path, "test")
    requests = min(recipe.evaluate.timing_requests, len(test))
    cached, uncached = _timed(requests, 2), _timed(fewer(requests), 1)
    stage.units["rows.tested"] += len(test)
    texts = not recipe.task.build().answers
    if rehearsal.teacher_kind == "model":
        question = sum(t.question for t in rehearsal.test_tokens) / len(test)  # of all members together
        prefix = sum(t.prefix for t in rehearsal.test_tokens) / len(test)
        stage.units["teacher.tokens"] += question * cached
        stage.units["teacher.whole"] += (question + prefix) * uncached
        stage.units["teacher.written"] += texts * (cached + uncached)
    if not texts:
        words = sum(len(train.linear_prompt(recipe, e)) for e in test) / len(test)
        stage.units["linear.scored"] += words * (len(test) + cached + uncached)
    if recipe.student.initialise == "linear":
        return
    tokenizer = tokenizer_of(rehearsal.folder_of(recipe.student.model))
    mean = sum(len(begin(tokenizer, prompt)) for prompt in train.prompts_of(recipe, test)) / len(test)
    served = 2 if recipe.export.q8_0 else 1
    answered = served * (len(test) + cached + uncached)
    stage.units.update({"served.load": served, "student.load": 1})
    stage.units["served.tokens"] += mean * answered
    stage.units["untrained.tokens"] += mean * len(test)
    stage.units["served.written"] += texts * answered
    stage.units["untrained.written"] += texts * len(test)
