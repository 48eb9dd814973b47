from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import typer

from aasut.commands.keys import app
from aasut.errors import AasutError
from aasut.gateway.keys import SECRET, Keys


def command(folder: Path, *words: str) -> tuple[str, str]:
    """Standard output and standard error of `keys WORDS --store FOLDER`."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        assert not typer.main.get_command(app).main([*words, "--store", str(folder)], standalone_mode=False)
    return out.getvalue(), err.getvalue()


def test_a_key_from_its_making_to_its_end(tmp_path: Path) -> None:
    out, err = command(tmp_path, "add", "shop", "--model", "gpt-4o*", "--usd-per-day", "2.5", "--expires", "90d")
    secret = out.strip()
    assert SECRET.fullmatch(secret)
    assert secret not in err
    shown, _ = command(tmp_path, "list")
    assert shown.startswith("shop, active, since 2")
    assert "models gpt-4o*, usd per day 2.5" in shown
    new = command(tmp_path, "rotate", "shop", "--keep", "1h")[0].strip()
    keys = Keys.load(tmp_path)
    assert keys.find(None, secret) == keys.find(None, new) is not None
    assert command(tmp_path, "revoke", "shop")[0] == "shop is revoked.\n"
    assert "shop, revoked" in command(tmp_path, "list")[0]
    assert secret[-43:] not in shown


def test_every_limit_is_kept(tmp_path: Path) -> None:
    command(tmp_path, "add", "x", "--requests-per-minute", "3", "--tokens-per-minute", "400", "--usd-per-day", "0",
            "--usd-per-month", "7", "--concurrency", "2", "--model", "a", "--model", "b")  # fmt: skip
    key = Keys.load(tmp_path).keys[0]
    assert (key.requests_per_minute, key.tokens_per_minute, key.usd_per_day, key.usd_per_month, key.concurrency) == (
        3, 400, 0, 7, 2,
    )  # fmt: skip
    assert key.models == ("a", "b")


def test_json_for_all(tmp_path: Path) -> None:
    made = json.loads(command(tmp_path, "add", "shop", "--expires", "2099-12-31", "--json")[0])
    assert SECRET.fullmatch(made["secret"])
    assert made["expires"] == "2100-01-01T00:00:00Z"
    listed = command(tmp_path, "list", "--json")[0]
    assert json.loads(listed)["keys"] == [{name: value for name, value in made.items() if name != "secret"}]
    assert "sha256" not in listed
    assert json.loads(command(tmp_path, "rotate", "shop", "--json")[0])["secret"] != made["secret"]
    assert json.loads(command(tmp_path, "revoke", "shop", "--json")[0])["state"] == "revoked"


def test_no_keys(tmp_path: Path) -> None:
    assert command(tmp_path, "list")[0] == f"No keys in {tmp_path}.\n"
    assert json.loads(command(tmp_path, "list", "--json")[0]) == {"keys": []}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["add", "x", "--expires", "soon"], "--expires soon: this is no time"),
        (["add", "x", "--expires", "2001-01-01"], "--expires 2001-01-01 is past"),
        (["add", "x", "--expires", "999999999d"], "is too far off"),
        (["add", "x", "--expires", "9999-12-31"], "is too far off"),
        (["rotate", "x", "--keep", "1y"], "--keep 1y: this is no length of time"),
        (["add", "x y"], "The name 'x y' cannot be"),
        (["revoke", "x"], "There is no key 'x'"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, words: list[str], said: str) -> None:
    with pytest.raises(AasutError, match=said) as caught:
        command(tmp_path, *words)
    assert "\n" not in str(caught.value)
