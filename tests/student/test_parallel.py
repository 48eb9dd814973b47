"""Two processes against one, over real sockets."""

from __future__ import annotations

import functools
import json
import operator
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import train_rows
from safetensors.torch import load_file

from aasut.student.parallel import Team, join

SCRIPT = Path(__file__).parent / "train_rows.py"
TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


CASES: dict[str, dict[str, Any]] = {
    "text, all weights": {"kind": "text", "settings": {"micro_tokens": 60, "frozen_embeddings": False}},
    "text, activations computed again": {
        "kind": "text",
        "settings": {"micro_tokens": 40, "activation_checkpointing": True},
    },
    "labels, a frozen layer": {"kind": "labels", "settings": {"frozen_layers": 1, "batch_examples": 3}},
    "clipped and decayed": {"kind": "text", "settings": {"clip_norm": 0.02, "weight_decay": 5.0, "micro_tokens": 90}},
    "experts": {
        "kind": "text",
        "settings": {"micro_tokens": 60, "experts": {"start": "drop", "bias_rate": 0.01, "z_loss": 0.01}},
    },
    "bfloat16": {"kind": "text", "settings": {"precision": "bfloat16", "checkpoint_s": 0}},
}


def train_by_two(model: Path, trainings: list[dict[str, Any]]) -> int:
    for training in trainings:
        Path(training["folder"]).mkdir(exist_ok=True)
    made = subprocess.run([sys.executable, *TWO, str(SCRIPT), str(model), json.dumps(trainings)], timeout=400)
    return made.returncode


def report(folder: Path, processes: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    assert found["processes"] == processes
    return found


@pytest.fixture(scope="module")
def trained(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one for each case, trained by two processes, and `killed`: one that was, and then went on."""
    folder = tmp_path_factory.mktemp("two")
    killed = {"folder": str(folder / "killed"), **CASES["bfloat16"]}
    assert train_by_two(tiny_llama, [{**killed, "stop": 4}]) != 0
    assert (folder / "killed" / "checkpoint.safetensors").exists()
    assert not (folder / "killed" / "out.safetensors").exists()
    trainings = [{"folder": str(folder / name), **case} for name, case in CASES.items()]
    assert train_by_two(tiny_llama, [killed, *trainings]) == 0
    return folder


def apart(one: Path, other: Path) -> float:
    """Distance over length of all weights."""
    a, b = load_file(one / "out.safetensors"), load_file(other / "out.safetensors")
    assert a.keys() == b.keys()
    difference = sum(float((a[n].double() - b[n].double()).pow(2).sum()) for n in a)
    return float((difference / sum(float(b[n].double().pow(2).sum()) for n in b)) ** 0.5)


@pytest.mark.parametrize("case", [name for name in CASES if name != "bfloat16"])
def test_two_processes_train_as_one_does(tiny_llama: Path, tmp_path: Path, trained: Path, case: str) -> None:
    train_rows.train(tiny_llama, {"folder": str(tmp_path), **CASES[case]})
    alone, both = report(tmp_path, 1), report(trained / case, 2)
    assert both["losses"] == pytest.approx(alone["losses"], rel=1e-4)
    assert both["norms"] == pytest.approx(alone["norms"], rel=1e-3)
    for one, two in zip(alone["curve"], both["curve"], strict=True):
        assert two == pytest.approx(one, rel=1e-4)
    assert len({round(loss, 4) for loss in alone["losses"]}) > 3
    assert (both["tokens"], both["targets"]) == (alone["tokens"], alone["targets"])
    assert both["experts"] == alone["experts"]
    assert apart(trained / case, tmp_path) < 5e-4


def test_a_training_of_two_goes_on_after_a_kill(trained: Path) -> None:
    assert report(trained / "killed", 2) == report(trained / "bfloat16", 2)
    assert apart(trained / "killed", trained / "bfloat16") == 0


def test_rows_are_shared_out_whole() -> None:
    rows = list(range(11))
    shares = [Team(rank, 3).share(rows) for rank in range(3)]
    assert sorted(functools.reduce(operator.iadd, shares, [])) == rows
    assert join() == Team()
    assert Team().summed(1.5, 2) == [1.5, 2.0]
    assert torch.distributed.is_initialized() is False
