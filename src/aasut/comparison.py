"""Which of two answers is better by a rubric: how a model is asked, and how its verdict is read.

It is asked in both orders: what it says in one order alone is no preference (Zheng et al. 2023, "Judging
LLM-as-a-judge with MT-bench and Chatbot Arena", arXiv 2306.05685).
"""

from __future__ import annotations

import math
import re

from aasut.prompts import PromptTemplate
from aasut.tasks import Classify, Task
from aasut.types import Completion, Example, Message, Request

BETTER = ("A", "B", "tie")

PREFERENCE = """{rubric}

The task, with its input:
{task}

Answer A:
{first}

Answer B:
{second}

Which answer is better by the rubric? Say A, B, or tie, and nothing else."""
_ASKED = re.compile(r"^Answer A:\n(.*)\n\nAnswer B:\n(.*)\n\nWhich answer is better", re.DOTALL | re.MULTILINE)


def both_orders(rubric: str, task: str, one: str, other: str) -> list[Request]:
    """Which answer is better: `one` first, then `other` first."""
    texts = [PREFERENCE.format(rubric=rubric, task=task, first=a, second=b) for a, b in ((one, other), (other, one))]
    return [Request((Message("user", text),), choices=BETTER, max_tokens=16) for text in texts]


def compared(question: str) -> tuple[str, str] | None:
    """The two answers that such a question is about, the first first; None where it is none."""
    found = _ASKED.search(question)
    return None if found is None else (found[1], found[2])


def shown_task(task: Task, example: Example) -> str:
    """What the application asks, with its input."""
    return "\n\n".join(message.content for message in task.prompt.render(example.slots))


def verdict(completion: Completion, choices: tuple[str, ...]) -> tuple[float, ...] | str:
    """Probability of each choice, 0 and 1 where the model gives text alone; or why it cannot be used."""
    if completion.failure:
        return completion.failure
    if completion.choice_logprobs is not None:
        return tuple(math.exp(p) for p in completion.choice_logprobs)
    said = Classify(choices, PromptTemplate.of("{verdict}")).parse(completion.text)
    if said is None:
        return f"the verdict is none of {', '.join(choices)}"
    return tuple(float(choice == said) for choice in choices)


def sides(first: Completion, second: Completion) -> tuple[int, int] | str:
    """Of the completions to `both_orders`, what each says: 1 for `one`, -1 for `other`, 0 for a tie; or why not."""
    read = [verdict(completion, BETTER) for completion in (first, second)]
    said = []
    for one in read:
        if isinstance(one, str):
            return one
        said.append(one.index(max(one)))
    return (1, -1, 0)[said[0]], (-1, 1, 0)[said[1]]
