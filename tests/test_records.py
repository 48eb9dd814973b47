from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aasut import records
from aasut.errors import StoreError
from aasut.files import connect, digest
from aasut.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as opened:
        yield opened


def nothing(_: Path) -> dict[str, Any]:
    """A build that writes nothing."""
    return {}


def test_lineage_puts_parents_before_children(store: Store) -> None:
    data = store.stage("data", 1, {}, [], nothing)
    choose = store.stage("choose", 3, {}, [data], nothing)
    label = store.stage("label", 1, {}, [data, choose], nothing)
    store.stage("unrelated", 1, {}, [data], nothing)
    report = store.stage("report", 1, {}, [label, choose], nothing)
    found = store.lineage(report)
    assert [entry["stage"] for entry in found] == ["data", "choose", "label", "report"]
    assert found[2]["parents"] == [data.fingerprint, choose.fingerprint]
    assert found[3]["parents"] == [label.fingerprint, choose.fingerprint]
    assert found[1] == {
        "stage": "choose", "version": 3, "fingerprint": choose.fingerprint, "content": choose.content,
        "parents": [data.fingerprint],
    }  # fmt: skip


def test_openings_are_counted_by_split(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        assert store.openings("abc") == 0
        store.open_split("abc", "evaluate")
        store.open_split("abc", "evaluate")
        store.open_split("def", "evaluate")
    with Store(tmp_path) as store:
        assert (store.openings("abc"), store.openings("def")) == (2, 1)


def test_finished_runs_are_recorded_by_name_and_report(store: Store) -> None:
    first, second = (store.stage("report", 1, [{"name": "a", "seed": seed}, "full"], [], nothing) for seed in (1, 2))
    store.finished("a", first)
    store.finished("a", second)
    store.finished("b", first)
    assert [(run.name, run.report) for run in store.runs()] == [
        ("b", first.fingerprint),
        ("a", second.fingerprint),
        ("a", first.fingerprint),
    ]
    store.finished("a", first)  # the same again is the newest, and stands there once
    newest = store.runs()[0]
    assert (newest.name, newest.report) == ("a", first.fingerprint)
    assert len(store.runs()) == 3
    assert store.settings(second.fingerprint) == [{"name": "a", "seed": 2}, "full"]
    assert store.settings("nothing") is None


def test_work_begun_is_known_by_its_stage_until_it_is_finished(store: Store) -> None:
    data = store.stage("data", 1, {}, [], nothing)
    seen: list[records.Attempt] = []

    def slow(folder: Path) -> dict[str, Any]:
        seen.extend(store.attempts().values())
        if len(seen) == 1:
            raise StoreError("broken off")
        return {}

    with pytest.raises(StoreError, match="broken off"):
        store.stage("label", 1, {}, [data], slow)
    (left,) = store.attempts().values()
    assert (left.stage, left.parents) == ("label", (data.fingerprint,))
    assert os.listdir(store.root / "work") == [left.fingerprint]
    assert store.stage("label", 1, {}, [data], slow).fingerprint == left.fingerprint
    assert store.attempts() == {}


def test_a_declaration_stands_once_its_split_was_opened(store: Store) -> None:
    first = store.declare("abc", 0.03, 0.95, ["accuracy", "macro_f1"])
    assert first == store.declared("abc")
    assert store.declare("abc", 0.03, 0.95, ["accuracy", "macro_f1"]) == first  # the time stays too
    second = store.declare("abc", 0.02, 0.95, ["accuracy"])
    assert (second.margin, second.metrics) == (0.02, ("accuracy",))
    assert second == store.declared("abc")
    store.open_split("abc", "evaluate")
    for changed in ((0.05, 0.95, ["accuracy"]), (0.02, 0.9, ["accuracy"]), (0.02, 0.95, ["accuracy", "macro_f1"])):
        assert store.declare("abc", *changed) == second
    assert store.declared("abc") == second
    assert store.declare("def", 0.05, 0.9, ["accuracy"]).margin == 0.05
    assert store.declared("ghi") is None


def test_a_split_opened_before_anything_was_recorded_takes_what_comes_first(store: Store) -> None:
    store.open_split("abc", "evaluate")
    first = store.declare("abc", 0.03, 0.95, ["accuracy"])
    assert store.declare("abc", 0.1, 0.95, ["accuracy"]) == first == store.declared("abc")


def test_what_is_forgotten_leaves_a_store_that_verifies(store: Store) -> None:
    data = store.stage("data", 1, {}, [], nothing)
    report = store.stage("report", 1, {}, [data], nothing)
    store.finished("a", report)
    store.forget([report.fingerprint], [report.fingerprint])
    assert (store.runs(), list(store.entries()), store.verify()) == ([], [data.fingerprint], [])
    assert report.path.is_dir()
    assert not store.stage("report", 1, {}, [data], nothing).reused


def test_runs_made_before_they_were_recorded_are_found_by_their_reports(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    old = connect(path, records.MIGRATIONS[:1])
    with old:
        for number, (stage, settings) in enumerate(
            [("report", '[{"name": "a"}, "full"]'), ("report", "{}"), ("data", '[{"name": "b"}]')]
        ):
            row = (f"f{number}", stage, 1, settings, "", "{}", 5.0 + number, 0.1)
            old.execute("INSERT INTO artefact VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    old.close()
    with Store(tmp_path, read_only=True) as store:
        assert store.runs() == [records.FinishedRun("a", "f0", 5.0)]


def test_the_migrations_shipped_so_far_stand_as_they_are() -> None:
    """Append-only: an entry that was shipped is never edited. Add a line here with each new entry."""
    from aasut.teacher import ledger

    assert [digest(" ".join(text.split()))[:16] for text in records.MIGRATIONS] == [
        "6c918777b1c11314",
        "ff49648bdd744d3f",
        "b10b37c6582932a0",
    ]
    assert [digest(" ".join(text.split()))[:16] for text in ledger.MIGRATIONS] == [
        "7802fc7d728e8af6",
        "c298aae5b345aec7",
        "1b1a5addadb0464b",
        "dd614ca994fd337a",
    ]


def test_the_newest_of_a_stage_from_exactly_these_parents(store: Store) -> None:
    data, other = store.stage("data", 1, 1, [], nothing), store.stage("data", 1, 2, [], nothing)
    assert store.newest("certify", [data]) is None
    first = store.stage("certify", 1, 0.05, [data], nothing)
    store.stage("certify", 1, 0.05, [data, other], nothing)
    store.stage("certify", 1, 0.05, [other], nothing)
    found = store.newest("certify", [data])
    assert found is not None
    assert found.fingerprint == first.fingerprint
    second = store.stage("certify", 1, 0.10, [data], nothing)
    found = store.newest("certify", [data])
    assert found is not None
    assert found.fingerprint == second.fingerprint
    assert store.made("certify", 1, 0.10, [data])
    assert not store.made("certify", 2, 0.10, [data])
