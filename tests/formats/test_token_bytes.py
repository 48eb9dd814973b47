from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from aasut.formats.token_bytes import vocabulary_bytes
from aasut.formats.tokenizer import Tokenizer

TEXTS = ["Review: the battery is great", " a\n\tb", "नमस्ते दुनिया 🙂", "\x00¡Ā"]


def test_byte_level_tokens_join_to_the_text(tiny_llama: Path) -> None:
    tokenizer = Tokenizer.load(tiny_llama)
    known = vocabulary_bytes(tokenizer)
    assert len(known) == tokenizer.size - 2  # without <|begin|> and <|end|>
    assert {tokenizer.bos_id, tokenizer.eos_id}.isdisjoint(known)
    for text in TEXTS:
        assert b"".join(known[number] for number in tokenizer.encode(text)) == text.encode()


@pytest.mark.parametrize("decoder", ["fallback", "metaspace"])
def test_sentencepiece_tokens_join_to_the_text(decoder: str) -> None:
    vocabulary = {"<unk>": 0} | {f"<0x{byte:02X}>": 1 + byte for byte in range(256)}
    vocabulary |= {token: 257 + n for n, token in enumerate(["▁", "a", "b", "▁a", "न"])}
    inner = tokenizers.Tokenizer(
        models.BPE(vocab=vocabulary, merges=[("▁", "a")], unk_token="<unk>", byte_fallback=True)
    )
    inner.normalizer = normalizers.Replace(" ", "▁")
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    inner.decoder = decoders.Sequence(steps) if decoder == "fallback" else decoders.Metaspace()
    inner.add_tokens([tokenizers.AddedToken("<tag>", special=False)])
    tokenizer = Tokenizer(inner, {})
    known = vocabulary_bytes(tokenizer)
    for text in (" a ab", "न 🙂", "b<tag>a"):
        assert b"".join(known[number] for number in tokenizer.encode(text)) == text.encode()


def test_other_kinds_are_not_known() -> None:
    inner = tokenizers.Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece()
    assert vocabulary_bytes(Tokenizer(inner, {})) == {}
