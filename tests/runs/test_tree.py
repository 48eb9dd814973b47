from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from aasut.runs import tree
from aasut.store import Artefact, Store

Plain = Callable[..., dict[str, Any]]


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for parent in node["from"]:
        yield from nodes(parent)


def test_the_tree_holds_the_lineage(made: Path, plain: Plain) -> None:
    found = plain("runs", "tree", "words", "--root", made / "runs")
    report = json.loads((made / "runs" / "words" / "report.json").read_text())
    stages = [node["stage"] for node in nodes(found)]
    assert stages == ["report", "evaluate", "export", "linear", "label", "choose", "data"]
    recorded = {entry["fingerprint"]: entry["parents"] for entry in report["lineage"]}
    for node in nodes(found):
        if node["stage"] != "report":
            assert node["made_from"] == recorded[node["fingerprint"]]
        folder = made / "runs" / ".store" / "artefacts" / node["fingerprint"]
        assert node["bytes"] == sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        assert node["seconds"] >= 0
        assert node["shared"] == (node["stage"] == "data")


def test_the_tree_is_printed_in_columns(made: Path, aasut: Callable[..., Any]) -> None:
    lines = aasut("runs", "tree", "words", "--root", made / "runs").stdout.splitlines()
    assert len(lines) == 7
    assert len({line.index(" s") for line in lines}) <= 2
    assert lines[-1].endswith("shared with other runs")
    assert max(map(len, lines)) <= 100


def chain(store: Store, *made: tuple[str, list[str]]) -> Artefact:
    """Stages by name with the names of their parents; the last one."""
    done: dict[str, Artefact] = {}
    for name, parents in made:
        done[name] = store.stage(name, 1, [{"name": "deep"}, "full"], [done[p] for p in parents], lambda _: {})
    return done[made[-1][0]]


def test_shared_parts_stand_once(tmp_path: Path) -> None:
    """Label and start are both made from data; the student from all three, the linear model from two."""
    with Store(tmp_path / ".store") as store:
        report = chain(
            store,
            ("data", []),
            ("label", ["data"]),
            ("start", ["data"]),
            ("linear", ["data", "label"]),
            ("train", ["data", "label", "start"]),
            ("report", ["data", "label", "start", "linear", "train"]),
        )
        store.finished("deep", report)
    found = tree.gather(tmp_path, "deep")
    shown = [(node["stage"], "shown_above" in node) for node in nodes(found)]
    assert [name for name, above in shown if not above] == ["report", "train", "start", "data", "label", "linear"]
    assert [name for name, above in shown if above] == ["data", "label"]
    console = Console(width=100, record=True)
    console.print(tree.render(found))
    assert console.export_text().count("see above") == 2
