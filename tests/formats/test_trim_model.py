from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

import reference
from aasut.errors import ModelError
from aasut.export import roundtrip
from aasut.formats import gguf_read, gguf_write, safetensors, trim_model
from aasut.formats.template import PLAIN
from aasut.formats.token_bytes import vocabulary_bytes
from aasut.formats.tokenizer import Tokenizer
from tiny_llama import make_llama

WANTED = ["the battery is great", "नमस्ते"]
TEXTS = ["the remote is great", "नमस्ते दुनिया 👩\u200d👩\u200d👧", "x = {'a': 1}\x00\n", "the battery is great, नमस्ते"]


def trimmed(source: Path, folder: Path, texts: list[str] | None = None) -> tuple[Path, list[int]]:
    shutil.copytree(source, folder)
    tokenizer = Tokenizer.load(source)
    wanted = {number for text in (WANTED if texts is None else texts) for number in tokenizer.encode(text)}
    return folder, trim_model.rewrite(folder, wanted)


def plain(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.parametrize("tied", [True, False])
def test_rows_are_those_of_the_kept_tokens_and_all_else_is_as_it_was(tmp_path: Path, tied: bool) -> None:
    source = make_llama(tmp_path / "source", tied=tied)
    folder, kept = trimmed(source, tmp_path / "small")
    before, after = safetensors.load(source), safetensors.load(folder)
    assert before.keys() == after.keys()
    for name, weight in after.items():
        rows = name in ("model.embed_tokens.weight", "lm_head.weight")
        assert torch.equal(weight, before[name][kept] if rows else before[name]), name
    assert ("lm_head.weight" in after) is not tied
    model = reference.load(folder)
    assert model.config.vocab_size == len(kept) == Tokenizer.load(folder).size < 300
    same = model.get_input_embeddings().weight.data_ptr() == model.get_output_embeddings().weight.data_ptr()
    assert same is tied


def test_logits_are_those_of_the_kept_tokens(tmp_path: Path) -> None:
    source = make_llama(tmp_path / "source")
    folder, kept = trimmed(source, tmp_path / "small")
    text = "the battery is great नमस्ते"
    with torch.inference_mode():
        old = reference.load(source)(torch.tensor([Tokenizer.load(source).encode(text)])).logits
        new = reference.load(folder)(torch.tensor([Tokenizer.load(folder).encode(text)])).logits
    assert torch.allclose(new, old[..., kept], atol=1e-4)


def test_special_tokens_and_settings_have_the_new_numbers(tmp_path: Path) -> None:
    source = make_llama(tmp_path / "source", add_bos=True)
    end = Tokenizer.load(source).token_id("<tag>")
    config = plain(source / "config.json") | {"eos_token_id": [1, end], "pad_token_id": end}
    (source / "config.json").write_text(json.dumps(config | {"nested": {"image_token_id": end, "layers": end}}))
    generation = {"eos_token_id": end, "suppress_tokens": [end, 1], "forced_bos_token_id": 5000, "top_k": end}
    (source / "generation_config.json").write_text(json.dumps(generation))
    (source / "added_tokens.json").write_text(json.dumps({"<tag>": end}))
    (source / "vocab.json").write_text("{}")
    named = plain(source / "tokenizer_config.json") | {
        "added_tokens_decoder": {"1": {"content": "<|end|>"}, str(end): {"content": "<tag>"}}
    }
    (source / "tokenizer_config.json").write_text(json.dumps(named))
    folder, kept = trimmed(source, tmp_path / "small", [])
    new = kept.index(end)
    assert new < end
    found = plain(folder / "config.json")
    assert (found["eos_token_id"], found["pad_token_id"], found["bos_token_id"]) == ([1, new], new, 0)
    assert found["nested"] == {"image_token_id": new, "layers": end}
    assert found["vocab_size"] == len(kept)
    assert plain(folder / "generation_config.json") == {
        "eos_token_id": new, "suppress_tokens": [new, 1], "forced_bos_token_id": None, "top_k": end,
    }  # fmt: skip
    assert plain(folder / "added_tokens.json") == {"<tag>": new}
    assert set(plain(folder / "tokenizer_config.json")["added_tokens_decoder"]) == {"1", str(new)}
    assert not (folder / "vocab.json").exists()
    full, small = Tokenizer.load(source), Tokenizer.load(folder)
    assert (small.bos_id, small.eos_id, small.add_bos) == (full.bos_id, full.eos_id, True)
    assert small.end_ids == {kept.index(old) for old in full.end_ids}
    assert AutoTokenizer.from_pretrained(folder)("the tag").input_ids == [0, *small.encode("the tag")]


def test_a_token_that_settings_name_stays(tmp_path: Path) -> None:
    source = make_llama(tmp_path / "source")
    word = Tokenizer.load(source).encode(" battery")[0]
    settings = plain(source / "generation_config.json") | {"pad_token_id": word}
    (source / "generation_config.json").write_text(json.dumps(settings))
    assert word in trim_model.named(source)
    folder, kept = trimmed(source, tmp_path / "small", [])
    assert plain(folder / "generation_config.json")["pad_token_id"] == kept.index(word)


def test_shards_become_one_file(tmp_path: Path) -> None:
    source = make_llama(tmp_path / "source")
    weights = safetensors.load(source)
    names = sorted(weights)
    (source / "model.safetensors").unlink()
    for part, some in (("a", names[:3]), ("b", names[3:])):
        safetensors.save({name: weights[name] for name in some}, source / f"model-{part}.safetensors")
    index = {name: f"model-{'a' if name in names[:3] else 'b'}.safetensors" for name in names}
    (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    folder, _ = trimmed(source, tmp_path / "small")
    assert [path.name for path in folder.glob("*.safetensors*")] == ["model.safetensors"]
    assert safetensors.load(folder).keys() == weights.keys()


def test_a_model_without_embeddings_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    source = make_llama(tmp_path / "source")
    weights = safetensors.load(source)
    for kept in (slice(0, 0), slice(0, 200)):
        rows = {"model.embed_tokens.weight": weights["model.embed_tokens.weight"][kept]} if kept.stop else {}
        others = {name: weight for name, weight in weights.items() if "embed" not in name}
        safetensors.save(others | rows, source / "model.safetensors")
        before = {path.name: path.read_bytes() for path in source.iterdir()}
        with pytest.raises(ModelError, match="no embeddings" if not kept.stop else "200 rows of embeddings"):
            trim_model.rewrite(source, Tokenizer.load(source).encode("the battery"))
        assert {path.name: path.read_bytes() for path in source.iterdir()} == before


def test_trimming_a_trimmed_model_changes_no_byte(tmp_path: Path) -> None:
    folder, kept = trimmed(make_llama(tmp_path / "source"), tmp_path / "small")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert trim_model.rewrite(folder, range(len(kept))) == list(range(len(kept)))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_gguf_has_the_same_tokens_weights_and_answers(tmp_path: Path) -> None:
    folder, _ = trimmed(make_llama(tmp_path / "source"), tmp_path / "small")
    (folder / "chat_template.jinja").write_text(PLAIN)
    file = tmp_path / "small.gguf"
    gguf_write.write(folder, file, "bf16")
    found = roundtrip.prove(folder, folder, file, TEXTS, [" great", " नमस्ते"])
    assert found["answered"] == len(TEXTS)
    own, other, draw = Tokenizer.load(folder), Tokenizer.from_gguf(gguf_read.read(file)), random.Random(1)
    for _ in range(300):
        text = "".join(draw.choice([*"the बatry नमस्ते\n\x00", chr(draw.randrange(0xE000, 0x110000))]) for _ in range(30))
        assert own.encode(text) == other.encode(text)
        assert own.decode(own.encode(text)) == text
    assert (other.bos_id, other.eos_id, other.size) == (own.bos_id, own.eos_id, own.size)


def test_a_tokens_bytes_are_still_known(tmp_path: Path) -> None:
    """What a server needs for the log-probabilities of parts of letters."""
    source = make_llama(tmp_path / "source")
    folder, kept = trimmed(source, tmp_path / "small")
    small, full = vocabulary_bytes(Tokenizer.load(folder)), vocabulary_bytes(Tokenizer.load(source))
    assert small == {kept.index(old): said for old, said in full.items() if old in kept}
    tokenizer = Tokenizer.load(folder)
    for text in TEXTS:
        assert b"".join(small[number] for number in tokenizer.encode(text)) == text.encode()
