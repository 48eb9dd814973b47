"""One example token by token: what the student reads, what it learns, and what each token's loss is.

Which tokens are learned is read off the gradient of the very loss that training takes, not off the
code that should have chosen them: where the hidden state before a token has a gradient, it is learned.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from aasut.doctor.finding import Finding
from aasut.doctor.subject import Subject
from aasut.engine.common import begin
from aasut.engine.torch import TorchEngine
from aasut.serve.student import ServedStudent
from aasut.student import losses, train

SUM = 1e-4  # relative difference between the tokens' losses and the whole
SHOWN = 24  # prompt tokens at each end that a terminal shows


@dataclass(frozen=True)
class Token:
    """A token of the example. `loss` is in nats, None where the student does not learn to write it."""

    id: int
    text: str
    part: str  # prompt, answer or end
    loss: float | None

    @property
    def learned(self) -> bool:
        return self.loss is not None


@dataclass(frozen=True)
class View:
    """The example of that id; for labels `tokens` are the prompt's, `answers` tells of the one decision behind them.

    total: the loss that training takes of this example, in nats. answers: (label, the teacher's probability,
    the student's).
    """

    id: str
    prompt: str
    answer: str
    tokens: tuple[Token, ...]
    total: float
    answers: tuple[tuple[str, float, float], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        plain = asdict(self)
        plain["tokens"] = [asdict(token) | {"learned": token.learned} for token in self.tokens]
        plain["answers"] = [dict(zip(("answer", "teacher", "student"), one, strict=True)) for one in self.answers]
        return plain


def view(subject: Subject) -> View:
    """The subject's shortest example."""
    number = min(range(len(subject.rows)), key=lambda i: len(subject.rows[i].ids))
    return _text(subject, number) if subject.tree is None else _labels(subject, number)


def examine(subject: Subject, shown: View) -> Iterator[Finding]:
    """Is just the answer learned, all of it, from the text that the server will send, and do the losses add up?"""
    yield _prompt(subject, shown)
    if subject.tree is None:
        yield _mask(shown, ends=subject.tokenizer.eos_id is not None)
        yield _answer(subject, shown)
        yield _sum(shown, sum(token.loss or 0.0 for token in shown.tokens), "token by token")
    else:
        yield _sum(shown, -sum(p * float(np.log(max(q, 1e-300))) for _, p, q in shown.answers if p), "when served")


def render(shown: View) -> RenderableType:
    """For a terminal: the prompt in pieces, then what is learned, one line each."""
    prompt = [token.text for token in shown.tokens if token.part == "prompt"]
    if len(prompt) > 2 * SHOWN:
        prompt = [*prompt[:SHOWN], f" … {len(prompt) - 2 * SHOWN} more … ", *prompt[-SHOWN:]]
    table = Table(box=None, pad_edge=False, padding=(0, 1), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("prompt", Text("|".join(prompt), style="dim"))
    for token in shown.tokens:
        if token.part != "prompt" or token.learned:
            said = "not learned" if token.loss is None else f"learned, {token.loss:7.3f} nats"
            table.add_row(token.part, Text(f"{token.text!r:<24} {token.id:>7}  {said}"))
    for answer, teacher, student in shown.answers:
        table.add_row("label", Text(f"{answer!r:<24} {teacher:.3f} by the teacher, {student:.3f} by the student"))
    return Group(table, Text(f"loss of the example: {shown.total:.3f} nats"))


def _prompt(subject: Subject, shown: View) -> Finding:
    """The tokens before what the row teaches against those of the prompt that the server asks the student."""
    number = next(i for i, label in enumerate(subject.labels) if label.id == shown.id)
    row = subject.rows[number]
    served = begin(subject.tokenizer, _served(subject, number))
    if served == list(row.ids[: len(row.ids) - row.answer]):
        return Finding("template", f"{len(served)} prompt tokens, the same in training and serving")
    problem = (
        f"The prompt's {len(served)} tokens in serving are not those that training begins with: the student would be "
        "asked in a way that it was never taught."
    )
    return Finding("template", "training and serving differ", "fault", problem)


def _served(subject: Subject, number: int) -> str:
    """The plain prompt that the server asks the student in an example."""
    recipe, engine = subject.recipe, TorchEngine(subject.model, subject.tokenizer)
    server = ServedStudent(recipe.task.build(), recipe.student_template(), engine, recipe.name, "")
    return server.render(subject.examples[number].slots)


def _mask(shown: View, *, ends: bool) -> Finding:
    """Learned are the answer's tokens and the end, and no token of the prompt."""
    wrong = [token for token in shown.tokens if token.part == "prompt" and token.learned]
    missing = [token for token in shown.tokens if token.part != "prompt" and not token.learned]
    counts = {part: sum(token.part == part for token in shown.tokens) for part in ("prompt", "answer", "end")}
    text = ", ".join(f"{count} {part}" for part, count in counts.items())
    endless = ends and not counts["end"]
    if not wrong and not missing and not endless:
        return Finding("mask", f"{text}; learned: the answer and its end")
    if not any(token.learned for token in shown.tokens):
        said = "No token is learned: the loss would look like any other, and the student would stay as it is."
    elif missing:
        said = f"{missing[0].text!r} of the {missing[0].part} is not learned: the student would never come to write it."
    elif wrong:
        said = f"{wrong[0].text!r} of the prompt is learned: the student would spend its training on writing questions."
    else:
        said = "No end token stands behind the answer: the student would never come to an end."
    return Finding("mask", f"{text}; wrong tokens are learned", "fault", said)


def _answer(subject: Subject, shown: View) -> Finding:
    """The answer's tokens, read back, are the answer."""
    said = subject.tokenizer.decode([token.id for token in shown.tokens if token.part == "answer"])
    if said.strip() == shown.answer.strip():
        return Finding("answer", "its tokens read back as its text")
    problem = f"The answer's tokens read back as {said[:40]!r}: the student would learn to write that."
    return Finding("answer", "its tokens are another text", "fault", problem)


def _sum(shown: View, total: float, how: str) -> Finding:
    """The example's loss in training against what its parts have."""
    if abs(total - shown.total) <= SUM * max(abs(shown.total), 1.0):
        return Finding("loss", f"{shown.total:.3f} nats, the same {how}")
    problem = (
        f"Training takes a loss of {shown.total:.3f} nats of the example, and {how} it is {total:.3f}: tokens would "
        "be predicted from the wrong place, or counted with the wrong weight."
    )
    return Finding("loss", f"{shown.total:.3f} nats, {total:.3f} {how}", "fault", problem)


def _text(subject: Subject, number: int) -> View:
    row, label = subject.rows[number], subject.labels[number]
    hidden, gradient, total = final_states(subject, number)
    learned = (gradient.norm(dim=1) > 0).tolist()
    (prompt,) = train.prompts_of(subject.recipe, [subject.examples[number]])
    first = len(begin(subject.tokenizer, prompt))  # whatever the row says of itself
    weight, loss = subject.model.get_output_embeddings().weight.detach(), losses.get("cross_entropy")
    tokens = []
    for place, token in enumerate(row.ids):
        last = place == len(row.ids) - 1 and token == subject.tokenizer.eos_id
        value = None
        if place and learned[place - 1]:  # a token is learned where the one before it stands
            value = float(loss(hidden[place - 1 : place], weight, torch.tensor([token]), None))
        part = "prompt" if place < first else "end" if last else "answer"
        tokens.append(Token(int(token), subject.tokenizer.written(int(token)), part, value))
    said = subject.tokenizer.decode([token.id for token in tokens if token.part == "answer"]).strip()
    answer = next((text for text in label.texts if text.strip() == said), label.texts[0])
    return View(label.id, prompt, answer, tuple(tokens), total)


def _labels(subject: Subject, number: int) -> View:
    row, label = subject.rows[number], subject.labels[number]
    total = final_states(subject, number)[2]
    (prompt,) = train.prompts_of(subject.recipe, [subject.examples[number]])
    engine = TorchEngine(subject.model, subject.tokenizer)
    (student,) = np.exp(engine.score([prompt], train.answer_texts(subject.recipe)).logprobs)
    tokens = tuple(Token(int(token), subject.tokenizer.written(int(token)), "prompt", None) for token in row.ids)
    answers = subject.recipe.task.build().answers
    likeliest = answers[int(np.argmax(label.probabilities))]
    rows = zip(answers, label.probabilities, (float(q) for q in student), strict=True)
    return View(label.id, prompt, likeliest, tokens, total, tuple(rows))


def final_states(subject: Subject, number: int) -> tuple[torch.Tensor, torch.Tensor, float]:
    """(last hidden states [S, d] of one row, the gradient that its loss sends into them, the loss)."""
    kept: list[torch.Tensor] = []

    def keep(_module: Any, _inputs: Any, output: Any) -> None:
        output.last_hidden_state.retain_grad()
        kept.append(output.last_hidden_state)

    hook = subject.model.model.register_forward_hook(keep)
    try:
        loss = subject.loss([number])
        if loss.requires_grad:
            torch.autograd.backward(loss)
    finally:
        hook.remove()
        subject.model.zero_grad(set_to_none=True)
    hidden = kept[0]
    gradient = torch.zeros_like(hidden) if hidden.grad is None else hidden.grad
    return hidden.detach()[0], gradient[0], float(loss.detach())
