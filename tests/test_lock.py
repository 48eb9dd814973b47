from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from aasut.errors import StoreError
from aasut.lock import alone, holder, take

HOLDER = """
import sys
from pathlib import Path
from aasut.lock import take
lock = take(Path(sys.argv[1]))
print("held" if lock else "refused", flush=True)
sys.stdin.read()
"""


def test_one_process_has_it_and_a_kill_gives_it_back(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert holder(path) == ""
    words = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert holder(path) == f"process {other.pid}"
        assert take(path) is None
        other.kill()
    assert holder(path) == ""
    lock = take(path)
    assert lock is not None
    assert path.read_text() == f"{os.getpid()}\n"
    lock.close()


def test_who_only_looks_turns_no_one_away(tmp_path: Path) -> None:
    """`holder` has the lock for an instant; who would take it in that instant waits for it."""
    path = tmp_path / "lock"
    path.touch()
    with path.open() as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        release = threading.Timer(0.005, fcntl.flock, (look, fcntl.LOCK_UN))
        release.start()
        lock = take(path)
        assert lock is not None
        lock.close()
        release.join()


def test_a_holder_without_a_number_is_another_process(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert holder(tmp_path / "lock") == "another process"


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written: Not a directory"):
        take(tmp_path / "file" / "lock")
    assert holder(tmp_path / "file" / "lock") == ""


def test_others_wait_for_who_works_alone(tmp_path: Path) -> None:
    path, seen = tmp_path / "new" / "lock", []

    def other() -> None:
        with alone(path):
            seen.append("other")

    with alone(path):
        waiting = threading.Thread(target=other)
        waiting.start()
        waiting.join(0.05)
        seen.append("first")
    waiting.join()
    assert seen == ["first", "other"]
