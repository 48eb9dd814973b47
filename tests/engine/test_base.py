from __future__ import annotations

import json
from pathlib import Path
from typing import get_type_hints

import gguf
import numpy as np
import pytest

from aasut.engine import base
from aasut.errors import EngineError
from aasut.student import linear


@pytest.fixture(scope="session")
def linear_student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("linear")
    texts = ["good phone", "bad phone", "good case", "bad case"] * 3
    linear.fit(texts, np.tile([[0.1, 0.9], [0.9, 0.1]], (6, 1)), [0, 1], ["negative", "positive"], folder)
    return folder


@pytest.fixture(scope="session")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scripted") / "rules.json"
    path.write_text(json.dumps({"good": "positive"}))
    return path


def gguf_of(path: Path, architecture: str) -> Path:
    """A GGUF file that says its architecture, and holds nothing."""
    file = gguf.GGUFWriter(path, architecture)
    file.add_context_length(8)
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()
    return path


def test_an_unknown_engine_is_refused_with_the_known_ones(tiny_llama: Path) -> None:
    with pytest.raises(EngineError, match="vllama") as error:
        base.load("vllama", tiny_llama)
    assert error.value.remedy == "Choose one of: auto, linear, openvino, scripted, torch, vllm."


def test_auto_takes_torch_for_a_folder(tiny_llama: Path) -> None:
    assert base.load("auto", tiny_llama, precision="float32").name == "torch-float32"


def test_auto_takes_linear_for_a_linear_student(linear_student: Path) -> None:
    assert base.load("auto", linear_student).name == "linear-float32"


@pytest.mark.parametrize(("architecture", "read"), [("llama", True), ("qwen3", True), ("gemma3", False)])
def test_auto_takes_openvino_for_the_gguf_files_that_it_reads(tmp_path: Path, architecture: str, *, read: bool) -> None:
    from aasut.engine import openvino

    assert openvino.reads(gguf_of(tmp_path / "model.gguf", architecture)) is read
    assert not openvino.reads(tmp_path)


def test_every_engine_has_what_the_seam_names(tiny_llama: Path, linear_student: Path, rules: Path) -> None:
    wanted = {*get_type_hints(base.Engine), "score", "generate", "count_tokens", "close"}
    assert len(wanted) == 9
    for name, path in (("torch", tiny_llama), ("linear", linear_student), ("scripted", rules)):
        engine = base.load(name, path)
        assert not [part for part in wanted if not hasattr(engine, part)], name
        found = engine.score(["good phone"], ["positive", "negative"])
        assert np.exp(found.logprobs).sum() == pytest.approx(1)
        engine.close()


def test_every_named_engine_can_be_imported() -> None:
    """Names and their modules: a wrong one would show only when a user asks for it."""
    for name in base.engines():
        with pytest.raises(Exception) as error:
            base.load(name, Path("/nonexistent"))
        assert not isinstance(error.value, ImportError | AttributeError), name
