"""The models that are held against the teacher, each on the engine that serves it and with its own prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from aasut.engine.base import Engine, Prompt, load, write
from aasut.recipe import Recipe
from aasut.student.train import answer_texts, linear_prompt, prompts_of
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

    A text that is no answer to the task is "".
    """

    probabilities: list[list[float]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)

    def add(self, other: Answered) -> None:
        self.probabilities += other.probabilities
        self.texts += other.texts
        self.usage = self.usage + other.usage


class Candidate:
    """One model under test."""

    def __init__(self, recipe: Recipe, engine: Engine, *, linear: bool = False) -> None:
        self.recipe, self.engine, self.linear = recipe, engine, linear
        self.task = recipe.task.build()
        self.texts = answer_texts(recipe)

    def answer(self, examples: Sequence[Example]) -> Answered:
        """The model's own answers: labels by their probabilities, text written greedily."""
        prompts = self._prompts(examples)
        if self.texts:
            scores = self.engine.score(prompts, self.texts)
            return Answered(np.exp(scores.logprobs).tolist(), usage=scores.usage)
        task = self.task
        written = write(self.engine, [Prompt(text, task.max_tokens, schema=task.schema) for text in prompts])
        asked = sum(self.engine.count_tokens(text) for text in prompts)
        usage = Usage(asked, sum(answer.tokens for answer in written))
        return Answered(texts=[task.parse(answer.text) or "" for answer in written], usage=usage)

    def fits(self, example: Example) -> bool:
        """Can the model read an example, the answer included?"""
        prompt = self._prompts([example])[0]
        most = self.engine.context - self.task.max_tokens * max(len(self.texts), 1)
        if len(prompt.encode("utf-8", "replace")) < most:
            return True  # a token is a byte at least
        return self.engine.count_tokens(prompt) <= most

    def _prompts(self, examples: Sequence[Example]) -> list[str]:
        if self.linear:
            return [linear_prompt(self.recipe, example) for example in examples]
        return prompts_of(self.recipe, examples)


def candidates(recipe: Recipe, models: Models) -> dict[str, Candidate]:
    """The models by name, loaded; the student first."""
    wanted, precision = recipe.export.engine, recipe.export.precision
    linear = recipe.student.initialise == "linear"
    engine = load("linear" if linear else wanted, models.student, precision=precision)
    found = {"student": Candidate(recipe, engine, linear=linear)}
    if not linear and models.linear is not None:
        found["linear"] = Candidate(recipe, load("linear", models.linear), linear=True)
    if models.untrained is not None:
        found["untrained"] = Candidate(recipe, load("torch", models.untrained, precision=precision))
    if models.student_q8_0 is not None:
        found["student_q8_0"] = Candidate(recipe, load(wanted, models.student_q8_0, precision=precision))
    return found
