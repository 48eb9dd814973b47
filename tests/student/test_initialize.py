from __future__ import annotations

from pathlib import Path

import deep_llama
import pytest
import torch
from deep_llama import PROMPTS, logits, settings

import reference
from aasut.errors import RecipeError
from aasut.formats import safetensors
from aasut.store import file_hash
from aasut.student import initialize, prune


def test_pretrained_is_the_model_bit_by_bit(deep: Path, tmp_path: Path) -> None:
    report = initialize.pretrained(settings(), deep, PROMPTS, tmp_path / "start")
    names = {path.name for path in (tmp_path / "start").iterdir()}
    assert names == {path.name for path in deep.iterdir()} - {"source.json", "pytorch_model.bin"}
    assert all(file_hash(tmp_path / "start" / name) == file_hash(deep / name) for name in names)
    assert report["parameters"] == sum(p.numel() for p in reference.load(deep).parameters())


def test_pretrained_tells_its_loss_before_training(deep: Path, tmp_path: Path) -> None:
    report = initialize.pretrained(settings(), deep, PROMPTS, tmp_path / "start")
    assert report["loss_before_training"] > 1
    assert report["loss_on_held_out"] is False
    assert "loss_of_source" not in report


def test_without_texts_no_loss_is_told(deep: Path, tmp_path: Path) -> None:
    report = initialize.pretrained(settings(), deep, [], tmp_path / "start")
    assert (report["loss_before_training"], report["loss_tokens"]) == (None, 0)


def test_a_model_in_several_files_is_read_and_written_whole(tiny_llama: Path, deep: Path, tmp_path: Path) -> None:
    source = deep_llama.llama(tmp_path / "sharded", tiny_llama, shard="100KB")
    assert len(safetensors.files(source)) > 2
    initialize.pretrained(settings(), source, PROMPTS, tmp_path / "same")
    assert torch.equal(logits(reference.load(tmp_path / "same")), logits(reference.load(deep)))
    fewer = deep_llama.pruning(layers=4, neurons=64)
    prune.pruned(fewer, source, PROMPTS, tmp_path / "fewer")
    prune.pruned(fewer, deep, PROMPTS, tmp_path / "expected")
    found, expected = safetensors.load(tmp_path / "fewer"), safetensors.load(tmp_path / "expected")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_initialisations_have_names() -> None:
    assert initialize.get("pruned") is prune.pruned
    with pytest.raises(RecipeError, match=r"'teleport'.*pretrained, pruned, random, linear"):
        initialize.get("teleport")
