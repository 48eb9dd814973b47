"""The stage `documents` on real files: what is read, what is left out, what stops it; a large file streams."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aasut.documents import ingest
from aasut.errors import DataError
from aasut.progress import Progress
from aasut.recipe.documents import Documents
from aasut.recipe.field import FieldRecipe
from aasut.store import check_conservation, digest
from packages import publish, wheel
from prose import Prose

QUIET = Progress(quiet=True)


def recipe(*sources: dict[str, Any], **more: Any) -> FieldRecipe:
    documents = list(sources) or [{"source": "docs"}]
    return FieldRecipe.model_validate({"name": "field", "documents": documents, "teacher": {"scripted": {}}} | more)


def write(folder: Path, files: dict[str, str | bytes]) -> None:
    for name, data in files.items():
        (folder / "docs" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "docs" / name).write_bytes(data.encode() if isinstance(data, str) else data)


def build(wanted: FieldRecipe, base: Path, **options: Any) -> dict[str, Any]:
    (base / "out").mkdir(exist_ok=True)
    facts = ingest.build(wanted, base, base / "out", QUIET, **options)
    for what, rows in facts["conservation"].items():
        check_conservation(what, rows)
    return facts


def unread(base: Path) -> dict[str, str]:
    lines = [json.loads(line) for line in (base / "out" / "unread.jsonl").read_text("utf-8").splitlines()]
    return {line["file"]: line["reason"] for line in lines}


def test_documents_chunks_and_facts(tmp_path: Path) -> None:
    guide = f"# Guide\n\n## Start\n\n{Prose(1).document(5000)}\n"
    codes = "code,text\nP1,Air flow\nP2,Fuel\nP1,Air flow\n"
    hindi = "हिन्दी में लिखा हुआ एक छोटा सा पाठ यहाँ है।\n"
    write(
        tmp_path,
        {"a.md": guide, "b.txt": hindi, "codes.csv": codes, "sub/a.md": guide, "empty.txt": "", ".hidden": "x"},
    )
    facts = build(recipe(reading={"max_failed": 0.5}), tmp_path)
    documents = {document.id: document for document in ingest.load_documents(tmp_path / "out")}
    assert list(documents) == ["a.md", "b.txt", "codes.csv#1", "codes.csv#2"]
    assert (documents["b.txt"].language, documents["a.md"].language) == ("hi", "en")
    chunks = list(ingest.load_chunks(tmp_path / "out"))
    assert facts["chunks"] == len(chunks) > 5
    assert facts["characters"] == sum(len(chunk.text) for chunk in chunks) == sum(facts["languages"].values())
    assert chunks[1].span.headings == ("Guide", "Start")
    assert "Air flow" in next(chunk.text for chunk in chunks if chunk.span.document == "codes.csv#1")
    assert unread(tmp_path)["sub/a.md"] == "the same text as another document: a.md"
    assert unread(tmp_path)["codes.csv#3"] == "the same text as another document: codes.csv#1"
    assert set(unread(tmp_path)) == {"sub/a.md", "codes.csv#3", "empty.txt", ".hidden"}
    assert facts["conservation"]["files"].rows_in == 6
    assert facts["conservation"]["files"].dropped == {"hidden": 1}


def test_other_sections_are_read_in_the_same_way(tmp_path: Path) -> None:
    write(tmp_path, {"a.md": "One.", "b.txt": "Two."})
    facts = build(recipe(), tmp_path, sections=[Documents(source="docs/b.txt", language="en")])
    assert [document.id for document in ingest.load_documents(tmp_path / "out")] == ["b.txt"]
    assert facts["sources"] == {"0": 1}
    assert facts["formats"] == {"txt": 1}


def test_a_package_is_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = tmp_path / "simple"
    index.mkdir()
    data = wheel("spells", {"spells/fire.md": b"Fire burns.", "spells/code.py": b"raise SystemExit"})
    publish(index, "spells", "spells-1.0-py3-none-any.whl", data)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", index.as_uri())
    source = {"source": "pypi:spells==1.0", "sha256": hashlib.sha256(data).hexdigest(), "include": ["**/*.md"]}
    build(recipe(source), tmp_path, cache=tmp_path / "cache")
    assert [document.id for document in ingest.load_documents(tmp_path / "out")] == ["spells/fire.md"]


def test_unreadable_files_are_listed_up_to_a_share_and_then_stop_the_run(tmp_path: Path) -> None:
    noise = bytes(range(256)) * 40
    write(tmp_path, {f"{n}.md": f"Text number {n}." for n in range(8)} | {"bad.csv": noise, "worse.csv": noise})
    facts = build(recipe(), tmp_path)
    assert sum(facts["conservation"]["files"].failed.values()) == 2
    assert {"bad.csv", "worse.csv"} == set(unread(tmp_path))
    with pytest.raises(
        DataError, match=r"2 of 10 files cannot be read \(.*bad\.csv, worse\.csv\).*max_failed \(0\.19\)"
    ):
        build(recipe(reading={"max_failed": 0.19}), tmp_path)
    assert {"bad.csv", "worse.csv"} == set(unread(tmp_path))


def test_nothing_read_is_one_clear_line(tmp_path: Path) -> None:
    write(tmp_path, {"a.txt": " \n", "b.txt": ""})
    with pytest.raises(DataError, match="no text"):
        build(recipe(reading={"max_failed": 0.9}), tmp_path)


def test_settings_follow_the_contents_and_not_the_place(tmp_path: Path) -> None:
    write(tmp_path, {"a.md": "One.", "b.md": "Two."})
    first = digest(ingest.settings(recipe(), tmp_path))
    (tmp_path / "docs").rename(tmp_path / "moved")
    moved = recipe({"source": "moved", "licence": "MIT"}, reading={"processes": 1})
    assert digest(ingest.settings(moved, tmp_path)) == first
    assert digest(ingest.settings(recipe({"source": "moved"}, chunks={"characters": 900}), tmp_path)) != first
    assert digest(ingest.settings(recipe({"source": "moved", "group": "(a)"}), tmp_path)) != first
    (tmp_path / "moved" / "a.md").write_text("One!")
    assert digest(ingest.settings(moved, tmp_path)) != first
    (tmp_path / "moved" / "a.md").write_text("One.")
    (tmp_path / "moved" / "b.md").rename(tmp_path / "moved" / "c.md")
    assert digest(ingest.settings(moved, tmp_path)) != first


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path, {f"{n}.md": Prose(n).document(3000) for n in range(12)})
    found = []
    for _ in range(2):
        build(recipe(reading={"processes": 2}), tmp_path)
        found.append(
            [(tmp_path / "out" / name).read_bytes() for name in ("documents.jsonl", "chunks.jsonl", "unread.jsonl")]
        )
    assert found[0] == found[1]
    assert len(found[0]) == 3


def test_a_large_file_streams(tmp_path: Path) -> None:
    """40 MB of text and 30,000 records go through without the process growing by as much."""
    paragraph = Prose(4).document(1500).replace("\n", " ")
    with (tmp_path / "large.txt").open("w") as text:
        for number in range(26_000):
            text.write(f"{number} {paragraph}\n\n")
    with (tmp_path / "rows.csv").open("w") as rows:
        rows.write("code,text\n")
        rows.writelines(f"{n},row number {n}\n" for n in range(30_000))
    code = (
        "import resource, sys; from pathlib import Path; from aasut.documents import ingest, language; from"
        " aasut.progress import Progress; from aasut.recipe.field import FieldRecipe; base = Path(sys.argv[1]);"
        " language.tell('This loads the model of languages first.');"
        " start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        " sources = [{'source': n, 'language': 'en'} for n in ('large.txt', 'rows.csv')];"
        " wanted = FieldRecipe(name='x', documents=sources, teacher={'scripted': {}});"
        " facts = ingest.build(wanted, base, base, Progress(quiet=True));"
        " print(facts['characters'], (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) // 1024)"
    )
    said = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    characters, megabytes = map(int, said.stdout.split())
    assert characters > 39_000_000
    assert megabytes < 30
