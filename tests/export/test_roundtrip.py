"""Every difference between two written forms that could change an answer is planted, and must be caught."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch

from aasut.errors import RoundTripError
from aasut.export import roundtrip
from aasut.formats import gguf_write, safetensors
from aasut.formats.template import PLAIN

PROMPTS = ["Review: the battery is great\nSentiment:", "Review: it broke <|end|> 🐈\nSentiment:"]
ANSWERS = [" negative", " positive"]


@pytest.fixture
def forms(tiny_llama: Path, tmp_path: Path) -> tuple[Path, Path, Path]:
    """What training had, the safetensors folder and the GGUF file."""
    folder = tmp_path / "student"
    shutil.copytree(tiny_llama, folder)
    (folder / "chat_template.jinja").write_text(PLAIN)
    file = tmp_path / "student.gguf"
    gguf_write.write(folder, file, "bf16")
    return tiny_llama, folder, file


def changed_weight(folder: Path) -> None:
    """The last bit of one number."""
    weights = safetensors.load(folder)
    weights["model.layers.1.mlp.up_proj.weight"].view(torch.int16)[3, 5] ^= 1
    safetensors.save(weights, folder / "model.safetensors")


def added_weight(folder: Path) -> None:
    weights = safetensors.load(folder)
    weights["model.layers.2.mlp.up_proj.weight"] = weights["model.layers.1.mlp.up_proj.weight"].clone()
    safetensors.save(weights, folder / "model.safetensors")


def changed_body(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    body = json.loads((folder / "tokenizer.json").read_text())
    change(body)
    (folder / "tokenizer.json").write_text(json.dumps(body))


def fewer_merges(folder: Path) -> None:
    def change(body: dict[str, Any]) -> None:
        body["model"]["merges"] = body["model"]["merges"][:5]

    changed_body(folder, change)


def swapped_tokens(folder: Path) -> None:
    def change(body: dict[str, Any]) -> None:
        vocabulary = body["model"]["vocab"]
        vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]

    changed_body(folder, change)


def begin_token(folder: Path) -> None:
    inner = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", 0)]
    )
    inner.save(str(folder / "tokenizer.json"))


def trimming_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}\n<|end|>")


CHANGES = {
    "a weight": (changed_weight, r"The weight model\.layers\.1\.mlp\.up_proj\.weight differs"),
    "merges": (fewer_merges, "different tokens"),
    "token ids": (swapped_tokens, "different tokens"),
    "a begin token": (begin_token, "different tokens"),
    "the chat template": (trimming_template, "chat template in"),
}


def test_forms_of_one_model_pass(forms: tuple[Path, Path, Path]) -> None:
    told = roundtrip.prove(*forms, PROMPTS, ANSWERS)
    assert told == {
        "prompts": 2,
        "answered": 2,
        "tokens_equal": True,
        "weights_equal": True,
        "greedy_answers_equal": True,
    }


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES.keys())
def test_a_change_in_the_safetensors_folder_is_caught(
    forms: tuple[Path, Path, Path], change: Callable[[Path], None], message: str
) -> None:
    start, folder, file = forms
    change(folder)
    with pytest.raises(RoundTripError, match=message):
        roundtrip.prove(start, folder, file, PROMPTS, ANSWERS)


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES.keys())
def test_a_change_in_the_gguf_file_is_caught(
    forms: tuple[Path, Path, Path], tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    start, folder, _ = forms
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    change(other)
    gguf_write.write(other, tmp_path / "other.gguf", "bf16")
    with pytest.raises(RoundTripError, match=message):
        roundtrip.prove(start, folder, tmp_path / "other.gguf", PROMPTS, ANSWERS)


@pytest.mark.parametrize("change", [fewer_merges, begin_token])
def test_a_tokenizer_that_training_did_not_have_is_caught(
    forms: tuple[Path, Path, Path], tmp_path: Path, change: Callable[[Path], None]
) -> None:
    start, folder, file = forms
    shutil.copytree(start, tmp_path / "start")
    change(tmp_path / "start")
    with pytest.raises(RoundTripError, match="different tokens"):
        roundtrip.prove(tmp_path / "start", folder, file, PROMPTS, ANSWERS)


def test_weights_are_compared_by_name_too(tiny_llama: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_llama, tmp_path / "more")
    added_weight(tmp_path / "more")
    roundtrip.same_weights(tiny_llama, tiny_llama)
    for pair in ((tiny_llama, tmp_path / "more"), (tmp_path / "more", tiny_llama)):
        with pytest.raises(RoundTripError, match=r"lacks model\.layers\.2\.mlp\.up_proj\.weight"):
            roundtrip.same_weights(*pair)


def test_other_settings_of_the_model_are_caught(forms: tuple[Path, Path, Path]) -> None:
    """Equal weights under another rope or norm are another model: only answers tell."""
    start, folder, file = forms
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.5}))
    with pytest.raises(RoundTripError, match="safetensors answers"):
        roundtrip.prove(start, folder, file, PROMPTS, ANSWERS)


def test_a_quantised_file_is_not_the_same_model(forms: tuple[Path, Path, Path], tmp_path: Path) -> None:
    start, folder, _ = forms
    gguf_write.write(folder, tmp_path / "q8_0.gguf", "q8_0")
    with pytest.raises(RoundTripError, match="differs"):
        roundtrip.prove(start, folder, tmp_path / "q8_0.gguf", PROMPTS, ANSWERS)


def test_forms_of_a_model_that_writes_text_pass(forms: tuple[Path, Path, Path]) -> None:
    told = roundtrip.prove(*forms, PROMPTS, [])
    assert told["answered"] == told["prompts"] == 2
    assert told["greedy_answers_equal"] is True


def test_other_settings_tell_in_the_text_that_a_model_writes(forms: tuple[Path, Path, Path]) -> None:
    start, folder, file = forms
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.5}))
    for prompt in PROMPTS:
        with pytest.raises(RoundTripError, match="safetensors answers"):
            roundtrip.prove(start, folder, file, [prompt], [])


@pytest.mark.parametrize("answers", [ANSWERS, []], ids=["labels", "text"])
def test_prompts_that_pass_the_context_are_compared_by_their_tokens_alone(
    forms: tuple[Path, Path, Path], answers: list[str]
) -> None:
    told = roundtrip.prove(*forms, [*PROMPTS, "zq" * 400], answers)
    assert (told["prompts"], told["answered"], told["greedy_answers_equal"]) == (3, 2, True)
    told = roundtrip.prove(*forms, ["zq" * 400], answers)
    assert (told["prompts"], told["answered"], told["greedy_answers_equal"]) == (1, 0, False)
