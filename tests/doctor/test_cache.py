from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from aasut.doctor import cache, software
from aasut.doctor.finding import Finding
from aasut.files import file_hash
from examined import faults, model, problems, safetensors


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of models."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "aasut" / "models"


WHOLE = {"config.json": "{}", "model.safetensors": safetensors(8)}


def test_models_that_are_whole(models: Path) -> None:
    model(models / "one", WHOLE)
    (models / "one.lock").touch()
    (found,) = cache.examine()
    assert found == Finding("model", f"pypi:tiny==1, {2 + 8 + len(safetensors(8)) - 8 + record_size(models / 'one')} B")


def record_size(folder: Path) -> int:
    return (folder / "source.json").stat().st_size


@pytest.mark.parametrize(
    ("files", "sizes", "says"),
    [
        ({}, {"model.safetensors": 5}, "model.safetensors is missing"),
        (WHOLE, {"config.json": 7}, "config.json has 2 bytes instead of 7"),
        ({"config.json": "{]"}, None, "config.json is no JSON"),
        ({"model.safetensors": safetensors(7)}, None, "model.safetensors is not as long as its header says"),
        ({"model.safetensors": b"\xff" * 64}, None, "model.safetensors has a damaged header"),
    ],
)
def test_damaged_models(models: Path, files: dict[str, str | bytes], sizes: dict[str, int] | None, says: str) -> None:
    folder = model(models / "one", files, sizes)
    (fault,) = faults(cache.examine())
    assert fault == f"The cached model pypi:tiny==1 is damaged: {says}. Delete {folder}; the next run fetches it again."


def test_a_model_without_its_record(models: Path) -> None:
    (models / "f00").mkdir(parents=True)
    (fault,) = faults(cache.examine())
    assert "The cached model f00 is damaged: source.json is missing or cannot be read." in fault


def test_leftovers_are_told_from_downloads_under_way(models: Path) -> None:
    (models / "one.partial").mkdir(parents=True)
    (models / "one.partial" / "part").write_bytes(bytes(2000))
    graphs = models.parent / "openvino"
    (graphs / f"g.{os.getpid()}.partial").mkdir(parents=True)
    with (models / "one.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert problems(cache.examine()) == []
    (note,) = problems(cache.examine())
    assert note == f"Downloads that broke off take 2 kB: delete {models / 'one.partial'}."
    (graphs / "g.999999999.partial").mkdir()
    assert "g.999999999.partial" in problems(cache.examine())[0]


def test_tables_and_graphs_are_examined(models: Path) -> None:
    leaf = models.parent / "tables" / "aa" / "bb"
    leaf.mkdir(parents=True)
    (leaf / "table.csv").write_text("a,b\n")
    (leaf / "sha256").write_text(file_hash(leaf / "table.csv"))
    version = software.importlib.metadata.version("openvino-genai")
    for name in (f"aa-{version}", "bb-2020.1.0"):
        graph = models.parent / "openvino" / name
        graph.mkdir(parents=True)
        for file in ("openvino_model.xml", "openvino_model.bin"):
            (graph / file).write_text("x" * 500)
    (old,) = problems(cache.examine())
    assert old.startswith("1 graphs in")
    (leaf / "table.csv").write_text("a,c\n")
    (models.parent / "openvino" / f"aa-{version}" / "openvino_model.bin").unlink()
    found = faults(cache.examine())
    assert any(fault.startswith("The cached table table.csv changed.") for fault in found)
    assert any(fault.startswith("A graph of OpenVINO is not whole.") for fault in found)
