"""Operations of a token, counted by hand on small shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aasut.economics.operations import Weights
from aasut.formats import safetensors

CONFIG: dict[str, Any] = {"vocab_size": 10, "hidden_size": 4, "intermediate_size": 6, "num_hidden_layers": 2}
EXPERT = 3 * 4 * 6 * 2


def test_a_tied_dense_model_multiplies_by_every_weight() -> None:
    size = Weights.of(CONFIG | {"tie_word_embeddings": True}, 500)
    assert (size.active, size.through, size.reading()) == (500, 500, 1000)
    assert size.training(size.trained(frozen_embeddings=False)) == 6 * 500
    assert size.training(size.trained(frozen_embeddings=True)) == 6 * 500 - 2 * 40
    assert size.training(0) == 4 * 500


def test_an_embedding_of_its_own_is_looked_up() -> None:
    size = Weights.of(CONFIG, 540)
    assert (size.active, size.through) == (540, 500)
    assert size.training(size.trained(frozen_embeddings=True)) == 6 * 500 - 2 * 40


def test_experts_that_a_token_does_not_go_through_cost_nothing() -> None:
    experts = {"num_local_experts": 5, "num_experts_per_tok": 2, "tie_word_embeddings": True}
    size = Weights.of(CONFIG | experts, 1000)
    assert (size.expert, size.idle, size.active) == (EXPERT, 3 * EXPERT, 1000 - 3 * EXPERT)
    assert size.training(size.expert) == 4 * size.active + 2 * EXPERT


def test_a_folder_is_read(tiny_llama: Path) -> None:
    size = Weights.read(tiny_llama)
    assert size.all == safetensors.parameters(tiny_llama) == size.through
    assert (size.output, size.table, size.idle) == (size.output, 0, 0)
    assert size.output % 64 == 0
