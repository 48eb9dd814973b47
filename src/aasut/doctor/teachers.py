"""A student that is its own teacher, by way of all that stands between the two: alongside, and through a logit cache.

Tokens of the two that are not in line, or a cache that gives another text's distributions, would show here.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from aasut.doctor.finding import Finding
from aasut.doctor.gradients import WHOLE
from aasut.doctor.subject import Subject
from aasut.progress import Progress
from aasut.student import losses, score_logits
from aasut.student.logit_cache import Binding, Cache
from aasut.student.objective import Row, Text
from aasut.student.targets import Sparse
from aasut.student.teaching import Cached, Live, Teaching, taught

ZERO = 1e-5  # nats a token: two ways through the model in float32
ERRORS = 3.0  # standard errors
SAME = 1e-4  # relative difference of a loss from its formula


@dataclass(frozen=True)
class _Own:
    """Rows of text, each with the model's own log-probabilities where their answers are said, [tokens, V]."""

    rows: list[Row]
    logprobs: torch.Tensor


def examine(subject: Subject) -> Iterator[Finding]:
    """Of a subject with rows of text."""
    with torch.no_grad():
        own = _own(subject)
        teacher = copy.deepcopy(subject.model)
        yield _alongside(subject, own, Live(teacher, WHOLE))
        with tempfile.TemporaryDirectory() as folder:
            yield _cached(subject, own, _cache(own.rows, teacher, Path(folder)))


def _own(subject: Subject) -> _Own:
    """By transformers' own forward pass, one row at a time."""
    rows, found = [], []
    for number, row in enumerate(subject.rows):
        if row.answer > row.own:
            rows.append(replace(row, key=str(number), asked=row.ids[: len(row.ids) - row.answer]))
            logits = _logits(subject.model, row)
            found.append(torch.log_softmax(logits[len(row.ids) - row.answer - 1 : len(row.ids) - row.own - 1], dim=1))
    return _Own(rows, torch.cat(found))


def _logits(model: Any, row: Row) -> torch.Tensor:
    """[S, V] float32, by plain attention over the row alone."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        logits: torch.Tensor = model(input_ids=torch.tensor([list(row.ids)])).logits[0].float()
    finally:
        model.set_attn_implementation(before)
    return logits


def _loss(subject: Subject, own: _Own, teaching: Teaching) -> float:
    """Forward KL that training takes of all taught tokens, in nats."""
    objective = Text(losses.get("forward_kl"), teaching)
    rows = [replace(row, ids=row.ids[: len(row.ids) - row.own], answer=row.answer - row.own, own=0) for row in own.rows]
    return sum(float(objective.loss(subject.model, rows, batch)) for batch in objective.batches(rows, WHOLE))


def _alongside(subject: Subject, own: _Own, teaching: Live) -> Finding:
    over = _loss(subject, own, teaching) / len(own.logprobs)
    if abs(over) <= ZERO:
        return Finding("teacher alongside", f"itself: a loss of {over:.1e} nats a token")
    problem = (
        f"A student that is its own teacher has a loss of {over:.2e} nats a token, not 0: teacher and student are not "
        "asked at the same places, and the student would learn what the teacher says of other tokens."
    )
    return Finding("teacher alongside", f"itself: a loss of {over:.2e} nats a token", "fault", problem)


def _cache(rows: list[Row], teacher: Any, folder: Path) -> Cache:
    vocabulary = int(teacher.config.vocab_size)
    binding = Binding("own", "own", "own", vocabulary, settings=score_logits.settings(0))
    texts = [score_logits.Asked(row.key, row.asked, taught(row)) for row in rows]
    score_logits.write(teacher, texts, folder, binding, Progress(quiet=True))
    return Cache.open(folder, binding)


def _cached(subject: Subject, own: _Own, cache: Cache) -> Finding:
    """What the cache says of each token against the model's own distribution there, and the loss on it by formula."""
    kept = [cache.sparse(row.key, taught(row)) for row in own.rows]
    logs = torch.split(own.logprobs.double(), [len(one) for one in kept])
    surprise = torch.cat([_surprise(one, log) for one, log in zip(kept, logs, strict=True)])
    every = own.logprobs.double()
    over = surprise + (every.exp() * every).sum(1)  # of each token, beyond its entropy: 0 on average
    errors = float(over.mean() / (over.std() / len(over) ** 0.5).clamp(min=1e-9))
    mass = sum(float(torch.special.xlogy(_once(one)[1], _once(one)[1]).sum()) for one in kept)
    formula, trained = mass + float(surprise.sum()), _loss(subject, own, Cached(cache.batch))
    text = f"{len(over)} tokens, {errors:+.1f} standard errors off, {cache.bytes_per_token:.0f} bytes each with headers"
    if abs(errors) > ERRORS:
        problem = (
            f"What the logit cache holds is {abs(errors):.1f} standard errors from the teacher's own distributions: "
            "the student would learn what was said of other tokens, or a bent part of what was said of these."
        )
        return Finding("logit cache", text, "fault", problem)
    if abs(trained - formula) > SAME * max(abs(formula), 1.0):
        problem = (
            f"On the logit cache training takes a loss of {trained:.3f} nats where the formula has {formula:.3f}: each "
            "kept distribution would be learned at another token's place, or with another weight."
        )
        return Finding("logit cache", text, "fault", problem)
    return Finding("logit cache", text)


def _once(target: Sparse) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, mass) with what is listed twice in a row summed at its first place, 0 elsewhere. [n, K] float64."""
    same = target.ids[:, :, None] == target.ids[:, None, :]
    first = same.int().argmax(dim=2) == torch.arange(target.ids.shape[1])
    mass = (same * target.mass[:, None, :].double()).sum(2)
    return target.ids, mass * first


def _surprise(target: Sparse, logprobs: torch.Tensor) -> torch.Tensor:
    """-Σ mass · log-probability of each token, [n]."""
    return -(target.mass.double() * logprobs.gather(1, target.ids)).sum(1)
