from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from aasut.errors import AasutError, DataError
from aasut.gateway import deployed, settings
from aasut.store import file_hash
from aasut.types import Message


def wanted(mode: Any = "certified", run: str = "words") -> settings.Cascade:
    return settings.Cascade(run=run, mode=mode)


def change(root: Path, name: str, **changes: Any) -> None:
    path = root / "words" / name
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def hashes(root: Path, **changes: str) -> dict[str, str]:
    found = json.loads((root / "words" / "certificate.json").read_text(encoding="utf-8"))["hashes"]
    return dict(found) | changes


def test_a_certified_run_is_taken_as_it_is(root: Path) -> None:
    found = deployed.read(wanted(), root)
    plain = json.loads((root / "words" / "certificate.json").read_text(encoding="utf-8"))
    certificate = found.certificate
    assert certificate is not None
    assert certificate.sha256 == file_hash(root / "words" / "certificate.json")
    assert (certificate.threshold, certificate.engine) == (plain["threshold"], "linear-float32")
    assert certificate.monitor is not None
    assert certificate.monitor.risk == plain["audit"]["risk"]
    assert found.scorer["kind"] == "label"
    assert found.model == ""
    assert found.reader.read([Message("user", "Text: a great phone")]) == "a great phone"
    assert deployed.read(wanted(run=str(root / "words")), Path("nowhere")).card == found.card


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("certificate.json", {"certified": False}, "certifies nothing. With 95 % confidence"),
        ("certificate.json", {"audit": None}, "how often student and teacher may differ"),
        ("certificate.json", {"hashes": {}}, "certificate.json is damaged"),
        ("certificate.json", {"threshold": "high"}, "certificate.json is damaged"),
        ("student.json", {"sha256": "ab" * 32}, "is of another student: its file's SHA-256 is"),
        ("student.json", {"student_prompt": [{"role": "user", "content": "T: {text}"}]}, "its prompts' template is"),
        ("student.json", {"task_prompt": [{"role": "user", "content": "T: {text}"}]}, "its prompts' template is"),
    ],
)
def test_a_certificate_that_is_not_the_students_is_refused(root: Path, name: str, changes: Any, said: str) -> None:
    change(root, name, **changes)
    for mode in ("certified", "canary"):
        with pytest.raises(DataError) as caught:
            deployed.read(wanted(mode), root)
        assert said in str(caught.value)
        assert caught.value.remedy
        assert "\n" not in str(caught.value)


def test_a_certificate_of_another_file_is_refused(root: Path) -> None:
    change(root, "certificate.json", hashes=hashes(root, file="student.gguf"))
    with pytest.raises(DataError, match=r"its file is student\.gguf, this student's is student\."):
        deployed.read(wanted(), root)


def test_no_certificate(root: Path) -> None:
    (root / "words" / "certificate.json").unlink()
    with pytest.raises(DataError, match=r"has no certificate\. Make one with aasut certify .*shadow"):
        deployed.read(wanted(), root)
    assert deployed.read(wanted("shadow"), root).certificate is None


def test_shadow_bears_a_certificate_that_certifies_nothing_but_not_anothers(root: Path) -> None:
    change(root, "certificate.json", certified=False, threshold=None, audit=None)
    found = deployed.read(wanted("shadow"), root).certificate
    assert found is not None
    assert found.threshold is found.monitor is None
    change(root, "certificate.json", hashes=hashes(root, file_sha256="ab" * 32))
    with pytest.raises(DataError, match="of another student"):
        deployed.read(wanted("shadow"), root)


def test_no_such_run(root: Path) -> None:
    with pytest.raises(AasutError, match="There is no run"):
        deployed.read(wanted(run="nothing"), root)
    (root / "words" / "recipe.yaml").unlink()
    with pytest.raises(DataError, match="no finished run"):
        deployed.read(wanted(), root)


def test_the_teachers_model_is_known_where_the_recipe_names_it(root: Path) -> None:
    path = root / "words" / "recipe.yaml"
    plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    plain["teacher"] = {"endpoint": {"base_url": "http://localhost:1/v1", "model": "large"}}
    path.write_text(yaml.safe_dump(plain), encoding="utf-8")
    assert deployed.read(wanted(), root).model == "large"
