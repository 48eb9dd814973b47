"""`aasut search`: what an index has, told with its place; what is missing is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from passages import ENGLISH, HINDI, chunks

import tiny_bert
from aasut.engine import embed
from aasut.progress import Progress
from aasut.retrieval.index import build

RECIPE = """
name: pumps
documents: [{source: manuals}]
teacher: {scripted: {the: a}}
"""
CHUNKS = [*chunks(ENGLISH, "manual.pdf"), *chunks(HINDI, "नियमावली.pdf")]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path / "recipe.yaml"


def search(aasut: Any, recipe: Path, *words: object) -> tuple[int, str, str]:
    found: tuple[int, str, str] = aasut("search", recipe, *words, "--root", recipe.parent / "runs")
    return found


def test_passages_with_their_places(recipe: Path, aasut: Any) -> None:
    build(CHUNKS, recipe.parent / "runs/pumps/index", progress=Progress(quiet=True))
    code, out, err = search(aasut, recipe, "alarm E17: no water?", "--count", 2)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "1. manual.pdf, page 5, Manual › Alarms"
    assert lines[1].startswith("   Alarm E17 means that there is no water")
    assert len(lines) == 4
    code, out, _ = search(aasut, recipe, "वारंटी कितने साल की है?", "--json")
    hit = json.loads(out)["hits"][0]
    assert (code, hit["document"], hit["page"], hit["headings"]) == (0, "नियमावली.pdf", 7, ["Manual", "वारंटी"])
    assert hit["text"] == HINDI[6][1]
    assert hit["characters"][1] - hit["characters"][0] == len(hit["text"])


def test_nothing_found_is_said(recipe: Path, aasut: Any) -> None:
    build(CHUNKS, recipe.parent / "runs/pumps/index", progress=Progress(quiet=True))
    assert search(aasut, recipe, "zebra") == (0, "Nothing in the documents has words of this question.\n", "")
    assert json.loads(search(aasut, recipe, "zebra", "--json")[1]) == {"question": "zebra", "hits": []}


def test_long_passages_are_shown_by_their_beginning(recipe: Path, aasut: Any) -> None:
    long = chunks([("Long", "pump\n" * 500)], "m")
    build(long, recipe.parent / "runs/pumps/index", progress=Progress(quiet=True))
    shown = search(aasut, recipe, "pump")[1].splitlines()[1].strip()
    assert len(shown) <= 300
    assert shown.endswith("…")


def test_the_recipe_s_model_of_sentences_ranks_too(recipe: Path, aasut: Any) -> None:
    (recipe.parent / "bert").mkdir()
    embedder = embed.load(tiny_bert.save(recipe.parent / "bert"))
    recipe.write_text(RECIPE + "embeddings: {address: 'file:bert'}\n")
    build(CHUNKS, recipe.parent / "runs/pumps/index", embedder, progress=Progress(quiet=True))
    hits = json.loads(search(aasut, recipe, "pump", "--json")[1])["hits"]
    assert all("meaning" in hit["ranks"] for hit in hits)


def test_mistakes_are_one_line(recipe: Path, aasut: Any) -> None:
    for words, reason in (
        ((recipe, "pump"), "There is no index"),
        ((recipe.with_name("x"), "pump"), "There is no recipe"),
    ):
        code, out, err = search(aasut, *words)
        assert (code, out, len(err.splitlines())) == (1, "", 1)
        assert reason in err
    assert search(aasut, recipe, "pump", "--count", 0)[0] == 2
