"""Tokenizers: plain text stays text, nothing is cut, and GGUF metadata gives the model's own ids."""

from __future__ import annotations

import json
import random
import re
from itertools import pairwise
from pathlib import Path

import pytest
import tokenizers
from transformers import AutoTokenizer

from aasut.errors import DataError, ModelError
from aasut.formats import gguf, tokenizer_gguf
from aasut.formats.gguf_read import Gguf
from aasut.formats.tokenizer import Tokenizer
from tiny_gemma import spm
from tiny_llama import TEXTS

random.seed(5)
SOUP = ["".join(random.choices("ab1 2\n\r\t.,'ŻÉहि👍\u0301<>|_-", k=30)) for _ in range(200)]
NASTY = [
    "हिन्दी में 123 रुपये", "👩‍👩‍👧‍👦🇮🇳", "\x00\x01\x7f", "a\r\nb\r\n\r\n  c", "12345 ١٢٣ ½ ² Ⅳ", "   lead", "trail   ",
    "\t\tx", "a  b   c", "\n\n\n", "",
    "don't I'll WE'RE", "日本語テキスト", "e\u0301 é", "\u200b\ufeff", "𝒳",
]  # fmt: skip


class TestSmolLM2:
    def test_ids_are_those_of_transformers_and_come_back(self, smollm2: Path) -> None:
        ours, theirs = Tokenizer.load(smollm2), AutoTokenizer.from_pretrained(smollm2)
        for text in TEXTS + NASTY + SOUP:
            ids = ours.encode(text)
            assert ids == theirs(text, add_special_tokens=True).input_ids, text
            assert ours.decode(ids) == text

    def test_known_ids(self, smollm2: Path) -> None:
        """The digits of SmolLM2 stand alone, unlike GPT-2's."""
        tokenizer = Tokenizer.load(smollm2)
        assert len(tokenizer.encode("2024")) == 4
        assert tokenizer.encode("a<|im_end|>b") == [81, 44, 108, 306, 79, 486, 108, 46, 82]
        assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.add_bos, tokenizer.size) == (1, 2, False, 49152)
        assert tokenizer.end_ids == {2}
        assert tokenizer.decode([81, 2]) == "a"

    def test_control_tokens_cannot_be_written(self, smollm2: Path) -> None:
        tokenizer = Tokenizer.load(smollm2)
        names = [t["content"] for t in json.loads((smollm2 / "tokenizer.json").read_text())["added_tokens"]]
        assert len(names) == 17
        for name in names:
            for text in (name, f" {name} ", f"{name}{name}", f"x{name}\n"):
                ids = tokenizer.encode(text)
                assert min(ids) >= 17
                assert tokenizer.decode(ids) == text


def sentencepiece(source: Gguf, text: str) -> list[int]:
    """SentencePiece's BPE as its authors define it: user-defined tokens first, then the best neighbours, one by one."""
    data = source.metadata
    tokens, scores, kinds = (data[f"tokenizer.ggml.{k}"] for k in ("tokens", "scores", "token_type"))
    pieces = {t: (i, scores[i]) for i, t in enumerate(tokens) if kinds[i] == 1}
    whole = {t.replace(" ", "▁"): i for i, t in enumerate(tokens) if kinds[i] == 4}
    text = ("▁" if data["tokenizer.ggml.add_space_prefix"] else "") + text.replace(" ", "▁")
    ids: list[int] = []
    symbols: list[str] = []

    def flush() -> None:
        while True:
            best = [(pieces[a + b][1], -i) for i, (a, b) in enumerate(pairwise(symbols)) if a + b in pieces]
            if not best:
                break
            at = -max(best)[1]
            symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
        for symbol in symbols:
            ids.extend(
                [pieces[symbol][0]] if symbol in pieces else [tokens.index(f"<0x{b:02X}>") for b in symbol.encode()]
            )
        symbols.clear()

    while text:
        match = max((t for t in whole if text.startswith(t)), key=len, default="")
        if match:
            flush()
            ids.append(whole[match])
        else:
            symbols.append(text[0])
        text = text[len(match) or 1 :]
    flush()
    return ids


class TestSentencePiece:
    @pytest.mark.parametrize(
        "text", ["the tan in a barn", "in  the   end", "the\n\nbed\n", "é हि 👍", "<ctrl>", "an<eos>er", ""]
    )
    def test_the_same_ids_as_sentencepiece(self, text: str) -> None:
        source = spm(prefix=False)
        tokenizer = Tokenizer.from_gguf(source)
        assert tokenizer.encode(text) == sentencepiece(source, text)
        assert tokenizer.decode(tokenizer.encode(text)) == text

    def test_random_texts(self) -> None:
        source = spm(prefix=False)
        texts = ["".join(random.choices("theranicl<>bd  \n", k=40)) for _ in range(300)]
        # Runs longer than the longest run in the vocabulary part differently, in Hugging Face's tokenizers too.
        texts = [re.sub("   +", "   ", text) for text in texts]
        assert Tokenizer.from_gguf(source).encode_all(texts) == [sentencepiece(source, t) for t in texts]

    def test_a_space_is_put_before_where_the_model_wants_it(self) -> None:
        source = spm(prefix=True)
        tokenizer = Tokenizer.from_gguf(source)
        assert tokenizer.encode("the an") == sentencepiece(source, "the an")
        assert tokenizer.decode(tokenizer.encode("the an")) == "the an"

    def test_begin_of_text_is_wanted_but_not_put(self) -> None:
        tokenizer = Tokenizer.from_gguf(spm(prefix=False))
        assert (tokenizer.add_bos, tokenizer.bos_id, tokenizer.eos_id) == (True, 2, 1)
        assert 2 not in tokenizer.encode("the")

    def test_merges_go_by_score(self) -> None:
        merges = tokenizer_gguf.merges_from_scores(["a", "b", "c", "ab", "bc", "abc"], [1] * 6, [0, 0, 0, -2, -1, -3])
        assert merges == [("b", "c"), ("a", "b"), ("ab", "c"), ("a", "bc")]

    @pytest.mark.parametrize("prefix", [False, True])
    def test_the_way_back_to_gguf(self, prefix: bool) -> None:
        source = spm(prefix=prefix)
        body, _ = tokenizer_gguf.build(source)
        data = source.metadata
        found = tokenizer_gguf.describe(body, len(data["tokenizer.ggml.tokens"]) + 1, Path("here"))
        assert found["tokens"] == [*data["tokenizer.ggml.tokens"], "[PAD293]"]
        assert found["kinds"] == [*data["tokenizer.ggml.token_type"], tokenizer_gguf.UNUSED]
        assert (found["model"], found["space_prefix"]) == ("llama", prefix)
        assert tokenizer_gguf.merges_from_scores(
            body["model"]["vocab"], found["kinds"][:-1], found["scores"][:-1]
        ) == tokenizer_gguf.merges_from_scores(
            body["model"]["vocab"], data["tokenizer.ggml.token_type"], data["tokenizer.ggml.scores"]
        )

    def test_runs_of_spaces_with_scores_stay_pieces(self) -> None:
        source = spm(prefix=True, extra={"▁▁": -3.5})
        source.metadata["tokenizer.ggml.tokens"][7:9] = ["<a>", "<b>"]
        body, _ = tokenizer_gguf.build(source)
        found = tokenizer_gguf.describe(body, len(body["model"]["vocab"]), Path("here"))
        assert found["kinds"][found["tokens"].index("▁▁")] == tokenizer_gguf.NORMAL

    def test_merges_without_scores_are_refused(self) -> None:
        body, _ = tokenizer_gguf.build(spm(prefix=False))
        body["model"]["merges"].reverse()
        with pytest.raises(ModelError, match="follow no scores"):
            tokenizer_gguf.describe(body, len(body["model"]["vocab"]), Path("here"))


class TestSplits:
    @pytest.mark.parametrize("name", sorted(tokenizer_gguf.SPLITS))
    def test_every_way_to_split_survives_the_way_through_gguf(
        self, name: str, tiny_llama: Path, tmp_path: Path
    ) -> None:
        for path in tiny_llama.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        split, normalizer, ignore = tokenizer_gguf.SPLITS[name]
        body = json.loads((tmp_path / "tokenizer.json").read_text()) | {
            "pre_tokenizer": split,
            "normalizer": normalizer,
        }
        body["model"]["ignore_merges"] = ignore
        (tmp_path / "tokenizer.json").write_text(json.dumps(body))
        gguf.write(tmp_path, tmp_path / "m.gguf", "bf16")
        source = gguf.read(tmp_path / "m.gguf")
        assert source.metadata["tokenizer.ggml.pre"] == name
        texts = TEXTS + NASTY + SOUP
        assert Tokenizer.from_gguf(source).encode_all(texts) == Tokenizer.load(tmp_path).encode_all(texts)

    @pytest.mark.parametrize(
        ("name", "pieces"),
        [
            ("gpt-2", ["It", "'s", "Ġ2024", ",", "ĠOK"]),
            ("smollm", ["It", "'s", "Ġ", "2", "0", "2", "4", ",", "ĠOK"]),
            ("qwen2", ["It", "'s", "Ġ", "2", "0", "2", "4", ",", "ĠOK"]),
            ("llama-bpe", ["It", "'s", "Ġ", "202", "4", ",", "ĠOK"]),
            ("default", ["It", "'", "s", "Ġ", "202", "4", ",", "ĠOK"]),
        ],
    )
    def test_where_text_is_cut(self, name: str, pieces: list[str]) -> None:
        empty = {"type": "BPE", "vocab": {}, "merges": []}
        body = {"version": "1.0", "added_tokens": [], "model": empty, "pre_tokenizer": tokenizer_gguf.SPLITS[name][0]}
        split = tokenizers.Tokenizer.from_str(json.dumps(body)).pre_tokenizer
        assert [piece for piece, _ in split.pre_tokenize_str("It's 2024, OK")] == pieces

    def test_unknown_ways_are_refused(self, tiny_llama: Path, tmp_path: Path) -> None:
        for path in tiny_llama.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        body = json.loads((tmp_path / "tokenizer.json").read_text()) | {"pre_tokenizer": {"type": "Whitespace"}}
        (tmp_path / "tokenizer.json").write_text(json.dumps(body))
        with pytest.raises(ModelError, match="no counterpart in GGUF"):
            gguf.write(tmp_path, tmp_path / "m.gguf", "bf16")


def test_truncation_and_padding_of_the_file_are_not_obeyed(tiny_llama: Path, tmp_path: Path) -> None:
    inner = tokenizers.Tokenizer.from_file(str(tiny_llama / "tokenizer.json"))
    inner.enable_truncation(4)
    inner.enable_padding(length=64)
    inner.save(str(tmp_path / "tokenizer.json"))
    assert Tokenizer.load(tmp_path).encode_all([TEXTS[0], "x"]) == Tokenizer.load(tiny_llama).encode_all(
        [TEXTS[0], "x"]
    )


def test_half_a_surrogate_pair_is_no_text(tiny_llama: Path) -> None:
    with pytest.raises(DataError, match="surrogate"):
        Tokenizer.load(tiny_llama).encode_all(["fine", "broken \ud83d"])


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be read"):
        Tokenizer.load(tmp_path)
