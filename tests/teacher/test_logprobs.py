from __future__ import annotations

import json
import math
import zlib
from typing import Any

import pytest

from aasut.errors import StoreError
from aasut.teacher.answer import parse
from aasut.teacher.chat import complete
from aasut.teacher.logprobs import LEAST, UNKNOWN, Token, holds, pack, read, unpack
from aasut.teacher.scripted import ScriptedTeacher
from aasut.types import Message, Request


def entry(text: str, top: dict[str, float], **more: Any) -> dict[str, Any]:
    """A token as an API lists it, with the probabilities of its alternatives."""
    listed = [{"token": word, "logprob": math.log(p)} for word, p in top.items()]
    return {"token": text, "logprob": math.log(top.get(text, 1e-4)), "top_logprobs": listed} | more


def found(content: Any, text: str) -> list[Token] | None:
    packed = read({"logprobs": {"content": content}}, text)
    return None if packed is None else unpack(packed)


GOOD = [entry("It", {"It": 0.7, "He": 0.2}), entry(" is", {" is": 0.9, " was": 0.05}), entry(".", {".": 1.0})]


def test_what_is_packed_comes_back() -> None:
    tokens = [Token(b"a", -0.5, ((b"a", -0.5), (b"\xe0\xa4", -1.25))), Token(b"", 0.0, ()), Token(b"\x00", LEAST, ())]
    assert unpack(pack(tokens)) == tokens
    assert unpack(pack([])) == []
    many = [Token(b" word", -0.125, tuple((b" word%d" % n, -0.25 * n) for n in range(20)))] * 100
    plain = json.dumps([entry(" word", {f" word{n}": 0.5**n for n in range(20)})] * 100)
    assert len(pack(many)) < len(plain) / 10


@pytest.mark.parametrize("damage", [b"", b"no", zlib.compress(b""), zlib.compress(b"\x02" + bytes(4))])
def test_what_is_damaged_is_refused(damage: bytes) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        unpack(damage)
    whole = zlib.decompress(pack([Token(b"a", -0.5, ((b"a", -0.5),))]))
    for broken in (whole[:-1], whole[:8], whole + b"more"):
        with pytest.raises(StoreError, match="cannot be read"):
            unpack(zlib.compress(broken))


def test_tokens_are_read_with_their_alternatives() -> None:
    tokens = found(GOOD, "It is.")
    assert tokens is not None
    assert [token.token for token in tokens] == [b"It", b" is", b"."]
    assert {said: round(math.exp(value), 4) for said, value in tokens[1].top} == {b" is": 0.9, b" was": 0.05}
    assert [round(math.exp(token.logprob), 4) for token in tokens] == [0.7, 0.9, 1.0]


def test_white_space_before_and_anything_behind_is_no_fault() -> None:
    blank, end = entry("\n ", {"\n ": 1.0}), entry("<|end|>", {"<|end|>": 0.8, "!": 0.1})
    assert found([blank, *GOOD, end], "It is.") is not None
    assert found(GOOD, "It") is not None  # the endpoint cut its text at a stop word
    assert found([entry("So", {"So": 1.0}), *GOOD], "It is.") is None
    assert found(GOOD[1:], "It is.") is None
    assert found([GOOD[0], GOOD[2]], "It is.") is None
    assert found(GOOD, "") is None


def test_a_token_may_be_a_part_of_a_character() -> None:
    first, last = "न".encode()[:2], "न".encode()[2:]
    halves = [
        entry("\ufffd", {"\ufffd": 0.6, "no": 0.4}, bytes=list(first)),
        entry("\ufffd", {"\ufffd": 0.5, "x\ufffd": 0.3}, bytes=list(last)),
    ]
    tokens = found(halves, "न")
    assert tokens is not None
    assert [said for said, _ in tokens[0].top] == [first, b"no"]  # the token itself, by its name
    assert [said for said, _ in tokens[1].top] == [last, UNKNOWN]
    assert found([entry("\ufffd", {"\ufffd": 0.6})], "न") is None  # without bytes nobody knows


@pytest.mark.parametrize(
    "wrong",
    [
        None, 5, "It is.", [], {}, [None], ["It is."], [{}], [{"token": "It is.", "logprob": -0.1}],
        [entry("It is.", {})],
        [entry("It is.", {"It is.": 1.0}, logprob=None)],
        [entry("It is.", {"It is.": 1.0}, logprob="0")],
        [entry("It is.", {"It is.": 1.0}, logprob=True)],
        [entry("It is.", {"It is.": 1.0}, logprob=math.nan)],
        [entry("It is.", {"It is.": 1.0}, logprob=0.5)],
        [entry("It is.", {"It is.": 1.0}, logprob=-(10**400))],
        [entry("It is.", {"It is.": 1.0}, token=5)],
        [entry("It is.", {"It is.": 1.0}, bytes=10**12)],
        [entry("It is.", {"It is.": 1.0}, bytes=[256])],
        [entry("It is.", {"It is.": 1.0}, bytes=["a"])],
        [entry("It is.", {"It is.": 1.0}, bytes=[73])],
        [entry("It is.", {"It is.": 1.0}, top_logprobs=5)],
        [entry("It is.", {"It is.": 1.0}, top_logprobs=[5])],
        [entry("It is.", {"It is.": 1.0}, top_logprobs=[{"token": "It is.", "logprob": math.nan}])],
        [entry("It is.", {"It is.": 1.0}, top_logprobs=[{"token": "It is.", "logprob": 3.0}])],
        [entry("It is.", {"It is.": 0.6, "He": 0.6})],
        [entry("It is.", {"It is.": 0.6} | {"He": math.nan})],
        [entry("It is.", {"It is.": 0.5} | {f"{n}": 1e-3 for n in range(250)})],
        [entry("It is.", {"It is.": 1.0}, top_logprobs=[{"token": "a" * 70_000, "logprob": -1.0}])],
    ],
    ids=range(29),
)  # fmt: skip
def test_what_is_garbled_is_left_out_and_the_text_is_used(wrong: Any) -> None:
    choice = {"message": {"content": "It is."}, "logprobs": {"content": wrong}}
    answer, _ = parse(json.dumps({"choices": [choice]}).encode(), Request((Message("user", "q"),)))
    assert (answer.text, answer.failure, answer.token_logprobs) == ("It is.", "", None)


def test_minus_infinity_is_no_mass() -> None:
    one = entry("It", {"It": 1.0})
    one["top_logprobs"] += [{"token": "He", "logprob": value} for value in (-9999.0, -math.inf)]
    tokens = found([one], "It")
    assert tokens is not None
    assert tokens[0].top[1:] == ((b"He", LEAST), (b"He", LEAST))


def test_lists_that_belong_to_the_neighbour_are_seen() -> None:
    for shift in (1, -1):
        lists = [one["top_logprobs"] for one in GOOD]
        moved = lists[shift:] + lists[:shift]
        assert found([one | {"top_logprobs": top} for one, top in zip(GOOD, moved, strict=True)], "It is.") is None
    drawn = entry("It", {"He": 0.6, "She": 0.3})  # drawn from the tail, below all that are listed
    assert found([drawn], "It") is not None
    assert found([drawn | {"logprob": math.log(0.4)}], "It") is None
    assert found([entry("It", {"It": 0.7}, logprob=math.log(0.2))], "It") is None


def test_only_usable_free_text_keeps_its_tokens() -> None:
    body = {"messages": [{"role": "user", "content": "q"}], "logprobs": True, "top_logprobs": 5}
    raw = complete(body, ScriptedTeacher({"q": "It is one.", "r": "It was."}))
    asked = Request((Message("user", "q"),))
    answer, _ = parse(json.dumps(raw).encode(), asked)
    assert answer.token_logprobs is not None
    assert b"".join(token.token for token in unpack(answer.token_logprobs)) == b"It is one."
    choices = Request(asked.messages, choices=("It is one.", "It was."))
    assert parse(json.dumps(raw).encode(), choices)[0].token_logprobs is None
    raw["choices"][0]["finish_reason"] = "length"
    assert parse(json.dumps(raw).encode(), asked)[0].token_logprobs is None


def test_a_secret_among_the_tokens_is_found() -> None:
    packed = pack([Token(b"a", -1.0, ((b"a", -1.0), (b"sk-secret", -2.0)))])
    assert holds(packed, b"sk-secret")
    assert not holds(packed, b"sk-others")
