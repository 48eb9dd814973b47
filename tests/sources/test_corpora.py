"""Packages that hold documents: by address and hash, whole or not at all, offline afterwards."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aasut.errors import DataError, HashMismatch
from aasut.progress import Progress
from aasut.sources.corpora import fetch
from packages import deb, publish, repository, tar, update, wheel

QUIET = Progress(quiet=True)
WHEEL = wheel("spells", {"spells/fire.json": b'{"name": "Fire"}'}, "Requires-Python: >=99\nRequires-Dist: nowhere\n")
RUN = b"import pathlib; pathlib.Path(r'%s').touch()\n"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty package index in a folder, the only one that pip knows of."""
    root = tmp_path / "simple"
    root.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", root.as_uri())
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    return root


def test_a_wheel_for_another_python_is_fetched_once_and_kept(index: Path, tmp_path: Path) -> None:
    publish(index, "spells", "spells-1.0-py3-none-any.whl", WHEEL)
    for _ in range(2):
        folder = fetch("pypi:spells==1.0", sha256(WHEEL), progress=QUIET, cache=tmp_path / "cache")
        assert (folder / "spells" / "fire.json").read_bytes() == b'{"name": "Fire"}'
        shutil.rmtree(index, ignore_errors=True)
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == [sha256(WHEEL), f"{sha256(WHEEL)}.lock"]


def test_what_was_cut_since_is_fetched_again(index: Path, tmp_path: Path) -> None:
    publish(index, "spells", "spells-1.0-py3-none-any.whl", WHEEL)
    for _ in range(2):
        folder = fetch("pypi:spells==1.0", sha256(WHEEL), progress=QUIET, cache=tmp_path / "cache")
        assert (folder / "spells" / "fire.json").stat().st_size == 16
        (folder / "spells" / "fire.json").write_bytes(b"")


def test_a_source_distribution_where_there_is_no_wheel_and_nothing_of_it_is_run(index: Path, tmp_path: Path) -> None:
    script = RUN % str(tmp_path / "ran").encode()
    data = tar([("codes-1.0/setup.py", script), ("codes-1.0/codes.txt", b"P0101")], "w:gz")
    publish(index, "codes", "codes-1.0.tar.gz", data)
    folder = fetch("pypi:codes==1.0", sha256(data), progress=QUIET, cache=tmp_path / "cache")
    assert (folder / "codes-1.0" / "codes.txt").read_bytes() == b"P0101"
    assert not (tmp_path / "ran").exists()


def test_a_debian_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = deb("guide-doc", "2.0-1", [("./usr/share/doc/guide/a.txt", b"An account.")])
    config = repository(tmp_path, [("guide-doc", "2.0-1", data)])
    monkeypatch.setenv("APT_CONFIG", str(config))
    update(config)
    folder = fetch("deb:guide-doc=2.0-1", sha256(data), progress=QUIET, cache=tmp_path / "cache")
    assert (folder / "usr/share/doc/guide/a.txt").read_bytes() == b"An account."
    shutil.rmtree(tmp_path / "repository")
    assert fetch("deb:guide-doc=2.0-1", sha256(data), progress=QUIET, cache=tmp_path / "cache") == folder


@pytest.mark.parametrize("data", [WHEEL, wheel("spells", {"../evil": b"x"})])
def test_another_file_than_the_pinned_one_or_a_hostile_one_leaves_nothing(
    index: Path, tmp_path: Path, data: bytes
) -> None:
    publish(index, "spells", "spells-1.0-py3-none-any.whl", data)
    pinned = "0" * 64 if data is WHEEL else sha256(data)
    with pytest.raises((HashMismatch, DataError), match=r"the recipe pins 000|would write outside"):
        fetch("pypi:spells==1.0", pinned, progress=QUIET, cache=tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [f"{pinned}.lock"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("pypi:spells", "does not pin a package"),
        ("pypi:spells==2.0", "pip could not get the wheel spells==2.0: No matching distribution"),
        ("deb:spells", "does not pin a Debian package"),
        ("hf:spells", "is no package"),
    ],
)
def test_what_cannot_be_had_is_one_clear_line(index: Path, tmp_path: Path, source: str, said: str) -> None:
    publish(index, "spells", "spells-1.0-py3-none-any.whl", WHEEL)
    with pytest.raises(DataError, match=said):
        fetch(source, "0" * 64, progress=QUIET, cache=tmp_path / "cache")


def test_two_processes_share_one_fetch(index: Path, tmp_path: Path) -> None:
    publish(index, "spells", "spells-1.0-py3-none-any.whl", WHEEL)
    code = (
        "import sys; from pathlib import Path; from aasut.progress import Progress; from aasut.sources.corpora import"
        " fetch; print(fetch('pypi:spells==1.0', sys.argv[1], progress=Progress(), cache=Path(sys.argv[2])))"
    )
    command = [sys.executable, "-c", code, sha256(WHEEL), str(tmp_path / "cache")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=60) for process in both]
    assert {out for out, _ in said} == {f"{tmp_path / 'cache' / sha256(WHEEL) / 'files'}\n"}
    assert sorted("Fetching" in errors for _, errors in said) == [False, True]
