from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import train_rows
from safetensors.torch import load_file

from aasut.errors import ModelError
from aasut.formats.tokenizer import Tokenizer
from aasut.progress import Progress
from aasut.recipe import ModelAddress, Student
from aasut.student import launch
from aasut.student.fit import Fit
from aasut.student.losses import cross_entropy
from aasut.student.objective import Text
from aasut.student.teaching import Right

QUIET = Progress(quiet=True)


def fit(model: Path, **changes: object) -> Fit:
    plain = {"epochs": 1, "batch_examples": 7, "checks": 2, "learning_rate": 1e-3, "precision": "float32"}
    settings = Student.model_validate({"model": ModelAddress(address="file:model"), **plain, **changes})
    rows = train_rows.rows_of("text", Tokenizer.load(model), 26)
    return Fit(model, settings, 5, Text(cross_entropy, Right()), rows[6:], rows[:6])


def test_two_processes_leave_the_weights_of_one(tiny_llama: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    alone = fit(tiny_llama).run(tmp_path / "one", QUIET)
    both = launch.run(fit(tiny_llama, processes=2), tmp_path / "two", QUIET)
    assert both.losses == pytest.approx(alone.losses, rel=1e-4)
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["model.safetensors"]
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name].float(), tensor.float(), rtol=0.01, atol=1e-3)


def test_what_a_process_cannot_do_is_one_clear_line(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is no number.*steps were spoilt") as caught:
        launch.run(fit(tiny_llama, processes=2, learning_rate=1e30, most_spikes=0), tmp_path, QUIET)
    assert "Lower student.learning_rate" in caught.value.remedy


@dataclass(frozen=True)
class Unended:
    """Work that leaves threads behind which still compute, as those of PyTorch's process groups may."""

    settings: Student

    def run(self, folder: Path, progress: Progress) -> str:
        for _ in range(4):
            threading.Thread(target=_compute, daemon=True).start()
        time.sleep(0.5)
        return "done"


def _compute() -> None:
    one = torch.ones(100)
    while True:
        one.add(one)


def test_work_that_is_done_is_not_lost_to_threads_that_are_not(tmp_path: Path) -> None:
    """Such a thread aborts the process if Python ends beneath it."""
    settings = Student(model=ModelAddress(address="file:model"), processes=2)
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    assert launch.run(Unended(settings), tmp_path, QUIET, {"PYTHONPATH": path}) == "done"


def test_no_process_outlives_a_killed_launcher(tiny_llama: Path, tmp_path: Path) -> None:
    """The launcher dies by a signal that nothing can catch, in the middle of a long training."""
    code = (
        "import sys; from pathlib import Path; from test_launch import fit, QUIET, launch\n"
        f"launch.run(fit(Path({str(tiny_llama)!r}), processes=2, epochs=100000, checks=1), Path(sys.argv[1]), QUIET)"
    )
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env={**os.environ, "PYTHONPATH": path})
    end = time.monotonic() + 180
    while len(_of(tmp_path, "aasut.student.launch")) < 3 and time.monotonic() < end:  # torchrun and two processes
        time.sleep(0.2)
    assert len(_of(tmp_path, "aasut.student.launch")) == 3
    process.send_signal(signal.SIGKILL)
    process.wait()
    while _of(tmp_path, "aasut.student.launch") and time.monotonic() < end:
        time.sleep(0.2)
    assert _of(tmp_path, "aasut.student.launch") == []


def _of(folder: Path, module: str) -> list[str]:
    """Ids of running processes that have both in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace")
        except OSError:
            continue  # gone meanwhile
        if module in words and str(folder) in words:
            found.append(path.parent.name)
    return found
