"""Bits per byte against transformers alone, and the same bytes whatever the windows and the tokenizer."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import reference
from aasut.evaluate import bits
from aasut.formats.tokenizer import Tokenizer
from aasut.progress import Progress
from tiny_llama import make_llama

QUIET = Progress(quiet=True)
TEXTS = ["the remote is great, the battery is not " * 9, "नमस्ते दुनिया", "a", "", "prices rose by 12 % in 2024\n"]


def naive(folder: Path, text: str, context: int, overlap: int) -> float:
    """By transformers alone: one window after another, full logits."""
    model, tokenizer = reference.load(folder), Tokenizer.load(folder)
    ids = tokenizer.encode(text)
    first = [tokenizer.bos_id] if tokenizer.add_bos else tokenizer.encode("\n")
    total, done = 0.0, 0
    while done < len(ids):
        start = max(0, done - overlap)
        part = ids[start : start + context - 1]
        logp = model(torch.tensor([[*first, *part]])).logits[0].float().log_softmax(1)
        for place in range(done - start, len(part)):
            total -= float(logp[place, part[place]].detach()) / math.log(2)
        done = start + len(part)
    return total


@pytest.mark.parametrize(("context", "overlap"), [(400, 0), (40, 0), (40, 13)])
@pytest.mark.parametrize("add_bos", [False, True])
def test_they_are_transformers(add_bos: bool, context: int, overlap: int, tmp_path: Path) -> None:
    folder = make_llama(tmp_path, add_bos=add_bos)
    texts = [text[:100] if context > 100 else text for text in TEXTS]
    found = bits.measure(folder, texts, context=context, overlap=overlap, progress=QUIET, precision="float32")
    expected = [naive(folder, text, context, overlap) for text in texts]
    assert found.bits == pytest.approx(expected, rel=1e-5)
    assert found.bytes.tolist() == [len(text.encode()) for text in texts]
    assert found.tokens.tolist() == [len(Tokenizer.load(folder).encode(text)) for text in texts]
    assert found.per_byte == pytest.approx(sum(expected) / sum(found.bytes))


@pytest.mark.parametrize(("context", "overlap"), [(16, 0), (16, 5), (16, 14), (500, 100)])
def test_every_token_counts_once_and_windows_keep_to_their_text(context: int, overlap: int, tiny_llama: Path) -> None:
    tokenizer = Tokenizer.load(tiny_llama)
    cut = list(bits.windows(tokenizer, TEXTS, context, overlap))
    assert max(len(window.ids) for window in cut) <= context
    for number, text in enumerate(TEXTS):
        ids, done = tokenizer.encode(text), 0
        for window in (window for window in cut if window.text == number):
            again = len(window.ids) - 1 - window.counted
            assert again == min(overlap, done)
            assert window.ids[1:] == ids[done - again : done + window.counted]
            done += window.counted
        assert done == len(ids)


def test_half_precision_is_near(tiny_llama: Path) -> None:
    exact, near = (
        bits.measure(tiny_llama, TEXTS, context=64, overlap=16, progress=QUIET, precision=precision)
        for precision in ("float32", "bfloat16")
    )
    assert near.per_byte == pytest.approx(exact.per_byte, rel=0.02)
    assert not np.array_equal(near.bits, exact.bits)


def test_windows_without_room_are_refused(tiny_llama: Path) -> None:
    with pytest.raises(ValueError, match="no room"):
        bits.measure(tiny_llama, TEXTS, context=16, overlap=15, progress=QUIET)
