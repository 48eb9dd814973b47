"""Redaction: keys and declared patterns never stay, in whatever JSON they are wrapped, and all else stays as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aasut.gateway.redact import BLOT, Redactor
from prose import Prose

PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----"
KEYS = {
    "openai": "sk-proj-abcDEF123456-xyz_99",
    "openai, letters": "sk-abcdefghijklmnopqrstuvwxyz",
    "anthropic": "sk-ant-api03-0123456789abcdef",
    "stripe": "sk_live_0123456789abcdef",
    "github": "ghp_" + "a1B2" * 9,
    "github, fine": "github_pat_" + "a1B2_" * 8,
    "gitlab": "glpat-abcdefghij0123456789",
    "slack": "xoxb-123456789012-abcdef",
    "google": "AIza" + "Sy01_-" * 6,
    "google, oauth": "ya29." + "a0Af" * 8,
    "aws": "AKIAIOSFODNN7EXAMPLE",
    "hugging face": "hf_" + "aB3d" * 9,
    "npm": "npm_" + "aB3d" * 9,
    "pypi": "pypi-AgEIcHlwaS5vcmcC" + "x1" * 20,
    "groq": "gsk_" + "aB3d" * 9,
    "xai": "xai-" + "aB3d" * 9,
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "private key": PEM,
    "private key, cut": PEM[:50],
}
KEPT = {
    "bearer": ("Authorization: Bearer ", "abc123def456ghi"),
    "bearer, small": ("authorization:\nbearer  ", "abc123def456ghi"),
    "parameter": ("https://host/path?apikey=", "0123456789abcdefXYZ"),
    "assignment": ("export OPENAI_API_KEY='", "0123456789abcdefXYZ"),
    "aws secret": ("aws_secret_access_key = ", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
}
HARMLESS = [
    "a task-based approach to risk-benefit evaluations of the 1990s", "use sk-learn for this", "desk-top-publishing",
    "the bearer of bad tidings came in 1815", "AKIA is a prefix", "data:image/png;base64,iVBORw0KGgoAIzaAKIA+sk/hf",
    "an api key is needed", "see the -----BEGIN----- of it", "ghp_short", "eyJ.eyJ", "chatcmpl-0123456789abcdefghij",
]  # fmt: skip


def escaped(text: str) -> str:
    """JSON in which every character is escaped."""
    units = text.encode("utf-16-be").hex()
    return '"' + "".join(f"\\u{units[place : place + 4]}" for place in range(0, len(units), 4)) + '"'


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_keys_are_blotted_out_of_texts_and_of_json_however_escaped(key: str) -> None:
    redactor = Redactor()
    for before, after in (("", ""), ("a ", " b"), ("\n", "\n"), ("k=", "&x"), ('"', '"'), ("é", "é")):
        tail = "" if key == PEM[:50] else after  # of one that was cut, all the rest goes
        text = f"{before}{key}{tail}"
        blotted = f"{before}{BLOT}{tail}"
        assert redactor.text(text) == blotted
        for raw in (json.dumps({"a": text}), json.dumps({"a": text}, ensure_ascii=False), f'{{"a": {escaped(text)}}}'):
            assert json.loads(redactor.body(raw.encode())) == {"a": blotted}
        nested = json.dumps({"function": {"arguments": json.dumps({"q": [text]})}}).encode()
        assert json.loads(json.loads(redactor.body(nested))["function"]["arguments"]) == {"q": [blotted]}
        assert key not in redactor.body(json.dumps({text: 1}).encode()).decode()


@pytest.mark.parametrize(("before", "key"), KEPT.values(), ids=KEPT)
def test_keys_without_a_shape_are_known_by_what_stands_before(before: str, key: str) -> None:
    redactor = Redactor()
    assert redactor.text(f"{before}{key} end") == f"{before}{BLOT} end"
    assert json.loads(redactor.body(json.dumps([f"{before}{key} end"]).encode())) == [f"{before}{BLOT} end"]


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_text_stays(text: str) -> None:
    raw = json.dumps({"a": text, "b": [1.10, None, True]}, indent=1).encode()
    assert Redactor().text(text) == text
    assert Redactor().body(raw) is raw


def test_prose_is_told_from_keys_without_parsing() -> None:
    prose, redactor = Prose(), Redactor()
    bodies = [json.dumps({"messages": [{"content": prose.document(2000)}]}).encode() for _ in range(200)]
    assert not any(redactor._may_hold_keys(raw) for raw in bodies)


def test_fields_named_after_keys_are_blotted() -> None:
    asked = {"api_key": "what ever", "x-api-key": "any thing", "secretAccessKey": "some thing", "monkey": "long enough"}
    schema = {"properties": {"api_key": {"type": "string"}}, "required": ["api_key"]}
    found = json.loads(Redactor().body(json.dumps({**asked, "schema": schema}).encode()))
    assert found == {**dict.fromkeys(asked, BLOT), "monkey": "long enough", "schema": schema}


@pytest.mark.parametrize("secret", ["plain-secret.1", 'with "quotes" and é', "\t§", "two\nlines"])
def test_given_secrets_are_blotted(secret: str) -> None:
    redactor = Redactor(secrets=["", secret])
    assert redactor.text(f"a{secret}b") == f"a{BLOT}b"
    for raw in (json.dumps([secret]), json.dumps([secret], ensure_ascii=False), f"[{escaped(secret)}]"):
        assert json.loads(redactor.body(raw.encode())) == [BLOT]


def test_declared_patterns_match_what_is_meant() -> None:
    redactor = Redactor([r'name: "José\n"', r"^\d{16}$", r"\bID\d+"])
    said: dict[str, Any] = {
        "a": 'x name: "José\n" y', "b": "4111111111111111", "c": "no 4111111111111111", "d": 4111111111111111,
        "e": "ID77", "usage": {"total": 4111111111111111}, "created": 4111111111111111, "f": True, "g": 1.5,
    }  # fmt: skip
    blotted = said | {"a": f"x {BLOT} y", "b": BLOT, "d": BLOT, "e": BLOT}
    for ascii_only in (True, False):
        assert json.loads(redactor.body(json.dumps(said, ensure_ascii=ascii_only).encode())) == blotted
        inner = json.dumps({"arguments": json.dumps(said, ensure_ascii=ascii_only)}).encode()
        assert json.loads(json.loads(redactor.body(inner))["arguments"]) == blotted


def test_log_probabilities_do_not_spell_it_out() -> None:
    def choice(*tokens: str, content: str | None = None) -> dict[str, Any]:
        probable = {"content": [{"token": token, "bytes": list(token.encode())} for token in tokens]}
        return {"message": {"content": "".join(tokens) if content is None else content}, "logprobs": probable}

    hidden, shown = choice("sk-01", "23456789", "abcdef"), choice("all", " well")
    unsaid = choice("sk-01", "23456789", "abcdef", content="…")
    raw = json.dumps({"choices": [hidden, shown, unsaid]}).encode()
    assert json.loads(Redactor().body(raw))["choices"] == [
        {"message": {"content": BLOT}, "logprobs": None}, shown, {"message": {"content": "…"}, "logprobs": None},
    ]  # fmt: skip


def test_a_name_that_comes_twice_hides_nothing() -> None:
    found = Redactor().body(b'{"a": "sk-0123456789abcdef", "a": "b"}')
    assert found == b'{"a":"b"}'


def test_json_stays_json() -> None:
    redactor = Redactor([r"secret.*$", r'"[^"]*"'])
    for raw in (
        b'{"a": "secret\\" b", "n": 1e999}',
        b'["\\ud800 secret"]',
        b'"secret"',
        b'{"a": "{\\"b\\": \\"c\\"}"}',
    ):
        assert BLOT in json.dumps(json.loads(redactor.body(raw)))


def test_what_is_no_json_is_blotted_as_text() -> None:
    redactor = Redactor([r'name: "José\n"'])
    assert redactor.body(b"\xff\xfe sk-0123456789abcdef \xff") == b"\xff\xfe [redacted] \xff"
    assert redactor.body(b'{"a": "name: \\"Jos\\u00e9\\n\\" and') == b'{"a": "[redacted] and'
    assert redactor.body(b"<p>all well</p>\\n") == b"<p>all well</p>\\n"
    deep = b"[" * 100_000 + b"sk-0123456789abcdef"
    assert b"sk-" not in redactor.body(deep)
    assert redactor.body(b"") == b""
