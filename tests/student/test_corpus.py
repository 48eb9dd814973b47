"""From texts to rows: nothing crosses documents, nothing is lost, and the shares are those asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from aasut.errors import DataError, RecipeError
from aasut.formats.tokenizer import Tokenizer
from aasut.recipe.field import Adapt
from aasut.student import corpus
from aasut.student.corpus import Corpus, Cutter, Passage
from aasut.student.objective import Row
from aasut.synthesize.item import Item
from aasut.types import Chunk, Message, Span
from tiny_llama import make_llama

WORDS = ["the", "battery", "of", "a", "great", "remote", "नमस्ते", "दुनिया", "is", "not", "as", "it", "was"]
SEED = 7


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> Tokenizer:
    return Tokenizer.load(tiny_llama)


def texts(name: str, count: int, words: int = 30) -> list[Passage]:
    """Documents of lengths that differ, each with words that tell of which it is."""
    return [
        Passage((f"{name}{i}",), " ".join(f"{WORDS[(i + j) % len(WORDS)]} {name}{i}" for j in range(words + 7 * i)))
        for i in range(count)
    ]


def settings(**changes: object) -> Adapt:
    plain = {"replay": [{"source": "general"}], "context": 64, "replay_share": 0.2}
    return Adapt.model_validate(plain | changes)


def made(tokenizer: Tokenizer, seed: int = SEED, asked: Sequence[int] | None = None, **changes: object) -> Corpus:
    items = [Passage(("field3",), "asked of the third"), Passage(("field0", "field4"), "asked of two")]
    return corpus.build(
        texts("field", 12), items, texts("general", 20), tokenizer, settings(**changes), 0.2, seed, asked
    )


def targets(row: Row) -> list[int]:
    return list(row.ids[len(row.ids) - row.answer :])


def counted(rows: Sequence[Row]) -> int:
    return sum(row.answer for row in rows)


def test_rows_of_a_passage_are_its_tokens_one_after_another(tokenizer: Tokenizer) -> None:
    for passage, cut in zip(texts("field", 5), Cutter(tokenizer, 64).cut_all(texts("field", 5)), strict=True):
        assert len(cut.rows) > 1
        joined = [token for row in cut.rows for token in targets(row)]
        assert joined == [*tokenizer.encode(passage.text), tokenizer.eos_id]
        assert max(len(row.ids) for row in cut.rows) <= 64
        assert len(cut.rows) == 1 + -(-(len(joined) - 63) // 62)  # as few as fit
        line = tokenizer.encode("\n")
        assert cut.rows[0].ids[:1] == line
        for before, row in zip(cut.rows, cut.rows[1:], strict=False):
            assert list(row.ids[: len(row.ids) - row.answer]) == [*line, before.ids[-1]]


def test_no_length_loses_a_token(tokenizer: Tokenizer) -> None:
    cutter = Cutter(tokenizer, 64)
    given = [Passage(("a",), "x" * length) for length in range(1, 260)]
    for passage, cut in zip(given, cutter.cut_all(given), strict=True):
        joined = [token for row in cut.rows for token in targets(row)]
        assert joined == [*tokenizer.encode(passage.text), tokenizer.eos_id]
        assert min(row.answer for row in cut.rows) > 0


def test_a_begin_token_stands_first_where_the_model_wants_one(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(make_llama(tmp_path, add_bos=True))
    rows = Cutter(tokenizer, 64).cut_all(texts("field", 1))[0].rows
    assert len(rows) > 1
    assert {row.ids[0] for row in rows} == {tokenizer.bos_id}


def test_an_empty_text_has_no_row(tokenizer: Tokenizer) -> None:
    assert Cutter(tokenizer, 64).cut_all([Passage(("a",), "")])[0].rows == []


def test_every_token_is_accounted_for(tokenizer: Tokenizer) -> None:
    found = made(tokenizer)
    whole = {
        "documents": sum(len(tokenizer.encode(p.text)) + 1 for p in texts("field", 12)),
        "generated": sum(len(tokenizer.encode(t)) + 1 for t in ("asked of the third", "asked of two")),
        "general": sum(len(tokenizer.encode(p.text)) + 1 for p in texts("general", 20)),
    }
    assert {name: account.rows_in for name, account in found.tokens.items()} == whole
    assert all(account.balanced for account in found.tokens.values())
    assert counted(found.rows) == sum(account.kept for account in found.tokens.values())
    kept_out = sum(account.dropped.get(corpus.VALIDATION, 0) for account in found.tokens.values())
    assert counted(found.validation) == kept_out


def test_the_share_of_general_text_is_the_one_asked_for(tokenizer: Tokenizer) -> None:
    for share in (0.0, 0.1, 0.3):
        found = made(tokenizer, replay_share=share)
        assert found.tokens["general"].kept == pytest.approx(share * counted(found.rows), abs=1)
        general = sum(row.answer for row in found.validation if b"general" in said(tokenizer, row))
        assert general == pytest.approx(share * counted(found.validation), abs=64)


def said(tokenizer: Tokenizer, row: Row) -> bytes:
    return tokenizer.decode(targets(row)).encode()


def sources(tokenizer: Tokenizer, rows: Sequence[Row]) -> set[str]:
    """Names of the documents that rows are of."""
    every = " ".join(tokenizer.decode(targets(row)) for row in rows).split()
    known = {passage.documents[0] for name, count in (("field", 12), ("general", 20)) for passage in texts(name, count)}
    return known & set(every)


def test_validation_shares_no_document_with_what_is_learned(tokenizer: Tokenizer) -> None:
    found = made(tokenizer)
    learned, held = sources(tokenizer, found.rows), sources(tokenizer, found.validation)
    assert {name.rstrip("0123456789") for name in held} == {"field", "general"}
    assert not learned & held
    documents = found.tokens["documents"]
    assert 0.05 < documents.dropped[corpus.VALIDATION] / documents.rows_in <= 0.2


def test_what_was_generated_of_a_held_document_is_held_too(tokenizer: Tokenizer) -> None:
    seen = set[tuple[bool, ...]]()
    for seed in range(40):
        found = made(tokenizer, seed=seed)
        held = sources(tokenizer, found.validation)
        for text, of in (("asked of the third", {"field3"}), ("asked of two", {"field0", "field4"})):
            out = any(said(tokenizer, row).startswith(text.encode()) for row in found.validation)
            assert out == bool(of & held)
            assert out != any(said(tokenizer, row).startswith(text.encode()) for row in found.rows)
            seen.add(tuple(name in held for name in sorted(of)))
    assert seen >= {(False,), (True,), (False, False), (True, False), (False, True)}


def test_documents_are_capped_in_tokens(tokenizer: Tokenizer) -> None:
    found = made(tokenizer, tokens=400)
    documents = found.tokens["documents"]
    assert 400 - 64 < documents.kept <= 400
    assert documents.dropped[corpus.CAPPED] == documents.rows_in - documents.kept - documents.dropped[corpus.VALIDATION]
    assert documents.dropped[corpus.VALIDATION] <= 0.2 * documents.rows_in
    with pytest.raises(RecipeError, match=r"adapt\.tokens is 5"):
        made(tokenizer, tokens=5)


def test_the_same_seed_gives_the_same_rows(tokenizer: Tokenizer) -> None:
    assert made(tokenizer) == made(tokenizer)
    assert made(tokenizer, seed=8).rows != made(tokenizer).rows


def test_too_little_general_text_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(RecipeError, match=r"replay_share is 0\.9.*general text") as caught:
        made(tokenizer, replay_share=0.9)
    assert "general text" in caught.value.remedy


def test_one_document_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match="1 document"):
        corpus.build(texts("field", 1), [], texts("general", 9), tokenizer, settings(), 0.2, SEED)


def test_general_rows_alone_carry_what_the_anchor_reads(tokenizer: Tokenizer) -> None:
    found = made(tokenizer, asked=[5, 6])
    for row in (*found.rows, *found.validation):
        general = b"general" in said(tokenizer, row)
        assert bool(row.asked) == general
        if general:
            assert list(row.asked) == [5, 6, *row.ids[1 : len(row.ids) - row.answer]]
    assert [replace(row, asked=()) for row in found.rows] == made(tokenizer).rows


def chunk(document: str, start: int, text: str) -> Chunk:
    return Chunk(f"{document}@{start}", text, Span(document, start, start + len(text)))


def test_chunks_are_joined_to_their_documents_and_apart_at_holes() -> None:
    given = [chunk("b", 0, "of b"), chunk("a", 9, "three"), chunk("a", 0, "one "), chunk("a", 4, "two ")]
    assert corpus.of_chunks(given) == [
        Passage(("a",), "one two "),
        Passage(("a",), "three"),  # what stood at 8 is missing
        Passage(("b",), "of b"),
    ]


def test_items_are_read_turn_by_turn_and_belong_to_their_spans_documents() -> None:
    turns = (Message("user", "What is it?"), Message("assistant", "A battery."))
    spans = (Span("a", 0, 4), Span("b", 0, 4), Span("a", 9, 12))
    item = Item("i", "questions", "train", turns, spans, "p", "t")
    assert corpus.of_items([item]) == [Passage(("a", "b"), "What is it?\nA battery.")]
