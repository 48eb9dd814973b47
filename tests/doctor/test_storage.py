from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

from aasut.doctor import storage
from aasut.store import Store
from examined import faults


def test_a_full_disk_and_a_small_one(tmp_path: Path) -> None:
    """Real file systems of 300 kB and of 30 MB, in a mount namespace of their own."""
    (tmp_path / "small").mkdir()
    looks = "import sys; from pathlib import Path; from aasut.doctor import storage; print([f.problem for f in storage.examine(Path(sys.argv[1]))][0])"  # noqa: E501
    for size, says in (
        ("300k", "cannot be written: No space left on device. Free some space"),
        ("30m", "Only 31.5 MB are free for runs"),
    ):
        script = 'mount -t tmpfs -o size="$1" tmpfs "$2" && "$3" -c "$4" "$2/runs"'
        words = ["sh", "-c", script, "sh", size, str(tmp_path / "small"), sys.executable, looks]
        ran = subprocess.run(["unshare", "--map-root-user", "--mount", *words], capture_output=True, text=True)
        assert says in ran.stdout, ran.stderr


def test_a_disk_that_refuses_large_files(tmp_path: Path) -> None:
    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    looks = "import sys; from pathlib import Path; from aasut.doctor import storage; print([f.problem for f in storage.examine(Path(sys.argv[1]))][0])"  # noqa: E501
    code = [sys.executable, "-c", looks, str(tmp_path)]
    ran = subprocess.run(code, capture_output=True, text=True, preexec_fn=limited)
    assert ran.stdout.startswith(f"{tmp_path} cannot be written: File too large. "), ran.stderr


def test_a_store_in_use_or_damaged(tmp_path: Path) -> None:
    with Store(tmp_path / ".store"):
        (held,) = faults(storage.examine(tmp_path))
    assert f"is in use by process {os.getpid()}" in held
    assert faults(storage.examine(tmp_path)) == []
    (tmp_path / ".store" / "store.db").write_text("this is no database, " * 100)
    (damaged,) = faults(storage.examine(tmp_path))
    assert "store.db cannot be opened: file is not a database" in damaged


def test_a_folder_in_which_no_database_can_be_kept(tmp_path: Path) -> None:
    """A path that is too long for the log beside the database, though not for the database."""
    deep = tmp_path
    while len(str(deep)) < 4000:
        deep /= "x" * min(200, 4040 - len(str(deep)))
    parts = deep.relative_to(tmp_path).parts
    here = os.getcwd()
    try:
        os.chdir(tmp_path)
        for part in parts:
            os.mkdir(part)
            os.chdir(part)
    finally:
        os.chdir(here)
    (fault,) = faults(iter([storage._database(deep, "--root")]))
    assert "A database cannot be kept in" in fault


def test_sqlite_is_really_tried(tmp_path: Path) -> None:
    found = {finding.name: finding for finding in storage.examine(tmp_path)}
    assert found["database"].value == f"SQLite {sqlite3.sqlite_version}, write-ahead log and locks work"
    assert os.listdir(tmp_path) == []
