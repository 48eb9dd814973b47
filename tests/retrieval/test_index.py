"""The index: answers rank first in English and in Hindi, what may not be seen is not, equal runs find the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from passages import ENGLISH, ENGLISH_QUESTIONS, HINDI, HINDI_QUESTIONS, chunks

import tiny_bert
from aasut.engine import embed
from aasut.errors import DataError, StoreError
from aasut.files import folder_hash
from aasut.progress import Progress
from aasut.retrieval.index import Index, build, documents_of
from aasut.types import Chunk, Span

QUIET = Progress(quiet=True)
BOTH = [*chunks(ENGLISH, "manual.pdf"), *chunks(HINDI, "नियमावली.pdf")]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    folder = tmp_path_factory.mktemp("index")
    build(BOTH, folder, progress=QUIET)
    return Index.open(folder)


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> embed.Embedder:
    return embed.load(tiny_bert.save(tmp_path_factory.mktemp("bert")))


@pytest.mark.parametrize(
    ("question", "answer"),
    [(q, BOTH[n]) for q, n in ENGLISH_QUESTIONS] + [(q, BOTH[len(ENGLISH) + n]) for q, n in HINDI_QUESTIONS],
)
def test_the_passage_with_the_answer_is_first(question: str, answer: Chunk, index: Index) -> None:
    first = index.search(question, 3)[0]
    assert first.chunk == answer
    assert first.ranks == {"words": 1}


def test_a_hit_says_where_it_stands(index: Index) -> None:
    (hit,) = index.search("E17 strainer", 1)
    assert hit.citation == "manual.pdf, page 5, Manual › Alarms"
    bare = Chunk("n:0", "nowhere", Span("notes.txt#2", 0, 7))
    assert type(hit)(bare, 1.0, {}).citation == "notes.txt#2"


def test_headings_are_searched_too(index: Index) -> None:
    assert index.search("storage", 1)[0].chunk.span.headings[-1] == "Storage"
    assert index.search("भंडारण", 1)[0].chunk.span.headings[-1] == "भंडारण"


@pytest.mark.parametrize("question", ["", "…?!", "zebra", "ज़ेबरा", "क", "e1"])
def test_without_known_words_nothing_is_found(question: str, index: Index) -> None:
    assert index.search(question, 5) == []


def test_what_may_not_be_seen_is_not_found_however_well_it_fits(tmp_path: Path) -> None:
    """A thousand held-out chunks fit better than the only two that may be found."""
    many = [Chunk(str(n), "pump pump pump", Span(f"d{n}", 0, 14)) for n in range(1000)]
    few = [Chunk("x", "the pump and much else", Span("x", 0, 22)), Chunk("y", "pump or none of it", Span("y", 0, 18))]
    build([*many, *few], tmp_path, progress=QUIET)
    parts = {f"d{n}": "test" for n in range(1000)} | {"x": "train", "y": "tune"}
    index = Index.open(tmp_path)
    assert [hit.chunk.id for hit in index.search("pump", 5, documents_of(parts, "train"))] == ["x"]
    found = index.search("pump", 5, documents_of(parts, "train", "tune"))
    assert {hit.chunk.id for hit in found} == {"x", "y"}
    assert found[0].score > found[1].score
    assert index.search("pump", 5, documents_of({}, "train")) == []


def test_equal_ones_come_in_their_order_and_no_more_than_asked_for(tmp_path: Path) -> None:
    same = [Chunk(str(n), "the pump", Span("d", 9 * n, 9 * n + 8)) for n in range(700)]
    build([*same, Chunk("best", "pump pump", Span("d", 9000, 9009))], tmp_path, progress=QUIET)
    index = Index.open(tmp_path)
    found = [hit.chunk.id for hit in index.search("pump", 650)]
    assert found == ["best", *map(str, range(649))]
    assert index.search("pump", 0) == []


def test_two_builds_are_the_same(tmp_path: Path, embedder: embed.Embedder) -> None:
    facts = [build(iter(BOTH), tmp_path / name, embedder, progress=QUIET) for name in "ab"]
    build(BOTH[:3], tmp_path / "b", embedder, progress=QUIET)
    build(BOTH, tmp_path / "b", embedder, progress=QUIET)  # over another one
    assert facts[0] == facts[1]
    assert folder_hash(tmp_path / "a") == folder_hash(tmp_path / "b")


def test_chunks_without_words_are_counted(tmp_path: Path) -> None:
    facts = build([*BOTH, Chunk("z", "--- | ---", Span("z", 0, 9))], tmp_path, progress=QUIET)
    assert facts["conservation"]["index"].as_dict() == {
        "in": len(BOTH) + 1, "kept": len(BOTH), "dropped": {"no words": 1}, "failed": {},
    }  # fmt: skip
    assert facts["conservation"]["index"].balanced
    assert (facts["chunks"], facts["documents"], len(Index.open(tmp_path))) == (len(BOTH), 2, len(BOTH))


def test_chunks_come_back_as_they_were(index: Index) -> None:
    assert list(index.chunks) == BOTH
    assert index.chunks[-1] == BOTH[-1]
    assert index.chunks[2:4] == BOTH[2:4]
    with pytest.raises(IndexError):
        index.chunks[len(BOTH)]


@pytest.mark.parametrize("rows", [2, 65536])
def test_meaning_ranks_beside_words(
    rows: int, tmp_path: Path, embedder: embed.Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aasut.retrieval.index._ROWS", rows)
    monkeypatch.setattr("aasut.retrieval.index._AT_ONCE", 3)
    texts = ["the pump is hot", "the valve is shut", "पंप चालू है", "cold and open", "zebra"]
    build([Chunk(t, t, Span(t, 0, len(t))) for t in texts], tmp_path, embedder, progress=QUIET)
    index = Index.open(tmp_path, embedder)
    cosines = embedder.embed(texts) @ embedder.embed(["shut the valve"], query=True)[0]
    order = [texts[n] for n in np.argsort(-cosines, kind="stable")]
    found = {hit.chunk.id: hit for hit in index.search("shut the valve", 5)}
    assert {text: hit.ranks["meaning"] for text, hit in found.items()} == {t: order.index(t) + 1 for t in texts}
    assert {text: hit.ranks["words"] for text, hit in found.items() if "words" in hit.ranks} == {
        "the valve is shut": 1, "the pump is hot": 2,
    }  # fmt: skip
    for hit in found.values():
        assert hit.score == pytest.approx(sum(1 / (60 + rank) for rank in hit.ranks.values()))
    assert [hit.score for hit in found.values()] == sorted((hit.score for hit in found.values()), reverse=True)
    assert index.search("lion", 1)[0].ranks.keys() == {"meaning"}  # no chunk has the word
    assert index.search("…", 5) == []
    assert Index.open(tmp_path).search("valve", 1)[0].ranks == {"words": 1}  # the model may stay away


def test_an_index_that_is_none_is_one_line(tmp_path: Path, embedder: embed.Embedder) -> None:
    with pytest.raises(StoreError, match="no whole index"):
        Index.open(tmp_path)
    with pytest.raises(DataError, match="no chunk has a word"):
        build([Chunk("z", "…", Span("z", 0, 1))], tmp_path, progress=QUIET)
    build(BOTH, tmp_path, progress=QUIET)
    with pytest.raises(StoreError, match="without this model"):
        Index.open(tmp_path, embedder)
    (tmp_path / "owners.npy").unlink()
    with pytest.raises(StoreError, match="no whole index") as caught:
        Index.open(tmp_path)
    assert "\n" not in str(caught.value)
    made = json.loads((tmp_path / "index.json").read_text())
    (tmp_path / "index.json").write_text(json.dumps(made | {"format": 0}))
    with pytest.raises(StoreError, match="another aasut"):
        Index.open(tmp_path)


def test_a_build_that_was_killed_leaves_no_index(tmp_path: Path) -> None:
    build(BOTH, tmp_path, progress=QUIET)

    def broken() -> object:
        yield from BOTH[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(broken(), tmp_path, progress=QUIET)  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="no whole index"):
        Index.open(tmp_path)
