"""The stage `heal`: a cut model comes nearer to the whole one, and ends the same however often it is killed."""

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
from aasut.evaluate import bits
from aasut.formats import safetensors
from aasut.formats.tokenizer import Tokenizer
from aasut.progress import Progress
from aasut.recipe import Student
from aasut.student import heal
from aasut.student.corpus import Passage

QUIET = Progress(quiet=True)
TEXTS = [Passage((f"d{i}",), f"It rained on day {i}, and street {i % 7} was empty. " * 2) for i in range(80)]
HEAL = {"texts": [{"source": "general"}], "context": 96, "learning_rate": 3e-3}


def student(heal_options: dict[str, Any] | None = None, **changes: Any) -> Student:
    plain = {"initialise": "pruned", "model": {"address": "file:x"}, "shape": {"layers": 1}, "precision": "float32",
             "checkpoint_s": 0, "heal": HEAL | (heal_options or {})}  # fmt: skip
    return Student.model_validate(plain | changes)


def healed(
    source: Path, folder: Path, heal_options: dict[str, Any] | None = None, seed: int = 7, **changes: Any
) -> Any:
    folder.mkdir(exist_ok=True)
    heal.STEP_TOKENS = 400  # a tiny model's
    return heal.build(student(heal_options, **changes), seed, TEXTS, source, folder, QUIET)


@pytest.fixture(scope="module")
def done(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("healed")
    return folder, healed(tiny_llama, folder)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.load(folder)


def same(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_whole_model_folder_is_left(done: tuple[Path, dict[str, Any]], tiny_llama: Path) -> None:
    folder, _ = done
    assert {path.name for path in folder.iterdir()} == {path.name for path in tiny_llama.iterdir()}
    assert Tokenizer.load(folder).to_json() == Tokenizer.load(tiny_llama).to_json()
    assert {tensor.dtype for tensor in weights(folder).values()} == {torch.bfloat16}
    assert json.loads((folder / "config.json").read_text())["num_hidden_layers"] == 1
    load_model(folder, torch.float32)


def test_the_start_comes_nearer_to_the_whole_model(done: tuple[Path, dict[str, Any]]) -> None:
    _, facts = done
    start, end = facts["loss"]["start"], facts["loss"]["healed"]
    assert 0 < end["divergence"] < 0.8 * start["divergence"]
    assert end["divergence"] == pytest.approx(facts["best_loss"], rel=0.02)  # but for the rounding to bfloat16
    assert facts["curve"][-1]["validation_loss"] < facts["curve"][0]["validation_loss"]
    assert facts["tokens_learned"] == facts["targets"] == facts["conservation"]["heal (tokens)"].kept
    assert facts["conservation"]["heal (tokens)"].balanced
    assert facts["start"]["removed"]["layers"] in ([0], [1])
    assert facts["steps"] > 12


def test_losses_are_those_that_another_reckoning_finds(
    done: tuple[Path, dict[str, Any]], tiny_llama: Path, tmp_path: Path
) -> None:
    folder, facts = done
    given = heal_texts(tiny_llama)
    for model, told in ((tiny_llama, facts["loss"]["source"]), (folder, facts["loss"]["healed"])):
        found = bits.measure(model, given, context=512, overlap=0, progress=QUIET, precision="float32")
        assert told["bits_per_byte"] == pytest.approx(found.per_byte, rel=1e-4)
        nats = found.bits.sum() * torch.log(torch.tensor(2.0)).item() / found.tokens.sum()
        assert told["nats_per_token"] == pytest.approx(nats, rel=1e-4)


def heal_texts(source: Path) -> list[str]:
    """The texts that are looked at."""
    from aasut.student import general

    section = student().heal
    assert section is not None
    tokenizer = Tokenizer.load(source)
    held = general.build(TEXTS, section, tokenizer, 7).held
    return [tokenizer.decode(row.ids[len(row.ids) - row.answer :]) for row in held]


def test_the_whole_model_would_learn_nothing(tiny_llama: Path) -> None:
    """A start that is the teacher diverges from it by nothing."""
    from aasut.student import general

    wanted = student()
    assert wanted.heal is not None
    given = general.build(TEXTS, wanted.heal, Tokenizer.load(tiny_llama), 7)
    settings = heal.training(wanted)
    teacher = heal._teacher(tiny_llama, settings, given.held)
    assert heal._losses(tiny_llama, settings, given, teacher)["divergence"] == pytest.approx(0, abs=1e-5)


def test_the_same_weights_after_a_kill(done: tuple[Path, dict[str, Any]], tiny_llama: Path, tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; import test_heal, torch\n"
        "from aasut.student import checkpoint\n"
        "torch.set_num_threads(int(sys.argv[3])); save = checkpoint.save\n"
        "def once(folder, tensors, facts):\n"
        "    save(folder, tensors, facts)\n"
        "    if facts['step'] == 5: os.kill(os.getpid(), signal.SIGKILL)\n"
        "checkpoint.save = once\n"
        "test_heal.healed(Path(sys.argv[1]), Path(sys.argv[2]))\n"
    )
    out, threads = tmp_path / "out", str(torch.get_num_threads())
    where = str(Path(__file__).parent), str(Path(__file__).parents[1])
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {where!r}\n{code}", str(tiny_llama), str(out), threads],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert (out / "checkpoint.safetensors").exists()
    facts = healed(tiny_llama, out)
    assert same(out, done[0])
    assert facts == done[1]


@pytest.mark.parametrize(
    ("options", "changes"),
    [({"tokens": 900}, {}), ({"context": 64}, {}), ({"learning_rate": 1e-3}, {}), ({}, {"seed": 8}),
     ({}, {"frozen_embeddings": False})],
    ids=["tokens", "context", "learning_rate", "seed", "embeddings"],
)  # fmt: skip
def test_an_option_changes_the_weights(
    options: dict[str, Any],
    changes: dict[str, Any],
    done: tuple[Path, dict[str, Any]],
    tiny_llama: Path,
    tmp_path: Path,
) -> None:
    facts = healed(tiny_llama, tmp_path / "out", options, **changes)
    assert not same(tmp_path / "out", done[0])
    name = "model.embed_tokens.weight"
    kept = torch.equal(weights(tmp_path / "out")[name], weights(tiny_llama)[name])
    assert kept == ("frozen_embeddings" not in changes)
    assert facts["embeddings_trained"] != kept


def test_cut_channels_have_embeddings_that_are_trained() -> None:
    assert heal.training(student()).frozen_embeddings
    assert not heal.training(student(shape={"channels": 32})).frozen_embeddings
    assert not heal.training(student(frozen_embeddings=False)).frozen_embeddings


def test_a_context_that_the_model_has_not_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"student.heal.context is 513, and the model reads 512 tokens at most"):
        healed(tiny_llama, tmp_path / "out", {"context": 513})


def test_what_identifies_a_healed_start_is_not_the_task() -> None:
    first = heal.identity(student())
    same_ones: list[dict[str, Any]] = [
        {"prompt": "x: {text}"}, {"epochs": 9}, {"learning_rate": 1e-2}, {"frozen_layers": 1}, {"lora": {"rank": 2}},
        {"validation": 0.3}, {"checkpoint_s": 90}, {"batch_examples": 4}, {"most_spikes": 9},
    ]  # fmt: skip
    for changes in same_ones:
        assert heal.identity(student(**changes)) == first, changes
    assert heal.identity(student({"texts": [{"source": "moved"}]})) == first  # what they say is known by its content
    others: list[dict[str, Any]] = [
        {"shape": {"layers": 2}}, {"shape": {"layers": 1, "choose": "block"}}, {"frozen_embeddings": False},
        {"precision": "auto"}, {"micro_tokens": 64}, {"initialise": "random", "frozen_embeddings": False},
    ]  # fmt: skip
    found = [heal.identity(student(**changes)) for changes in others]
    found += [heal.identity(student(options)) for options in ({"tokens": 5}, {"context": 64}, {"learning_rate": 1e-4})]
    assert all(one != first for one in found)
    assert heal.identity(student({"tokens": 500_000})) == first  # that is the default


@pytest.mark.parametrize("shape", [{"layers": 1}, {"neurons": 48}, {"channels": 32}], ids=str)
def test_every_start_is_healed(shape: dict[str, int], tiny_llama: Path, tmp_path: Path) -> None:
    wanted: list[dict[str, Any]] = [{"initialise": "pruned"}, {"initialise": "random", "frozen_embeddings": False}]
    for options in wanted:
        few = {"tokens": 1500, "learning_rate": 3e-4}
        facts = healed(tiny_llama, tmp_path / options["initialise"], few, shape=shape, **options)
        losses = facts["loss"]
        assert 0 < losses["healed"]["divergence"] < losses["start"]["divergence"]
        trained = options["initialise"] == "random" or "channels" in shape
        assert (facts["embeddings_trained"], facts["kept"]) == (trained, "healed")


def test_a_start_that_healing_spoils_stays_as_it_was(tiny_llama: Path, tmp_path: Path) -> None:
    spoilt = {"tokens": 1500, "learning_rate": 0.5}
    facts = healed(tiny_llama, tmp_path / "out", spoilt, most_spikes=99)
    assert facts["kept"] == "start"
    assert facts["loss"]["healed"] == facts["loss"]["start"]
    kept, whole = weights(tmp_path / "out"), weights(tiny_llama)
    (gone,) = facts["start"]["removed"]["layers"]
    name = "mlp.down_proj.weight"
    assert torch.equal(kept[f"model.layers.0.{name}"], whole[f"model.layers.{1 - gone}.{name}"])
