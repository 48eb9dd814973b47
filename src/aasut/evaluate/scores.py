"""How near an answer comes to the human one, item by item: the scores on which student and teacher are compared.

    accuracy, exact   1 where the answer equals the human one
    macro_f1          labels: mean F1 over the answers; a score of all items together, none of one
    token_f1          text: F1 of the words (Rajpurkar et al. 2016, SQuAD)
    fields            JSON: share of the fields that are equal
    tool_calls        F1 of the calls whose name and arguments are both equal
    tool_names        F1 of the calls' names alone

Tool calls are those of OpenAI's API written as JSON: an object {"name", "arguments"} or a list of
them, each also as {"type": "function", "function": {...}}. `arguments` is an object or its JSON text.
Two calls are equal where the names are and the arguments are as JSON, whatever the order of their
fields. The order of the calls does not matter, as calls of one answer are made side by side; a call
that stands there twice counts twice. Any other text calls nothing, and two answers that both call
nothing agree; no answer at all has no score.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from aasut.errors import DataError
from aasut.evaluate.metrics import Floats
from aasut.tasks import Task
from aasut.tools import calls

ItemScore = Callable[[Task, str, str], float]


def check(names: Sequence[str], gold: Sequence[str]) -> None:
    """Raise DataError where calls are to be scored and no human answer holds any."""
    wanted = next((name for name in names if name.startswith("tool_")), None)
    if wanted is not None and not any(map(calls, gold)):
        raise DataError(
            f"No human answer in `test` calls a tool, so that {wanted} cannot be scored.",
            'Write calls as JSON, {"name": ..., "arguments": {...}} or a list of these, or leave it out of '
            "evaluate.metrics.",
        )


def of_items(name: str, task: Task, predicted: Sequence[str], gold: Sequence[str]) -> Floats:
    """A score by its name of each prediction, 0 to 1, [n]; not for macro_f1, which single items have not."""
    score = ITEM_SCORES[name]
    return np.array([score(task, p, g) if p else 0.0 for p, g in zip(predicted, gold, strict=True)], dtype=np.float64)


def _exact(task: Task, predicted: str, gold: str) -> float:
    return float(task.correct([predicted], [gold])[0])


def _near(task: Task, predicted: str, gold: str) -> float:
    return task.similarity(predicted, gold)


def _tool_calls(task: Task, predicted: str, gold: str) -> float:
    return _f1(Counter(calls(predicted)), Counter(calls(gold)))


def _tool_names(task: Task, predicted: str, gold: str) -> float:
    return _f1(Counter(name for name, _ in calls(predicted)), Counter(name for name, _ in calls(gold)))


def _f1(said: Counter[Any], wanted: Counter[Any]) -> float:
    """2 x what both have / what either has, each as often as it stands there; 1 where neither has any."""
    total = said.total() + wanted.total()
    return 2 * (said & wanted).total() / total if total else 1.0


ITEM_SCORES: dict[str, ItemScore] = {
    "accuracy": _exact,
    "exact": _exact,
    "token_f1": _near,
    "fields": _near,
    "tool_calls": _tool_calls,
    "tool_names": _tool_names,
}
