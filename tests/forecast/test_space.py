from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from aasut.forecast.pace import Pace
from aasut.forecast.space import Download, Sizes, memory_free_gb, memory_gb, size, write_gb_s
from aasut.forecast.work import Stage

SIZES = Sizes(student_gb=0.2, served_by_openvino=True, checkpoint_s=0.0)


def stage(name: str, units: dict[str, float] | None = None, **more: int) -> Stage:
    return Stage(name, reused=False, units=defaultdict(float, units or {}), **more)


def test_what_stages_leave_on_the_disk() -> None:
    assert SIZES.of_stage(stage("train")) == SIZES.of_stage(stage("initialise")) == pytest.approx(0.2)
    assert SIZES.of_stage(stage("export")) == pytest.approx(0.8)  # safetensors and GGUF, twice each
    assert SIZES.of_stage(stage("export", {"export.q8_0": 1})) == pytest.approx(0.8 + 2 * 0.2 * 0.53)
    assert SIZES.of_stage(stage("label", {"rows.labelled": 1e6})) == pytest.approx(0.09)
    assert SIZES.of_stage(stage("label", ledger_bytes=10**9)) == pytest.approx(1.0)


def test_the_engines_graph_counts_where_that_engine_serves() -> None:
    evaluated = stage("evaluate", {"served.load": 1})
    assert SIZES.of_stage(evaluated) == pytest.approx(0.2)
    assert Sizes(0.2, False, 0.0).of_stage(evaluated) == 0


def test_the_most_memory_is_the_teachers_and_what_training_takes() -> None:
    assert memory_gb(Pace()) < 0.5
    student = {"parameters": 1e8}
    assert memory_gb(Pace(student=student)) == pytest.approx(0.7 + 1.8)
    assert memory_gb(Pace(student=student, teacher={"parameters": 1e9})) == pytest.approx(0.7 + 1.8 + 2.0)
    measured = Pace(student=student | {"peak_gb": 4.0}, teacher={"parameters": 1e9, "peak_gb": 1.0})
    assert memory_gb(measured) == pytest.approx(4.0 + 2.0)


def test_a_quantised_download_takes_more_room_than_it_has_bytes() -> None:
    assert Download("a", 9 * 10**8).kept_gb == pytest.approx(3.2)
    assert Download("a", None).kept_gb == 0


def test_this_machine_is_measured(tmp_path: Path) -> None:
    assert write_gb_s(tmp_path, 2) > 0
    assert list(tmp_path.iterdir()) == []
    assert 0 < memory_free_gb() < 100_000


def test_the_index_says_how_large_a_download_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "simple").as_uri())
    for part, length in (("some-model", 5000), ("some-model-part1", 700)):
        page = tmp_path / "simple" / part
        page.mkdir(parents=True)
        wheel = f"{part.replace('-', '_')}-1.0-py3-none-any.whl"
        (page / wheel).write_bytes(b"x" * length)
        (page / "index.html").write_text(f'<a href="{wheel}">1.0</a>')
    assert size("pypi:some-model==1.0#*.gguf") == 5000
    assert size("pypi:some-model==1.0,some-model-part1==1.0#*.gguf") == 5700
    assert size("file:somewhere") is None
