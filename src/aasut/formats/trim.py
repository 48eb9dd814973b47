"""A tokenizer without the tokens that are not wanted.

Byte-level BPE and SentencePiece BPE with byte fallback build a token out of two others, by the first rule of a list
that fits. What stays is closed under the rules that the tokenizer itself applies on the way to a token (`Trim.path`),
and the rules among what stays keep their order. From this follows:

- Any text becomes tokens that decode to what the full tokenizer's tokens decode to: the single bytes stay.
- A piece of text, as the tokenizer cuts it, whose tokens all stay becomes the same tokens as before. For as long as
  the next rule that the full tokenizer applies is there, the trimmed one, which has no others, applies it too; and a
  token's way inside a piece is its way alone, as no rule that was applied crosses its ends.
- A piece with a token that does not stay becomes other tokens, which may reach over that token's ends.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from aasut.errors import ModelError
from aasut.formats.tokenizer_gguf import BYTE_TOKEN, SPACE

Json = dict[str, Any]
Pair = tuple[str, str]

_REMEDY = "Byte-level BPE, or BPE with byte fallback, can be trimmed; leave student.vocabulary out."


@dataclass(frozen=True)
class Trimmed:
    """A tokenizer.json, and the old id of every new one: `kept[new] = old`, ascending."""

    body: Json
    kept: list[int]

    @property
    def new(self) -> dict[int, int]:
        """The new id of every old one that stays."""
        return {old: new for new, old in enumerate(self.kept)}


class Trim:
    """What may be left out of the tokenizer.json `body`; `where` names it in errors. Raises ModelError for others."""

    def __init__(self, body: Json, where: Path | str) -> None:
        self._body, self._where = body, where
        self._model: Json = body.get("model") or {}
        _check(body, self._model, where)
        self._ids: dict[str, int] = self._model["vocab"]
        self._names = {number: token for token, number in self._ids.items()}
        self._merges: list[Pair] = [_pair(merge) for merge in self._model["merges"]]
        self._ranks = {merge: rank for rank, merge in enumerate(self._merges)}  # of equal ones the last counts
        self._paths: dict[int, frozenset[int]] = {}
        self._added = {int(token["id"]): token["content"] for token in body.get("added_tokens") or []}
        self.always = frozenset(self._added) | self._units()

    @property
    def ids(self) -> frozenset[int]:
        """All token ids there are."""
        return frozenset(self._names) | frozenset(self._added)

    def path(self, token: int) -> frozenset[int]:
        """The token and all that the tokenizer joins on the way to it; by itself where no way leads there."""
        if token not in self._paths:
            name = self._names.get(token)
            made = [] if name is None or token in self._added else self._joined(name)
            self._paths[token] = frozenset([token, *(self._ids[part] for part in made)])
        return self._paths[token]

    def close(self, wanted: Iterable[int]) -> set[int]:
        """The wanted tokens, those that always stay, and all that they are made of."""
        found = set(self.always)
        for token in wanted:
            if token not in found:
                found |= self.path(token)
        return found

    def apply(self, wanted: Iterable[int]) -> Trimmed:
        """The tokenizer with what `close` gives alone, its tokens renumbered in their old order."""
        stay = self.close(wanted)
        if strangers := sorted(stay - self.ids):
            raise ModelError(f"{self._where}: there is no token {strangers[0]}.", "Take ids of this tokenizer.")
        kept = sorted(stay)
        new = {old: number for number, old in enumerate(kept)}
        body = copy.deepcopy({key: value for key, value in self._body.items() if key != "model"})
        vocabulary = {name: new[old] for name, old in self._ids.items() if old in new}
        merges = [
            [left, right] for left, right in self._merges
            if left in vocabulary and right in vocabulary and left + right in vocabulary
        ]  # fmt: skip
        body["model"] = {**self._model, "vocab": vocabulary, "merges": merges}
        for token in body.get("added_tokens") or []:
            token["id"] = new[int(token["id"])]
        _renumber_processor(body.get("post_processor"), new)
        if body.get("padding"):
            body["padding"]["pad_id"] = new.get(body["padding"]["pad_id"], 0)
        return Trimmed(body, kept)

    def _units(self) -> frozenset[int]:
        """Tokens without which some text could not be written: bytes, the space's sign, the unknown token."""
        unknown = [self._model["unk_token"]] if self._model.get("unk_token") is not None else []
        if self._model.get("byte_fallback"):
            names = [name for name in self._ids if BYTE_TOKEN.fullmatch(name)] + [SPACE]
        else:
            single = {name for name in self._ids if len(name) == 1}
            names = [name for name in self._ids if name in single or not single.issuperset(name)]
        return frozenset(self._ids[name] for name in [*names, *unknown] if name in self._ids)

    def _joined(self, token: str) -> list[str]:
        """What the tokenizer's rules make of the letters of `token` until it stands there; [] where it never does."""
        parts, made = list(token), list(token)
        if not all(part in self._ids for part in parts):
            return []
        while len(parts) > 1:
            ranked = [(self._ranks.get(pair, -1), place) for place, pair in enumerate(pairwise(parts))]
            possible = [found for found in ranked if found[0] >= 0]
            if not possible:
                return []
            _, place = min(possible)
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
            made.append(parts[place])
        return made


def _check(body: Json, model: Json, where: Path | str) -> None:
    kind = model.get("type") or ("BPE" if "merges" in model else "no known")
    if kind != "BPE":
        raise ModelError(f"{where}: a tokenizer of the kind {kind} cannot be trimmed.", _REMEDY)
    for option in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.get(option):
            raise ModelError(f"{where}: a tokenizer with a {option} cannot be trimmed.", _REMEDY)
    if model.get("byte_fallback"):
        lacking = [name for name in (f"<0x{byte:02X}>" for byte in range(256)) if name not in model["vocab"]]
        if lacking:
            raise ModelError(f"{where}: the tokenizer lacks the byte {lacking[0]}, so text would be lost.", _REMEDY)
    elif "ByteLevel" not in _kinds(body.get("pre_tokenizer")) or "ByteLevel" not in _kinds(body.get("decoder")):
        raise ModelError(f"{where}: the tokenizer does not write text in bytes, so it cannot be trimmed.", _REMEDY)


def _kinds(step: Any) -> Iterator[str]:
    """Names of a step of a tokenizer and of those in it."""
    if isinstance(step, Mapping):
        yield str(step.get("type"))
        for inner in (*step.get("pretokenizers", ()), *step.get("decoders", ())):
            yield from _kinds(inner)


def _pair(merge: str | Sequence[str]) -> Pair:
    left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
    return left, right


def _renumber_processor(step: Any, new: Mapping[int, int]) -> None:
    """Rewrite the ids in what a tokenizer puts around a text."""
    if not isinstance(step, dict):
        return
    for inner in step.get("processors", ()):
        _renumber_processor(inner, new)
    for token in (step.get("special_tokens") or {}).values():
        token["ids"] = [new[old] for old in token["ids"]]
    for end in ("sep", "cls"):  # [token, id] of BERT's kind
        if end in step:
            step[end] = [step[end][0], new[step[end][1]]]
