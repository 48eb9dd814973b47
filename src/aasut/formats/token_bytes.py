"""The bytes that each token of a tokenizer stands for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from aasut.formats.tokenizer import Tokenizer
from aasut.formats.tokenizer_gguf import BYTE_TOKEN, SPACE


def vocabulary_bytes(tokenizer: Tokenizer) -> dict[int, bytes]:
    """The bytes of each token by its id, control tokens left out.

    Empty where a tokenizer's tokens stand for no fixed bytes: only byte-level ones and those of
    SentencePiece's kind are known.
    """
    plain = json.loads(tokenizer.to_json())
    kinds = {step["type"] for step in _steps(plain.get("decoder"))}
    vocabulary = plain["model"].get("vocab") or {}
    if isinstance(vocabulary, list):  # Unigram: tokens with their scores, by id
        vocabulary = {token: number for number, (token, _) in enumerate(vocabulary)}
    if "ByteLevel" in kinds:
        found = {number: _byte_level(token) for token, number in vocabulary.items()}
    elif kinds & {"ByteFallback", "Metaspace"}:
        found = {number: _sentencepiece(token) for token, number in vocabulary.items()}
    else:
        return {}
    for added in plain.get("added_tokens") or []:  # they stand for their own text
        found[added["id"]] = None if added["special"] else added["content"].encode()
    return {number: said for number, said in found.items() if said}


def _steps(decoder: Any) -> Iterator[dict[str, Any]]:
    if decoder is not None:
        yield decoder
        for inner in decoder.get("decoders") or []:
            yield from _steps(inner)


def _byte_level(token: str) -> bytes | None:
    """None for what is no token of bytes."""
    try:
        return bytes(_BYTES[character] for character in token)
    except KeyError:
        return None


def _sentencepiece(token: str) -> bytes:
    byte = BYTE_TOKEN.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace(SPACE, " ").encode()


def _characters() -> dict[str, int]:
    """The character that stands for each byte (GPT-2's `bytes_to_unicode`): itself where it can be seen."""
    seen = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in seen]
    return {chr(byte): byte for byte in seen} | {chr(256 + n): byte for n, byte in enumerate(others)}


_BYTES = _characters()
