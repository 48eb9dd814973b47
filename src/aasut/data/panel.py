"""How the teacher is asked: one or several prompts with worked examples, and what their answers add up to.

A panel is frozen once it is chosen and calibrated; labelling and evaluation use the same one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from aasut.errors import DataError
from aasut.prompts import PromptTemplate
from aasut.tasks import Task
from aasut.types import Completion, Example, Message, Request

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Shot:
    """A worked example: slots and the human answer."""

    slots: Mapping[str, str]
    answer: str


@dataclass(frozen=True)
class Panel:
    """Members differ by their shots. `bias` [answers] and `temperature` turn mean log-probabilities into answers.

    p = softmax((mean over members of (log p_member - reference_member) + bias) / temperature), where
    `reference` [members, answers] is the answer to an empty input, or zero. Where answers are free text,
    members are draws of the same question, at the temperature `sampling`.
    """

    members: tuple[tuple[Shot, ...], ...]
    reference: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]
    temperature: float = 1.0
    sampling: float = 0.0

    @classmethod
    def plain(cls, members: Sequence[tuple[Shot, ...]], answers: int) -> Panel:
        """An uncalibrated panel."""
        zero = (0.0,) * answers
        return cls(tuple(members), (zero,) * len(members), zero)

    def requests(self, template: PromptTemplate, task: Task, slots: Mapping[str, str]) -> list[Request]:
        """One request a member for one input."""
        return [self.request(template, task, slots, member) for member in range(len(self.members))]

    def request(self, template: PromptTemplate, task: Task, slots: Mapping[str, str], member: int) -> Request:
        """A member's request for one input: the system message, the worked examples, the question."""
        rendered = template.render(slots)
        system = [m for m in rendered if m.role == "system"]
        question = [m for m in rendered if m.role != "system"]
        return Request(
            (*system, *worked(template, self.members[member]), *question),
            choices=task.answers,
            max_tokens=task.max_tokens,
            temperature=self.sampling,
            sample=0 if task.answers else member,
            schema="" if task.tools else task.schema,
            tools=task.tools,
        )

    def first(self) -> Panel:
        """The panel of the first member alone."""
        return replace(self, members=self.members[:1], reference=self.reference[:1])

    def texts(self, task: Task, completions: Sequence[Completion]) -> tuple[tuple[str, ...], str]:
        """(the usable answers of free text, "") from one completion a draw, or ((), why none is usable)."""
        found, failure = self.answered(task, completions)
        return tuple(text for text, _ in found), failure

    def answered(self, task: Task, completions: Sequence[Completion]) -> tuple[list[tuple[str, Completion]], str]:
        """As `texts`, each usable answer with the completion that it stands in."""
        found, failure = [], ""
        for completion in completions:
            answer = None if completion.failure else task.parse(completion.text)
            if completion.failure:
                failure = completion.failure
            elif completion.finish_reason == "length":
                failure = "the answer is longer than task.max_tokens"
            elif answer is None:
                failure = "the answer does not fit the task"
            else:
                found.append((answer, completion))
        return found, "" if found else failure

    def combine(self, task: Task, completions: Sequence[Completion]) -> tuple[Floats | None, str]:
        """(probabilities [answers], "") from one completion a member, or (None, why this row is unusable)."""
        broken = next((c.failure for c in completions if c.failure), "")
        if broken:
            return None, broken
        if all(c.choice_logprobs is not None for c in completions):
            return self.calibrated(np.array([[c.choice_logprobs for c in completions]], np.float64))[0], ""
        votes = np.zeros(len(task.answers))
        for completion in completions:
            answer = task.parse(completion.text)
            if answer is None:
                return None, "the answer is not in the list"
            votes[task.answers.index(answer)] += 1
        return votes / votes.sum(), ""

    def calibrated(self, logprobs: Floats) -> Floats:
        """Probabilities [rows, answers] from log-probabilities [rows, members, answers]."""
        return softmax(self.scores(logprobs) / self.temperature)

    def scores(self, logprobs: Floats) -> Floats:
        """Shifted mean log-probabilities [rows, answers], before the temperature."""
        mean: Floats = (logprobs - np.array(self.reference)[None]).mean(axis=1) + np.array(self.bias)
        return mean

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Panel:
        plain = json.loads(text)
        members = tuple(tuple(Shot(**shot) for shot in shots) for shots in plain["members"])
        return cls(
            members,
            tuple(map(tuple, plain["reference"])),
            tuple(plain["bias"]),
            plain["temperature"],
            plain["sampling"],
        )


def worked(template: PromptTemplate, shots: Sequence[Shot]) -> list[Message]:
    """The shots as turns of a conversation, without the template's system message."""
    turns: list[Message] = []
    for shot in shots:
        turns += [m for m in template.render(shot.slots) if m.role != "system"]
        turns.append(Message("assistant", shot.answer))
    return turns


def draw_shots(examples: Sequence[Example], answers: Sequence[str], count: int, seed: int) -> tuple[Shot, ...]:
    """`count` examples with human answers, as even over the answers as they go, in mixed order.

    `answers` are the labels; without them all answers count alike.

    Raises DataError where there are fewer examples than `count`.
    """
    if len(examples) < count:
        raise DataError(
            f"{count} shots are asked for, and `tune` has {len(examples)} human answers.",
            "Lower teacher.shots, or give `tune` a larger share in data.split.",
        )
    random = np.random.default_rng(seed)
    by_answer = [[e for e in examples if e.answer == answer] for answer in answers] or [list(examples)]
    piles = [[pile[i] for i in random.permutation(len(pile))] for pile in by_answer if pile]
    chosen: list[Example] = []
    while len(chosen) < count:
        for pile in piles:
            if pile and len(chosen) < count:
                chosen.append(pile.pop())
    mixed = [chosen[i] for i in random.permutation(len(chosen))]
    return tuple(Shot(dict(e.slots), str(e.answer)) for e in mixed)


def softmax(z: Floats) -> Floats:
    """Along the last axis."""
    shifted = np.exp(z - z.max(axis=-1, keepdims=True))
    result: Floats = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def prior_bias(logprobs: Floats, shares: Floats, sharpness: float = 0.02, mass: Floats | None = None) -> Floats:
    """The bias [answers] under which the likeliest answers to `logprobs` [rows, answers] have the given shares.

    mass: what each row counts for, [rows]; all the same where it is not given. Sinkhorn's fixed point
    (Cuturi 2013) on rows of that mass and columns of mass `shares`, with a temperature small enough that
    assignments are all but hard.
    """
    scale = max(float(np.ptp(logprobs, axis=1).mean()), 1e-9) * sharpness
    wanted = np.log(np.maximum(shares, 1e-9))
    bias = np.zeros(logprobs.shape[1])
    each = None if mass is None else mass / mass.sum()
    for _ in range(2000):
        soft = softmax((logprobs + bias) / scale)
        have = soft.mean(axis=0) if each is None else each @ soft
        bias += np.clip(scale * (wanted - np.log(np.maximum(have, 1e-12))), -20 * scale, 20 * scale)
        if np.abs(have - shares).max() < 1e-4:
            break
    result: Floats = bias - bias.mean()
    return result


def best_temperature(scores: Floats, gold: NDArray[np.int64]) -> float:
    """The temperature, .05 to 20, under which softmax(scores / t) gives human answers the highest likelihood."""

    def loss(log_t: float) -> float:
        return negative_log_likelihood(softmax(scores / np.exp(log_t)), gold)

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    return float(np.exp(found.x))


def negative_log_likelihood(probabilities: Floats, gold: NDArray[np.int64]) -> float:
    """Mean over rows, natural log."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(gold)), gold], 1e-12)).mean())
