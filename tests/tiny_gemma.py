"""A small SentencePiece tokenizer."""

from __future__ import annotations

from pathlib import Path

from aasut.formats.gguf_read import Gguf


def spm(prefix: bool, extra: dict[str, float] | None = None) -> Gguf:
    """GGUF metadata of a SentencePiece BPE tokenizer, as Gemma's is, with 40 or so pieces."""
    pieces = {"▁t": -1.0, "he": -2.0, "▁the": -3.0, "er": -4.0, "▁a": -5.0, "in": -6.0, "an": -7.0, "the": -8.0,
              "<c": -9.0, "<ct": -9.5, "rl>": -9.7, "ctrl>": -9.8, "ct": -9.9, "rl": -9.95} | (extra or {})  # fmt: skip
    letters = list("▁theranicl<>bd")
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<ctrl>", "\n", "\n\n", "  ", "   "]
    kinds = [3, 3, 3, 2, 3, 4, 4, 4, 4]
    tokens += [f"<0x{i:02X}>" for i in range(256)] + list(pieces) + letters
    kinds += [6] * 256 + [1] * (len(pieces) + len(letters))
    scores = [-1000.0] * 9 + [0.0] * 256 + list(pieces.values()) + [-100.0 - i for i in range(len(letters))]
    data = {
        "general.architecture": "gemma3", "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": scores, "tokenizer.ggml.token_type": kinds, "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 1, "tokenizer.ggml.unknown_token_id": 3,
        "tokenizer.ggml.add_space_prefix": prefix,
    }  # fmt: skip
    return Gguf(Path("spm.gguf"), data, {}, {}, None)  # type: ignore[arg-type]
