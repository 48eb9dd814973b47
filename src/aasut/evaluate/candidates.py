"""The models that are held against the teacher, each on the engine that serves it and with its own prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aasut.engine.base import Engine, Prompt, load, write
from aasut.evaluate.confidence import quantiles
from aasut.recipe import Recipe
from aasut.student.train import answer_texts, linear_prompt, prompts_of
from aasut.tasks import Task
from aasut.types import Example, Usage


@dataclass(frozen=True)
class Models:
    """Folders and files of what is compared with the teacher; None where there is no such model."""

    student: Path
    linear: Path | None
    untrained: Path | None
    student_q8_0: Path | None


@dataclass
class Answered:
    """Answers in order: `probabilities` [examples][answers], or `texts` where there is no list of answers.

    A text that is no answer to the task is "". `quantiles` [examples][features], of the tokens of a
    text, stand there where they were asked for (see confidence.py).
    """

    probabilities: list[list[float]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    quantiles: list[list[float]] = field(default_factory=list)

    def add(self, other: Answered) -> None:
        self.probabilities += other.probabilities
        self.texts += other.texts
        self.quantiles += other.quantiles
        self.usage = self.usage + other.usage

    def only(self, places: Sequence[int]) -> Answered:
        """The answers at some places; the usage is that of all."""

        def some(values: list[Any]) -> list[Any]:
            return [values[i] for i in places] if values else []

        return Answered(some(self.probabilities), some(self.texts), self.usage, some(self.quantiles))

    def given(self, task: Task) -> list[str]:
        """The answers as texts: the likeliest labels, or what was written."""
        return [task.answers[int(np.argmax(row))] for row in self.probabilities] if task.answers else self.texts

    @property
    def features(self) -> NDArray[np.float64]:
        """What a score of confidence is made from, [examples, features]."""
        if self.probabilities:
            return np.asarray(np.array(self.probabilities, np.float64).max(axis=1, keepdims=True))
        return np.array(self.quantiles, np.float64)


class Candidate:
    """One model under test."""

    def __init__(self, recipe: Recipe, engine: Engine, *, linear: bool = False) -> None:
        self.recipe, self.engine, self.linear = recipe, engine, linear
        self.task = recipe.task.build()
        self.texts = answer_texts(recipe)

    def answer(self, examples: Sequence[Example], *, features: bool = False) -> Answered:
        """The model's own answers: labels by their probabilities, text written greedily.

        `features`: say how likely a text's tokens were; labels have their probabilities anyway.
        """
        prompts = self._prompts(examples)
        if self.texts:
            scores = self.engine.score(prompts, self.texts)
            return Answered(np.exp(scores.logprobs).tolist(), usage=scores.usage)
        task = self.task
        asked_for = [
            Prompt(text, task.max_tokens, schema=task.schema, plain=bool(task.tools), logprobs=features)
            for text in prompts
        ]
        written = write(self.engine, asked_for)
        asked = sum(self.engine.count_tokens(text) for text in prompts)
        usage = Usage(asked, sum(answer.tokens for answer in written))
        found = Answered(texts=[task.parse(answer.text) or "" for answer in written], usage=usage)
        if features:
            found.quantiles = [quantiles(answer.logprobs) for answer in written]
        return found

    def fits(self, example: Example) -> bool:
        """Can the model read an example, the answer included?"""
        return fits(self.engine, self.task, self._prompts([example])[0])

    def _prompts(self, examples: Sequence[Example]) -> list[str]:
        if self.linear:
            return [linear_prompt(self.recipe, example) for example in examples]
        return prompts_of(self.recipe, examples)


def fits(engine: Engine, task: Task, prompt: str) -> bool:
    """Can the engine read a plain prompt, the answer included?"""
    most = engine.context - task.max_tokens * max(len(task.answers), 1)
    if len(prompt.encode("utf-8", "replace")) < most:
        return True  # a token is a byte at least
    return engine.count_tokens(prompt) <= most


def candidates(recipe: Recipe, models: Models) -> dict[str, Candidate]:
    """The models by name, loaded; the student first."""
    wanted, precision = recipe.export.engine, recipe.export.precision
    student = student_candidate(recipe, models.student)
    found, linear = {"student": student}, student.linear
    if not linear and models.linear is not None:
        found["linear"] = Candidate(recipe, load("linear", models.linear), linear=True)
    if models.untrained is not None:
        # What the student's engine reads of the student it reads of its start, and writes several times as fast.
        faster = not recipe.task.build().answers and student.engine.name.startswith("openvino")
        engine = load("openvino" if faster else "torch", models.untrained, precision=precision)
        found["untrained"] = Candidate(recipe, engine)
    if models.student_q8_0 is not None:
        found["student_q8_0"] = Candidate(recipe, load(wanted, models.student_q8_0, precision=precision))
    return found


def student_candidate(recipe: Recipe, path: Path) -> Candidate:
    """The exported student at `path`, loaded on the engine that serves it."""
    linear = recipe.student.initialise == "linear"
    engine = load("linear" if linear else recipe.export.engine, path, precision=recipe.export.precision)
    return Candidate(recipe, engine, linear=linear)
