from __future__ import annotations

import platform
import resource

import pytest
import torch

from aasut.student import memory


def faults() -> int:
    """Page faults of writing into new memory again and again."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(8 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


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
    assert platform.libc_ver()[0] == "glibc"  # where it is not, nothing is kept
    usual = faults()
    with memory.kept():
        faults()
        kept = faults()
    assert kept < usual / 4
    assert faults() > usual / 3
