from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import small_run
from aasut import cli, pipeline
from aasut import recipe as recipes
from aasut.progress import Progress

QUIET = Progress(quiet=True)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    path = small_run.write_recipe(folder, rows=1600)
    pipeline.run(recipes.load(path), folder, folder / "runs", QUIET)
    return folder / "runs"


def aasut(*words: str) -> int:
    """The exit code of a command in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["aasut", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return int(ended.value.code or 0)


def test_a_certificate_is_printed_published_and_in_the_report(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert aasut("certify", "words", "--root", str(root), "--json", "--require") == 0
    said = json.loads(capsys.readouterr().out)
    written = json.loads((root / "words" / "certificate.json").read_text(encoding="utf-8"))
    assert written["sentence"] == said["sentence"]
    assert said["calls_made_now"] == 0
    facts = json.loads((root / "words" / "report.json").read_text(encoding="utf-8"))
    assert facts["certificate"]["sentence"] == said["sentence"]
    assert aasut("certify", str(root / "words")) == 0
    assert capsys.readouterr().out.startswith("With 95 % confidence at most 5 % of the answers")


def test_no_certificate_is_an_error_where_one_is_required(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ["certify", "words", "--root", str(root), "--risk", "0.001"]
    assert aasut(*wanted) == 0
    assert capsys.readouterr().out.startswith("No certificate: ")
    assert aasut(*wanted, "--require") == 3
    assert json.loads((root / "words" / "certificate.json").read_text(encoding="utf-8"))["certified"] is False


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nothing"], 1, "nothing is no finished run"),
        (["words", "--risk", "0"], 1, "A risk of 0 cannot be promised"),
        (["words", "--confidence", "1.5"], 1, "A confidence of 1.5 cannot be promised"),
        (["words", "--kind", "other"], 2, "--kind"),
        (["words", "--audits", "none.jsonl"], 1, "none.jsonl cannot be read"),
    ],
)
def test_mistakes(root: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str) -> None:
    if "--audits" in words:
        aasut("certify", "words", "--root", str(root))
    assert aasut("certify", *words, "--root", str(root)) == code
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("aasut: ")
    assert said in error


def test_audits_raise_an_alarm(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    aasut("certify", "words", "--root", str(root))
    audits = tmp_path / "audits.jsonl"
    audits.write_text('{"wrong": false}\n' * 50, encoding="utf-8")
    capsys.readouterr()
    watch = ["certify", "words", "--root", str(root), "--audits", str(audits), "--require"]
    assert aasut(*watch) == 0
    assert capsys.readouterr().out.startswith("No alarm: 0 of 50 audited answers were wrong; 5 % is promised")
    audits.write_text('{"wrong": true}\n' * 9, encoding="utf-8")
    assert aasut(*watch, "--json") == 3
    assert json.loads(capsys.readouterr().out)["alarm"] is True


def test_a_run_that_is_no_longer_as_it_was_made_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = small_run.write_recipe(tmp_path, rows=200)
    pipeline.run(recipes.load(path), tmp_path, tmp_path / "runs", QUIET)
    small_run.write_table(tmp_path / "table.csv", small_run.sentences(240))
    assert aasut("certify", "words", "--root", str(tmp_path / "runs")) == 1
    assert "its stage data would have to be made again" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "words" / "certificate.json").exists()


def test_another_student_takes_the_certificate_away(tmp_path: Path) -> None:
    path = small_run.write_recipe(tmp_path, rows=400)
    pipeline.run(recipes.load(path), tmp_path, tmp_path / "runs", QUIET)
    aasut("certify", "words", "--root", str(tmp_path / "runs"))
    folder = tmp_path / "runs" / "words"
    assert (folder / "certificate.json").exists()
    pipeline.run(recipes.load(path), tmp_path, tmp_path / "runs", QUIET)  # the same student keeps it
    assert (folder / "certificate.json").exists()
    pipeline.run(recipes.load(path, ["seed=8"]), tmp_path, tmp_path / "runs", QUIET)
    assert not (folder / "certificate.json").exists()
    assert json.loads((folder / "report.json").read_text(encoding="utf-8"))["certificate"] is None
