from __future__ import annotations

import os
from pathlib import Path

import pytest

from aasut.publish import publish
from aasut.store import Artefact


@pytest.fixture
def made(tmp_path: Path) -> list[Artefact]:
    """Two artefacts with a file each; the second one's lies in a folder."""
    files = {"export": "student/weights", "report": "report.json"}
    for stage, file in files.items():
        (tmp_path / stage / file).parent.mkdir(parents=True)
        (tmp_path / stage / file).write_text(f"what {stage} made")
    return [Artefact(stage, stage, tmp_path / stage, "", {}, 0.0, reused=False) for stage in files]


def contents(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()}


WHOLE = {"student/weights": "what export made", "report.json": "what report made", "recipe.yaml": "name: x"}


def test_files_and_the_recipe_are_copied(made: list[Artefact], tmp_path: Path) -> None:
    publish(made, tmp_path / "runs" / "x", "name: x")
    assert contents(tmp_path / "runs" / "x") == WHOLE


def test_what_is_there_already_is_left_alone(made: list[Artefact], tmp_path: Path) -> None:
    folder = tmp_path / "x"
    publish(made, folder, "name: x")
    before = {path: path.stat().st_ino for path in folder.rglob("*")}
    publish(made, folder, "name: x")
    assert {path: path.stat().st_ino for path in folder.rglob("*")} == before


def test_what_was_changed_or_lost_is_put_back(made: list[Artefact], tmp_path: Path) -> None:
    folder = tmp_path / "x"
    publish(made, folder, "name: x")
    (folder / "report.json").write_text("something else")
    (folder / "student" / "weights").unlink()
    (folder / "recipe.yaml").write_text("name: y")
    publish(made, folder, "name: x")
    assert contents(folder) == WHOLE


def test_a_file_that_another_process_reads_is_never_half_written(made: list[Artefact], tmp_path: Path) -> None:
    """A new result stands in a new file: who has the old one open goes on reading the old one."""
    folder = tmp_path / "x"
    publish(made, folder, "name: x")
    with (folder / "report.json").open() as old:
        (made[1].path / "report.json").write_text("a longer answer than before")
        os.utime(made[1].path / "report.json", (1, 1))
        publish(made, folder, "name: x")
        assert old.read() == "what report made"
    assert (folder / "report.json").read_text() == "a longer answer than before"


def test_what_is_stale_goes_unless_an_artefact_has_it(made: list[Artefact], tmp_path: Path) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    for name in ("certificate.json", "report.json", "mine.txt"):
        (folder / name).write_text("of another student")
    publish(made, folder, "name: x", stale=["certificate.json", "report.json", "none.json"])
    assert contents(folder) == WHOLE | {"mine.txt": "of another student"}
