"""Each text's own branch as its teacher: of several models of one vocabulary, the one of the row's group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from aasut.student.objective import Row
from aasut.student.targets import Dense
from aasut.student.teaching import Live


class Branches:
    """See `teaching.Teaching`. A row's `group` names its branch; `most` is how many tokens a branch reads at once.

    Where the branches' output matrices differ, they stand beside one another in one [V, d_1 + d_2 + ...], and a state
    has zeros in the places of the others: the logits are those of its own branch.
    """

    sparse = False

    def __init__(self, models: Mapping[str, Any], most: int) -> None:
        self.live = {name: Live(model, most) for name, model in models.items()}
        weights = {name: model.get_output_embeddings().weight for name, model in models.items()}
        first = next(iter(weights.values()))
        self.same = all(torch.equal(first, weight) for weight in weights.values())
        self.weight = first if self.same else torch.cat(list(weights.values()), 1)
        self._starts: dict[str, int] = {}  # of each branch's columns
        for name in weights:
            self._starts[name] = sum(weights[before].shape[1] for before in self._starts)

    @classmethod
    def load(cls, folders: Mapping[str, Path], most: int, precision: str = "auto") -> Branches:
        """The models of these folders, on the GPU where there is one."""
        from aasut.engine.torch import choose_precision, load_model

        device = "cuda" if torch.cuda.is_available() else "cpu"
        models = {name: load_model(path, choose_precision(precision)).to(device) for name, path in folders.items()}
        return cls(models, most)

    def foresee(self, rows: Sequence[Row]) -> None:
        for name, live in self.live.items():
            live.foresee([row for row in rows if row.group == name])

    def targets(self, rows: Sequence[Row]) -> Dense:
        """Raises KeyError for a row of no branch's group."""
        places: dict[str, list[int]] = {}
        for place, row in enumerate(rows):
            places.setdefault(row.group, []).append(place)
        states: dict[int, torch.Tensor] = {}
        for name, own in places.items():
            counts = [rows[place].answer - rows[place].own for place in own]
            found = self._widened(name, self.live[name].states([rows[place] for place in own]))
            states |= dict(zip(own, torch.split(found, counts), strict=True))
        return Dense(torch.cat([states[place] for place in range(len(rows))]), self.weight)

    def _widened(self, name: str, states: torch.Tensor) -> torch.Tensor:
        """States [n, d] of a branch as `weight` takes them."""
        if self.same:
            return states
        wide = states.new_zeros(len(states), self.weight.shape[1])
        wide[:, self._starts[name] : self._starts[name] + states.shape[1]] = states
        return wide
