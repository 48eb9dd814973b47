"""Students of one start become experts of one model, and each one's texts find their way to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from aasut.engine.torch import hidden_states, load_model
from aasut.errors import RecipeError
from aasut.formats import safetensors
from aasut.progress import Progress
from aasut.recipe import Student
from aasut.student import balance, losses
from aasut.student.fit import Fit
from aasut.student.initialize import copy_model
from aasut.student.mix import add, mix, names_of, remove
from aasut.student.objective import Row, Text
from aasut.student.teaching import Right

LOW, HIGH = (5, 30), (120, 150)  # tokens of two fields


def rows(between: tuple[int, int], count: int = 12, seed: int = 0) -> list[Row]:
    draw = torch.Generator().manual_seed(seed)
    return [Row(ids, answer=20, own=20) for ids in torch.randint(*between, (count, 24), generator=draw).tolist()]


def objective() -> Text:
    return Text(losses.get("cross_entropy"), Right())


@pytest.fixture(scope="module")
def source(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama whose tokens have something in common, as in trained models."""
    folder = tmp_path_factory.mktemp("mix") / "source"
    copy_model(tiny_llama, folder)
    tensors = safetensors.load(tiny_llama)
    name = "model.embed_tokens.weight"
    common = torch.randn(tensors[name].shape[1], generator=torch.Generator().manual_seed(4))
    tensors[name] = tensors[name].float() + tensors[name].float().std() * common
    safetensors.save(tensors, folder / "model.safetensors")
    return folder


@pytest.fixture
def students(source: Path, tmp_path: Path) -> dict[str, Path]:
    """The same model twice, with other weights in the second one's networks and attention."""
    copy_model(source, tmp_path / "low")
    copy_model(source, tmp_path / "high")
    draw = torch.Generator().manual_seed(1)
    tensors = safetensors.load(source)
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


def test_equal_students_make_a_mixture_that_says_the_same(source: Path, tmp_path: Path) -> None:
    mix({"low": source, "high": source}, texts(), objective(), 2, tmp_path / "mixed")
    torch.testing.assert_close(logits(tmp_path / "mixed"), logits(source), atol=1e-5, rtol=1e-4)


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


@pytest.fixture
def mixture(students: dict[str, Path], tmp_path: Path) -> Path:
    mix(students, texts(), objective(), 2, tmp_path / "mixture")
    return tmp_path / "mixture"


def losses_of(folder: Path, rows_: list[Row]) -> float:
    model = load_model(folder, torch.float32)
    with torch.no_grad():
        return sum(float(objective().loss(model, rows_, batch)) for batch in objective().batches(rows_, 512))


def test_an_expert_comes_later_and_leaves_the_others_texts_with_theirs(
    mixture: Path, source: Path, tmp_path: Path
) -> None:
    between = (200, 230)
    others = [*rows(LOW, 40), *rows(HIGH, 40)]
    facts = add(mixture, "new", source, rows(between, 40), others, objective(), tmp_path / "more")
    assert facts["experts"] == names_of(tmp_path / "more") == ["low", "high", "new"]
    before, after = safetensors.load(mixture), safetensors.load(tmp_path / "more")
    for name, tensor in before.items():
        assert torch.equal(after[name][: len(tensor)], tensor), name
    model = load_model(tmp_path / "more", torch.float32)
    shares = {}
    for name, rows_ in {"others": [*rows(LOW, seed=9), *rows(HIGH, seed=9)], "new": rows(between, seed=9)}.items():
        counts = balance.loads(model, objective(), rows_, 512)
        shares[name] = 2 * counts[:, 2] / counts.sum(1)  # of tokens, each of which has two experts
    assert (shares["others"] < 0.05).all()
    assert (shares["new"] > 0.3).all()


def test_only_the_new_expert_is_trained(mixture: Path, source: Path, tmp_path: Path) -> None:
    own = rows((200, 230), 40)
    add(mixture, "new", source, own, [*rows(LOW, 40), *rows(HIGH, 40)], objective(), tmp_path / "more")
    settings = Student.model_validate({
        "model": {"address": "file:x"}, "epochs": 3, "batch_examples": 4, "checks": 1, "precision": "float32",
        "learning_rate": 1e-3, "weight_decay": 0.5,
    })  # fmt: skip
    fit = Fit(tmp_path / "more", settings, 1, objective(), own, own[:4], only=(2,))
    fit.run(tmp_path / "trained", Progress(quiet=True))
    before, after = safetensors.load(tmp_path / "more"), safetensors.load(tmp_path / "trained")
    changed = {name for name, tensor in before.items() if not torch.equal(after[name], tensor)}
    assert changed
    assert all(".experts.2." in name for name in changed)


def test_an_expert_goes_again_and_what_is_left_is_as_it_was(mixture: Path, source: Path, tmp_path: Path) -> None:
    others = [*rows(LOW, 40), *rows(HIGH, 40)]
    add(mixture, "new", source, rows((200, 230), 40), others, objective(), tmp_path / "more")
    remove(tmp_path / "more", "new", tmp_path / "less")
    before, after = safetensors.load(mixture), safetensors.load(tmp_path / "less")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    remove(tmp_path / "more", "low", tmp_path / "other")
    assert names_of(tmp_path / "other") == ["high", "new"]
    found = safetensors.load(tmp_path / "other")
    first = found["model.layers.0.block_sparse_moe.experts.0.w1.weight"]
    assert torch.equal(first, before["model.layers.0.block_sparse_moe.experts.1.w1.weight"])
    assert losses_of(tmp_path / "other", rows(HIGH, 4)) > 0


@pytest.mark.parametrize(
    ("does", "why"),
    [
        (lambda mixture, _student, to: remove(mixture, "high", to), "Without high the mixture has too few experts"),
        (lambda mixture, _student, to: remove(mixture, "gone", to), "The mixture has no expert gone"),
        (
            lambda mixture, student, to: add(mixture, "low", student, [], [], objective(), to),
            "The mixture has an expert low already",
        ),
    ],
)
def test_what_cannot_come_or_go_is_refused(
    does: Callable[[Path, Path, Path], object], why: str, mixture: Path, source: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=why):
        does(mixture, source, tmp_path / "to")
    assert not (tmp_path / "to").exists()
