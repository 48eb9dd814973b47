from __future__ import annotations

import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from aasut.student import memory

MB = 1 << 20


def faults() -> int:
    """Page faults of writing into new memory again and again; 8,192 a time where it comes from the kernel."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(8 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def left(mb: int) -> float:
    """MB that stay with this process after a tensor of so many is gone."""
    before = _resident()
    torch.ones(mb * MB // 4)
    return _resident() - before


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / MB


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_a_lack_of_memory_is_told_from_other_faults(error: Exception, expected: bool) -> None:
    assert memory.exhausted(error) is expected


def test_memory_is_kept_for_the_next_tensor_and_given_back_after() -> None:
    """In a process of its own: what other tests left free in this one would be taken first."""
    ended = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def keep_and_give_back() -> None:
    assert platform.libc_ver()[0] == "glibc"  # where it is not, nothing is kept
    with memory.kept():
        faults()
        assert faults() < 4_000
        assert left(512) > 300  # what was free before may be part of it
        held = _resident()
    assert held - _resident() > 300
    assert left(768) < 100


if __name__ == "__main__":
    keep_and_give_back()
