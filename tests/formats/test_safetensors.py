"""Weights on disk: one rounding, the same bytes, tied weights once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from aasut.errors import ModelError
from aasut.formats import safetensors as weights


def test_rounded_once_to_nearest_even_and_readable_by_the_library(tmp_path: Path) -> None:
    halfway = torch.tensor([1.0 + 2**-8, 1.0 + 3 * 2**-8, 1.0 + 2**-8 + 2**-20, -0.0])  # between two bfloat16 numbers
    tensors = {"a": halfway, "n": torch.arange(3), "empty": torch.zeros(0, 2), "view": torch.ones(4, 3).T}
    weights.save(tensors, tmp_path / "m.safetensors", {"who": "ü"})
    found = safetensors.torch.load_file(tmp_path / "m.safetensors")
    assert found["a"].tolist() == [1.0, 1.0 + 2**-6, 1.0 + 2**-7, 0.0]
    assert torch.signbit(found["a"][3])
    assert (found["a"].dtype, found["n"].tolist()) == (torch.bfloat16, [0, 1, 2])
    assert (found["empty"].shape, found["view"].shape) == ((0, 2), (3, 4))
    assert weights.metadata(tmp_path / "m.safetensors") == {"format": "pt", "who": "ü"}
    again = weights.load(tmp_path / "m.safetensors")
    assert {name: t.tolist() for name, t in again.items()} == {name: t.tolist() for name, t in found.items()}


def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    code = (
        "import sys, torch; from pathlib import Path; from aasut.formats import safetensors as s\n"
        "names = sys.argv[2]\n"
        "s.save({n: torch.full((3,), ord(n) / 7) for n in names}, Path(sys.argv[1]), {n: n for n in names})"
    )
    for file, names in (("one", "abcdefgh"), ("two", "hgfedcba")):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / file), names], check=True)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_tied_weights_are_written_and_counted_once(tmp_path: Path) -> None:
    embedding = torch.ones(10, 4)
    body = {"model.embed_tokens.weight": embedding, "model.norm.weight": torch.ones(4)}
    weights.save(body | {"lm_head.weight": embedding}, tmp_path / "model.safetensors")
    assert set(weights.load(tmp_path)) == set(body)
    assert weights.parameters(tmp_path) == 44
    weights.save(body | {"lm_head.weight": embedding.clone()}, tmp_path / "model.safetensors")
    assert weights.parameters(tmp_path) == 84
    (tmp_path / "config.json").write_text(json.dumps({"tie_word_embeddings": True}))  # written twice, used once
    assert weights.parameters(tmp_path) == 44


def test_a_folder_in_shards(tmp_path: Path) -> None:
    weights.save({"a": torch.ones(2)}, tmp_path / "model-1.safetensors")
    weights.save({"b": torch.ones(3)}, tmp_path / "model-2.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert {name: len(t) for name, t in weights.load(tmp_path).items()} == {"a": 2, "b": 3}
    assert weights.parameters(tmp_path) == 5
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(ModelError, match=r"lacks model-2\.safetensors"):
        weights.load(tmp_path)


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not finite"):
        weights.save({"a": torch.tensor([float("nan")])}, tmp_path / "m.safetensors")
    assert not (tmp_path / "m.safetensors").exists()


def test_damaged_missing_and_pickled(tmp_path: Path) -> None:
    weights.save({"a": torch.ones(100)}, tmp_path / "m.safetensors")
    data = (tmp_path / "m.safetensors").read_bytes()
    for cut in (0, 5, 40, -1):
        (tmp_path / "m.safetensors").write_bytes(data[:cut])
        with pytest.raises(ModelError, match="no whole safetensors file"):
            weights.load(tmp_path)
    (tmp_path / "m.safetensors").unlink()
    with pytest.raises(ModelError, match="it has none"):
        weights.load(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin, a pickle"):
        weights.load(tmp_path)
