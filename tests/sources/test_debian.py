"""Debian packages by apt and dpkg-deb, from a repository on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from aasut.errors import DataError
from aasut.sources.debian import download, opened
from packages import deb, repository, update

BODY = deb("guide-doc", "1:2.0-1", [("./usr/share/doc/guide/a.txt", b"An account."), ("./usr/b.txt", b"B" * 9000)])


def contents(package: Path) -> dict[str, bytes]:
    with opened(package) as archive:
        return {info.name: archive.extractfile(info).read() for info in archive if info.isreg()}  # type: ignore[union-attr]


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    config = repository(tmp_path, [("guide-doc", "1:2.0-1", BODY)])
    monkeypatch.setenv("APT_CONFIG", str(config))
    return config


def test_a_pinned_version_is_fetched_whole_and_stays_when_the_repository_goes(apt: Path, tmp_path: Path) -> None:
    update(apt)
    found = download("guide-doc=1:2.0-1", tmp_path / "here")
    assert not found.is_symlink()
    assert found.read_bytes() == BODY
    assert list((tmp_path / "here").iterdir()) == [found]
    assert contents(found) == {"./usr/share/doc/guide/a.txt": b"An account.", "./usr/b.txt": b"B" * 9000}


def test_without_package_lists_the_remedy_is_an_update(apt: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Unable to locate package guide-doc\. .*run apt-get update"):
        download("guide-doc=1:2.0-1", tmp_path / "here")


def test_another_version_is_one_clear_line(apt: Path, tmp_path: Path) -> None:
    update(apt)
    with pytest.raises(DataError, match=r"Version '3\.0' for 'guide-doc' was not found"):
        download("guide-doc=3.0", tmp_path / "here")
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.parametrize(
    "pin", ["guide-doc", "guide-doc==1", "--help=1", "-o=1", "guide-doc=$(id)", "Guide=1", "a b=1"]
)
def test_what_pins_nothing_never_reaches_apt(pin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="does not pin a Debian package"):
        download(pin, tmp_path / "here")


def test_a_machine_without_apt_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.deb").write_bytes(BODY)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="This machine has no apt-get"):
        download("guide-doc=1:2.0-1", tmp_path / "here")
    with pytest.raises(DataError, match="This machine has no dpkg-deb"), opened(tmp_path / "a.deb"):
        pass


@pytest.mark.parametrize("cut", [0, 20, 300, len(BODY) - 4000])
def test_a_damaged_package_is_refused(cut: int, tmp_path: Path) -> None:
    (tmp_path / "a.deb").write_bytes(BODY[:cut])
    with pytest.raises(DataError, match=r"a\.deb cannot be read: "):
        contents(tmp_path / "a.deb")
