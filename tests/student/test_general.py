"""General text for healing: documents are not parted, no token is lost, and a teacher reads what rows begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from aasut.errors import DataError, RecipeError
from aasut.formats.tokenizer import Tokenizer
from aasut.recipe.student import Heal
from aasut.student import general
from aasut.student.corpus import Passage
from aasut.types import Chunk, Document, Span

SEED = 7
TEXTS = [Passage((f"d{i}",), f"On day {i} it rained, and the streets were empty. " * (3 + i % 3)) for i in range(60)]


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> Tokenizer:
    return Tokenizer.load(tiny_llama)


def heal(**changes: object) -> Heal:
    return Heal.model_validate({"texts": [{"source": "general"}], "context": 64} | changes)


def count(text: str, tokenizer: Tokenizer) -> int:
    return len(tokenizer.encode(text)) + 1


def test_every_token_is_accounted_for(tokenizer: Tokenizer) -> None:
    every = sum(count(text.text, tokenizer) for text in TEXTS)
    found = general.build(TEXTS, heal(), tokenizer, SEED)
    learned = sum(row.answer for row in found.rows)
    assert found.tokens.balanced
    assert (found.tokens.rows_in, found.tokens.kept) == (every, learned)
    assert set(found.tokens.dropped) == {general.KEPT}
    assert 0.02 * every < found.tokens.dropped[general.KEPT] < 0.06 * every
    capped = general.build(TEXTS, heal(tokens=2000), tokenizer, SEED)
    assert capped.tokens.balanced
    assert 1900 < sum(row.answer for row in capped.rows) == capped.tokens.kept <= 2000
    assert capped.tokens.rows_in == every
    assert capped.tokens.dropped[general.SPARE] > 0.5 * every


def test_whole_documents_are_kept_for_validation(tokenizer: Tokenizer) -> None:
    pages = [Passage((f"d{i // 2}",), f"page {i} of book {i // 2}. " * 4) for i in range(60)]
    found = general.build(pages, heal(), tokenizer, SEED)
    said = [tokenizer.decode(row.ids[len(row.ids) - row.answer :]) for row in (*found.rows, *found.held)]
    books = [{text.rsplit("of book ", 1)[1].split(".")[0] for text in some if "of book " in text}
             for some in (said[: len(found.rows)], said[len(found.rows) :])]  # fmt: skip
    assert books[1]
    assert not books[0] & books[1]


def test_what_is_looked_at_is_measured_by_bytes(tokenizer: Tokenizer) -> None:
    hindi = [Passage((f"d{i}",), "नमस्ते दुनिया। " * 9) for i in range(40)]
    found = general.build(hindi, heal(context=256), tokenizer, SEED)
    said = "".join(tokenizer.decode(row.ids[len(row.ids) - row.answer :]) for row in found.held)
    assert found.bytes == len(said.encode())  # the end token is none of the text's
    assert all(row.ids[-1] != tokenizer.eos_id for row in found.held)
    assert any(row.ids[-1] == tokenizer.eos_id for row in found.rows)


def test_a_large_document_is_looked_at_in_part(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    long = [Passage((f"d{i}",), f"word {i} " * 3000) for i in range(2)]
    found = general.build(long, heal(tokens=100_000), tokenizer, SEED)
    assert found.tokens.dropped == {general.KEPT: count(long[0].text, tokenizer)}
    assert 0.03 < found.bytes / sum(len(text.text) for text in long) <= 0.05
    monkeypatch.setattr(general, "MOST_HELD", 100)
    assert general.build(long, heal(), tokenizer, SEED).bytes == 400


def test_a_teacher_reads_what_comes_before_the_targets(tokenizer: Tokenizer) -> None:
    found = general.build(TEXTS, heal(), tokenizer, SEED)
    for row in (*found.rows, *found.held):
        assert [*row.asked, *row.ids[len(row.ids) - row.answer :]] == list(row.ids)
        assert row.asked


def test_calibration_is_of_texts_that_are_learned_in_a_drawn_order(tokenizer: Tokenizer) -> None:
    one, again, other = (general.build(TEXTS, heal(), tokenizer, seed).calibration for seed in (7, 7, 8))
    assert one == again
    assert one != other
    assert one != sorted(one)
    assert len(one) < len(TEXTS)


def test_a_group_of_documents_is_never_parted() -> None:
    documents = [Document(f"file#{i}", "file", f"g{i // 2}" if i < 2 else "", "en", 4) for i in range(3)]
    chunks = [Chunk(f"c{i}", f"text {i}", Span(f"file#{i}", 0, 6)) for i in range(3)]
    found = general.passages(documents, chunks)
    assert [(one.documents, one.text) for one in found] == [
        (("g0",), "text 0"), (("g0",), "text 1"), (("file#2",), "text 2"),
    ]  # fmt: skip


@pytest.mark.parametrize("texts", [[], TEXTS[:1], [Passage(("a",), ""), TEXTS[0]]], ids=["none", "one", "an empty one"])
def test_one_document_is_too_few(texts: list[Passage], tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match="one more is needed for validation"):
        general.build(texts, heal(), tokenizer, SEED)


def test_a_budget_that_no_row_fits_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(RecipeError, match=r"student\.heal\.tokens is 10, and a row") as caught:
        general.build(TEXTS, heal(tokens=10), tokenizer, SEED)
    assert "lower student.heal.context" in caught.value.remedy
