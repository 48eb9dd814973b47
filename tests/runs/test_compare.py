from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aasut.evaluate.paired import compare
from aasut.recipe import AnyTask, ExtractTask, GenerateTask
from aasut.store import Store

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


def text_run(store: Store, name: str, task: AnyTask, said: dict[str, str]) -> None:
    """A finished run of a task whose answers are free text, on a test of four examples."""
    recipe = {"name": name, "task": task.model_dump(mode="json"), "evaluate": {"confidence": 0.9}}
    rows = [{"id": f"e{i}", "group": f"g{i}", "slots": {"text": "x"}, "answer": CAT} for i in range(4)]

    def data(folder: Path) -> dict[str, Any]:
        (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return {"split_hash": {"test": "t" * 64}}

    def evaluate(folder: Path) -> dict[str, Any]:
        texts = {"student": list(said.values())}
        (folder / "predictions.json").write_text(json.dumps({"ids": list(said), "texts": texts}))
        return {}

    def report(folder: Path) -> dict[str, Any]:
        (folder / "report.json").write_text("{}")
        return {}

    first = store.stage("data", 1, {}, [], data)
    second = store.stage("evaluate", 1, {"name": name}, [first], evaluate)
    store.finished(name, store.stage("report", 1, [recipe, "full"], [first, second], report))


CAT, DOG = '{"animal": "cat"}', '{"animal": "dog"}'
SCHEMA = {"type": "object", "properties": {"animal": {"type": "string"}}}


@pytest.mark.parametrize(
    "task", [GenerateTask(prompt="Name it: {text}"), ExtractTask(prompt="Name it: {text}", schema=SCHEMA)]
)
def test_free_text_is_paired_on_what_both_runs_answered(tmp_path: Path, plain: Plain, task: AnyTask) -> None:
    with Store(tmp_path / ".store") as store:
        text_run(store, "one", task, {"e0": DOG, "e1": CAT, "e2": DOG, "e3": CAT})
        text_run(store, "two", task, {"e0": CAT, "e1": CAT, "e2": CAT})
    found = plain("runs", "compare", "one", "two", "--root", tmp_path)
    assert found["why_not_paired"] == ""
    pair = found["paired"]["student"]
    assert (pair["difference"], pair["n"], pair["left_out"], pair["confidence"]) == (pytest.approx(2 / 3), 3, 1, 0.9)
