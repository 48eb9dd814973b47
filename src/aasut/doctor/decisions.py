"""Labels: does a student that is its own teacher have anything to learn?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from aasut.doctor.finding import Finding
from aasut.doctor.subject import Subject
from aasut.doctor.view import final_states
from aasut.engine.torch import TorchEngine
from aasut.student import train

ZERO = 1e-4  # nats a row, and share of an ordinary gradient: two ways through the model in float32


def examine(subject: Subject) -> Iterator[Finding]:
    """The serving engine's own distribution over the labels, learned as if a teacher had given it."""
    engine = TorchEngine(subject.model, subject.tokenizer)
    prompts = train.prompts_of(subject.recipe, subject.examples)
    own = np.exp(engine.score(prompts, train.answer_texts(subject.recipe)).logprobs)
    rows = tuple(replace(row, probabilities=p.tolist()) for row, p in zip(subject.rows, own, strict=True))
    perfect = replace(subject, rows=rows)
    over = share = 0.0
    for number, p in enumerate(own):
        _, gradient, total = final_states(perfect, number)
        entropy = float(-(p * np.log(np.maximum(p, 1e-300))).sum())
        usual = float(final_states(_certain(perfect, number), number)[1].norm())
        over, share = max(over, abs(total - entropy)), max(share, float(gradient.norm()) / usual)
    shown = f"loss {over:.1e} nats a row over its least, gradient {share:.1e} of an ordinary one"
    if max(over, share) <= ZERO:
        yield Finding("student = teacher", shown)
        return
    problem = (
        f"A student that gives the labels just the teacher's probabilities has something left to learn ({shown}): "
        "training would push it to other ones than the teacher's, or than those that the server gives."
    )
    yield Finding("student = teacher", shown, "fault", problem)


def _certain(subject: Subject, number: int) -> Subject:
    """The subject with one row whose unlikeliest label is said to be right."""
    p = torch.tensor(subject.rows[number].probabilities)
    certain = torch.nn.functional.one_hot(p.argmin(), len(p)).tolist()
    rows = list(subject.rows)
    rows[number] = replace(rows[number], probabilities=certain)
    return replace(subject, rows=tuple(rows))
