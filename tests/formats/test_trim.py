from __future__ import annotations

import json
import random
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from aasut.errors import ModelError
from aasut.formats import tokenizer_gguf
from aasut.formats.tokenizer import Tokenizer
from aasut.formats.trim import Trim, Trimmed
from tiny_gemma import spm
from tiny_llama import TEXTS, byte_level

ODD = [
    "👩\u200d👩\u200d👧", "🇮🇳", "\ufe0f", "\u200d", "\u0000", "\u0007", "\ufeff", "\U0010ffff", "é", "e\u0301", "ﬁ",
    "नमस्ते", "क्षत्रिय", "한국어", "漢字", "<|end|>", "<tag>", "<0x41>", "▁", "Ġ", "\r\n", "\n\n\n", "\t", "    ", "x**2",
]  # fmt: skip


def any_text(draw: random.Random, most: int = 60) -> str:
    """Words of the training texts, single letters of all of Unicode, and what is odd."""
    words = " ".join(TEXTS).split()
    kinds = [
        lambda: draw.choice(words), lambda: " ", lambda: draw.choice(ODD), lambda: draw.choice("etaoin shrdlu.,0129"),
        lambda: chr(draw.randrange(0x900, 0x980)),
        lambda: chr(draw.choice([draw.randrange(0xD800), draw.randrange(0xE000, 0x110000)])),
        lambda: draw.randbytes(8).decode("utf-8", "ignore"),
    ]  # fmt: skip
    return "".join(draw.choice(kinds)() for _ in range(draw.randrange(most)))


def loaded(body: dict[str, Any]) -> Tokenizer:
    return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(body)), {})


def plain(tokenizer: tokenizers.Tokenizer) -> dict[str, Any]:
    tokenizer.add_tokens(["<tag>"])
    body: dict[str, Any] = json.loads(tokenizer.to_str())
    return body


def knotted(seed: int) -> dict[str, Any]:
    """Byte-level BPE whose rules lead to most tokens in several ways, and to some in none, in any order."""
    draw, body = random.Random(seed), plain(byte_level(TEXTS))
    words = ["".join(letters) for size in (2, 3, 4, 5) for letters in product("abc", repeat=size)]
    made = [name for name in body["model"]["vocab"] if len(name) == 1] + draw.sample(words, 90)
    made += ["Ġ" + word for word in draw.sample(words, 20)]
    merges = [
        [name[:cut], name[cut:]] for name in made for cut in range(1, len(name)) if {name[:cut], name[cut:]} <= {*made}
    ]
    draw.shuffle(merges)
    merges += merges[:5]  # of equal rules the last counts
    names = ["<|begin|>", "<|end|>", *made]
    body["model"] |= {"vocab": {name: number for number, name in enumerate(names)}, "merges": merges}
    body["added_tokens"][-1]["id"] = len(names)
    return body


def llama3() -> dict[str, Any]:
    body = plain(byte_level(TEXTS))
    name = "battery"
    body["model"]["ignore_merges"] = True
    body["model"]["vocab"][name] = len(body["model"]["vocab"])  # no rule leads there; as a whole word it is one token
    body["added_tokens"][-1]["id"] += 1
    split, normalizer, _ = tokenizer_gguf.SPLITS["llama-bpe"]
    return body | {"pre_tokenizer": split, "normalizer": normalizer}


def qwen() -> dict[str, Any]:
    split, normalizer, _ = tokenizer_gguf.SPLITS["qwen2"]
    return plain(byte_level(TEXTS)) | {"pre_tokenizer": split, "normalizer": normalizer}


def gappy() -> dict[str, Any]:
    """Without some of the bytes, as SmolLM2 is."""
    body = plain(byte_level(TEXTS))
    gone = {"¤", "¥", "Ä"}
    stay = [name for name in body["model"]["vocab"] if not gone & {*name}]
    body["model"]["vocab"] = {name: number for number, name in enumerate(stay)}
    body["model"]["merges"] = [pair for pair in body["model"]["merges"] if not gone & {*"".join(pair)}]
    body["added_tokens"][-1]["id"] = len(stay)
    return body


KINDS = {
    "smollm": lambda: plain(byte_level(TEXTS, digits=True)), "llama 3": llama3, "qwen": qwen, "gappy": gappy,
    "gemma": lambda: tokenizer_gguf.build(spm(prefix=False))[0], "llama 2": lambda: tokenizer_gguf.build(spm(True))[0],
    **{f"knotted {seed}": lambda seed=seed: knotted(seed) for seed in range(4)},
}  # fmt: skip


@pytest.fixture(params=KINDS)
def body(request: pytest.FixtureRequest) -> dict[str, Any]:
    made: dict[str, Any] = KINDS[request.param]()
    return made


def some(body: dict[str, Any], draw: random.Random) -> Trimmed:
    """Trimmed to a share of its tokens, drawn."""
    trim = Trim(body, "x")
    ids = sorted(trim.ids)
    return trim.apply(draw.sample(ids, draw.randrange(len(ids) + 1)))


def test_any_text_decodes_as_with_all_tokens(body: dict[str, Any]) -> None:
    draw, full = random.Random(1), loaded(body)
    for _ in range(8):
        small = loaded(some(body, draw).body)
        for text in [*(any_text(draw) for _ in range(120)), "", " ", " the" * 3000, json.dumps(body)[:20_000]]:
            assert small.decode(small.encode(text)) == full.decode(full.encode(text))


def test_any_text_comes_back_where_every_byte_is_a_token() -> None:
    draw = random.Random(2)
    for _ in range(8):
        small = loaded(some(plain(byte_level(TEXTS)), draw).body)
        for text in (any_text(draw) for _ in range(200)):
            assert small.decode(small.encode(text)) == text


def test_text_whose_tokens_all_stay_has_the_same_tokens(body: dict[str, Any]) -> None:
    draw, full = random.Random(3), loaded(body)
    for _ in range(8):
        texts = [any_text(draw, 12) for _ in range(40)]
        trimmed = Trim(body, "x").apply({number for text in texts for number in full.encode(text)})
        small, new = loaded(trimmed.body), trimmed.new
        for text in texts:
            assert small.encode(text) == [new[old] for old in full.encode(text)]


def test_each_piece_is_by_itself_the_same(body: dict[str, Any]) -> None:
    """Whatever else of a text has lost its tokens."""
    draw, full, same = random.Random(4), loaded(body), 0
    for _ in range(40):
        trimmed = some(body, draw)
        small, new = loaded(trimmed.body), trimmed.new
        for word in ("".join(draw.choices("abc", k=draw.randrange(1, 9))) for _ in range(60)):
            before = full.encode(word)
            if set(before) <= set(trimmed.kept):
                assert small.encode(word) == [new[old] for old in before]
                same += len(before) > 1 or len(word) > 1
    assert same > 100


def test_trimming_again_changes_nothing(body: dict[str, Any]) -> None:
    trimmed = some(body, random.Random(5))
    again = Trim(trimmed.body, "x").apply(range(len(trimmed.kept)))
    assert again == Trimmed(trimmed.body, list(range(len(trimmed.kept))))
    assert Trim(trimmed.body, "x").apply([]).body == Trim(body, "x").apply([]).body


def test_all_tokens_wanted_is_the_tokenizer_itself(body: dict[str, Any]) -> None:
    trim = Trim(body, "x")
    whole = trim.apply(trim.ids)
    assert whole.kept == sorted(trim.ids) == list(range(len(trim.ids)))
    assert loaded(whole.body).to_json() == loaded(body).to_json()


def test_bytes_and_added_tokens_stay_and_each_token_keeps_its_text(body: dict[str, Any]) -> None:
    trimmed = Trim(body, "x").apply([])
    full, small = loaded(body), loaded(trimmed.body)
    assert [small.token_name(new) for new in range(small.size)] == [full.token_name(old) for old in trimmed.kept]
    names = set(small.vocabulary())
    assert {token["content"] for token in body["added_tokens"]} <= names
    byte_fallback = body["model"].get("byte_fallback")
    units = (
        [f"<0x{i:02X}>" for i in range(256)] if byte_fallback else [t for t in body["model"]["vocab"] if len(t) == 1]
    )
    assert set(units) <= names
    for token in trimmed.body["added_tokens"]:
        assert small.token_id(token["content"]) == token["id"]
    assert trimmed.kept == sorted(trimmed.kept)


def test_a_token_brings_what_it_is_made_of_by_the_way_that_is_taken() -> None:
    """abc stands there by ab+c and by a+bc; the rule for bc comes first."""
    body = plain(byte_level(TEXTS))
    names = [*(name for name in body["model"]["vocab"] if len(name) == 1), "ab", "bc", "abc"]
    body["model"] |= {
        "vocab": {name: number for number, name in enumerate(names)},
        "merges": [["b", "c"], ["a", "b"], ["ab", "c"], ["a", "bc"]],
    }
    body["added_tokens"] = []
    trim, ids = Trim(body, "x"), body["model"]["vocab"]
    assert trim.path(ids["abc"]) == {ids["a"], ids["b"], ids["c"], ids["bc"], ids["abc"]}
    found = trim.apply([ids["abc"]]).body
    assert found["model"]["merges"] == [["b", "c"], ["a", "bc"]]
    assert "ab" not in found["model"]["vocab"]
    assert loaded(found).encode("abc") == [found["model"]["vocab"]["abc"]]


def test_what_is_put_around_a_text_has_the_new_numbers() -> None:
    body = plain(byte_level(TEXTS))
    last = body["added_tokens"][-1]["id"]
    special = {"<tag>": {"id": "<tag>", "ids": [last], "tokens": ["<tag>"]}}
    single = [{"SpecialToken": {"id": "<tag>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    template = {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": special}
    bert = {"type": "BertProcessing", "sep": ["<tag>", last], "cls": ["<|begin|>", 0]}
    roberta = bert | {"type": "RobertaProcessing", "trim_offsets": True, "add_prefix_space": False}
    for step in (template, {"type": "Sequence", "processors": [template]}, bert, roberta):
        trimmed = Trim(body | {"post_processor": step}, "x").apply([])
        inner = tokenizers.Tokenizer.from_str(json.dumps(trimmed.body))
        assert trimmed.new[last] in inner.encode("a").ids
        assert inner.get_vocab_size() - 1 == trimmed.new[last] < last


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"type": "Unigram", "vocab": [["a", 0.0]]}, "kind Unigram cannot be trimmed"),
        ({"type": "WordPiece", "vocab": {"a": 0}}, "kind WordPiece cannot be trimmed"),
        ({"continuing_subword_prefix": "##"}, "continuing_subword_prefix"),
        ({"end_of_word_suffix": "</w>"}, "end_of_word_suffix"),
        ({"dropout": 0.1}, "dropout"),
        ({"byte_fallback": True}, "lacks the byte <0x00>"),
    ],
)
def test_other_tokenizers_are_refused(change: dict[str, Any], says: str) -> None:
    body = plain(byte_level(TEXTS))
    body["model"] |= change
    with pytest.raises(ModelError, match=says) as caught:
        Trim(body, Path("a model"))
    assert "leave student.vocabulary out" in caught.value.remedy


def test_one_that_writes_no_bytes_is_refused() -> None:
    for place in ("pre_tokenizer", "decoder"):
        with pytest.raises(ModelError, match="does not write text in bytes"):
            Trim(plain(byte_level(TEXTS)) | {place: None}, "x")


def test_a_token_that_is_not_there_is_refused() -> None:
    with pytest.raises(ModelError, match="there is no token 99999"):
        Trim(plain(byte_level(TEXTS)), "x").apply([99999])
