"""Floating-point operations of a token: 2 a weight that it goes through, 2 more a weight for the way back, and 2 more a
weight that is trained (Kaplan et al. 2020, section 2.1). Attention between tokens is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Weights:
    """Of a model: `all` of them; `output`, its output matrix; `table`, an embedding that is looked up and is not the
    output too; `expert`, the networks of one expert in all layers; `idle`, those of the experts that a token does not
    go through."""

    all: int
    output: int
    table: int
    expert: int
    idle: int

    @classmethod
    def of(cls, config: Mapping[str, Any], parameters: int) -> Weights:
        """From a model's config.json and its number of weights, tied ones counted once."""
        output = int(config["vocab_size"]) * int(config["hidden_size"])
        expert = 3 * int(config["hidden_size"]) * int(config["intermediate_size"]) * int(config["num_hidden_layers"])
        count = int(config.get("num_local_experts", 0))
        idle = (count - int(config["num_experts_per_tok"])) * expert if count else 0
        return cls(parameters, output, 0 if config.get("tie_word_embeddings") else output, expert, idle)

    @classmethod
    def read(cls, folder: Path) -> Weights:
        """Of a model folder."""
        from aasut.formats import safetensors
        from aasut.formats.tokenizer import read_json

        return cls.of(read_json(folder / "config.json"), safetensors.parameters(folder))

    @property
    def active(self) -> int:
        """That a token has to do with, an embedding's row counted as the whole of it."""
        return self.all - self.idle

    @property
    def through(self) -> int:
        """That a token is multiplied by."""
        return self.active - self.table

    def reading(self) -> float:
        """Operations of reading a token."""
        return 2.0 * self.through

    def training(self, trained: int) -> float:
        """Operations of training on a token, where so many of the weights that it goes through are trained."""
        return 4.0 * self.through + 2.0 * trained

    def trained(self, *, frozen_embeddings: bool) -> int:
        """Weights that a token goes through and that training changes, where all are trained."""
        return self.through - (self.output if frozen_embeddings else 0)
