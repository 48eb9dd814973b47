from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

Plain = Callable[..., dict[str, Any]]
Command = Callable[..., Any]
HOLDER = "import sys; from pathlib import Path; from aasut.store import Store\nwith Store(Path(sys.argv[1])):\n print('held', flush=True); sys.stdin.read()"  # noqa: E501


def part(root: Path, plain: Plain, run: str, stage: str) -> Path:
    parts = plain("runs", "show", run, "--root", root)["parts"]
    return next(Path(p["path"]) for p in parts if p["stage"] == stage)


def snapshot(root: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in root.rglob("*") if p.is_file()}


def test_sound_runs_verify_and_nothing_is_changed(root: Path, aasut: Command, plain: Plain) -> None:
    before = snapshot(root)
    found = plain("runs", "verify", "--root", root)
    assert (found["problems"], found["published_files"]) == ([], 12)
    assert found["artefacts"] == len(os.listdir(root / ".store" / "artefacts"))
    ran = aasut("runs", "verify", "words", "--root", root)
    assert (ran.returncode, ran.stdout) == (0, "All is as it was made: 7 parts in the store, 6 published files.\n")
    assert snapshot(root) == before


def test_every_kind_of_damage_is_one_line(root: Path, aasut: Command, plain: Plain) -> None:
    label = part(root, plain, "words", "label")
    export = part(root, plain, "words", "export")
    other = part(root, plain, "other", "choose")
    with (label / "labels.jsonl").open("r+b") as file:
        file.seek(10)
        file.write(b"#")
    shutil.rmtree(other)
    (root / "words" / "student" / "vocabulary.json").unlink()
    copy = root / "words" / "report.html"
    copy.write_bytes(copy.read_bytes().replace(b"<html", b"<HTML", 1))  # of the same size
    (root / "words" / "student.gguf").write_text("of an earlier run")
    (root / "words" / "notes.txt").write_text("the user's own")
    expected = {
        f"label {label.name}: its files changed",
        f"{root}/words/student/vocabulary.json: it is missing",
        f"{root}/words/report.html: it is not the file that the run made",
        f"{root}/words/student.gguf: it is left over from another run of this name",
    }
    assert set(plain("runs", "verify", "words", "--root", root, code=1)["problems"]) == expected
    ran = aasut("runs", "verify", "--root", root, "--quiet")
    assert (ran.returncode, ran.stderr) == (1, "")
    *lines, remedy = ran.stdout.splitlines()
    assert set(lines) == expected | {f"choose {other.name}: its folder is gone"}
    assert remedy.startswith("Delete the named file or folder and run the recipe again")
    assert export.is_dir()


def test_what_the_remedy_says_mends_it(root: Path, aasut: Command, plain: Plain) -> None:
    label = part(root, plain, "other", "label")
    (label / "labels.jsonl").write_text("")
    shutil.rmtree(label)
    (root / "other" / "report.html").unlink()
    recipe = root.parent / "recipe.yaml"
    flags = ["--root", root, "--quiet", "--set", "name=other", "--set", "seed=9"]
    assert aasut("run", recipe, *flags).returncode == 0
    assert plain("runs", "verify", "--root", root)["problems"] == []


def test_a_folder_that_was_taken_away_whole_is_no_damage(root: Path, plain: Plain) -> None:
    shutil.rmtree(root / "words")
    assert plain("runs", "verify", "--root", root)["problems"] == []


@pytest.mark.parametrize("name", ["store.db", "ledger.db"])
def test_damaged_databases_are_found(root: Path, aasut: Command, name: str) -> None:
    path = root / ".store" / name
    with closing(sqlite3.connect(path)) as database:
        table = "opening" if name == "store.db" else "call"
        page = database.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0]
        size = database.execute("PRAGMA page_size").fetchone()[0]
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * 64)
    ran = aasut("runs", "verify", "--root", root, "--quiet")
    assert ran.returncode == 1
    assert str(path) in ran.stdout


def test_a_store_without_a_record_of_a_part_is_told(root: Path, plain: Plain) -> None:
    label = part(root, plain, "words", "label")
    with closing(sqlite3.connect(root / ".store" / "store.db")) as database, database:
        database.execute("DELETE FROM artefact WHERE fingerprint = ?", (label.name,))
    (problem,) = plain("runs", "verify", "words", "--root", root, code=1)["problems"]
    assert problem == f"words: there is no record of its part {label.name}"
    assert '"gone": true' in str(plain("runs", "tree", "words", "--root", root)).replace("'gone': True", '"gone": true')


def test_a_run_under_way_is_no_hindrance(root: Path, aasut: Command) -> None:
    command = [sys.executable, "-c", HOLDER, str(root / ".store")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        ran = aasut("runs", "verify", "--root", root, "--quiet")
        assert ran.returncode == 0
        assert ran.stdout.startswith(f"A run is under way (process {holder.pid})")
        refused = aasut("run", root.parent / "recipe.yaml", "--root", root, "--quiet")
        assert f"Another aasut run is using {root}/.store (process {holder.pid})." in refused.stderr
        assert f"process {holder.pid}" in aasut("runs", "list", "--root", root).stdout
        holder.kill()


def test_a_store_of_an_older_aasut_gets_its_runs(root: Path, plain: Plain) -> None:
    """Runs that were made before runs were recorded are found by their reports."""
    before = plain("runs", "list", "--root", root, "--all")
    with closing(sqlite3.connect(root / ".store" / "store.db")) as database, database:
        database.executescript("DROP TABLE run; DROP TABLE attempt; DROP TABLE declaration; PRAGMA user_version = 1;")
    after = plain("runs", "list", "--root", root, "--all")
    assert [run["name"] for run in after["runs"]] == [run["name"] for run in before["runs"]]
    assert after["unfinished"][0]["stage"] is None
