"""A teacher whose tokens bear the numbers that they have in a student with a trimmed vocabulary.

The student's tokens come first, in its order, and the teacher's others behind them. So the teacher reads prompts in all
its tokens and answers in the student's, and the first rows of its output matrix, which are all that a student's losses
look at, give its distribution over the tokens that stayed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from aasut.formats.tokenizer import Tokenizer


class Renumbered(Tokenizer):
    """The tokenizer `of`, token `first[n]` bearing the number n, and tokens that `first` lacks higher ones."""

    def __init__(self, of: Tokenizer, first: Sequence[int], rows: int) -> None:
        """`rows`: how many numbers there are."""
        vars(self).update(vars(of))
        self._of, self.order = of, order(first, rows)
        self._new = {old: new for new, old in enumerate(self.order)}
        self.bos_id, self.eos_id, self.pad_id, self.unk_id = (
            None if old is None else self._new[old] for old in (of.bos_id, of.eos_id, of.pad_id, of.unk_id)
        )
        self.end_ids = frozenset(self._new[old] for old in of.end_ids)

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        return [[self._new[old] for old in ids] for ids in self._of.encode_all(texts)]

    def decode(self, ids: Sequence[int]) -> str:
        return self._of.decode([self.order[number] for number in ids])

    def written(self, token: int) -> str:
        return self._of.written(self.order[token])

    def to_json(self) -> str:
        raise NotImplementedError("a tokenizer.json has its own numbers")

    def vocabulary(self) -> dict[str, int]:
        return {name: self._new[old] for name, old in self._of.vocabulary().items()}

    def token_id(self, token: str) -> int | None:
        old = self._of.token_id(token)
        return None if old is None else self._new[old]

    def token_name(self, number: int) -> str | None:
        return self._of.token_name(self.order[number])


def order(first: Sequence[int], rows: int) -> list[int]:
    """Old numbers by new ones: `first`, then the others as they were."""
    given = set(first)
    return [*first, *(old for old in range(rows) if old not in given)]


def kept(small: Tokenizer, own: Tokenizer) -> list[int]:
    """The number in the student's model of every token of the student that was trimmed out of it."""
    found = [own.token_id(small.token_name(number) or "") for number in range(small.size)]
    if None in found:
        raise ValueError("the trimmed tokenizer has tokens that its model's lacks")
    return [number for number in found if number is not None]


@torch.no_grad()
def renumber(model: Any, tokenizer: Tokenizer, first: Sequence[int]) -> tuple[Any, Tokenizer]:
    """The model, changed in place, and its tokenizer, with the tokens `first` before all others."""
    matrices = (model.get_input_embeddings(), model.get_output_embeddings())
    weights = {id(matrix.weight): matrix.weight for matrix in matrices}  # one where they are tied
    rows = len(matrices[0].weight)
    index = torch.tensor(order(first, rows))
    for weight in weights.values():
        weight.data = weight.data[index.to(weight.device)]
    return model, Renumbered(tokenizer, first, rows)
