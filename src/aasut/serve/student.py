"""A student ready to answer: scores the answers to a request, or writes one."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from aasut.engine import base
from aasut.engine.base import Engine, Piece, Prompt, Written, write
from aasut.errors import AasutError, EngineError
from aasut.export.manifest import StudentCard
from aasut.prompts import PromptTemplate
from aasut.serve.reader import Reader
from aasut.tasks import Task, answer_text
from aasut.types import Message, Usage


@dataclass(frozen=True)
class Answer:
    """The student's answer: `label` is the likeliest one.

    `logprobs` holds every label's natural log-probability, the likeliest first. `usage` counts the
    student's own prompt and the label's text; `tokens` each label's, where they are known.
    """

    label: str
    logprobs: Mapping[str, float]
    usage: Usage
    tokens: Mapping[str, int] = field(default_factory=dict)


class ServedStudent:
    """What stands behind the API and the chat. Not to be called from several threads at once.

    `file_sha256` is the hash of the file that the engine runs.
    """

    def __init__(self, task: Task, prompt: PromptTemplate, engine: Engine, name: str, file_sha256: str) -> None:
        self.reader = Reader(task, prompt)
        self.task, self.prompt, self.engine = task, prompt, engine
        self.name, self.file_sha256 = name, file_sha256
        self._tokens: Mapping[str, int] = {}

    @classmethod
    def load(cls, run_folder: Path) -> ServedStudent:
        """The student of runs/<name>/, its file verified against the hash that was measured.

        Raises ModelError where the run or its file is missing or changed, EngineError where the
        engine cannot run it.
        """
        card = StudentCard.read(run_folder)
        path = card.served(run_folder)
        engine = base.load(card.engine, path, precision=card.precision)
        return cls(card.task(), PromptTemplate(card.student_prompt), engine, card.name, card.sha256)

    @property
    def slots(self) -> tuple[str, ...]:
        """What the student has to be told."""
        return self.reader.slots

    def render(self, slots: Mapping[str, str]) -> str:
        """The student's plain prompt for these slots; see `Reader.render`."""
        return self.reader.render(slots)

    def read(self, messages: Sequence[Message]) -> str:
        """The student's plain prompt for a request; see `Reader.read`."""
        return self.reader.read(messages)

    def answer(self, messages: Sequence[Message]) -> Answer:
        """Answer one request; raises PromptMismatch, or what the engine raises."""
        return self.answer_prompt(self.read(messages))

    def answer_prompt(self, prompt: str) -> Answer:
        """Answer one plain prompt, as `render` and `read` make it."""
        result = self.score([prompt])[0]
        if isinstance(result, Exception):
            raise result
        return result

    def score(self, prompts: Sequence[str]) -> list[Answer | Exception]:
        """An answer to each plain prompt, in order, or why there is none; one bad prompt spoils no other."""
        # As in training: what the prompt's template ends with decides, and not what an input ends with.
        template = self.prompt.messages[-1].content
        texts = [answer_text(template, answer) for answer in self.task.answers]
        return self._score(prompts, texts) if prompts else []

    def write(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, Piece | Exception]]:
        """(number of the prompt, a further piece of its answer, or why there is none), as the engine writes.

        One bad prompt spoils no other: what fails together is written one by one.
        """
        begun: set[int] = set()
        try:
            for piece in self.engine.generate(prompts):
                begun.add(piece.row)
                yield piece.row, piece
        except Exception as error:
            if begun or len(prompts) == 1:
                yield from ((row, error) for row in range(len(prompts)))
                return
            for row, prompt in enumerate(prompts):
                yield from ((row, _moved(piece, row)) for _, piece in self.write([prompt]))

    def write_prompt(self, prompt: str) -> Written:
        """The whole answer to one plain prompt; raises what the engine raises."""
        return write(self.engine, [self.prompt_of(prompt)])[0]

    def prompt_of(self, prompt: str) -> Prompt:
        """A plain prompt with the task's settings; a text's first space is not part of the answer."""
        return Prompt(prompt, self.task.max_tokens, schema=self.task.schema, plain=bool(self.task.tools))

    def close(self) -> None:
        """Give the engine's memory back."""
        self.engine.close()

    def _score(self, prompts: Sequence[str], texts: Sequence[str]) -> list[Answer | Exception]:
        try:
            rows = self.engine.score(prompts, texts).logprobs.tolist()
            if len(rows) != len(prompts):
                raise EngineError(f"{self.engine.name} answered {len(rows)} of {len(prompts)} prompts.")
        except Exception as error:
            if len(prompts) == 1:
                return [error]
            return [self._score([prompt], texts)[0] for prompt in prompts]
        return [self._answer(prompt, texts, row) for prompt, row in zip(prompts, rows, strict=True)]

    def _answer(self, prompt: str, texts: Sequence[str], row: Sequence[float]) -> Answer | Exception:
        if len(row) != len(texts) or any(math.isnan(x) for x in row) or not math.isfinite(max(row)):
            return EngineError(f"{self.engine.name} gave no probabilities for a prompt of {len(prompt)} characters.")
        labels = self.task.answers
        order = sorted(range(len(row)), key=lambda i: -row[i])
        try:
            tokens = self._label_tokens(texts)
            usage = Usage(self.engine.count_tokens(prompt), tokens[labels[order[0]]])
        except AasutError as error:
            return error
        return Answer(labels[order[0]], {labels[i]: row[i] for i in order}, usage, tokens)

    def _label_tokens(self, texts: Sequence[str]) -> Mapping[str, int]:
        """Tokens of each label, counted once."""
        if not self._tokens:
            count = self.engine.count_tokens  # counts the token that begins a prompt too
            self._tokens = {
                label: count(text) - count("") for label, text in zip(self.task.answers, texts, strict=True)
            }
        return self._tokens


def _moved(piece: Piece | Exception, row: int) -> Piece | Exception:
    return piece if isinstance(piece, Exception) else replace(piece, row=row)


def draw(answer: Answer, *, temperature: float, top_p: float, key: str | None) -> str:
    """A label: the likeliest at temperature 0, else drawn with probability ~ p^(1 / temperature).

    `top_p` keeps the fewest likeliest labels whose probabilities, after temperature, reach it. The
    same `key` draws the same label; None draws afresh.
    """
    labels = list(answer.logprobs)
    if temperature <= 0 or top_p <= 0:
        return labels[0]
    best = answer.logprobs[labels[0]]
    weights = [math.exp((logprob - best) / temperature) for logprob in answer.logprobs.values()]
    kept, mass = 0, 0.0
    while kept < len(weights) and (kept == 0 or mass < top_p * sum(weights)):
        mass += weights[kept]
        kept += 1
    generator = random.SystemRandom() if key is None else random.Random(key)
    return generator.choices(labels[:kept], weights[:kept])[0]
