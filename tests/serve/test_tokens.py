from __future__ import annotations

import math

from aasut.engine.base import Token
from aasut.serve.tokens import Opening, content, trimmed


def token(text: str, raw: bytes | None = None, top: tuple[tuple[bytes, float], ...] = ()) -> Token:
    return Token(text, text.encode() if raw is None else raw, -0.5, top)


def test_the_space_before_an_answer_goes_from_text_and_tokens() -> None:
    opening = Opening()
    assert opening.shown("\n", [token("\n")]) == ("", [])
    text, said = opening.shown(
        "  Hi you", [token(" "), token(" Hi", top=((b" Hi", -0.5), (b"Ho", -1.0))), token(" you")]
    )
    assert text == "Hi you"
    assert [one.text for one in said] == ["Hi", " you"]
    assert (said[0].raw, said[0].top) == (b"Hi", ((b"Hi", -0.5), (b"Ho", -1.0)))
    assert opening.shown("  more", [token("  more")]) == ("  more", [token("  more")])


def test_nothing_is_cut_from_an_answer_without_space() -> None:
    said = [token("a"), token(" b")]
    assert Opening().shown("a b", said) == ("a b", said)
    assert trimmed([], 3) == []


def test_tokens_have_openais_shape() -> None:
    parts = [token("a"), token("", b"\xc3"), token("é", b"\xa9"), token("x", b" x"), token("\ufffd", b"\xff")]
    found = content([*parts, Token("z", b"z", -math.inf, ((b"z", -math.inf), (b"\xc3", -1.0)))])
    assert "".join(entry["token"] for entry in found) == "aéx\ufffdz"
    assert [bytes(entry["bytes"]) for entry in found] == [b"a", b"\xc3", b"\xa9", b"x", b"\xff", b"z"]
    assert found[0] == {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}
    assert found[-1]["logprob"] == -9999.0
    assert found[-1]["top_logprobs"] == [
        {"token": "z", "logprob": -9999.0, "bytes": [122]},
        {"token": "\ufffd", "logprob": -1.0, "bytes": [195]},
    ]
