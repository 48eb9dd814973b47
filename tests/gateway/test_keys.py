from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path

import pytest

from aasut.errors import StoreError
from aasut.gateway import keyring
from aasut.gateway.keys import FILE, LENGTH, SECRET, Keys
from aasut.serve.protocol import Refusal

NOW = 1_800_000_000.0


class Clock:
    def __init__(self, at: float = NOW) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


def test_a_secret_finds_its_key_by_either_header(tmp_path: Path) -> None:
    secret, _ = keyring.add(tmp_path, "shop", NOW)
    other, _ = keyring.add(tmp_path, "desk", NOW)
    keys = Keys.load(tmp_path, Clock())
    for given in ((f"Bearer {secret}",), (f"bearer  {secret} ",), (None, secret), ("Basic dTpw", secret)):
        key = keys.find(*given)
        assert key is not None
        assert key.name == "shop"
    key = keys.find(f"Bearer {other}", secret)
    assert key is not None
    assert key.name == "desk"


@pytest.mark.parametrize(
    "wrong",
    ["", "Bearer", "Bearer ", "Basic {s}", "{s}", "Bearer {s}x", "Bearer x{s}", "Bearer {h}", "Bearer {s}\x00",
     "Bearer " + "é" * LENGTH, "Bearer " + "\ud800" * LENGTH, "Bearer " + "a" * 100_000],
)  # fmt: skip
def test_what_is_not_the_whole_secret_finds_nothing(tmp_path: Path, wrong: str) -> None:
    secret, _ = keyring.add(tmp_path, "shop", NOW)
    keys = Keys.load(tmp_path, Clock())
    assert keys.find(wrong.format(s=secret, h=hashlib.sha256(secret.encode()).hexdigest())) is None
    assert keys.find(None) is None


def test_every_character_of_a_secret_counts(tmp_path: Path) -> None:
    secret, _ = keyring.add(tmp_path, "shop", NOW)
    keys = Keys.load(tmp_path, Clock())
    assert len(secret) == LENGTH
    for at in range(LENGTH):
        other = "A" if secret[at] != "A" else "B"
        assert keys.find(f"Bearer {secret[:at]}{other}{secret[at + 1 :]}") is None


def test_a_secret_is_hashed_at_rest_and_its_file_private(tmp_path: Path) -> None:
    secret, key = keyring.add(tmp_path / "new" / "folder", "shop", NOW)
    path = tmp_path / "new" / "folder" / FILE
    text = path.read_text(encoding="utf-8")
    assert SECRET.fullmatch(secret)
    assert secret[-43:] not in text
    assert hashlib.sha256(secret.encode()).hexdigest() in text
    assert secret not in repr(key)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert secret not in repr(vars(Keys.load(tmp_path / "new" / "folder")))


def test_who_asks_is_told_what_is_wrong_and_never_the_secret(tmp_path: Path) -> None:
    clock = Clock()
    secret, _ = keyring.add(tmp_path, "shop", NOW, expires=NOW + 10)
    gone, _ = keyring.add(tmp_path, "gone", NOW)
    keyring.revoke(tmp_path, "gone")
    keys = Keys.load(tmp_path, clock)
    key = keys.identify(f"Bearer {secret}")
    assert key is not None
    assert key.name == "shop"
    clock.at = NOW + 10
    for given, said in (
        (None, "You didn't provide an API key"),
        (f"Bearer {secret}", "expired"),
        (f"Bearer {gone}", "revoked"),
        (f"Bearer {secret[:-1]}", "Incorrect API key"),
    ):
        with pytest.raises(Refusal, match=said) as caught:
            keys.identify(given)
        assert caught.value.status == 401
        assert caught.value.body["error"]["code"] == "invalid_api_key"
        assert caught.value.body["error"]["type"] == "invalid_request_error"
        assert secret[10:20] not in json.dumps(caught.value.body)


def test_without_keys_nobody_is_asked_for_one(tmp_path: Path) -> None:
    keys = Keys.load(tmp_path / "nothing here")
    assert not keys.wanted
    assert keys.identify(None) is None
    assert keys.identify("Bearer sk-of-the-upstream") is None


def test_a_change_of_the_file_is_taken_up(tmp_path: Path) -> None:
    first, _ = keyring.add(tmp_path, "first", NOW)
    keys = Keys.load(tmp_path, Clock())
    assert not keys.refresh()
    second, _ = keyring.add(tmp_path, "second", NOW)
    assert keys.find(None, second) is None
    assert keys.refresh()
    assert keys.find(None, second) is not None
    keyring.revoke(tmp_path, "first")
    assert keys.refresh()
    with pytest.raises(Refusal, match="revoked"):
        keys.identify(None, first)
    assert not keys.trouble


def test_keys_that_are_added_later_are_wanted_from_then_on(tmp_path: Path) -> None:
    keys = Keys.load(tmp_path)
    keyring.add(tmp_path, "first", NOW)
    assert keys.refresh()
    with pytest.raises(Refusal):
        keys.identify(None)


def test_the_old_secret_opens_as_long_as_was_said(tmp_path: Path) -> None:
    clock = Clock()
    old, _ = keyring.add(tmp_path, "shop", NOW)
    new, _ = keyring.rotate(tmp_path, "shop", NOW, keep_s=60)
    keys = Keys.load(tmp_path, clock)
    assert keys.find(None, old) is not None
    assert keys.find(None, new) is not None
    clock.at = NOW + 60
    assert keys.find(None, old) is None
    assert keys.find(None, new) is not None


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"version": 2, "keys": []}', '{"keys": [{"name": "x"}]}', '{"keys": [], "more": 1}', "\x00\xff"],
)
def test_a_damaged_file_keeps_the_old_keys_and_tells(tmp_path: Path, text: str) -> None:
    secret, _ = keyring.add(tmp_path, "shop", NOW)
    keys = Keys.load(tmp_path)
    path = tmp_path / FILE
    good = path.read_bytes()
    path.write_bytes(text.encode("latin-1"))
    assert not keys.refresh()
    assert f"{path} is damaged" in keys.trouble
    assert keys.find(None, secret) is not None
    with pytest.raises(StoreError, match="is damaged"):
        Keys.load(tmp_path)
    path.write_bytes(good)
    keys.refresh()
    assert not keys.trouble


def test_two_keys_cannot_have_one_name_or_one_id(tmp_path: Path) -> None:
    keyring.add(tmp_path, "shop", NOW)
    path = tmp_path / FILE
    found = json.loads(path.read_text(encoding="utf-8"))
    twice = found["keys"] * 2
    path.write_text(json.dumps({"version": 1, "keys": twice}), encoding="utf-8")
    with pytest.raises(StoreError, match="two keys"):
        Keys.load(tmp_path)
    twice[1] = {**twice[1], "name": "desk"}
    path.write_text(json.dumps({"version": 1, "keys": twice}), encoding="utf-8")
    with pytest.raises(StoreError, match="two keys"):
        Keys.load(tmp_path)


@pytest.mark.parametrize("how", ["gone", "empty"])
def test_a_gateway_with_keys_is_never_opened_by_a_lost_file(tmp_path: Path, how: str) -> None:
    secret, _ = keyring.add(tmp_path, "shop", NOW)
    keys = Keys.load(tmp_path)
    if how == "gone":
        (tmp_path / FILE).unlink()
    else:
        (tmp_path / FILE).write_text('{"version": 1, "keys": []}', encoding="utf-8")
    for _ in range(2):
        assert not keys.refresh()
        assert "holds no key any more" in keys.trouble
        assert keys.wanted
        assert keys.find(None, secret) is not None
    keyring.add(tmp_path, "desk", NOW)
    assert keys.refresh()
    assert not keys.trouble
    assert keys.find(None, secret) is None


@pytest.mark.parametrize(
    ("patterns", "model", "allowed"),
    [
        (None, "anything", True),
        (["gpt-4o*"], "gpt-4o-mini", True),
        (["gpt-4o*"], "GPT-4o", False),
        (["gpt-4o*"], "x-gpt-4o", False),
        (["a", "b?"], "b1", True),
        (["a", "b?"], "b", False),
        (["a"], "", False),
    ],
)
def test_models_are_allowed_by_pattern(
    tmp_path: Path, patterns: list[str] | None, model: str, *, allowed: bool
) -> None:
    _, key = keyring.add(tmp_path, "shop", NOW, models=patterns)
    assert key.allows(model) is allowed


def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    os.mkdir(tmp_path / FILE)
    with pytest.raises(StoreError, match=r"keys\.json: Is a directory"):
        Keys.load(tmp_path)
