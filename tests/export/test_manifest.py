from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from aasut.errors import ModelError
from aasut.export.manifest import CARD, StudentCard, content_hash
from aasut.store import file_hash, folder_hash
from aasut.types import Message

CONTENT = StudentCard(
    name="reviews",
    kind="classify",
    answers=("négatif", "positif"),
    task_prompt=(Message("system", "Be brief."), Message("user", "Review: {text}")),
    student_prompt=(Message("user", "{text} ="),),
    file="student.gguf",
    engine="auto",
    precision="float32",
    sha256="0" * 64,
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "reviews"
    folder.mkdir(parents=True)
    (folder / "student.gguf").write_bytes(b"weights")
    replace(CONTENT, sha256=file_hash(folder / "student.gguf")).write(folder)
    return folder


def edit(folder: Path, **changes: object) -> None:
    plain = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps(plain | changes))


def test_what_is_written_is_read_back(run: Path) -> None:
    card = StudentCard.read(run)
    assert card == replace(CONTENT, sha256=file_hash(run / "student.gguf"))
    plain = json.loads((run / CARD).read_text())
    assert plain["student_prompt"] == [{"role": "user", "content": "{text} ="}]
    assert sorted(p.name for p in run.iterdir()) == ["student.gguf", CARD]


def test_the_card_gives_the_task(run: Path) -> None:
    task = StudentCard.read(run).task()
    assert task.answers == ("négatif", "positif")
    assert task.prompt.slots == ("text",)


def test_served_verifies_a_file(run: Path) -> None:
    assert StudentCard.read(run).served(run) == run / "student.gguf"
    (run / "student.gguf").write_bytes(b"weightz")
    with pytest.raises(ModelError, match=r"student\.gguf: SHA-256 is [0-9a-f]{64}, .* not the measured file") as caught:
        StudentCard.read(run).served(run)
    assert "run the recipe again" in caught.value.remedy


def test_served_verifies_a_folder(run: Path) -> None:
    (run / "student").mkdir()
    (run / "student" / "model.safetensors").write_bytes(b"weights")
    assert content_hash(run / "student") == folder_hash(run / "student")
    card = replace(CONTENT, file="student", sha256=folder_hash(run / "student"))
    assert card.served(run) == run / "student"
    (run / "student" / "more").write_bytes(b"")
    with pytest.raises(ModelError, match="not the measured file"):
        card.served(run)


def test_a_missing_file_is_named(run: Path) -> None:
    (run / "student.gguf").unlink()
    with pytest.raises(ModelError, match=r"reviews/student\.gguf is missing"):
        StudentCard.read(run).served(run)


def test_a_missing_run_names_the_finished_ones_beside_it(run: Path) -> None:
    with pytest.raises(ModelError, match=r"There is no run .*runs/review\.") as caught:
        StudentCard.read(run.parent / "review")
    assert caught.value.remedy == f"Finished runs in {run.parent}: reviews."
    (run.parent / "half").mkdir()
    with pytest.raises(ModelError, match=r"half holds no finished student: student\.json is missing") as caught:
        StudentCard.read(run.parent / "half")
    assert caught.value.remedy.endswith(": reviews.")


def test_a_missing_run_without_any_other_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        StudentCard.read(tmp_path / "nowhere" / "at-all")
    assert "aasut run RECIPE" in caught.value.remedy


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"kind": "poetry"}, "kind"),
        ({"answers": "positive"}, "answers"),
        ({"tokens": 3}, "tokens"),
        ({"student_prompt": [{"role": "robot", "content": "{text}"}]}, r"student_prompt\.0\.role"),
        ({"file": "../student.gguf"}, "not a name inside the run folder"),
        ({"file": ".."}, "not a name inside the run folder"),
        ({"file": "/etc/passwd"}, "not a name inside the run folder"),
    ],
)
def test_a_damaged_card_is_refused_by_field(run: Path, changes: dict[str, object], what: str) -> None:
    edit(run, **changes)
    with pytest.raises(ModelError, match=what) as caught:
        StudentCard.read(run)
    assert caught.value.remedy


def test_a_card_that_is_no_json_is_refused(run: Path) -> None:
    (run / CARD).write_bytes(b'{"name": "\xff')
    with pytest.raises(ModelError, match="damaged"):
        StudentCard.read(run)
