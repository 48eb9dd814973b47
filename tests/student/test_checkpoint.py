"""The checkpoint in a folder is whole, whatever happens to the next one."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch

from aasut.errors import StoreError
from aasut.student import checkpoint


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    """The disk is full at the thousandth byte of the second one."""
    first = {"a": torch.arange(10.0), "b": torch.ones(2, 3, dtype=torch.bfloat16)}
    checkpoint.save(tmp_path, first, {"step": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(StoreError, match="No space left"):
            checkpoint.save(tmp_path, {"a": torch.zeros(10_000), "b": torch.zeros(2, 3)}, {"step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    found = checkpoint.load(tmp_path)
    assert found is not None
    assert found[1] == {"step": 1}
    assert all(torch.equal(found[0][name], tensor) for name, tensor in first.items())
    checkpoint.save(tmp_path, {"a": torch.zeros(3)}, {"step": 3})
    found = checkpoint.load(tmp_path)
    assert found is not None
    assert (found[1], [path.name for path in tmp_path.iterdir()]) == ({"step": 3}, [checkpoint.NAME])
