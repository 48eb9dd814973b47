from __future__ import annotations

from pathlib import Path

import pytest

import small_run
from aasut import finished, pipeline
from aasut import recipe as recipes
from aasut.errors import RecipeError, StoreError
from aasut.progress import Progress

QUIET = Progress(quiet=True)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    pipeline.run(recipes.load(small_run.write_recipe(folder)), folder, folder / "runs", QUIET)
    return folder / "runs"


def test_a_run_is_taken_up_by_name_or_folder_and_nothing_is_made_again(root: Path) -> None:
    for run in ("words", str(root / "words")):
        with finished.taken_up(run, root, QUIET, makes=()) as taken:
            assert taken.folder == root / "words"
            assert taken.scale == "full"
            assert all(artefact.reused for artefact in taken.done.values())
            assert "report" not in taken.done


def test_the_report_is_made_anew_and_published(root: Path) -> None:
    before = (root / "words" / "report.json").read_bytes()
    (root / "words" / "report.html").unlink()
    with finished.taken_up("words", root, QUIET, makes=()) as taken:
        run = taken.finish()
    assert (run.folder, run.calls_made) == (root / "words", 0)
    assert (root / "words" / "report.html").is_file()
    assert (root / "words" / "report.json").read_bytes() == before


def test_a_stage_that_would_be_made_again_is_refused(tmp_path: Path) -> None:
    path = small_run.write_recipe(tmp_path)
    pipeline.run(recipes.load(path), tmp_path, tmp_path / "runs", QUIET)
    small_run.write_table(tmp_path / "table.csv", small_run.sentences(130))
    with (
        pytest.raises(StoreError, match="its stage data would have to be made again"),
        finished.taken_up("words", tmp_path / "runs", QUIET, makes=("certify",)),
    ):
        pass


def test_what_is_no_finished_run_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="others is no finished run"):
        finished.place("others", root)
    path = small_run.write_recipe(tmp_path)  # a recipe that was not run
    with pytest.raises(RecipeError, match="is no finished run"):
        finished.place(str(path.parent), root)


def test_a_damaged_report_is_named(tmp_path: Path) -> None:
    path = small_run.write_recipe(tmp_path)
    pipeline.run(recipes.load(path), tmp_path, tmp_path / "runs", QUIET)
    (tmp_path / "runs" / "words" / "report.json").write_text("{}")
    with (
        pytest.raises(RecipeError, match=r"report\.json is damaged"),
        finished.taken_up("words", tmp_path / "runs", QUIET, makes=()),
    ):
        pass
