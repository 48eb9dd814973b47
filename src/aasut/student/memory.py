"""Memory that runs out: how it is told from other faults, and what follows."""

from __future__ import annotations

import gc

import torch

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
