"""The stage `adapt`: a tiny model learns a field, keeps the rest, and ends the same however often it is killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from aasut.engine.torch import load_model
from aasut.errors import RecipeError
from aasut.formats import safetensors
from aasut.formats.tokenizer import Tokenizer
from aasut.progress import Progress
from aasut.recipe import FieldRecipe
from aasut.student import adapt
from aasut.student.corpus import Passage
from tiny_llama import byte_level, save_llama

QUIET = Progress(quiet=True)
FIELD = [Passage((f"d{i}",), f"The pump {i} stops when valve {i % 3} is closed. " * 4) for i in range(12)]
MADE = [Passage(("d1",), "What stops the pump 1?\nA closed valve."), Passage(("d2",), "The pump 2 has a valve.")]
GENERAL = [Passage((f"g{i}",), f"It rained on day {i}, and the streets were empty. " * 5) for i in range(12)]


def recipe(**changes: Any) -> FieldRecipe:
    """With `student` and `adapt` options over small ones."""
    student = {"model": {"address": "file:x"}, "epochs": 2, "batch_examples": 4, "learning_rate": 1e-3, "checks": 2,
               "precision": "float32", "checkpoint_s": 0}  # fmt: skip
    settings = {"replay": [{"source": "general"}], "context": 96, "replay_share": 0.2}
    plain = {
        "name": "pumps", "documents": [{"source": "manuals"}], "teacher": {"scripted": {"": "yes"}},
        "student": student | changes.pop("student", {}), "adapt": settings | changes,
    }  # fmt: skip
    return FieldRecipe.model_validate(plain)


def adapted(source: Path, folder: Path, teacher: Path | None = None, **changes: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    return adapt.build(recipe(**changes), FIELD, MADE, GENERAL, source, teacher, folder, QUIET)


@pytest.fixture(scope="module")
def done(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("adapted")
    return folder, adapted(tiny_llama, folder)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.load(folder)


def same(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_whole_model_folder_is_left(done: tuple[Path, dict[str, Any]], tiny_llama: Path) -> None:
    folder, _ = done
    left = {path.name for path in folder.iterdir()}
    assert left == {path.name for path in tiny_llama.iterdir()}
    assert Tokenizer.load(folder).to_json() == Tokenizer.load(tiny_llama).to_json()
    assert {tensor.dtype for tensor in weights(folder).values()} == {torch.bfloat16}
    assert not same(folder, tiny_llama)
    load_model(folder, torch.float32)


def test_the_field_is_learned(done: tuple[Path, dict[str, Any]]) -> None:
    _, facts = done
    losses = [point["validation_loss"] for point in facts["curve"]]
    assert losses[-1] < losses[0]
    assert facts["losses"][-1] < facts["losses"][0] - 0.3


def test_tokens_are_told_by_source(done: tuple[Path, dict[str, Any]]) -> None:
    _, facts = done
    learned = facts["tokens_learned"]
    assert facts["targets"] == 2 * sum(learned.values())  # two epochs
    assert all(account.balanced for account in facts["conservation"].values())
    assert {name: facts["conservation"][f"adapt {name} (tokens)"].kept for name in learned} == learned
    assert facts["replay_share"] == pytest.approx(0.2, abs=0.002)
    assert min(learned.values()) > 0
    json.dumps({name: value for name, value in facts.items() if name != "conservation"})


@pytest.mark.parametrize(
    "changes",
    [{"distil": 0.0}, {"distil": 1.0}, {"replay_share": 0.1}, {"generated": False}, {"context": 64}, {"tokens": 400}],
    ids=lambda changes: next(iter(changes)),
)
def test_an_option_changes_what_is_learned(
    changes: dict[str, Any], done: tuple[Path, dict[str, Any]], tiny_llama: Path, tmp_path: Path
) -> None:
    adapted(tiny_llama, tmp_path / "out", **changes)
    assert not same(tmp_path / "out", done[0])


def test_the_same_recipe_gives_the_same_weights_after_a_kill(
    done: tuple[Path, dict[str, Any]], tiny_llama: Path, tmp_path: Path
) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; import test_adapt, torch\n"
        "from aasut.student import checkpoint\n"
        "torch.set_num_threads(int(sys.argv[3])); save = checkpoint.save\n"
        "def once(folder, tensors, facts):\n"
        "    save(folder, tensors, facts)\n"
        "    if facts['step'] == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "checkpoint.save = once\n"
        "test_adapt.adapted(Path(sys.argv[1]), Path(sys.argv[2]))\n"
    )
    out, threads = tmp_path / "out", str(torch.get_num_threads())
    where = str(Path(__file__).parent), str(Path(__file__).parents[1])
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {where!r}\n{code}", str(tiny_llama), str(out), threads],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert (out / "checkpoint.safetensors").exists()
    facts = adapted(tiny_llama, out)
    assert same(out, done[0])
    assert facts == done[1]


def test_dropped_layers_start_from_the_whole_model_s_distribution(tiny_llama: Path, tmp_path: Path) -> None:
    facts = adapted(tiny_llama, tmp_path / "out", student={"initialise": "pruned", "shape": {"layers": 1}})
    assert facts["start"]["removed"]["layers"] in ([0], [1])
    assert json.loads((tmp_path / "out" / "config.json").read_text())["num_hidden_layers"] == 1
    assert facts["anchor"]["model"] == "start"
    load_model(tmp_path / "out", torch.float32)


def test_the_teacher_is_the_anchor_where_it_has_the_student_s_tokens(
    done: tuple[Path, dict[str, Any]], tiny_llama: Path, tmp_path: Path
) -> None:
    alike = tmp_path / "alike"
    safe = weights(tiny_llama)
    alike.mkdir()
    for path in tiny_llama.iterdir():
        (alike / path.name).write_bytes(path.read_bytes())
    safetensors.save({n: t if "layers.0.mlp" not in n else -t for n, t in safe.items()}, alike / "model.safetensors")
    other = save_llama(tmp_path / "other", byte_level(["quite other words, so that other pairs are merged"]))
    by_teacher = adapted(tiny_llama, tmp_path / "one", alike)
    assert by_teacher["anchor"]["model"] == "teacher"
    assert not same(tmp_path / "one", done[0])
    alone = adapted(tiny_llama, tmp_path / "two", other)
    assert alone["anchor"]["model"] == "start"
    assert "other tokens" in alone["anchor"]["reason"]
    assert same(tmp_path / "two", done[0])


def test_a_longer_context_than_the_model_reads_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"adapt\.context is 513, and the student reads 512") as caught:
        adapted(tiny_llama, tmp_path / "out", context=513)
    assert caught.value.remedy == "Lower adapt.context."
