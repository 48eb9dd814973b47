"""Memory that runs out: how it is told from other faults, what follows, and how less of it is needed."""

from __future__ import annotations

import ctypes
import gc
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

# Of glibc's malloc.h, with what they are set to while memory is kept, and by default.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
KEEP = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1))
DEFAULTS = ((M_MMAP_MAX, 65536), (M_TRIM_THRESHOLD, 2**17))
SAYS = ("can't allocate memory", "out of memory", "bad_alloc", "bad allocation")


def exhausted(error: BaseException) -> bool:
    """Is this fault a lack of memory? PyTorch has a class of its own for it on CUDA, and on a CPU only words."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in SAYS)


def free() -> None:
    """Give back what is no longer used."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def kept() -> Iterator[None]:
    """Let glibc keep freed memory for the next tensor: a training asks for the same sizes again in every step.

    By default large blocks go back to the kernel, and each comes back as page faults.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    for option, value in KEEP:
        libc.mallopt(option, value)
    try:
        yield
    finally:
        for option, value in DEFAULTS:
            libc.mallopt(option, value)
        libc.malloc_trim(0)


def checkpoint_activations(model: Any) -> None:
    """Let each layer keep its input alone. transformers 5.23 has a new name for it, and warns of the old one."""
    how = {"use_reentrant": False}
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=how)
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=how)
