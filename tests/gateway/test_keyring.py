from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aasut.errors import AasutError, StoreError
from aasut.gateway import keyring
from aasut.gateway.keys import FILE, Keys

NOW = 1_800_000_000.0


def test_commands_at_one_time_lose_no_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: keyring.add(tmp_path, f"key-{number}", NOW), range(24)))
    keys = Keys.load(tmp_path)
    found = {key.name for secret, _ in made if (key := keys.find(None, secret)) is not None}
    assert found == {f"key-{number}" for number in range(24)}
    assert not list(tmp_path.glob("*.partial"))


def test_secrets_and_ids_differ(tmp_path: Path) -> None:
    made = [keyring.new_secret() for _ in range(200)]
    assert len({clear for clear, _ in made}) == len({kept.id for _, kept in made}) == 200


def test_a_name_is_taken_once_and_for_all(tmp_path: Path) -> None:
    keyring.add(tmp_path, "shop", NOW)
    with pytest.raises(AasutError, match="There is a key shop already"):
        keyring.add(tmp_path, "shop", NOW)
    keyring.revoke(tmp_path, "shop")
    with pytest.raises(AasutError, match="There is a key shop already, revoked"):
        keyring.add(tmp_path, "shop", NOW)
    with pytest.raises(AasutError, match="The key shop is revoked"):
        keyring.rotate(tmp_path, "shop", NOW)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"usd_per_day": -1.0}, "--usd-per-day -1.0 cannot be"),
        ({"usd_per_month": float("inf")}, "--usd-per-month inf cannot be"),
        ({"requests_per_minute": 0}, "--requests-per-minute 0 cannot be"),
        ({"models": []}, "--models"),
    ],
)
def test_a_limit_that_is_none_is_refused(tmp_path: Path, limits: dict[str, object], said: str) -> None:
    with pytest.raises(AasutError, match=said):
        keyring.add(tmp_path, "shop", NOW, **limits)
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("name", ["", "two words", "-x", "a/b", "x" * 65, 'q"', "a\nb", "aасut"])
def test_names_are_plain(tmp_path: Path, name: str) -> None:
    with pytest.raises(AasutError, match="The name"):
        keyring.add(tmp_path, name, NOW)


def test_rotation_without_keeping_closes_all_secrets_before(tmp_path: Path) -> None:
    first, _ = keyring.add(tmp_path, "shop", NOW)
    second, _ = keyring.rotate(tmp_path, "shop", NOW, keep_s=1000)
    third, key = keyring.rotate(tmp_path, "shop", NOW)
    assert len(key.secrets) == 1
    keys = Keys.load(tmp_path, lambda: NOW)
    assert [keys.find(None, one) is not None for one in (first, second, third)] == [False, False, True]


def test_an_unknown_key_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(AasutError, match=r"There is no key 'x'. Add one first."):
        keyring.revoke(tmp_path, "x")
    keyring.add(tmp_path, "shop", NOW)
    with pytest.raises(AasutError, match=r"There is no key 'x'. There are: shop."):
        keyring.rotate(tmp_path, "x", NOW)


def test_a_failed_change_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    keyring.add(tmp_path, "shop", NOW)
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(ValueError), keyring.changed(tmp_path) as keys:
        keys.remove(keys.pop())
    assert (tmp_path / FILE).read_bytes() == before


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        keyring.add(tmp_path / "file" / "traffic", "shop", NOW)


def test_the_file_is_private_whatever_was_left_before(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        (tmp_path / f"{FILE}.partial").write_text("left by a kill")
        keyring.add(tmp_path, "shop", NOW)
    finally:
        os.umask(before)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
