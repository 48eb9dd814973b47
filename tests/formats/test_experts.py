"""Experts' weights have one name in files, another in memory, and are stacked in GGUF: nothing is lost between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from aasut.engine.torch import load_model
from aasut.errors import ModelError
from aasut.export import roundtrip
from aasut.formats import experts, gguf, gguf_read, gguf_write, safetensors
from aasut.formats.tokenizer import read_json
from aasut.recipe import Experts
from aasut.student.initialize import copy_model
from aasut.student.upcycle import upcycle


def made(source: Path, folder: Path, **wanted: Any) -> Path:
    copy_model(source, folder)
    upcycle(folder, Experts.model_validate({"start": "drop", "count": 3} | wanted), seed=1)
    return folder


@pytest.mark.parametrize("shared", [False, True])
def test_what_a_model_has_in_memory_goes_back_by_the_names_of_files(
    tiny_llama: Path, tmp_path: Path, shared: bool
) -> None:
    folder = made(tiny_llama, tmp_path / "model", shared=shared)
    model = load_model(folder, torch.float32)
    found = experts.unstacked(model.state_dict(), type(model).__name__)
    wanted = safetensors.load(folder)
    assert found.keys() - {"lm_head.weight"} == wanted.keys() - {"lm_head.weight"}
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor.float()), name


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("kind", ["f32", "bf16", "q8_0"])
def test_gguf_gives_the_same_model_back(tiny_llama: Path, tmp_path: Path, shared: bool, kind: Any) -> None:
    folder, file = made(tiny_llama, tmp_path / "model", shared=shared), tmp_path / "model.gguf"
    gguf_write.write(folder, file, kind)
    read = gguf_read.read(file)
    assert read.architecture == ("qwen2moe" if shared else "llama")
    assert (read.get("expert_count"), read.get("expert_used_count")) == (3, 2)
    config = read_json(folder / "config.json")
    shape = (3, config["intermediate_size"], config["hidden_size"])
    assert read.tensors["blk.0.ffn_gate_exps.weight"].shape == shape
    assert read.tensors["blk.0.ffn_gate_inp.weight"].type.name == "F32"
    gguf.to_folder(file, tmp_path / "back")
    back = read_json(tmp_path / "back" / "config.json")
    for key in ("architectures", "num_experts_per_tok", "intermediate_size", "tie_word_embeddings"):
        assert back[key] == config[key]
    if kind != "q8_0":
        roundtrip.same_weights(folder, tmp_path / "back")
    assert load_model(tmp_path / "back", torch.float32).config.num_experts_per_tok == 2


def test_stacked_and_parted_are_inverse(tiny_llama: Path, tmp_path: Path) -> None:
    tensors = safetensors.load(made(tiny_llama, tmp_path / "model"))
    stacked = experts.stacked(tensors, experts.MIXTRAL)
    assert stacked[experts.MIXTRAL.stack(1, "down_proj")].shape[0] == 3
    back = experts.parted(stacked, experts.MIXTRAL)
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)


def test_a_dense_model_stays_as_it_is(tiny_llama: Path) -> None:
    tensors = safetensors.load(tiny_llama)
    assert experts.stacked(tensors, experts.of("LlamaForCausalLM")) == tensors
    assert experts.unstacked(tensors, "LlamaForCausalLM").keys() == tensors.keys()


def test_a_qwen2_moe_that_readers_of_gguf_would_read_otherwise_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    folder = made(tiny_llama, tmp_path / "model", shared=True)
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"norm_topk_prob": false', '"norm_topk_prob": true'))
    with pytest.raises(ModelError, match="not brought to a sum of 1"):
        gguf_write.write(folder, tmp_path / "model.gguf", "bf16")
