"""How fast models write: tokens a second, alone and in batches, on the engines that would serve them, in turns."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from aasut.progress import Progress

if TYPE_CHECKING:
    from aasut.engine.base import Engine
    from aasut.formats.tokenizer import Tokenizer

PROMPT = 32  # tokens


@dataclass(frozen=True)
class Effort:
    """Tokens of an answer, and turns that count."""

    answer: int = 32
    turns: int = 3


def machine() -> str:
    """What a speed is a speed of: the processor or the card, and the threads that compute."""
    import platform

    import torch

    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    name = platform.processor()
    described = Path("/proc/cpuinfo")
    if described.is_file():
        lines = (line.partition(":") for line in described.read_text(encoding="utf-8", errors="replace").splitlines())
        name = next((value.strip() for key, _, value in lines if key.strip() == "model name"), name)
    threads = torch.get_num_threads()
    return f"{name or platform.machine()}, {threads} thread{'' if threads == 1 else 's'}"


def prompts(tokenizer: Tokenizer, texts: Sequence[Sequence[str]], count: int) -> list[str]:
    """Beginnings of texts, about PROMPT tokens each: number i is of kind i modulo the number of kinds."""
    found = []
    for number in range(count):
        kind = texts[number % len(texts)]
        ids = tokenizer.encode(kind[number // len(texts) % len(kind)][: 20 * PROMPT])
        found.append(tokenizer.decode(ids[:PROMPT]))
    return found


def engine_of(folder: Path) -> str:
    """The engine that `auto` takes for the model's GGUF file: on a CPU OpenVINO for those that it reads, else torch.

    On a GPU it is torch for all: vLLM would take the card's memory for each of those that are timed in turns.
    """
    import torch

    from aasut.engine import openvino

    return "openvino" if not torch.cuda.is_available() and openvino.packs(folder) else "torch"


def measure(
    arms: Mapping[str, Sequence[Path]], texts: Sequence[str], precision: str, effort: Effort, progress: Progress
) -> dict[str, dict[str, list[float]]]:
    """Tokens a second of each arm in each turn, by batch: `1`, and that of all prompts.

    An arm is a model, or several that are in memory at once: prompt i is model i's, modulo their number, and a batch's
    parts are written one after the other. Whatever ends an answer is passed over.
    """
    batches = (1, len(texts))
    found: dict[str, dict[str, list[float]]] = {name: {str(batch): [] for batch in batches} for name in arms}
    with ExitStack() as stack, progress.steps("timing", (effort.turns + 1) * len(arms)) as shown:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        engines: dict[str, list[Any]] = {}
        for name, folders in arms.items():
            engines[name] = [_loaded(folder, precision, scratch) for folder in folders]
            for engine in engines[name]:
                stack.callback(engine.close)
                engine.tokenizer.end_ids = frozenset()
        for turn in range(effort.turns + 1):
            order = list(engines) if turn % 2 else list(reversed(engines))
            for name in order:
                for batch in batches:
                    some = texts if batch > 1 else [texts[turn % len(texts)]]
                    first = 0 if batch > 1 else turn
                    speed = _speed(engines[name], some, first, effort.answer if turn else 2)
                    if turn:  # the first one warms up
                        found[name][str(batch)].append(speed)
                shown.advance()
    return found


def _loaded(folder: Path, precision: str, scratch: Path) -> Engine:
    from aasut.engine import openvino, torch

    if engine_of(folder) == "openvino":
        return openvino.load(folder, precision=precision, kept=scratch)
    return torch.load(folder, precision=precision)


def _speed(engines: Sequence[Any], texts: Sequence[str], first: int, answer: int) -> float:
    """Tokens a second; text i is of engine first + i, modulo their number."""
    from aasut.engine.base import Prompt, write

    shares: list[list[Prompt]] = [[] for _ in engines]
    for number, text in enumerate(texts):
        shares[(first + number) % len(engines)].append(Prompt(text, answer))
    began, tokens = time.perf_counter(), 0
    for engine, share in zip(engines, shares, strict=True):
        if share:
            tokens += sum(said.tokens for said in write(engine, share))
    return tokens / (time.perf_counter() - began)


def medians(speeds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Of the turns, by batch."""
    return {batch: median(each) for batch, each in speeds.items()}
