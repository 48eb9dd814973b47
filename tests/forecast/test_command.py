from __future__ import annotations

import json
from pathlib import Path

import pytest

import small_run
from aasut import recipe
from aasut.errors import TeacherError
from aasut.forecast import command
from aasut.progress import Progress

QUIET = Progress(quiet=True)


def said(path: Path, capsys: pytest.CaptureFixture[str], *flags: str, as_json: bool) -> str:
    loaded = recipe.load(path, flags)
    try:
        command.run(loaded, path.parent, path.parent / "runs", QUIET, "full", False, None, as_json)
    finally:
        printed = capsys.readouterr().out
    return printed


def test_a_table_for_people_and_one_object_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = small_run.write_recipe(tmp_path, rows=60)
    shown = said(path, capsys, as_json=False)
    assert max(map(len, shown.splitlines())) <= 100
    plain = json.loads(said(path, capsys, as_json=True))
    for line in plain["lines"]:
        assert line["stage"] in shown
    assert f"{plain['total']['calls']:,}" in shown


def test_what_would_stop_the_run_is_raised_after_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prices = {"usd_per_million_input_tokens": 1000.0, "usd_per_million_output_tokens": 4000.0}
    endpoint = {"base_url": "http://127.0.0.1:9/v1", "model": "m", "api_key_env": "", **prices}
    path = small_run.write_recipe(tmp_path, small_run.recipe(teacher={"endpoint": endpoint}), rows=60)
    loaded = recipe.load(path, ["teacher.max_usd=0.001"])
    with pytest.raises(TeacherError, match="would stop the run"):
        command.run(loaded, tmp_path, tmp_path / "runs", QUIET, "full", False, None, True)
    assert json.loads(capsys.readouterr().out)["total"]["calls"] > 0
