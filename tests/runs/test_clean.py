from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aasut.errors import RecipeError, StoreError
from aasut.runs.clean import Rules
from aasut.store import Store

Plain = Callable[..., dict[str, Any]]
Command = Callable[..., Any]
DAY = 86400.0


def snapshot(root: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in root.rglob("*") if p.is_file()}


def age(root: Path, name: str, days: float, *, newest: bool = True) -> None:
    """Make a run, its newest or its oldest, so many days older than it is."""
    with closing(sqlite3.connect(root / ".store" / "store.db")) as database, database:
        order = "DESC" if newest else "ASC"
        (report,) = database.execute(f"SELECT report FROM run WHERE name = ? ORDER BY at {order}", (name,)).fetchone()
        database.execute("UPDATE run SET at = at - ? WHERE report = ?", (days * DAY, report))


def artefacts(root: Path) -> set[str]:
    return set(os.listdir(root / ".store" / "artefacts"))


def calls(root: Path) -> int:
    with closing(sqlite3.connect(root / ".store" / "ledger.db")) as database:
        return int(database.execute("SELECT COUNT(*) FROM call").fetchone()[0])


def test_nothing_is_deleted_without_yes(root: Path, aasut: Command, plain: Plain) -> None:
    before = snapshot(root)
    found = plain("runs", "clean", "--keep-runs", "0", "--root", root)
    assert len(found["runs"]) == 3
    assert not found["deleted"]
    shown = aasut("runs", "clean", "--keep-runs", "1", "--root", root, "--dry-run").stdout
    assert "would go: run words@" in shown
    assert "Nothing was deleted; --yes does it." in shown
    assert max(len(line) for line in shown.splitlines()) <= 100
    assert snapshot(root) == before


def test_what_a_kept_run_was_made_from_stays(root: Path, plain: Plain, earlier: str) -> None:
    """The two runs of `words` share their data; the earlier one goes."""
    size = sum(n for n, _ in snapshot(root / ".store" / "artefacts").values())
    found = plain("runs", "clean", "--keep-runs", "2", "--root", root, "--yes")
    assert [run["name"] for run in found["runs"]] == [earlier]
    assert sorted(p["stage"] for p in found["parts"]) == ["choose", "evaluate", "export", "label", "linear", "report"]
    assert size - sum(n for n, _ in snapshot(root / ".store" / "artefacts").values()) == found["bytes_freed"] > 0
    assert plain("runs", "verify", "--root", root)["problems"] == []
    assert [run["name"] for run in plain("runs", "list", "--root", root, "--all")["runs"]] == ["other", "words"]
    assert [n["stage"] for n in plain("runs", "tree", "words", "--root", root)["from"]] == ["evaluate"]
    assert len(plain("runs", "list", "--root", root)["unfinished"]) == 1


def test_a_run_that_went_costs_no_call_to_make_again(root: Path, aasut: Command, plain: Plain) -> None:
    before = calls(root)
    plain("runs", "clean", "--keep-runs", "0", "--root", root, "--yes")
    assert calls(root) == before > 0
    assert os.listdir(root / "words") == ["recipe.yaml"]  # what the run can be made from again
    assert os.listdir(root / "other") == ["recipe.yaml"]
    left = plain("runs", "list", "--root", root)
    assert (left["runs"], left["unknown"], left["earlier_runs"]) == ([], [], 0)
    flags = ["--root", root, "--quiet", "--json", "--set", "name=other", "--set", "seed=9"]
    again = aasut("run", root.parent / "recipe.yaml", *flags)
    assert json.loads(again.stdout)["calls_made_now"] == 0
    assert json.loads(again.stdout)["test_opened"] == 2  # clean-up does not make it forget


def test_age_spares_younger_runs(root: Path, plain: Plain, earlier: str) -> None:
    assert plain("runs", "clean", "--older-than", "2d", "--root", root, "--yes")["bytes_freed"] == 0
    age(root, "words", 40, newest=False)
    age(root, "other", 2.5)
    rules = ["--older-than", "2d", "--root", root]
    assert {run["name"] for run in plain("runs", "clean", *rules)["runs"]} == {earlier, "other"}
    assert {run["name"] for run in plain("runs", "clean", *rules, "--keep-runs", "2")["runs"]} == {earlier}
    assert {run["name"] for run in plain("runs", "clean", "--older-than", "5w", "--root", root)["runs"]} == {earlier}
    assert plain("runs", "clean", "--older-than", "1000h", "--root", root)["runs"] == []


def test_size_lets_as_many_go_as_it_takes(root: Path, plain: Plain, earlier: str, aasut: Command) -> None:
    whole = plain("runs", "clean", "--larger-than", "1GB", "--root", root)
    assert whole["runs"] == []
    wanted = (whole["bytes_before"] - 1000) / 1e3
    found = plain("runs", "clean", "--larger-than", f"{wanted}kB", "--root", root, "--yes")
    assert [run["name"] for run in found["runs"]] == [earlier]
    assert found["bytes_after"] <= wanted * 1e3
    kept = sum(n for n, _ in snapshot(root).values())
    databases = sum(path.stat().st_size for path in (root / ".store").iterdir() if path.is_file())
    assert kept - databases == found["bytes_after"]
    shown = aasut("runs", "clean", "--larger-than", "1kB", "--keep-runs", "1", "--root", root).stdout
    assert "That is still more than --larger-than" in shown


def test_unfinished_work_goes_by_age_alone(root: Path, plain: Plain) -> None:
    (work,) = (root / ".store" / "work").iterdir()
    assert plain("runs", "clean", "--keep-runs", "0", "--larger-than", "1B", "--root", root)["unfinished"] == []
    old = os.stat(work).st_mtime - 3 * DAY
    os.utime(work, (old, old))
    rules = ["--older-than", "2d", "--root", root]
    (going,) = plain("runs", "clean", *rules)["unfinished"]
    assert (going["stage"], going["fingerprint"]) == ("label", work.name)
    # `choose` of that run was finished a moment ago, and stays
    assert plain("runs", "clean", *rules)["parts"] == []
    (work / "file").write_text("touched just now")
    os.utime(work, (old, old))
    assert plain("runs", "clean", *rules, "--yes")["unfinished"] == []
    os.utime(work / "file", (old, old))
    with closing(sqlite3.connect(root / ".store" / "store.db")) as database, database:
        database.execute("UPDATE artefact SET created = created - ?", (3 * DAY,))
    found = plain("runs", "clean", *rules, "--yes")
    assert [part["stage"] for part in found["parts"]] == ["choose"]
    assert not work.exists()
    assert plain("runs", "list", "--root", root)["parts_of_unfinished_runs"]["number"] == 0
    assert plain("runs", "verify", "--root", root)["problems"] == []


def test_parts_that_unfinished_work_was_made_from_stay(root: Path, plain: Plain) -> None:
    """`broken` stopped in labelling: its data and choice stay even where every finished run goes."""
    with closing(sqlite3.connect(root / ".store" / "store.db")) as database, database:
        database.execute("UPDATE artefact SET created = created - ?", (9 * DAY,))
        database.execute("UPDATE run SET at = at - ?", (9 * DAY,))
    found = plain("runs", "clean", "--older-than", "2d", "--root", root, "--yes")
    assert len(found["runs"]) == 3
    with closing(sqlite3.connect(root / ".store" / "store.db")) as database:
        rows = database.execute("SELECT stage FROM artefact ORDER BY stage").fetchall()
    assert rows == [("choose",), ("data",)]
    assert plain("runs", "verify", "--root", root)["problems"] == []


def test_parts_that_a_finished_run_shares_with_unfinished_work_stay(tmp_path: Path, plain: Plain) -> None:
    def breaks(folder: Path) -> dict[str, Any]:
        raise StoreError("broken off")

    with Store(tmp_path / ".store") as store:
        data = store.stage("data", 1, {}, [], lambda _: {})
        report = store.stage("report", 1, [{"name": "done"}, "full"], [data], lambda _: {})
        store.finished("done", report)
        with pytest.raises(StoreError, match="broken off"):
            store.stage("label", 1, {}, [data], breaks)
    found = plain("runs", "clean", "--keep-runs", "0", "--root", tmp_path, "--yes")
    assert [part["stage"] for part in found["parts"]] == ["report"]
    assert artefacts(tmp_path) == {data.fingerprint}


def test_files_of_the_user_are_left(root: Path, aasut: Command) -> None:
    (root / "words" / "gold.csv").write_text("an hour of work")
    (root / "words" / "card.md").write_text("edited")
    shown = aasut("runs", "clean", "--keep-runs", "0", "--root", root, "--yes").stdout
    assert sorted(os.listdir(root / "words")) == ["card.md", "gold.csv", "recipe.yaml"]
    joined = shown.replace("\n", "")
    assert f"left: {root}/words/gold.csv" in joined
    assert f"left: {root}/words/card.md" in joined
    assert os.listdir(root / "other") == ["recipe.yaml"]


HOLDER = "import sys; from pathlib import Path; from aasut.store import Store\nwith Store(Path(sys.argv[1])):\n print('held', flush=True); sys.stdin.read()"  # noqa: E501


def test_nothing_is_deleted_under_a_run(root: Path, aasut: Command) -> None:
    before = snapshot(root / ".store" / "artefacts")
    command = [sys.executable, "-c", HOLDER, str(root / ".store")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        refused = aasut("runs", "clean", "--keep-runs", "0", "--root", root, "--yes")
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
        assert "Another aasut run is using" in refused.stderr
        shown = aasut("runs", "clean", "--keep-runs", "0", "--root", root)
        assert "A run is under way" in shown.stdout
        holder.kill()
    assert snapshot(root / ".store" / "artefacts") == before


KILLED = """
    import os, signal, sys
    from aasut.cli import main

    left = int(sys.argv[1])

    def watch(event, arguments):
        global left
        if event in ("os.remove", "os.rmdir"):
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

    sys.argv = ["aasut", *sys.argv[2:]]
    sys.addaudithook(watch)
    main()
"""


@pytest.mark.parametrize("removals", [0, 3, 20])
def test_a_kill_in_the_middle_leaves_a_store_that_verifies(root: Path, plain: Plain, removals: int) -> None:
    words = ["runs", "clean", "--keep-runs", "1", "--root", str(root), "--yes"]
    code = [sys.executable, "-c", textwrap.dedent(KILLED), str(removals), *words]
    killed = subprocess.run(code, capture_output=True, text=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert plain("runs", "verify", "--root", root)["problems"] == []
    assert [run["name"] for run in plain("runs", "list", "--root", root, "--all")["runs"]] == ["other"]
    recorded = {Path(p["path"]).name for p in plain("runs", "show", "other", "--root", root)["parts"]}
    assert recorded <= artefacts(root)
    rubbish = plain(*words)["without_record"]
    assert rubbish
    with closing(sqlite3.connect(root / ".store" / "store.db")) as database:
        assert artefacts(root) == {row[0] for row in database.execute("SELECT fingerprint FROM artefact")}
    assert plain("runs", "verify", "--root", root)["problems"] == []


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ([], "Nothing says what may go."),
        (["--older-than", "30"], "--older-than 30: this is not an age. Write for example 12h, 30d or 8w."),
        (["--older-than", "-3d"], "--older-than -3d: this is not an age."),
        (["--older-than", "3m"], "--older-than 3m: this is not an age."),
        (["--larger-than", "five GB"], "--larger-than five GB: this is not a size."),
        (["--larger-than", "5"], "--larger-than 5: this is not a size. Write for example 500MB or 5GB."),
        (["--larger-than", "1e3MB"], "--larger-than 1e3MB: this is not a size."),
        (["--keep-runs", "-1"], "--keep-runs -1 is no number of runs."),
    ],
)
def test_nonsense_is_one_line(flags: list[str], says: str, root: Path, aasut: Command) -> None:
    ran = aasut("runs", "clean", "--root", root, "--yes", *flags)
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (1, "", 1)
    assert says in ran.stderr
    assert (root / "words" / "report.json").exists()


def test_ages_and_sizes() -> None:
    assert Rules.of("36h", None, None).older_than == 36 * 3600
    assert Rules.of("30d", None, None).older_than == 30 * DAY
    assert Rules.of("1.5 w", None, None).older_than == 10.5 * DAY
    assert Rules.of(None, None, "5GB").larger_than == 5e9
    assert Rules.of(None, None, "1.5 kb").larger_than == 1500
    assert Rules.of(None, 0, None) == Rules(keep_runs=0)
    with pytest.raises(RecipeError):
        Rules.of("٣d", None, None)  # digits of another script
