"""No step of a loss holds logits of all positions: no tensor of logits that is ever made has more than some rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from aasut.engine.torch import load_model
from aasut.student import losses
from aasut.student.fused import BLOCK_ROWS
from aasut.student.objective import Row, Text
from aasut.student.score_logits import Asked, Teacher
from aasut.student.targets import Dense, Sparse
from aasut.student.teaching import Live

ROWS, WIDTH, VOCABULARY = 3 * BLOCK_ROWS + 5, 8, 2000


class Logits(TorchDispatchMode):
    """Notes the most rows that a tensor of so many columns had, of those that any operation gave."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.columns, self.rows = columns, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves(found) if isinstance(leaf, torch.Tensor) and leaf.ndim > 1]
        wide = [leaf.numel() // self.columns for leaf in tensors if leaf.shape[-1] == self.columns]
        self.rows = max([self.rows, *wide])
        return found


@contextmanager
def at_most(rows: int, columns: int) -> Iterator[None]:
    with Logits(columns) as seen:
        yield
    assert 0 < seen.rows <= rows


@pytest.mark.parametrize("kind", ["dense", "sparse", "right"])
def test_a_loss_holds_a_block_of_logits(kind: str) -> None:
    torch.manual_seed(1)
    hidden = torch.randn(ROWS, WIDTH, requires_grad=True)
    weight, ids = torch.randn(VOCABULARY, WIDTH, requires_grad=True), torch.randint(0, VOCABULARY, (ROWS, 3))
    target: Any = {
        "dense": Dense(torch.randn(ROWS, WIDTH), torch.randn(VOCABULARY, WIDTH)),
        "sparse": Sparse(ids, torch.full((ROWS, 3), 1 / 3)),
        "right": ids[:, 0],
    }[kind]
    with at_most(2 * BLOCK_ROWS, VOCABULARY):  # a block, and scratch for one
        torch.autograd.backward(losses.get("forward_kl")(hidden, weight, target, None))
    assert hidden.grad is not None


def test_a_block_does_not_grow_with_the_rows() -> None:
    """Nor is it a share of them."""
    hidden = torch.randn(12 * BLOCK_ROWS, WIDTH, requires_grad=True)
    target = Dense(torch.randn(12 * BLOCK_ROWS, WIDTH), torch.randn(VOCABULARY, WIDTH))
    with at_most(2 * BLOCK_ROWS, VOCABULARY):
        torch.autograd.backward(losses.get("jsd")(hidden, torch.randn(VOCABULARY, WIDTH), target, None))


def test_prompts_are_not_projected(tiny_llama: Path) -> None:
    """A step whose prompts are long and whose answers are short, with a teacher alongside."""
    student, teacher = (load_model(tiny_llama, torch.float32) for _ in range(2))
    prompt = [5 + i % 250 for i in range(400)]
    rows = [Row([*prompt, 7, 8, 1], answer=3, own=1, asked=prompt) for _ in range(4)]
    objective = Text(losses.get("forward_kl"), Live(teacher, 4096))
    (batch,) = objective.batches(rows, 4096)
    vocabulary = len(student.get_output_embeddings().weight)
    with at_most(64, vocabulary):  # eight positions of 1,608; the output matrix itself has 64 rows the other way round
        torch.autograd.backward(objective.loss(student, rows, batch))


def test_a_cache_is_written_from_a_block_of_logits_at_a_time(tiny_llama: Path) -> None:
    """Ten answers of 200 tokens."""
    texts = [Asked(f"e{n}#0", [5, 6 + n], range(2, 202)) for n in range(10)]
    teacher = Teacher(load_model(tiny_llama, torch.float32), 290, texts)
    with at_most(512, 290):
        assert len(teacher.entries(texts, 0.02, 1, lambda _: None)) == 10
