"""The kernels equal their reference, run by Triton's interpreter in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from aasut.student import fused, triton_loss
from loss_formulas import NAMES

CASES = [f"{name} {columns}" for name in NAMES for columns in (5, 256, 701)]
WHOLE = ["ids", "sparse", "rest", "fused"]


@pytest.fixture(scope="module")
def found() -> dict[str, list[float]]:
    script = Path(__file__).with_name("triton_cases.py")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.mark.parametrize("case", CASES + WHOLE)
def test_a_kernel_equals_its_reference(found: dict[str, list[float]], case: str) -> None:
    loss, gradient, largest = found[case]
    assert largest > 0.005
    assert loss < 1e-6
    assert gradient < 5e-7


@pytest.mark.parametrize("name", [name for name in NAMES if name != "cross_entropy"])
def test_a_distribution_against_itself_is_exactly_zero(found: dict[str, list[float]], name: str) -> None:
    assert found[f"{name} alike"][:2] == [0, 0]


def test_nothing_else_was_compared(found: dict[str, list[float]]) -> None:
    alike = [f"{name} alike" for name in NAMES if name != "cross_entropy"]
    assert sorted(found) == sorted(CASES + WHOLE + alike)


@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_compiles_for_a_gpu(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The interpreter runs what the compiler refuses."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    strides = dict.fromkeys(("columns", "student_stride", "teacher_stride"), "i32")
    pointers = dict.fromkeys(("student", "teacher", "losses"), "*fp32")
    compiled(triton_loss._dense_kernel, pointers | strides | {"weight": "fp32", "floor": "fp32"}, name=name)


def test_the_softmax_kernel_compiles_for_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    pointers = dict.fromkeys(("logits", "scales", "tops", "masses"), "*fp32")
    compiled(triton_loss._softmax_kernel, pointers | {"columns": "i32", "stride": "i32"})


def compiled(kernel: Any, signature: dict[str, str], **constants: str) -> None:
    """For compute capability 9.0, with the launch's own options."""
    fixed = constants | {"lanes": triton_loss.LANES}
    source = ASTSource(kernel, signature | dict.fromkeys(fixed, "constexpr"), fixed)
    assert triton.compile(source, target=GPUTarget("cuda", 90, 32), options=triton_loss.OPTIONS).asm["cubin"]


def test_a_gpu_gets_the_kernels() -> None:
    assert fused._kernels(torch.device("cuda")).__name__ == "aasut.student.triton_loss"
    assert fused._kernels(torch.device("cpu")).__name__ == "aasut.student.divergences"
