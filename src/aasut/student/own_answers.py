"""A student's own answers to inputs, several to each, drawn: a function of the model, the inputs and the seed."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from aasut.data.preference import Own, settings_of
from aasut.engine.base import Engine, Prompt, Written, load, write
from aasut.errors import EngineError
from aasut.plain_form import plain
from aasut.progress import Progress
from aasut.recipe import Recipe
from aasut.store import write_atomically
from aasut.student.train import TOO_LONG, prompts_of
from aasut.tasks import Task
from aasut.types import Example

BATCH = 256  # answers that are written together
CUT, UNFIT, NO_TEXT = "cut at task.max_tokens", "the answer does not fit the task", "bytes that are no text"
KEPT = "answers.json"
BROKEN = "\ufffd"  # stands for bytes that are no text


def draw(recipe: Recipe, model: Path, examples: Sequence[Example], folder: Path, progress: Progress) -> list[Own]:
    """The answers of the student in the folder `model`. They are kept in `folder`, for a run that goes on there."""
    wanted, task = settings_of(recipe), recipe.task.build()
    kept = folder / KEPT
    if kept.exists():
        said = [[Written(**one) for one in row] for row in json.loads(kept.read_text(encoding="utf-8"))]
        return [_own(task, example, row, wanted.samples) for example, row in zip(examples, said, strict=True)]
    engine = open_engine(recipe, model)
    said = []
    try:
        fits = [
            engine.count_tokens(prompt) + task.max_tokens <= engine.context for prompt in prompts_of(recipe, examples)
        ]
        asked = prompts(recipe, [example for example, fit in zip(examples, fits, strict=True) if fit])
        answers: list[Written] = []
        with progress.steps("student answers anew", len(asked)) as step:
            for start in range(0, len(asked), BATCH):
                answers += write(engine, asked[start : start + BATCH])
                step.advance(len(asked[start : start + BATCH]))
        rows = iter(range(0, len(answers), wanted.samples))
        said = [answers[(at := next(rows)) : at + wanted.samples] if fit else [] for fit in fits]
    finally:
        engine.close()
    plain_rows = [[{"text": one.text, "tokens": one.tokens, "finish": one.finish} for one in row] for row in said]
    write_atomically(kept, json.dumps(plain_rows))
    return [_own(task, example, row, wanted.samples) for example, row in zip(examples, said, strict=True)]


def prompts(recipe: Recipe, examples: Sequence[Example]) -> list[Prompt]:
    """What the engine is asked: each input `samples` times, each time with a seed of its own."""
    wanted, task = settings_of(recipe), recipe.task.build()
    return [
        Prompt(text, task.max_tokens, wanted.temperature, seed=_seed(recipe.seed, example.id, number),
               schema=task.schema, plain=bool(task.tools))
        for example, text in zip(examples, prompts_of(recipe, examples), strict=True)
        for number in range(wanted.samples)
    ]  # fmt: skip


def open_engine(recipe: Recipe, model: Path) -> Engine:
    """The engine that will serve the student where it reads the weights as training leaves them, else torch."""
    import torch

    wanted = recipe.export
    if wanted.engine != "torch" and wanted.serve == "gguf" and not torch.cuda.is_available():
        with suppress(EngineError):
            return load("openvino", model, precision=wanted.precision)
    return load("torch", model, precision=wanted.precision)


def _own(task: Task, example: Example, said: Sequence[Written], samples: int) -> Own:
    """Usable answers, those that differ in form alone once."""
    if not said:
        return Own(example, (), failed={TOO_LONG: samples})
    failed: Counter[str] = Counter()
    texts: dict[str, str] = {}
    equal = 0
    for one in said:
        text = task.parse(one.text)
        if one.finish == "length" or text is None or BROKEN in text:  # these could not be learned as they were written
            failed[CUT if one.finish == "length" else UNFIT if text is None else NO_TEXT] += 1
            continue
        form = plain(text)
        equal += form in texts
        texts.setdefault(form, text)
    return Own(example, tuple(texts.values()), equal, dict(failed))


def _seed(seed: int, name: str, number: int) -> int:
    told = hashlib.sha256(f"{seed} {name} {number}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(told[:4], "little")
