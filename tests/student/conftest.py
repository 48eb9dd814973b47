"""A model that tests of a student's start share."""

from __future__ import annotations

from pathlib import Path

import deep_llama
import pytest


@pytest.fixture(scope="session")
def deep(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of six layers, with what else lies in a model's folder."""
    folder = deep_llama.llama(tmp_path_factory.mktemp("deep"), tiny_llama)
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    (folder / "source.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    return folder
