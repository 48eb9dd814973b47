"""Models for the tests of formats."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiny_llama import make_llama


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("tiny"))
