"""A model folder without the tokens that are not wanted: its tokenizer, its rows of embeddings, its settings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from aasut.errors import ModelError
from aasut.files import write_atomically
from aasut.formats import safetensors
from aasut.formats.tokenizer import Tokenizer, read_json
from aasut.formats.trim import Trim

SETTINGS = ("config.json", "generation_config.json", "tokenizer_config.json")
ROWS = ("model.embed_tokens.weight", "lm_head.weight")  # matrices with a row a token
STALE = ("vocab.json", "merges.txt", "tokenizer.model")  # the tokenizer once more, in older forms
LISTS = ("suppress_tokens", "begin_suppress_tokens")  # of token ids, by names that do not say so


def named(folder: Path) -> set[int]:
    """Token ids that the settings of a model folder name, such as where a text begins and ends."""
    found: set[int] = set()

    def note(number: int) -> int:
        found.add(number)
        return number

    for name in SETTINGS:
        if (folder / name).is_file():
            _mapped(read_json(folder / name), note)
    tokenizer = Tokenizer.load(folder)
    special = (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, tokenizer.unk_id)
    return (found | {number for number in special if number is not None}) & Trim(_body(folder), folder).ids


def rewrite(folder: Path, wanted: Iterable[int]) -> list[int]:
    """Leave the wanted tokens, and what they need, in a model folder; gives the old id of every new one.

    Matrices with a row a token keep those rows alone, bit by bit. Raises ModelError for models and tokenizers that
    cannot be trimmed; nothing was changed then.
    """
    trimmed = Trim(_body(folder), folder).apply({*wanted, *named(folder)})
    weights = _rows(safetensors.load(folder), trimmed.kept, folder)
    new, size = trimmed.new, len(trimmed.kept)
    before = [*safetensors.files(folder), *folder.glob("*.safetensors.index.json")]
    safetensors.save(weights, folder / "model.safetensors")
    for path in before:
        if path.name != "model.safetensors":
            path.unlink()
    for name in SETTINGS:
        if (folder / name).is_file():
            _write(folder / name, _settings(read_json(folder / name), new, size))
    for name in STALE:
        (folder / name).unlink(missing_ok=True)
    if (folder / "added_tokens.json").is_file():
        added = read_json(folder / "added_tokens.json")
        _write(folder / "added_tokens.json", {name: new[old] for name, old in added.items() if old in new})
    _write(folder / "tokenizer.json", trimmed.body)
    return trimmed.kept


def _body(folder: Path) -> dict[str, Any]:
    return read_json(folder / "tokenizer.json")


def _write(path: Path, plain: Mapping[str, Any]) -> None:
    write_atomically(path, json.dumps(plain, indent=2, ensure_ascii=False) + "\n")


def _rows(weights: Mapping[str, torch.Tensor], kept: list[int], folder: Path) -> dict[str, torch.Tensor]:
    """The weights, with the kept tokens' rows alone where a row is a token's."""
    first = weights.get(ROWS[0])
    if first is None or len(first) <= kept[-1]:
        what = "no embeddings" if first is None else f"{len(first)} rows of embeddings and tokens up to {kept[-1]}"
        raise ModelError(f"{folder} has {what}.", "Take a model such as Llama, Qwen, Mistral or Gemma 3.")
    index = torch.tensor(kept)
    return {name: weight[index] if name in ROWS else weight for name, weight in weights.items()}


def _settings(plain: dict[str, Any], new: Mapping[int, int], size: int) -> dict[str, Any]:
    """Settings that name token ids, with the new ones; an id that stands for no token is left out."""
    found: dict[str, Any] = _mapped(plain, new.get)
    if "vocab_size" in found:
        found["vocab_size"] = size
    if isinstance(decoder := found.get("added_tokens_decoder"), dict):
        found["added_tokens_decoder"] = {str(new[int(old)]): token for old, token in decoder.items() if int(old) in new}
    return found


def _mapped(plain: Any, change: Any, key: str = "") -> Any:
    """The same with every token id changed, wherever it stands; ids are found by the names of their fields."""
    if isinstance(plain, dict):
        return {name: _mapped(value, change, name) for name, value in plain.items()}
    if isinstance(plain, list):
        found = [_mapped(value, change, key) for value in plain]
        return [value for value in found if value is not None] if _of_ids(key) else found
    return change(plain) if _of_ids(key) and type(plain) is int else plain


def _of_ids(key: str) -> bool:
    return key.endswith(("_token_id", "_token_ids")) or key in LISTS
