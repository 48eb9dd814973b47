"""Each row is taught by the branch of its group, and by nothing of the others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from aasut.engine.torch import load_model
from aasut.formats import safetensors
from aasut.student.branches import Branches
from aasut.student.initialize import copy_model
from aasut.student.objective import Row
from aasut.student.teaching import Live


def changed(source: Path, folder: Path, part: str) -> Path:
    """The model with other weights where their names have `part`."""
    copy_model(source, folder)
    tensors, draw = safetensors.load(source), torch.Generator().manual_seed(3)
    for name, tensor in tensors.items():
        if part in name:
            tensors[name] = tensor.float() * (1 + 0.3 * torch.randn(tensor.shape, generator=draw))
    safetensors.save(tensors, folder / "model.safetensors")
    return folder


def rows() -> list[Row]:
    draw = torch.Generator().manual_seed(0)
    texts = [torch.randint(5, 250, (length,), generator=draw).tolist() for length in (9, 12, 7, 15, 11)]
    groups = ("low", "high", "low", "high", "low")
    return [Row(ids, answer=len(ids) - 1, group=group, asked=ids[:1]) for ids, group in zip(texts, groups, strict=True)]


@pytest.mark.parametrize("part", [".mlp.", "embed_tokens"], ids=["one output matrix", "an output matrix each"])
def test_each_row_has_its_own_branchs_distribution(tiny_llama: Path, tmp_path: Path, part: str) -> None:
    folders = {"low": tiny_llama, "high": changed(tiny_llama, tmp_path / "high", part)}
    given = rows()
    branches = Branches.load(folders, 64, "float32")
    found = branches.targets(given)
    assert branches.same == (part == ".mlp.")
    logits = (found.hidden @ found.weight.T).split([row.answer for row in given])
    alone = {name: Live(load_model(path, torch.float32), 64) for name, path in folders.items()}
    for row, ours in zip(given, logits, strict=True):
        for name, live in alone.items():
            told = live.targets([row])
            same = torch.allclose(ours, told.hidden @ told.weight.T, atol=1e-4, rtol=1e-4)
            assert same == (name == row.group)


def test_what_is_foreseen_is_read_once_and_is_the_same(tiny_llama: Path, tmp_path: Path) -> None:
    folders = {"low": tiny_llama, "high": changed(tiny_llama, tmp_path / "high", ".mlp.")}
    given = rows()
    plain = Branches.load(folders, 64, "float32").targets(given).hidden
    branches = Branches.load(folders, 64, "float32")
    branches.foresee(given)
    first = branches.targets(given).hidden
    torch.testing.assert_close(first, plain, atol=1e-5, rtol=1e-5)
    for live in branches.live.values():
        live.model = None  # nothing is read again
    assert torch.equal(branches.targets(given[3:]).hidden, first[-sum(row.answer for row in given[3:]) :])


def test_a_row_of_no_branch_is_an_error(tiny_llama: Path) -> None:
    branches = Branches.load({"low": tiny_llama}, 64, "float32")
    with pytest.raises(KeyError):
        branches.targets([Row([1, 2], answer=1, group="other", asked=[1])])
