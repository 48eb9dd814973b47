from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aasut.evaluate.paired import compare

Plain = Callable[..., dict[str, Any]]
Command = Callable[..., Any]


def right(root: Path, plain: Plain, run: str, model: str) -> dict[str, bool]:
    """Which test examples a model has right, read from the files by hand."""
    parts = {p["stage"]: Path(p["path"]) for p in plain("runs", "show", run, "--root", root)["parts"]}
    rows = [json.loads(line) for line in (parts["data"] / "test.jsonl").read_text().splitlines()]
    gold = {row["id"]: row["answer"] for row in rows}
    predictions = json.loads((parts["evaluate"] / "predictions.json").read_text())
    found = {}
    for name, row in zip(predictions["ids"], predictions["probabilities"][model], strict=True):
        found[name] = ("negative", "positive")[row.index(max(row))] == gold[name]
    return found


def test_settings_results_and_parts_side_by_side(made: Path, plain: Plain, earlier: str) -> None:
    found = plain("runs", "compare", earlier, "words", "--root", made / "runs")
    assert found["settings"] == [
        {"field": "teacher.scripted.lovely", "values": ["positive", None]},
        {"field": "teacher.scripted.solid", "values": ["positive", None]},
    ]
    report = json.loads((made / "runs" / "words" / "report.json").read_text())
    assert found["figures"]["teacher: accuracy"] == [1.0, report["teacher"]["accuracy"]]
    assert found["figures"]["student: requests/s"][1] == report["student"]["requests_per_s"]
    assert found["verdicts"] == ["undecided", "undecided"]
    shared = {part["stage"]: part["shared"] for part in found["parts"]}
    assert shared == {
        stage: stage == "data" for stage in ("data", "choose", "label", "linear", "export", "evaluate", "report")
    }


def test_the_difference_is_paired_where_the_test_split_is_the_same(made: Path, plain: Plain, earlier: str) -> None:
    root = made / "runs"
    found = plain("runs", "compare", earlier, "words", "--root", root)
    assert found["test_splits"][0] == found["test_splits"][1]
    assert set(found["paired"]) == {"teacher", "student"}
    for model, pair in found["paired"].items():
        a, b = right(root, plain, earlier, model), right(root, plain, "words", model)
        groups = [int(name.split("r")[1]) // 2 for name in a]  # sentences stand in pairs
        expected = compare([b[n] for n in a], [a[n] for n in a], groups)
        assert pair == expected.as_dict() | {"left_out": 0}
        assert pair["difference"] < 0
    back = plain("runs", "compare", "words", earlier, "--root", root)
    assert back["paired"]["student"]["difference"] == -found["paired"]["student"]["difference"]


def test_another_test_split_is_said_and_not_compared(made: Path, plain: Plain, aasut: Command) -> None:
    found = plain("runs", "compare", "words", "other", "--root", made / "runs")
    assert found["paired"] is None
    assert found["test_splits"][0] != found["test_splits"][1]
    assert "They were not evaluated on the same test split" in found["why_not_paired"]
    assert {"field": "seed", "values": [7, 9]} in found["settings"]
    assert not any(part["shared"] for part in found["parts"])
    shown = aasut("runs", "compare", "words", "other", "--root", made / "runs").stdout
    assert "They were not evaluated on the same test split" in shown


def test_it_is_printed_in_100_columns(made: Path, aasut: Command, earlier: str) -> None:
    shown = aasut("runs", "compare", earlier, "words", "--root", made / "runs").stdout
    assert max(len(line) for line in shown.splitlines()) <= 100
    text = " ".join(shown.split())
    assert f"student: words minus {earlier} is −" in text
    assert "on the same 38 examples, 95 % interval" in text
    assert "Shared: data. Differ: choose (same content), label" in text


def test_a_run_equals_itself(made: Path, plain: Plain, aasut: Command) -> None:
    found = plain("runs", "compare", "words", "words", "--root", made / "runs")
    assert found["settings"] == []
    assert all(part["shared"] for part in found["parts"])
    assert found["paired"]["student"]["difference"] == 0
    shown = aasut("runs", "compare", "words", "words", "--root", made / "runs").stdout
    assert "No setting of the recipes differs" in shown
    assert "no difference can be told" in " ".join(shown.split())


def test_predictions_that_cannot_be_read_leave_the_rest(root: Path, plain: Plain, earlier: str) -> None:
    parts = {p["stage"]: Path(p["path"]) for p in plain("runs", "show", "words", "--root", root)["parts"]}
    (parts["evaluate"] / "predictions.json").write_text("{")
    found = plain("runs", "compare", earlier, "words", "--root", root)
    assert found["paired"] is None
    assert found["why_not_paired"] == "They cannot be compared by example: a prediction file cannot be read"
    assert found["figures"]["teacher: accuracy"][0] == 1.0


def test_runs_of_two_stores_are_refused(made: Path, root: Path, aasut: Command) -> None:
    ran = aasut("runs", "compare", made / "runs" / "words", root / "words")
    assert (ran.returncode, ran.stderr.count("\n")) == (1, 1)
    assert "are two stores" in ran.stderr
    shutil.rmtree(root / ".store")
    ran = aasut("runs", "compare", root / "words", root / "other")
    assert "There are no runs in" in ran.stderr
