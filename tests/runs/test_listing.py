from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aasut.runs.catalogue import amount
from aasut.store import file_hash, folder_hash

Plain = Callable[..., dict[str, Any]]


def bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_runs_are_listed_with_what_their_reports_say(made: Path, plain: Plain) -> None:
    found = plain("runs", "list", "--root", made / "runs")
    assert [run["name"] for run in found["runs"]] == ["other", "words"]
    words = found["runs"][1]
    report = json.loads((made / "runs" / "words" / "report.json").read_text())
    assert (words["scale"], words["verdict"]) == ("full", report["verdict"]["result"])
    assert (words["teacher_accuracy"], words["student_accuracy"]) == (
        report["teacher"]["accuracy"],
        report["student"]["accuracy"],
    )
    assert words["folder"] == str(made / "runs" / "words")
    assert 0 < time.time() - words["at"] < 600
    parts = {entry["fingerprint"] for entry in report["lineage"]} | {words["fingerprint"]}
    store = made / "runs" / ".store"
    results = bytes_below(made / "runs" / "words") - (made / "runs" / "words" / "recipe.yaml").stat().st_size
    assert words["bytes"] == sum(bytes_below(store / "artefacts" / part) for part in parts) + results
    data = report["lineage"][0]["fingerprint"]  # the earlier run of this name was made from it too
    assert words["bytes"] - words["bytes_unshared"] == bytes_below(store / "artefacts" / data)
    assert found["bytes"]["store"] == bytes_below(store / "artefacts") + bytes_below(store / "work")
    assert (found["earlier_runs"], found["unknown"], found["in_use_by"]) == (1, [], "")


def test_unfinished_work_is_listed_by_stage(made: Path, plain: Plain) -> None:
    found = plain("runs", "list", "--root", made / "runs")
    (work,) = found["unfinished"]
    assert work["stage"] == "label"
    assert os.listdir(made / "runs" / ".store" / "work") == [work["fingerprint"]]
    assert found["parts_of_unfinished_runs"]["number"] == 1  # choose; its data are those of `words`


def test_earlier_runs_are_listed_on_request(made: Path, plain: Plain, earlier: str) -> None:
    found = plain("runs", "list", "--root", made / "runs", "--all")
    assert [run["name"] for run in found["runs"]] == ["other", "words", earlier]
    first, second = found["runs"][2], found["runs"][1]
    assert (first["teacher_accuracy"], first["folder"]) == (1.0, None)
    assert second["teacher_accuracy"] < 1


def test_the_list_fits_a_terminal(made: Path, aasut: Callable[..., Any]) -> None:
    shown = aasut("runs", "list", "--root", made / "runs").stdout
    assert max(len(line) for line in shown.splitlines()) <= 100
    line = next(line for line in shown.splitlines() if line.startswith(" words"))
    assert "undecided" in line
    assert "1 earlier run under these names: --all lists them." in shown
    assert "Unfinished: label, begun " in shown
    assert "1 finished part of runs that did not finish" in shown


def test_gone_damaged_and_foreign_folders_are_told_apart(root: Path, plain: Plain, aasut: Callable[..., Any]) -> None:
    shutil.move(root / "other", root / "brought")
    (
        root / ".store" / "artefacts" / plain("runs", "list", "--root", root)["runs"][1]["fingerprint"] / "report.json"
    ).write_text("{")
    found = plain("runs", "list", "--root", root)
    assert [run["folder"] for run in found["runs"]] == [None, str(root / "words")]
    assert found["runs"][1]["verdict"] is None
    assert [(folder["name"], folder["verdict"]) for folder in found["unknown"]] == [("brought", "undecided")]
    shown = aasut("runs", "list", "--root", root).stdout
    assert "other: its folder is gone" in shown
    assert "not in the store" in shown
    ran = aasut("runs", "show", "words", "--root", root)
    assert (ran.returncode, ran.stderr.count("\n")) == (1, 1)
    assert "it is damaged" in ran.stderr


def test_a_run_is_shown_again(made: Path, aasut: Callable[..., Any], plain: Plain) -> None:
    root = made / "runs"
    found = plain("runs", "show", "words", "--root", root)
    assert found["report"] == json.loads((root / "words" / "report.json").read_text())
    assert found["files"] == [
        {"path": str(root / "words" / "student"), "sha256": folder_hash(root / "words" / "student")}
    ]
    assert (found["test_opened"], found["report"]["test_opened"]) == (2, 2)
    assert {part["stage"]: folder_hash(Path(part["path"])) for part in found["parts"]} == {
        part["stage"]: part["content"] for part in found["parts"]
    }
    shown = aasut("runs", "show", f"{root}/words/").stdout  # a folder will do
    assert "The student" in shown or "Not decided." in shown
    assert "was opened 2 times so far, 2 when this report was made" in shown
    assert file_hash(root / "words" / "report.json") == file_hash(Path(found["parts"][-1]["path"]) / "report.json")
    assert max(len(line) for line in shown.splitlines()) <= 100 + len(str(root))


def test_an_earlier_run_is_shown_from_the_store(made: Path, plain: Plain, earlier: str) -> None:
    found = plain("runs", "show", earlier, "--root", made / "runs")
    assert found["folder"] is None
    assert found["report"]["teacher"]["accuracy"] == 1
    assert (found["test_opened"], found["report"]["test_opened"]) == (2, 1)
    assert all(Path(file["path"]).exists() for file in found["files"])


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("nonsense", "There is no finished run nonsense"),
        ("words@0000", "There is no finished run words@0000"),
        ("broken", "There are: other, words."),
        ("/nowhere/at/all", "There are no runs in /nowhere/at."),
    ],
)
def test_a_wrong_name_is_one_line(made: Path, aasut: Callable[..., Any], word: str, says: str) -> None:
    for command in ("show", "tree", "verify"):
        ran = aasut("runs", command, word, "--root", made / "runs")
        assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (1, "", 1), command
        assert says in ran.stderr


def test_a_folder_without_runs_is_left_as_it_is(tmp_path: Path, aasut: Callable[..., Any]) -> None:
    for words in (["list"], ["verify"], ["clean", "--keep-runs", "0", "--yes"]):
        ran = aasut("runs", *words, "--root", tmp_path / "runs")
        assert ran.returncode == 1
        assert ran.stderr == (
            f"aasut: There are no runs in {tmp_path / 'runs'}. Make one with aasut run RECIPE, or name its --root.\n"
        )
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (81920, "81.9 kB"), (999_600, "1 MB"), (5.25e9, "5.25 GB")],
)
def test_amounts(size: float, text: str) -> None:
    assert amount(size) == text
