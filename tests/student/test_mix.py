"""Students of one start become experts of one model, and each one's texts find their way to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from aasut.engine.torch import hidden_states, load_model
from aasut.errors import RecipeError
from aasut.formats import safetensors
from aasut.student import balance, losses
from aasut.student.initialize import copy_model
from aasut.student.mix import mix
from aasut.student.objective import Row, Text
from aasut.student.teaching import Right

LOW, HIGH = (5, 30), (120, 150)  # tokens of two fields


def rows(between: tuple[int, int], count: int = 12, seed: int = 0) -> list[Row]:
    draw = torch.Generator().manual_seed(seed)
    return [Row(ids, answer=20, own=20) for ids in torch.randint(*between, (count, 24), generator=draw).tolist()]


def objective() -> Text:
    return Text(losses.get("cross_entropy"), Right())


@pytest.fixture
def students(tiny_llama: Path, tmp_path: Path) -> dict[str, Path]:
    """The same model twice, with other weights in the second one's networks and attention."""
    copy_model(tiny_llama, tmp_path / "low")
    copy_model(tiny_llama, tmp_path / "high")
    draw = torch.Generator().manual_seed(1)
    tensors = safetensors.load(tiny_llama)
    for name, tensor in tensors.items():
        if ".mlp." in name or ".self_attn." in name:
            tensors[name] = tensor.float() * (1 + 0.2 * torch.randn(tensor.shape, generator=draw))
    safetensors.save(tensors, tmp_path / "high" / "model.safetensors")
    return {"low": tmp_path / "low", "high": tmp_path / "high"}


def texts() -> dict[str, list[Row]]:
    return {"low": rows(LOW, 40), "high": rows(HIGH, 40)}


@torch.no_grad()
def logits(folder: Path) -> torch.Tensor:
    model = load_model(folder, torch.float32)
    ids = torch.tensor([list(rows(LOW, 1)[0].ids)])
    hidden = hidden_states(model, ids, torch.arange(ids.shape[1])[None], None, None)
    result: torch.Tensor = model.lm_head(hidden)
    return result


def test_networks_become_experts_and_the_rest_is_averaged(students: dict[str, Path], tmp_path: Path) -> None:
    facts = mix(students, texts(), objective(), 2, tmp_path / "mixed")
    assert facts["experts"] == ["low", "high"]
    low, high, mixed = (safetensors.load(path) for path in (*students.values(), tmp_path / "mixed"))
    for expert, student in enumerate((low, high)):
        for ours, theirs in (("w1", "gate_proj"), ("w3", "up_proj"), ("w2", "down_proj")):
            stacked = mixed[f"model.layers.1.block_sparse_moe.experts.{expert}.{ours}.weight"]
            assert torch.equal(stacked, student[f"model.layers.1.mlp.{theirs}.weight"])
    name = "model.layers.0.self_attn.q_proj.weight"
    mean = ((low[name].float() + high[name].float()) / 2).to(mixed[name].dtype)
    assert torch.equal(mixed[name], mean)
    assert not torch.equal(mean, low[name])


def test_equal_students_make_a_mixture_that_says_the_same(tiny_llama: Path, tmp_path: Path) -> None:
    mix({"low": tiny_llama, "high": tiny_llama}, texts(), objective(), 2, tmp_path / "mixed")
    torch.testing.assert_close(logits(tmp_path / "mixed"), logits(tiny_llama), atol=1e-5, rtol=1e-4)


def test_texts_go_to_their_own_students_expert_from_the_start(students: dict[str, Path], tmp_path: Path) -> None:
    mix(students, texts(), objective(), 2, tmp_path / "mixed")
    path = tmp_path / "mixed" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_experts_per_tok": 1}))  # the likelier one alone
    model = load_model(tmp_path / "mixed", torch.float32)
    for name, (between, own) in {"low": (LOW, 0), "high": (HIGH, 1)}.items():
        counts = balance.loads(model, objective(), rows(between, seed=9), 512)  # texts that the routers have not seen
        shares = counts[:, own] / counts.sum(1)
        assert (shares > 0.7).all(), name


def test_students_of_other_shapes_are_refused(students: dict[str, Path], tmp_path: Path) -> None:
    path = students["high"] / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rms_norm_eps": 1e-3}))
    with pytest.raises(RecipeError, match="low and high cannot be mixed: their rms_norm_eps differ"):
        mix(students, texts(), objective(), 2, tmp_path / "mixed")
