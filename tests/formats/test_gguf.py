"""GGUF files: exact round trips, independent readers, damaged files."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import gguf as reference
import numpy as np
import openvino_genai
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from aasut.errors import ModelError
from aasut.export import roundtrip
from aasut.formats import gguf, safetensors, tokenizer_gguf
from aasut.formats.gguf_write import deinterleave, interleave
from aasut.formats.tokenizer import Tokenizer
from tiny_gemma import spm
from tiny_llama import TEXTS, make_llama

NASTY = ["a<|end|>b", "नमस्ते 👩‍👩‍👧 2024", "\x00\x7f\r\n  x\t1234", "<tag><|begin|>", "", " lead", "é é"]


def logits(folder: Path, ids: list[int]) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits


@pytest.mark.parametrize(("tied", "add_bos"), [(True, False), (False, True)])
def test_round_trip_is_exact(tied: bool, add_bos: bool, tmp_path: Path) -> None:
    folder = make_llama(tmp_path / "hf", tied=tied, add_bos=add_bos)
    gguf.write(folder, tmp_path / "one.gguf", "bf16", licence="mit")
    gguf.to_folder(tmp_path / "one.gguf", tmp_path / "back")
    gguf.write(tmp_path / "back", tmp_path / "two.gguf", "bf16")
    gguf.to_folder(tmp_path / "two.gguf", tmp_path / "again")
    before = safetensors.load(folder)
    for other in ("back", "again"):
        after = safetensors.load(tmp_path / other)
        assert set(after) == set(before)
        assert all(a.dtype == torch.bfloat16 and torch.equal(a, before[name]) for name, a in after.items())
        assert torch.equal(logits(tmp_path / other, [5, 9, 30, 7]), logits(folder, [5, 9, 30, 7]))
        ours, theirs = Tokenizer.load(tmp_path / other), Tokenizer.load(folder)
        assert ours.encode_all(TEXTS + NASTY) == theirs.encode_all(TEXTS + NASTY)
        assert (
            (ours.bos_id, ours.eos_id, ours.add_bos)
            == (theirs.bos_id, theirs.eos_id, theirs.add_bos)
            == (0, 1, add_bos)
        )
    template = (tmp_path / "again" / "chat_template.jinja").read_bytes()
    assert template == (folder / "chat_template.jinja").read_bytes()
    assert gguf.read(tmp_path / "one.gguf").parameters == safetensors.parameters(folder)


def test_the_same_files_give_the_same_bytes(tiny_llama: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_llama, tmp_path / "elsewhere")
    for name, folder in (("a", tiny_llama), ("b", tmp_path / "elsewhere")):
        gguf.write(folder, tmp_path / name, "q8_0", licence="mit")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_reference_reader_agrees(tiny_llama: Path, tmp_path: Path) -> None:
    """What the gguf package reads is what we read, and what llama.cpp wants is there."""
    gguf.write(tiny_llama, tmp_path / "m.gguf", "q8_0", licence="mit")
    ours, theirs = gguf.read(tmp_path / "m.gguf"), reference.GGUFReader(tmp_path / "m.gguf")
    given = {k: f.contents() for k, f in theirs.fields.items() if not k.startswith("GGUF.")}
    assert ours.metadata == given
    assert {t.name for t in theirs.tensors} == set(ours.tensors)
    for tensor in theirs.tensors:
        expected = reference.quants.dequantize(tensor.data, tensor.tensor_type)
        assert np.array_equal(ours.load(tensor.name), expected)
    wanted = {"general.license": "mit", "general.file_type": 7, "llama.rope.freq_base": 50000.0, "llama.block_count": 2,
              "llama.attention.head_count_kv": 2, "llama.rope.dimension_count": 16, "tokenizer.ggml.pre": "smollm",
              "tokenizer.ggml.eos_token_id": 1, "tokenizer.ggml.add_bos_token": False}  # fmt: skip
    assert {key: given[key] for key in wanted} == wanted
    kinds = given["tokenizer.ggml.token_type"]
    assert [kinds[i] for i in (0, 1, 2, -4, -1)] == [3, 3, 1, 4, 5]
    assert {t.tensor_type.name for t in theirs.tensors if len(t.shape) == 1} == {"F32"}


def test_interleave_turns_halves_into_neighbours() -> None:
    rows = np.arange(8, dtype=np.float32)[:, None]  # two heads of size 4
    assert interleave(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert np.array_equal(deinterleave(interleave(rows, 2), 2), rows)


def test_recode_keeps_metadata_and_values(tiny_llama: Path, tmp_path: Path) -> None:
    gguf.write(tiny_llama, tmp_path / "m.gguf", "bf16")
    assert gguf.is_bf16(tmp_path / "m.gguf")
    gguf.recode(tmp_path / "m.gguf", tmp_path / "f16.gguf", "f16")
    before, after = gguf.read(tmp_path / "m.gguf"), gguf.read(tmp_path / "f16.gguf")
    assert not gguf.is_bf16(tmp_path / "f16.gguf")
    kept = lambda data: {k: v for k, v in data.metadata.items() if k != "general.file_type"}  # noqa: E731
    assert kept(before) == kept(after)
    assert (before.metadata["general.file_type"], after.metadata["general.file_type"]) == (32, 1)
    assert {k: before.types[k] for k in before.types} == {k: after.types[k] for k in before.types}
    for name in before.tensors:
        assert np.array_equal(after.load(name), before.load(name).astype(np.float16).astype(np.float32))


def test_weights_beyond_float16_are_refused(tiny_llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    for path in tiny_llama.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    weights = safetensors.load(folder)
    weights["model.layers.0.mlp.up_proj.weight"][0, 0] = 1e6
    safetensors.save(weights, folder / "model.safetensors")
    with pytest.raises(ModelError, match="float16"):
        gguf.write(folder, tmp_path / "m.gguf", "f16")
    assert not (tmp_path / "m.gguf").exists()


SMALL = {
    "vocab_size": 262, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 7, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 64,
}  # fmt: skip
GEMMA = {
    "sliding_window": 4, "query_pre_attn_scalar": 16, "tie_word_embeddings": True,
    "layer_types": ["full_attention" if i == 5 else "sliding_attention" for i in range(7)],
}  # fmt: skip


@pytest.mark.parametrize(
    ("architecture", "model_class", "config_class", "settings"),
    [
        ("gemma3", Gemma3ForCausalLM, Gemma3TextConfig, GEMMA),
        ("qwen2", Qwen2ForCausalLM, Qwen2Config, {"tie_word_embeddings": False}),
        ("qwen3", Qwen3ForCausalLM, Qwen3Config, {"tie_word_embeddings": True}),
    ],
)
def test_other_architectures_give_the_same_logits(
    architecture: str, model_class: type, config_class: type, settings: dict[str, object], tmp_path: Path
) -> None:
    """A random model, written with the names and numbers that the gguf package gives, comes back whole."""
    torch.manual_seed(2)
    model = model_class(config_class(**SMALL, **settings))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    write_with_the_reference(tmp_path / "m.gguf", architecture, model)
    gguf.to_folder(tmp_path / "m.gguf", tmp_path / "out")
    ids = [2, 9, 30, 7, 100, 200, 33, 9]
    with torch.inference_mode():
        expected = model(torch.tensor([ids])).logits
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "float32"
    torch.testing.assert_close(logits(tmp_path / "out", ids), expected, rtol=1e-4, atol=1e-4)


def write_with_the_reference(out: Path, architecture: str, model: torch.nn.Module) -> None:
    config = model.config
    file = reference.GGUFWriter(out, architecture)
    file.add_context_length(64)
    file.add_embedding_length(32)
    file.add_block_count(7)
    file.add_feed_forward_length(64)
    file.add_head_count(2)
    file.add_head_count_kv(1)
    file.add_layer_norm_rms_eps(config.rms_norm_eps)
    if architecture != "qwen2":  # where the size follows from the width, llama.cpp's converter leaves it out
        file.add_key_length(16)
        file.add_value_length(16)
    rope = config.rope_parameters
    file.add_rope_freq_base(rope.get("full_attention", rope)["rope_theta"])
    if architecture == "gemma3":
        file.add_sliding_window(4)
    file.add_tokenizer_model("llama")
    file.add_token_list(["<pad>", "<eos>", "<bos>", "<unk>", "▁", "a", *(f"<0x{i:02X}>" for i in range(256))])
    file.add_token_scores([0.0] * 262)
    file.add_token_types([3, 3, 3, 2, 1, 1] + [6] * 256)
    file.add_bos_token_id(2)
    file.add_unk_token_id(3)
    kinds = {
        "gemma3": reference.MODEL_ARCH.GEMMA3,
        "qwen2": reference.MODEL_ARCH.QWEN2,
        "qwen3": reference.MODEL_ARCH.QWEN3,
    }
    names = reference.get_tensor_name_map(kinds[architecture], 7)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        plus_one = architecture == "gemma3" and name.endswith("norm.weight")
        file.add_tensor(names.get_name(name, (".weight", ".bias")), tensor.numpy() + (1 if plus_one else 0))
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()


def gemma(folder: Path, **changed: object) -> Path:
    """A random Gemma 3 with a SentencePiece tokenizer, as a Hugging Face folder."""
    torch.manual_seed(3)
    body, settings = tokenizer_gguf.build(spm(prefix=False))
    tokens = len(body["model"]["vocab"])
    model = Gemma3ForCausalLM(Gemma3TextConfig(**SMALL | GEMMA | {"vocab_size": tokens} | changed))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(body))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def test_gemma3_is_written_and_read_as_the_same_model(tmp_path: Path) -> None:
    rope = {
        "full_attention": {"rope_type": "default", "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 5e3},
    }
    folder = gemma(tmp_path / "hf", rope_parameters=rope)
    gguf.write(folder, tmp_path / "one.gguf", "bf16")
    gguf.to_folder(tmp_path / "one.gguf", tmp_path / "back")
    roundtrip.same_weights(folder, tmp_path / "back")
    ids = [2, 9, 30, 7, 100, 200, 33, 9]
    assert torch.equal(logits(tmp_path / "back", ids), logits(folder, ids))
    ours, theirs = Tokenizer.load(tmp_path / "back"), Tokenizer.load(folder)
    texts = ["the tan in a barn", "in  the   end", "the\n\nbed\n", "é हि 👍", "<ctrl>", "an<eos>er", ""]
    assert ours.encode_all(texts) == theirs.encode_all(texts)
    assert json.loads((tmp_path / "back" / "tokenizer.json").read_text()) == json.loads(
        (folder / "tokenizer.json").read_text()
    )
    gguf.write(tmp_path / "back", tmp_path / "two.gguf", "bf16")
    assert (tmp_path / "two.gguf").read_bytes() == (tmp_path / "one.gguf").read_bytes()


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"layer_types": ["full_attention"] * 7}, "layer_types"),
        ({"query_pre_attn_scalar": 8}, "query_pre_attn_scalar"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
    ],
)
def test_a_gemma3_that_gguf_has_no_words_for_is_refused(changed: dict[str, object], named: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=named):
        gguf.write(gemma(tmp_path / "hf", **changed), tmp_path / "one.gguf", "bf16")
    assert not (tmp_path / "one.gguf").exists()


class TestDamage:
    @pytest.mark.parametrize("keep", [0, 3, 4, 20, 100, 2000, -1])
    def test_a_truncated_file_is_one_line(self, keep: int, tiny_llama: Path, tmp_path: Path) -> None:
        gguf.write(tiny_llama, tmp_path / "m.gguf", "bf16")
        cut = tmp_path / "cut.gguf"
        cut.write_bytes((tmp_path / "m.gguf").read_bytes()[:keep])
        with pytest.raises(ModelError, match="no whole GGUF file") as caught:
            gguf.to_folder(cut, tmp_path / "out")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists()

    def test_lying_numbers_are_refused(self, tiny_llama: Path, tmp_path: Path) -> None:
        gguf.write(tiny_llama, tmp_path / "m.gguf", "bf16")
        data = bytearray((tmp_path / "m.gguf").read_bytes())
        for place, number in ((4, 99), (8, 2**60), (16, 2**60), (24, 2**62)):
            broken = bytearray(data)
            width = "<I" if place == 4 else "<Q"
            struct.pack_into(width, broken, place, number)
            (tmp_path / "broken.gguf").write_bytes(broken)
            with pytest.raises(ModelError, match="no whole GGUF file"):
                gguf.read(tmp_path / "broken.gguf")

    def test_missing_and_unknown(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="There is no file"):
            gguf.read(tmp_path / "nowhere.gguf")
        with pytest.raises(ModelError, match="is a folder"):
            gguf.read(tmp_path)
        file = reference.GGUFWriter(tmp_path / "mamba.gguf", "mamba")
        file.write_header_to_file()
        file.write_kv_data_to_file()
        file.write_tensors_to_file()
        file.close()
        with pytest.raises(ModelError, match="'mamba', which is not known"):
            gguf.to_folder(tmp_path / "mamba.gguf", tmp_path / "out")

    def test_a_tensor_without_a_place_is_not_dropped(self, tiny_llama: Path, tmp_path: Path) -> None:
        gguf.write(tiny_llama, tmp_path / "m.gguf", "bf16")
        data = (tmp_path / "m.gguf").read_bytes()
        (tmp_path / "m.gguf").write_bytes(data.replace(b"blk.1.ffn_up.weight", b"blk.1.ffn_ap.weight"))
        with pytest.raises(ModelError, match=r"blk\.1\.ffn_ap\.weight"):
            gguf.to_folder(tmp_path / "m.gguf", tmp_path / "out")

    def test_architectures_without_a_writer_are_named(self, tiny_llama: Path, tmp_path: Path) -> None:
        folder = tmp_path / "qwen"
        folder.mkdir()
        for path in tiny_llama.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        config = json.loads((folder / "config.json").read_text()) | {"architectures": ["Qwen3ForCausalLM"]}
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(ModelError, match=r"Qwen3ForCausalLM.*LlamaForCausalLM"):
            gguf.write(folder, tmp_path / "m.gguf", "bf16")


@pytest.mark.parametrize("kind", ["f16", "q8_0"])
def test_openvino_reads_what_we_write_of_smollm2(kind: gguf.Kind, smollm2: Path, tmp_path: Path) -> None:
    gguf.write(smollm2, tmp_path / "m.gguf", kind)
    pipeline = openvino_genai.LLMPipeline(str(tmp_path / "m.gguf"), "CPU")
    answer = pipeline.generate("The capital of France is", max_new_tokens=3, do_sample=False, apply_chat_template=False)
    assert str(answer).startswith(" Paris")
    ours, theirs = Tokenizer.from_gguf(gguf.read(tmp_path / "m.gguf")), pipeline.get_tokenizer()
    for text in ("Review: it cost 1234 $\nSentiment:", "हिन्दी  x\r\n  foo", "don't I'LL 👩‍👧 ½"):
        given = theirs.encode(text, add_special_tokens=False).input_ids.data.tolist()[0]
        assert ours.encode(text) == Tokenizer.load(smollm2).encode(text) == given
