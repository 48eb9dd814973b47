"""Writing a logit cache with a teacher that runs here: one pass over prompts and answers, answers alone projected."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aasut.engine.attention import KeyValues
from aasut.engine.layout import batches
from aasut.engine.torch import SCORE_TOKENS, Cache, hidden_states
from aasut.engine.tree import TokenTree
from aasut.errors import DataError
from aasut.progress import Progress
from aasut.student.logit_cache import Binding, Writer, shard_path
from aasut.student.logit_cache import Cache as LogitCache
from aasut.student.thinning import HIGHEST, LOWEST, NONE, Entries, byte_size, join, thin, uniform

BYTES_PER_TOKEN = 36.0
LEAST_BYTES = 12.0  # below, hardly a token but the likeliest could be kept
BLOCK_ROWS = 128  # distributions that are held at once
SHARD_ANSWERS, SHARD_TOKENS = 8192, 131_072  # a shard ends where it has so many answer tokens, or tokens in all
SHARD_HEADER, TEXT_BYTES = 700, 20  # bytes on disk beside the entries
SAMPLE = 1024  # answer tokens on which thresholds are tried, at most, and at most one in 32
THRESHOLDS = tuple(float(t) for t in np.geomspace(LOWEST, HIGHEST, 8))
AIM = 0.98  # share of the bytes that is aimed at: later texts may be dearer than the sample says
NO_TREE = TokenTree(0, (), (), (), ())


@dataclass(frozen=True)
class Asked:
    """An answer, and what the teacher was asked: token ids of both. The prompt has one token at least."""

    key: str
    prompt: Sequence[int]
    answer: Sequence[int]


def settings(seed: int, bytes_per_token: float = BYTES_PER_TOKEN) -> dict[str, Any]:
    """What a binding says of a cache that is written here. Raises DataError where the bytes are too few."""
    if bytes_per_token < LEAST_BYTES:
        raise DataError(
            f"A logit cache of {bytes_per_token:g} bytes a token would hold hardly anything.",
            f"Allow {LEAST_BYTES:g} at least; {BYTES_PER_TOKEN:g} is usual.",
        )
    return {"seed": seed, "bytes_per_token": float(bytes_per_token)}


def write(model: Any, texts: Sequence[Asked], folder: Path, binding: Binding, progress: Progress) -> dict[str, Any]:
    """Fill the cache in `folder`, or go on where a killed writing stopped; `binding.settings` are of `settings`.

    Gives texts, tokens, bytes a token and shards kept from before. Raises DataError where a text is longer than
    the teacher's context, or the folder holds a cache for something else.
    """
    budget, seed = float(binding.settings["bytes_per_token"]), int(binding.settings["seed"])
    _check(texts, int(getattr(model.config, "max_position_embeddings", 1 << 30)))
    shards = cut(texts)
    writer = Writer(folder, binding, [[(text.key, text.answer) for text in shard] for shard in shards])
    missing, damaged = writer.missing()
    if damaged:
        progress.say(f"logit cache: damaged shards are written anew: {len(damaged)}")
    tokens = [sum(len(text.answer) for text in shard) for shard in shards]
    every = sum(tokens)
    with progress.steps("teacher writes logits", every) as shown:
        shown.advance(every - sum(tokens[n] for n in missing), resumed=True)
        if missing:
            teacher = Teacher(model, binding.vocabulary, texts)
            plan = Plan(budget, shards, teacher.costs(_sample(shards, every), seed))
        for number in range(len(shards) if missing else 0):
            if number in missing:
                threshold = plan.threshold()
                writer.write(number, teacher.entries(shards[number], threshold, seed, shown.advance))
            # What later shards may take depends on what the earlier ones took, so that the order never changes.
            plan.spend(number, shard_path(folder, number).stat().st_size)
    return {
        "texts": len(texts),
        "tokens": every,
        "bytes_per_token": LogitCache.open(folder, binding).bytes_per_token,
        "shards": len(shards),
        "shards_kept": len(shards) - len(missing),
    }


def cut(texts: Sequence[Asked]) -> list[list[Asked]]:
    """The texts of each shard: sorted by key, and a shard is closed once it holds enough."""
    shards: list[list[Asked]] = []
    answers = tokens = 0
    for text in sorted(texts, key=lambda text: text.key):
        if not shards or answers >= SHARD_ANSWERS or tokens >= SHARD_TOKENS:
            shards.append([])
            answers = tokens = 0
        shards[-1].append(text)
        answers += len(text.answer)
        tokens += len(text.prompt) + len(text.answer)
    return shards


class Plan:
    """Chooses each shard's threshold so that all shards together keep to the budget.

    It is a function of the sample's costs and of the sizes of the shards before: a shard that was dearer than
    the sample said makes the later ones expected dearer, and leaves them less.
    """

    def __init__(self, bytes_per_token: float, shards: Sequence[Sequence[Asked]], costs: Sequence[float]) -> None:
        """`costs`: bytes a token of the sample at each of THRESHOLDS."""
        self.costs = costs
        self.tokens = [sum(len(text.answer) for text in shard) for shard in shards]
        self.fixed = [SHARD_HEADER + TEXT_BYTES * len(shard) for shard in shards]
        self.left = AIM * bytes_per_token * sum(self.tokens) - SHARD_HEADER - sum(self.fixed)
        self.tokens_left = sum(self.tokens)
        self.spent = self.expected = 0.0
        self.chosen = HIGHEST

    def threshold(self) -> float:
        """For the next shard."""
        dearer = self.spent / self.expected if self.expected else 1.0
        self.chosen = self._at_cost(self.left / max(self.tokens_left, 1) / dearer)
        return self.chosen

    def spend(self, number: int, size: int) -> None:
        """Shard `number`, the next one, takes so many bytes."""
        threshold = self.threshold()
        expected = float(np.exp(np.interp(math.log(threshold), np.log(THRESHOLDS), np.log(self.costs))))
        self.left -= size - self.fixed[number]
        self.spent += size - self.fixed[number]
        self.expected += expected * self.tokens[number]
        self.tokens_left -= self.tokens[number]

    def _at_cost(self, target: float) -> float:
        """The threshold at which the sample takes so many bytes a token; costs fall as thresholds rise."""
        found = np.interp(math.log(max(target, 1e-9)), np.log(self.costs[::-1]), np.log(THRESHOLDS[::-1]))
        return min(max(math.exp(float(found)), LOWEST), HIGHEST)


class Teacher:
    """A model that gives distributions at the places of answers' tokens."""

    def __init__(self, model: Any, vocabulary: int, texts: Sequence[Asked]) -> None:
        """What all prompts begin with is computed once."""
        self.model = model
        weight = model.get_output_embeddings().weight.detach()[:vocabulary]
        self.exact = weight.dtype == torch.bfloat16 and weight.device.type == "cpu"
        self.columns = weight.float().T
        self.block = torch.empty(BLOCK_ROWS, vocabulary, device=weight.device)
        self.wide = vocabulary > 1 << 16
        self.prefix = _shared([text.prompt for text in texts])
        self.past = self._state() if self.prefix else None

    @torch.inference_mode()
    def _state(self) -> KeyValues:
        cache = Cache(None)
        ids = torch.tensor([self.prefix], device=self.model.device)
        hidden_states(self.model, ids, torch.arange(len(self.prefix), device=ids.device)[None], None, cache)
        return cache.new

    @torch.inference_mode()
    def states(self, texts: Sequence[Asked]) -> Iterator[tuple[list[int], torch.Tensor]]:
        """(which texts, the last hidden states from which their answers' tokens are said [n, d], text after text)."""
        skipped, device = len(self.prefix), self.model.device
        rows = [[*text.prompt[skipped:], *text.answer[:-1]] for text in texts]
        for batch in batches(rows, NO_TREE, prefix=skipped, max_tokens=SCORE_TOKENS):
            ids, positions = torch.from_numpy(batch.ids).to(device), torch.from_numpy(batch.positions).to(device)
            hidden = hidden_states(self.model, ids, positions, None, Cache(self.past))
            lengths = [len(texts[i].answer) for i in batch.rows]
            first = [len(texts[i].prompt) - skipped - 1 for i in batch.rows]
            places = np.repeat(np.arange(len(lengths)), lengths)
            columns = np.concatenate([np.arange(start, start + n) for start, n in zip(first, lengths, strict=True)])
            yield batch.rows.tolist(), hidden[torch.from_numpy(places).to(device), torch.from_numpy(columns).to(device)]

    @torch.inference_mode()
    def logits(self, hidden: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
        """(rows, their logits in float32) block by block; a block is overwritten by the next."""
        for start in range(0, len(hidden), BLOCK_ROWS):
            rows = slice(start, min(start + BLOCK_ROWS, len(hidden)))
            with _exact_products() if self.exact else nullcontext():
                torch.mm(hidden[rows].float(), self.columns, out=self.block[: rows.stop - rows.start])
            yield rows, self.block[: rows.stop - rows.start]

    def entries(
        self, texts: Sequence[Asked], threshold: float, seed: int, advance: Callable[[int], None]
    ) -> list[Entries]:
        """What is kept of the distributions of each text's answer; calls `advance` with the number of tokens done."""
        found: dict[int, Entries] = {}
        for which, hidden in self.states(texts):
            draws = torch.from_numpy(np.concatenate([_draws(seed, texts[i]) for i in which]))
            parts = [thin(logits, threshold, draws[rows]) for rows, logits in self.logits(hidden)]
            every, start = join(parts) if parts else NONE, 0
            for i in which:
                found[i] = every[start : start + len(texts[i].answer)]
                start += len(texts[i].answer)
            advance(len(hidden))
        return [found[i] for i in range(len(texts))]

    def costs(self, texts: Sequence[Asked], seed: int) -> list[float]:
        """Bytes a token at each of THRESHOLDS."""
        spare = torch.empty_like(self.block)
        size, tokens = np.zeros(len(THRESHOLDS)), 0
        for which, hidden in self.states(texts):
            draws = torch.from_numpy(np.concatenate([_draws(seed, texts[i]) for i in which]))
            for rows, logits in self.logits(hidden):
                for number, threshold in enumerate(THRESHOLDS):
                    thinned = thin(spare[: len(logits)].copy_(logits), threshold, draws[rows])
                    size[number] += byte_size(thinned, wide=self.wide)
                tokens += len(logits)
        falling: list[float] = np.minimum.accumulate(np.maximum(size / max(tokens, 1), 1.0)).tolist()
        return falling


def _sample(shards: Sequence[Sequence[Asked]], tokens: int) -> list[Asked]:
    """Every n-th text of all shards."""
    texts = [text for shard in shards for text in shard]
    return texts[:: max(1, math.ceil(tokens / max(1, min(SAMPLE, tokens // 32))))]


def _draws(seed: int, text: Asked) -> NDArray[np.float64]:
    """Two uniform numbers for each of an answer's tokens, the same whenever and with whatever else it is written."""
    return uniform(len(text.answer), hashlib.sha256(f"{seed} {text.key}".encode("utf-8", "surrogatepass")).digest())


def _shared(prompts: Sequence[Sequence[int]]) -> list[int]:
    """What all prompts begin with, at least one token of each left over."""
    if not prompts:
        return []
    low, high = list(min(prompts, key=list)), list(max(prompts, key=list))
    most = min(len(prompt) for prompt in prompts) - 1
    return low[: next((n for n in range(most) if low[n] != high[n]), most)]


def _check(texts: Sequence[Asked], context: int) -> None:
    for text in texts:
        if len(text.prompt) + len(text.answer) > context:
            raise DataError(
                f"{text.key}: prompt and answer have {len(text.prompt) + len(text.answer)} tokens; "
                f"the teacher's context has {context}.",
                "Shorten the input or the prompt.",
            )
        if not text.prompt:
            raise DataError(f"{text.key}: the prompt has no tokens.", "Give every input some text.")


@contextmanager
def _exact_products() -> Iterator[None]:
    """Products of numbers that came from bfloat16, by its fast instructions, with float32 sums: nothing is rounded."""
    setting = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = setting.fp32_precision
    setting.fp32_precision = "bf16"
    try:
        yield
    finally:
        setting.fp32_precision = before
