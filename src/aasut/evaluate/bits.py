"""Bits per byte of texts under a model: Σ -log2 p(token) over the UTF-8 bytes, which all tokenizers have in common.

Every token of a text counts, the first one too: it is said behind what the model opens any text with (see
`engine.common.opening`), which counts itself neither as token nor as bytes. An end token is not counted, for models do
not agree on one. Texts longer than the context are cut into windows that begin with the last tokens of the one
before, so that each token is counted once; no window crosses texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aasut.engine.common import opening
from aasut.engine.packing import packed_states, packs
from aasut.engine.torch import choose_precision, load_model
from aasut.formats.tokenizer import Tokenizer
from aasut.progress import Progress
from aasut.student.projection import Projection

BLOCK_ROWS = 128  # of logits that are held at once, [BLOCK_ROWS, vocabulary] float32
MOST_TOKENS = 2048  # computed at once


@dataclass(frozen=True)
class Bits:
    """What texts cost under a model, one number a text: `bits` [n], `bytes` [n] and `tokens` [n]."""

    bits: NDArray[np.float64]
    bytes: NDArray[np.int64]
    tokens: NDArray[np.int64]

    @property
    def per_byte(self) -> float:
        """Over all texts together."""
        return float(self.bits.sum() / self.bytes.sum())


@dataclass(frozen=True)
class Window:
    """Tokens that are computed together, of which the last `counted` count."""

    text: int
    ids: list[int]
    counted: int


def windows(tokenizer: Tokenizer, texts: Sequence[str], context: int, overlap: int) -> Iterator[Window]:
    """The texts in windows of at most `context` tokens, `overlap` of them from the window before."""
    before = opening(tokenizer)
    if not 0 <= overlap < context - len(before):
        raise ValueError(f"windows of {context} tokens have no room for {overlap} of the one before")
    for text, ids in enumerate(tokenizer.encode_all(texts)):
        done = 0
        while done < len(ids):
            again = min(overlap, done)
            end = min(len(ids), done - again + context - len(before))
            yield Window(text, [*before, *ids[done - again : end]], end - done)
            done = end


def measure(
    folder: Path,
    texts: Sequence[str],
    *,
    context: int,
    overlap: int,
    progress: Progress,
    precision: str = "auto",
    what: str = "measuring",
) -> Bits:
    """What the texts cost under the model of a folder; log-probabilities are taken in float32."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_model(folder, choose_precision(precision)).to(device)
    cut = list(windows(Tokenizer.load(folder), texts, context, overlap))
    cut.sort(key=lambda window: len(window.ids))  # windows of like length are computed together with no padding
    bits, tokens = np.zeros(len(texts)), np.zeros(len(texts), np.int64)
    with torch.inference_mode(), progress.steps(what, len(cut)) as shown:
        for pack in packs([window.ids for window in cut], range(len(cut)), MOST_TOKENS):
            some = [cut[i] for i in pack.rows]
            counts = np.array([window.counted for window in some], np.int64)
            places = torch.from_numpy(pack.before(counts)).to(device)
            right = torch.tensor([i for window in some for i in window.ids[len(window.ids) - window.counted :]])
            hidden = packed_states(model, pack).index_select(0, places)
            cost = _nats(hidden, model.get_output_embeddings().weight, right.to(device)) / np.log(2)
            owner = np.repeat([window.text for window in some], counts)
            np.add.at(bits, owner, cost)
            np.add.at(tokens, owner, 1)
            shown.advance(len(some))
    return Bits(bits, np.array([len(text.encode("utf-8")) for text in texts], np.int64), tokens)


def _nats(hidden: torch.Tensor, weight: torch.Tensor, right: torch.Tensor) -> NDArray[np.float64]:
    """-log of the probability of each right token, [n]. hidden [n, d] · weight [V, d] · right [n]."""
    projection = Projection(hidden, weight, BLOCK_ROWS)
    rows = min(BLOCK_ROWS, len(hidden))
    out = torch.empty(rows, len(weight), dtype=projection.held, device=hidden.device)
    spare: Any = out if projection.held == torch.float32 else torch.empty(rows, len(weight), device=hidden.device)
    found = []
    for start in range(0, len(hidden), BLOCK_ROWS):
        part = slice(start, min(start + BLOCK_ROWS, len(hidden)))
        count = part.stop - part.start
        block = projection.logits(part, out[:count], spare, right[part, None])
        logits = block.read(slice(0, count), spare)
        chosen = logits.gather(1, right[part, None])[:, 0]
        found.append((torch.logsumexp(logits, dim=1) - chosen).double().cpu())
    return torch.cat(found).numpy()
