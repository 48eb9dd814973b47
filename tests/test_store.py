from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aasut.errors import ConservationError, StoreError
from aasut.files import connect
from aasut.records import MIGRATIONS
from aasut.store import Artefact, Store
from aasut.types import Conservation


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as opened:
        yield opened


def builder(text: str = "x", **facts: Any) -> tuple[Callable[[Path], dict[str, Any]], list[Path]]:
    """A build that writes one file, and the list of the folders it was called with."""
    calls: list[Path] = []

    def build(folder: Path) -> dict[str, Any]:
        calls.append(folder)
        (folder / "file.txt").write_text(text)
        return facts

    return build, calls


def test_a_stage_is_built_once(store: Store) -> None:
    build, calls = builder("hello", rows=3)
    first = store.stage("data", 1, {"a": 1}, [], build)
    second = store.stage("data", 1, {"a": 1}, [], build)
    assert len(calls) == 1
    assert (first.reused, second.reused) == (False, True)
    assert (second.path, second.content, second.facts) == (first.path, first.content, {"rows": 3})
    assert (first.path / "file.txt").read_text() == "hello"
    assert not calls[0].exists()
    assert os.listdir(store.root / "work") == []


def test_settings_version_name_and_parents_make_another_artefact(store: Store) -> None:
    build, calls = builder()
    one = store.stage("data", 1, {"a": 1}, [], build)
    two = store.stage("data", 1, {"a": 2}, [], build)
    made = [
        one,
        two,
        store.stage("data", 2, {"a": 1}, [], build),
        store.stage("other", 1, {"a": 1}, [], build),
        store.stage("data", 1, {"a": 1}, [one], build),
        store.stage("data", 1, {"a": 1}, [two], build),
        store.stage("data", 1, {"a": 1}, [one, two], build),
        store.stage("data", 1, {"a": 1}, [two, one], build),
    ]
    assert len({artefact.fingerprint for artefact in made}) == len(calls) == 8
    assert not any(artefact.reused for artefact in made)


def test_settings_are_compared_as_plain_data(store: Store, tmp_path: Path) -> None:
    build, calls = builder()
    store.stage("data", 1, {"b": np.float64(2.0), "a": tmp_path, "c": (1, 2)}, [], build)
    again = store.stage("data", 1, {"a": str(tmp_path), "c": [1, 2], "b": 2.0}, [], build)
    assert again.reused
    assert len(calls) == 1


def test_a_reopened_store_knows_its_artefacts(tmp_path: Path) -> None:
    build, calls = builder("hello", share=np.float64(0.5))
    with Store(tmp_path / "store") as store:
        first = store.stage("data", 1, {}, [], build)
    with Store(tmp_path / "store") as store:
        second = store.stage("data", 1, {}, [], build)
    assert second.reused
    assert second.facts == first.facts == {"share": 0.5}
    assert len(calls) == 1


def test_an_artefact_whose_folder_is_gone_is_built_again(store: Store) -> None:
    build, calls = builder()
    first = store.stage("data", 1, {}, [], build)
    (first.path / "file.txt").unlink()
    first.path.rmdir()
    assert store.verify() == [f"data {first.fingerprint}: its folder is gone"]
    again = store.stage("data", 1, {}, [], build)
    assert (again.reused, len(calls)) == (False, 2)
    assert store.verify() == []


def test_a_lost_database_does_not_block_the_folders(tmp_path: Path) -> None:
    build, _ = builder()
    with Store(tmp_path) as store:
        store.stage("data", 1, {}, [], build)
    for path in tmp_path.glob("store.db*"):
        path.unlink()
    with Store(tmp_path) as store:
        assert not store.stage("data", 1, {}, [], build).reused
        assert store.verify() == []


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from aasut.store import Store

    def build(folder):
        done = sorted(p.name for p in folder.iterdir())
        for part in range(3):
            if f"part-{part}" not in done:
                (folder / f"part-{part}").write_text(str(part))
                print("made", part, flush=True)
                if part == int(sys.argv[2]):
                    os.kill(os.getpid(), signal.SIGKILL)
        return {"parts": 3}

    with Store(Path(sys.argv[1])) as store:
        print("reused", store.stage("slow", 1, {}, [], build).reused)
"""


def killed(root: Path, part: int) -> subprocess.CompletedProcess[str]:
    code = textwrap.dedent(KILLED)
    return subprocess.run([sys.executable, "-c", code, str(root), str(part)], capture_output=True, text=True)


def test_a_killed_build_goes_on_where_it_was(tmp_path: Path) -> None:
    root = tmp_path / "store"
    first = killed(root, 1)
    assert (first.returncode, first.stdout) == (-signal.SIGKILL, "made 0\nmade 1\n")
    with Store(root) as store:
        assert store.database.execute("SELECT COUNT(*) FROM artefact").fetchone() == (0,)
        assert os.listdir(root / "artefacts") == []
    assert killed(root, 9).stdout == "made 2\nreused False\n"
    assert killed(root, 9).stdout == "reused True\n"
    with Store(root) as store:
        assert store.verify() == []


def test_a_failed_build_leaves_nothing_finished(store: Store) -> None:
    def build(folder: Path) -> dict[str, Any]:
        (folder / "half").write_text("x")
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        store.stage("data", 1, {}, [], build)
    assert os.listdir(store.root / "artefacts") == []
    assert store.database.execute("SELECT COUNT(*) FROM artefact").fetchone() == (0,)


@pytest.mark.parametrize(
    ("rows", "shares"),
    [
        (Conservation(10, 9), "9 kept, 0 dropped and 0 failed"),
        (Conservation(10, 5, {"duplicate": 2}, {"empty": 4}), "5 kept, 2 dropped and 4 failed"),
    ],
)
def test_lost_rows_stop_a_stage(store: Store, rows: Conservation, shares: str) -> None:
    good = Conservation(3, 2, {"duplicate": 1})
    build, calls = builder(conservation={"reading": good, "parting": rows})
    for _ in range(2):
        with pytest.raises(ConservationError, match=f"data: parting: 10 rows came in, but {shares}"):
            store.stage("data", 1, {}, [], build)
    assert len(calls) == 2
    assert os.listdir(store.root / "artefacts") == []
    assert store.database.execute("SELECT COUNT(*) FROM artefact").fetchone() == (0,)


def test_balanced_rows_are_recorded(store: Store) -> None:
    rows = Conservation(10, 6, {"duplicate": 3}, {"empty": 1})
    build, _ = builder(conservation={"parting": rows})
    assert store.stage("data", 1, {}, [], build).facts == {"conservation": {"parting": rows.as_dict()}}


def test_verify_finds_one_changed_byte(store: Store) -> None:
    build, _ = builder("hello")
    one = store.stage("data", 1, {}, [], build)
    store.stage("label", 1, {}, [one], build)
    assert store.verify() == []
    (one.path / "file.txt").write_text("hellp")
    assert store.verify() == [f"data {one.fingerprint}: its files changed"]


HOLDER = "import sys; from pathlib import Path; from aasut.store import Store\nwith Store(Path(sys.argv[1])):\n print('held', flush=True); sys.stdin.read()"  # noqa: E501


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match="Another aasut run is using") as caught, Store(tmp_path):
            pass
        assert caught.value.remedy
        holder.kill()  # a kill leaves no stale lock
    with Store(tmp_path) as store:
        assert store.verify() == []


def test_many_processes_at_once_on_a_fresh_folder_take_turns(tmp_path: Path) -> None:
    """Who comes second is refused in one line, never by a half-made database."""
    said: list[str] = []

    def race() -> None:
        for _ in range(20):
            try:
                with Store(tmp_path / "store"):
                    said.append("mine")
            except StoreError as error:
                said.append(str(error))

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said) == 80
    assert "mine" in said
    assert {text.split(" is using")[0] for text in said} <= {"mine", "Another aasut run"}


def test_a_store_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_text("this is no database, " * 100)
    with pytest.raises(StoreError, match=r"store\.db cannot be opened"), Store(tmp_path):
        pass


def test_a_full_disk_in_a_build_is_one_clear_line(store: Store) -> None:
    def build(folder: Path) -> dict[str, Any]:
        (folder / "done").write_text("kept")
        if not (folder / "file").exists():
            with open("/dev/full", "w") as file:
                file.write("x" * 99999)
        return {}

    with pytest.raises(StoreError, match="No space left for") as caught:
        store.stage("data", 1, {}, [], build)
    assert caught.value.remedy.startswith("Free some space and run the same command again")
    (work,) = (store.root / "work").iterdir()
    assert (work / "done").read_text() == "kept"
    (work / "file").touch()
    assert not store.stage("data", 1, {}, [], build).reused


def test_a_full_disk_under_the_database_is_one_clear_line(store: Store) -> None:
    (pages,) = store.database.execute("PRAGMA page_count").fetchone()
    store.database.execute(f"PRAGMA max_page_count = {pages}")
    build, _ = builder("x", long="y" * 100_000)
    with pytest.raises(StoreError, match="No space left for"):
        store.stage("data", 1, {}, [], build)
    store.database.execute("PRAGMA max_page_count = 100000")
    assert not store.stage("data", 1, {}, [], build).reused
    assert store.verify() == []


FULL = """
    import sys
    from pathlib import Path
    from aasut.errors import StoreError
    from aasut.store import Store, write_atomically

    def build(folder):
        write_atomically(folder / "file", b"x" * int(sys.argv[2]))
        return {}

    try:
        with Store(Path(sys.argv[1])) as store:
            for number in range(50):
                store.stage("data", 1, {"number": number}, [], build)
            print("finished")
    except StoreError as error:
        print(error)
"""


def test_a_real_limit_of_the_file_system(tmp_path: Path) -> None:
    """The system refuses files over 200 kB; later, with room, the same command goes on with what was done."""

    def run(size: int, limit: int) -> str:
        def limited() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        code = [sys.executable, "-c", textwrap.dedent(FULL), str(tmp_path / "store"), str(size)]
        ran = subprocess.run(code, capture_output=True, text=True, preexec_fn=limited if limit else None)
        assert ran.stderr == ""
        return ran.stdout

    assert run(300_000, 200_000).startswith("No space left for")
    assert os.listdir(tmp_path / "store" / "artefacts") == []
    assert run(300_000, 0) == "finished\n"
    assert len(os.listdir(tmp_path / "store" / "artefacts")) == 50


def test_artefacts_are_plain_values(store: Store) -> None:
    build, _ = builder(numbers=[np.int64(1), np.float32(0.5)])
    artefact = store.stage("data", 1, {}, [], build)
    assert isinstance(artefact, Artefact)
    assert json.loads(json.dumps(artefact.facts)) == {"numbers": [1, 0.5]}
    assert artefact.seconds >= 0
    assert isinstance(store.database, sqlite3.Connection)


def test_reading_takes_no_lock_and_changes_nothing(tmp_path: Path) -> None:
    build, _ = builder()
    with Store(tmp_path) as writer:
        data = writer.stage("data", 1, {}, [], build)
        with Store(tmp_path, read_only=True) as reader:
            assert reader.in_use() == f"process {os.getpid()}"
            later = writer.stage("label", 1, {}, [data], build)
            assert list(reader.entries()) == [data.fingerprint, later.fingerprint]
            assert reader.entries()[later.fingerprint].parents == (data.fingerprint,)
            with pytest.raises(StoreError, match="readonly database"):
                reader.forget([data.fingerprint])
    shutil.rmtree(data.path)
    with Store(tmp_path, read_only=True) as reader:
        assert reader.in_use() == ""
        assert reader.find(data.fingerprint) is None
        assert len(reader.entries()) == 2  # finding a gap is no reason to write
    with pytest.raises(StoreError, match="There are no runs in"), Store(tmp_path / "none" / ".store", read_only=True):
        pass
    assert not (tmp_path / "none").exists()


def test_a_store_on_a_read_only_disk_can_be_read(tmp_path: Path) -> None:
    """Bound to another place and remounted so that nothing can be written, in a mount namespace of its own."""
    build, _ = builder()
    with Store(tmp_path / "store") as writer:
        writer.stage("data", 1, {}, [], build)
    (tmp_path / "bound").mkdir()
    code = "import sys; from pathlib import Path; from aasut.store import Store\nwith Store(Path(sys.argv[1]), read_only=True) as s:\n print(len(s.entries()), s.verify())"  # noqa: E501
    script = 'mount --bind "$1" "$2" && mount -o remount,ro,bind "$2" && ! touch "$2/x" 2>&- && "$3" -c "$4" "$2"'
    words = ["sh", "-c", script, "sh", str(tmp_path / "store"), str(tmp_path / "bound"), sys.executable, code]
    ran = subprocess.run(["unshare", "--map-root-user", "--mount", *words], capture_output=True, text=True)
    assert ran.stdout == "1 []\n", ran.stderr


def test_a_newer_store_is_not_read(tmp_path: Path) -> None:
    with Store(tmp_path):
        pass
    connect(tmp_path / "store.db", (*MIGRATIONS, "CREATE TABLE later (x TEXT);")).close()
    with pytest.raises(StoreError, match="newer aasut"), Store(tmp_path, read_only=True):
        pass


BESIDE = """
import sys, time
from pathlib import Path
from aasut.store import Store

def build(folder):
    time.sleep(0.3)
    with (Path(sys.argv[1]).parent / "built").open("a") as file:
        file.write("x")
    return {}

with Store(Path(sys.argv[1]), beside=True) as store:
    store.stage("data", 1, {"a": 1}, [], build)
"""


def test_processes_beside_the_one_that_started_them_build_a_stage_once(store: Store) -> None:
    command = [sys.executable, "-c", BESIDE, str(store.root)]
    children = [subprocess.Popen(command) for _ in range(3)]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    assert (store.root.parent / "built").read_text() == "x"
    build, calls = builder()
    assert store.stage("data", 1, {"a": 1}, [], build).reused
    assert calls == []


def test_no_process_works_beside_one_that_did_not_start_it(tmp_path: Path) -> None:
    with Store(tmp_path / "store"):
        pass
    with (
        pytest.raises(StoreError, match="is not held by the process that started this one"),
        Store(tmp_path / "store", beside=True),
    ):
        pass
