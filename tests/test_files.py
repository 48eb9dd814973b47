from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from aasut.errors import DataError, StoreError
from aasut.files import TIMINGS, connect, connect_read_only, digest, disk_errors, folder_hash, write_atomically


def test_the_content_hash_sees_names_and_bytes_and_no_timings(tmp_path: Path) -> None:
    def folder(name: str, files: dict[str, str]) -> str:
        for path, text in files.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_text(text)
        return folder_hash(tmp_path / name)

    same = folder("a", {"x": "1", "sub/y": "2"})
    assert folder("b", {"sub/y": "2", "x": "1", TIMINGS: "9.5"}) == same
    others = [
        folder("c", {"x": "1", "sub/y": "3"}),
        folder("d", {"x": "1", "y": "2"}),
        folder("e", {"x": "1"}),
        folder("f", {"x": "1", "sub/y": "2", "z": ""}),
    ]
    assert len({same, *others}) == 5


def test_digests_follow_the_values_alone() -> None:
    assert digest({"a": 1, "b": "न"}) == digest({"b": "न", "a": 1})
    assert digest(["a", "b"]) != digest(["ab"])
    assert digest({"a": 1}) != digest({"a": "1"})
    assert digest(["\ud800"]) != digest(["\ud801"])
    with pytest.raises(TypeError, match="cannot be recorded"):
        digest(object())


def test_files_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.json"
    write_atomically(path, "é")
    assert path.read_bytes() == b"\xc3\xa9"
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["file.json"]
    path.with_name("file.json.partial").symlink_to("/dev/full")
    with pytest.raises(StoreError, match=r"No space left for .*file\.json\. Free some space"):
        write_atomically(path, "x" * 9999)
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(28, "No space left on device"), "No space left for"),
        (RuntimeError("I/O error: File too large (os error 27)"), "No space left for"),  # as safetensors says it
        (PermissionError(13, "Permission denied"), "cannot be written: Permission denied"),
        (FileNotFoundError(2, "No such file"), "was deleted or moved while it was in use"),
    ],
)
def test_what_the_system_says_of_a_disk_is_one_clear_line(tmp_path: Path, error: Exception, says: str) -> None:
    with pytest.raises(StoreError, match=says) as caught, disk_errors(tmp_path / "gone"):
        raise error
    assert str(tmp_path / "gone") in caught.value.message
    assert caught.value.remedy


def test_an_error_that_is_not_the_disk_s_stays_what_it_is(tmp_path: Path) -> None:
    for error in (DataError("the disk is full of errors"), ValueError("os of no number"), FileNotFoundError(2, "x")):
        with pytest.raises(type(error)) as caught, disk_errors(tmp_path):  # the folder is still there
            raise error
        assert caught.value is error


TWO = ("CREATE TABLE a (x TEXT);", "ALTER TABLE a ADD COLUMN y TEXT DEFAULT 'new';")


def test_migrations_go_on_from_where_a_database_stands(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    old = connect(path, TWO[:1])
    with old:
        old.execute("INSERT INTO a VALUES ('kept')")
    old.close()
    new = connect(path, TWO)
    assert new.execute("SELECT * FROM a").fetchall() == [("kept", "new")]
    assert new.execute("PRAGMA user_version").fetchone() == (2,)
    new.close()
    again = connect(path, TWO)
    assert again.execute("SELECT * FROM a").fetchall() == [("kept", "new")]
    again.close()


def test_a_newer_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    connect(path, TWO).close()
    with pytest.raises(StoreError, match="newer aasut"):
        connect(path, TWO[:1])
    assert connect(path, TWO).execute("PRAGMA user_version").fetchone() == (2,)


def test_a_migration_that_breaks_leaves_the_database_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    connect(path, TWO[:1]).close()
    with pytest.raises(StoreError, match="cannot be used: no such table: nowhere"):
        connect(path, (TWO[0], "CREATE TABLE b (x TEXT); INSERT INTO nowhere VALUES (1);"))
    database = connect(path, TWO)
    assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("a",)]
    database.close()


def test_commits_wait_for_the_disk(tmp_path: Path) -> None:
    database = connect(tmp_path / "a.db", TWO)
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert database.execute("PRAGMA synchronous").fetchone() == (2,)
    database.close()


def test_a_database_is_read_without_changing_it(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    connect(path, TWO[:1]).close()
    assert connect_read_only(path, TWO) is None  # an older one
    with pytest.raises(StoreError, match="newer aasut"):
        connect_read_only(path, ())
    reading = connect_read_only(path, TWO[:1])
    assert reading is not None
    with closing(reading), pytest.raises(sqlite3.OperationalError, match="readonly"):
        reading.execute("INSERT INTO a VALUES ('new')")


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_text("this is no database, " * 100)
    for opening in (connect, connect_read_only):
        with pytest.raises(StoreError, match=r"a\.db cannot be opened"):
            opening(tmp_path / "a.db", TWO)
    with pytest.raises(StoreError, match=r"nowhere.*cannot be used: unable to open"):
        connect(tmp_path / "nowhere" / "a.db", TWO)
