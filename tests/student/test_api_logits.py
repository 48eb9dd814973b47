from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from aasut.formats.token_bytes import vocabulary_bytes
from aasut.formats.tokenizer import Tokenizer
from aasut.recipe import Endpoint
from aasut.student.api_logits import BOUNDARIES, CHANGED, REWRITTEN, UNTOLD, ApiLogits, Listed
from aasut.teacher.chat import tokens_of
from aasut.teacher.ledger import Ledger
from aasut.teacher.logprobs import UNKNOWN, Token, pack
from aasut.teacher.openai import OpenAiTeacher
from aasut.teacher.server import ScriptedServer
from aasut.types import Completion, Message, Request


def bpe(*words: str) -> Tokenizer:
    """A byte-level tokenizer that knows all bytes, and each of these words, with and without a space before."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary, merges = {letter: number for number, letter in enumerate(alphabet)}, []
    for word in [form for plain in words for form in (plain, "Ġ" + plain)]:
        for end in range(2, len(word) + 1):
            if word[:end] not in vocabulary:
                vocabulary[word[:end]] = len(vocabulary)
                merges.append((word[: end - 1], word[end - 1]))
    inner = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(["<|end|>"])
    return Tokenizer(inner, {"eos_token": "<|end|>"})


def token(text: str, top: dict[str, float]) -> Token:
    """A token with the probabilities of its alternatives."""
    listed = tuple((word.encode(), math.log(p)) for word, p in top.items())
    return Token(text.encode(), math.log(top.get(text, 1e-3)), listed)


@pytest.fixture(scope="module")
def student() -> Tokenizer:
    return bpe("the", "cat", "dog", "sat", "ran", "a")


THE_CAT_SAT = [
    token("the", {"the": 0.7, "a": 0.2, "zebra": 0.05}),
    token(" cat", {" cat": 0.6, " dog": 0.3}),
    token(" sat", {" sat": 0.5, " ran": 0.25, "<|end|>": 0.125}),
]


def read(student: Tokenizer, answer: str, tokens: Sequence[Token]) -> Listed:
    found, reason = ApiLogits(student).listed(answer, pack(tokens))
    assert found is not None, reason
    return found


def masses(student: Tokenizer, found: Listed) -> list[dict[str, float]]:
    """Masses by the token's text, position by position."""
    names = {number: said.decode("latin-1") for number, said in vocabulary_bytes(student).items()}
    names[student.token_id("<|end|>") or 0] = "END"
    return [
        {names[number]: round(float(mass), 4) for number, mass in zip(ids, row, strict=True) if mass}
        for ids, row in zip(found.ids.tolist(), found.mass, strict=True)
    ]


def test_entry_t_is_the_distribution_for_answer_token_t(student: Tokenizer) -> None:
    found = read(student, " the cat sat", THE_CAT_SAT)
    assert found.answer_ids == tuple(student.encode(" the cat sat"))
    assert masses(student, found) == [
        {" the": 0.7, " a": 0.2},  # the student's answer begins with a space, the endpoint's did not
        {" cat": 0.6, " dog": 0.3},
        {" sat": 0.5, " ran": 0.25, "END": 0.125},
    ]
    assert found.rest == pytest.approx([0.1, 0.1, 0.125], abs=1e-6)
    assert found.mass.sum(axis=1) + found.rest == pytest.approx(1)
    likeliest = found.ids[np.arange(3), found.mass.argmax(axis=1)]
    assert tuple(likeliest) == found.answer_ids  # a shift by one would break this


@pytest.mark.parametrize(
    ("answer", "first", "begins"),
    [
        (" the cat sat", [token("\n", {"\n": 1.0})], 0),  # white space as a token of its own is the endpoint's
        ("the cat sat", [], 0),  # where the prompt ends with a space, the student's answer has none
        (" the cat sat", [token("<br>", {"<br>": 1.0})], 0),
    ],
)
def test_what_stands_before_the_answer_shifts_nothing(
    student: Tokenizer, answer: str, first: list[Token], begins: int
) -> None:
    behind = [token("<|end|>", {"<|end|>": 0.9}), token("x", {"x": 1.0})]
    found = read(student, answer, [*first, *THE_CAT_SAT, *behind])
    assert [max(row, key=row.__getitem__).strip() for row in masses(student, found)] == ["the", "cat", "sat"]
    assert len(found.rest) == len(found.answer_ids) == 3


def test_white_space_in_the_first_token_is_not_compared(student: Tokenizer) -> None:
    spaced = [token(" the", {" the": 0.5, "the": 0.2, " a": 0.1, "\n": 0.1}), *THE_CAT_SAT[1:]]
    for answer, lead in ((" the cat sat", " "), ("the cat sat", "")):
        found = read(student, answer, spaced)
        assert masses(student, found)[0] == {f"{lead}the": 0.7, f"{lead}a": 0.1}
        assert found.rest[0] == pytest.approx(0.2)


def test_a_space_that_is_a_token_of_the_students_own_is_certain(student: Tokenizer) -> None:
    digits = [token("5", {"5": 0.8, "6": 0.1}), token(" cat", {" cat": 1.0})]
    found = read(student, " 5 cat", digits)
    assert masses(student, found) == [{" ": 1.0}, {"5": 0.8, "6": 0.1}, {" cat": 1.0}]


def test_parts_of_characters_are_mapped_by_their_bytes(student: Tokenizer) -> None:
    one, two, three = (bytes([byte]) for byte in "न".encode())
    other = "औ".encode()[2:]
    tokens = [
        Token(one, math.log(0.9), ((one, math.log(0.9)),)),
        Token(two, math.log(0.6), ((two, math.log(0.6)), (other, math.log(0.2)), (UNKNOWN, math.log(0.1)))),
        Token(three, math.log(0.9), ((three, math.log(0.9)),)),
    ]
    found = read(student, "न", tokens)
    by_bytes = vocabulary_bytes(student)
    row = {by_bytes[number]: mass for number, mass in zip(found.ids[1].tolist(), found.mass[1], strict=True) if mass}
    assert row == pytest.approx({two: 0.6, other: 0.2})
    assert found.rest[1] == pytest.approx(0.2)


def test_a_first_word_that_the_space_splits_otherwise_is_left_untold(student: Tokenizer) -> None:
    parts = [token("c", {"c": 0.8, "d": 0.1}), token("at", {"at": 1.0}), THE_CAT_SAT[2]]
    found = read(student, " cat sat", parts)
    assert found.untold == 1
    assert masses(student, found) == [{" cat": 1.0}, {" sat": 0.5, " ran": 0.25, "END": 0.125}]
    assert ApiLogits(student).match([(" cat sat", pack(parts))]).covered == pytest.approx(0.875)
    assert ApiLogits(student).listed(" cat", pack(parts[:2])) == (None, BOUNDARIES)  # nothing of it is told
    assert read(student, " the cat sat", THE_CAT_SAT).untold == 0


def test_a_token_that_is_not_listed_has_its_own_probability(student: Tokenizer) -> None:
    drawn = [Token(b"the", math.log(0.01), ((b"a", math.log(0.6)), (b"dog", math.log(0.3))))]
    found = read(student, " the", drawn)
    assert masses(student, found) == [{" a": 0.6, " dog": 0.3, " the": 0.01}]
    assert found.rest == pytest.approx([0.09], abs=1e-6)


def test_masses_are_at_most_one(student: Tokenizer) -> None:
    found = read(student, " the", [token("the", {"the": 0.7, "a": 0.34})])
    assert found.mass.sum() == pytest.approx(1)
    assert found.rest == pytest.approx([0], abs=1e-6)


@pytest.mark.parametrize(
    ("answer", "tokens", "reason"),
    [
        (" the cat sat", None, UNTOLD),
        (" the cat sat", [*THE_CAT_SAT[:1], token(" ca", {}), token("t", {}), THE_CAT_SAT[2]], BOUNDARIES),
        (" the cat sat", [token("the cat", {}), THE_CAT_SAT[2]], BOUNDARIES),
        (" the cat sat", [*THE_CAT_SAT[:2], token(" sat\n", {})], BOUNDARIES),
        (" the cat sat", [token("x the", {}), *THE_CAT_SAT[1:]], BOUNDARIES),
        (" the dog sat", THE_CAT_SAT, REWRITTEN),
        (" the cat sat.", THE_CAT_SAT, REWRITTEN),
        (" ", THE_CAT_SAT, CHANGED),
    ],
)
def test_texts_in_other_tokens_are_refused(
    student: Tokenizer, answer: str, tokens: list[Token] | None, reason: str
) -> None:
    packed = None if tokens is None else pack(tokens)
    assert ApiLogits(student).listed(answer, packed) == (None, reason)


def test_a_tokenizer_that_changes_the_text_is_refused() -> None:
    inner = tokenizers.Tokenizer(models.WordLevel({"the": 0, "?": 1}, unk_token="?"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    assert ApiLogits(Tokenizer(inner, {})).listed(" the", pack(THE_CAT_SAT)) == (None, CHANGED)


def test_matches_say_what_can_be_learned_and_why_not(student: Tokenizer) -> None:
    whole = pack(THE_CAT_SAT)
    found = ApiLogits(student).match([(" the cat sat", whole), (" the dog", whole), (" the cat", None)] * 2)
    assert (found.texts, found.kept, found.refused) == (6, 2, {REWRITTEN: 2, UNTOLD: 2})
    assert found.share == pytest.approx(1 / 3)
    assert found.covered == pytest.approx((0.9 + 0.9 + 0.875) / 3)
    assert ApiLogits(student).match([]).share == 0.0


RULES = {
    "first": "the battery is great",
    "second": "the battery is poor",
    "third": "नमस्ते दुनिया",
    "fourth": "\tReview: negative\n",
}


@pytest.fixture
def server(tiny_llama: Path) -> Iterator[ScriptedServer]:
    with ScriptedServer(RULES, split=tokens_of(tiny_llama)) as running:
        yield running


def ask(url: str, path: Path, **settings: object) -> tuple[list[Completion], Ledger]:
    endpoint = Endpoint(base_url=url, model="m", api_key_env="", logprobs=True, **settings)  # type: ignore[arg-type]
    ledger = Ledger(OpenAiTeacher(endpoint), path)
    return ledger.complete([Request((Message("user", word),)) for word in RULES]), ledger


def test_over_a_socket_and_through_the_ledger(server: ScriptedServer, tiny_llama: Path, tmp_path: Path) -> None:
    """What the scripted endpoint says of its rules' answers becomes the same masses by the student's tokens."""
    first, ledger = ask(server.url, tmp_path / "ledger.db")
    ledger.close()
    again, ledger = ask(server.url, tmp_path / "ledger.db")
    assert ledger.notes() == []
    ledger.close()
    assert (again, ledger.calls_made, server.requests) == (first, 0, len(RULES))
    tokenizer = Tokenizer.load(tiny_llama)
    logits = ApiLogits(tokenizer)
    for completion in again:
        found, reason = logits.listed(completion.text.strip(), completion.token_logprobs)
        assert found is not None, reason
        assert found.answer_ids == tuple(tokenizer.encode(completion.text.strip()))
        own = (found.ids == np.array(found.answer_ids)[:, None]) * found.mass
        # .9 for the answer and .1 / 3 for each of the others; the tab that one begins with is no part of it
        chance = 1.0 if completion.text.startswith("\t") else 0.9
        assert own.sum(axis=1).prod() == pytest.approx(chance, abs=1e-3)
    found, _ = logits.listed(RULES["first"], again[0].token_logprobs)
    assert found is not None
    great, poor = (tokenizer.encode(RULES[word]) for word in ("first", "second"))
    place = next(n for n, (one, two) in enumerate(zip(great, poor, strict=False)) if one != two)
    row = dict(zip(found.ids[place].tolist(), found.mass[place].tolist(), strict=True))
    both = 0.9 + 0.1 / 3
    assert {great[place]: 0.9 / both, poor[place]: 0.1 / 3 / both} == pytest.approx(row, abs=1e-4)


def test_an_endpoint_with_other_tokens_does_not_match(tiny_llama: Path, tmp_path: Path) -> None:
    with ScriptedServer(RULES) as server:
        answers, ledger = ask(server.url, tmp_path / "ledger.db")
        ledger.close()
    found = ApiLogits(Tokenizer.load(tiny_llama)).match([(a.text.strip(), a.token_logprobs) for a in answers])
    assert (found.kept, found.refused) == (0, {BOUNDARIES: len(RULES)})
