"""Chunks: end to end they are the document, and they end where a section, a paragraph or a sentence does."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator

import pytest

from aasut.documents.block import Block
from aasut.documents.chunk import chunks, letters
from aasut.types import Chunk
from prose import Prose

RIGHTS = (
    "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है। उन्हें बुद्धि और अन्तरात्मा की देन "
    "प्राप्त है और परस्पर उन्हें भाईचारे के भाव से बर्ताव करना चाहिए। प्रत्येक व्यक्ति को जीवन, स्वाधीनता और वैयक्तिक सुरक्षा का "
    "अधिकार है। कोई भी ग़ुलामी या दासता की हालत में न रखा जाएगा, ग़ुलामी-प्रथा और ग़ुलामों का व्यापार अपने सभी रूपों में निषिद्ध होगा।"
)


def cut(blocks: list[Block], most: int = 200) -> list[Chunk]:
    return list(chunks("d", blocks, most))


def whole(blocks: list[Block]) -> str:
    """What the document's text is to be."""
    return "\n\n".join("#" * b.level + " " * bool(b.level) + b.text for b in blocks if b.text.strip())


def check(blocks: list[Block], most: int) -> list[Chunk]:
    """The spans part the text."""
    found, text = cut(blocks, most), whole(blocks)
    assert "".join(chunk.text for chunk in found) == text
    assert [chunk.span.start for chunk in found] == [0, *(chunk.span.end for chunk in found[:-1])][: len(found)]
    for chunk in found:
        assert chunk.text == text[chunk.span.start : chunk.span.end]
        assert 0 < len(chunk.text) <= most
        assert chunk.span.document == "d"
    assert len({chunk.id for chunk in found}) == len(found)
    return found


@pytest.mark.parametrize("seed", range(60))
def test_chunks_end_to_end_are_the_text(seed: int) -> None:
    draw, prose = random.Random(seed), Prose(seed)
    blocks = []
    for _ in range(draw.randint(0, 40)):
        kind = draw.random()
        if kind < 0.3:
            blocks.append(Block(prose.sentence(draw.randint(1, 6)), level=draw.randint(1, 6)))
        elif kind < 0.5:
            blocks.append(Block("\n".join(f"| {prose.sentence(3)} | {n} |" for n in range(draw.randint(1, 60)))))
        elif kind < 0.6:
            blocks.append(Block(" ".join([RIGHTS] * draw.randint(1, 4))))
        elif kind < 0.7:
            blocks.append(
                Block(draw.choice(["x", "क्षि", "日本語。", "e\u0301", " \t", "\n"]) * draw.randint(1, 900) + ".")
            )
        else:
            blocks.append(Block(prose.document(draw.randint(1, 3000)), page=draw.randint(1, 9)))
    check(blocks, draw.choice([200, 311, 1600]))


def test_a_section_that_fits_is_one_chunk_with_its_headings() -> None:
    blocks = [
        Block("Guide", 1), Block("Accounts", 2), Block("a " * 60 + "."), Block("b " * 30 + "."),
        Block("Bills", 2), Block("c " * 60 + "."), Block("Late", 3), Block("d " * 80 + "."),
    ]  # fmt: skip
    found = check(blocks, 220)
    assert [chunk.span.headings for chunk in found] == [
        ("Guide", "Accounts"), ("Guide", "Bills"), ("Guide", "Bills", "Late"),
    ]  # fmt: skip
    assert found[0].text.startswith("# Guide\n\n## Accounts\n\na a")
    assert found[2].text.startswith("### Late\n\nd d")


def test_a_title_that_its_first_heading_repeats_stands_once_in_the_path() -> None:
    blocks = [Block("Backups", 1), Block("| Prev | Next |"), Block("Backups", 2), Block("x " * 95), Block("Logs", 3)]
    found = check([*blocks, Block("y " * 95)], 220)
    assert [chunk.span.headings for chunk in found] == [("Backups",), ("Backups",), ("Backups", "Logs")]


def test_small_sections_share_a_chunk_under_the_same_parent_only() -> None:
    blocks = [
        Block("One", 1), Block("A", 2), Block("first."), Block("B", 2), Block("second."), Block("C", 3),
        Block("third."), Block("Two", 1), Block("fourth."), Block("D", 2), Block("fifth."),
    ]  # fmt: skip
    assert [chunk.span.headings for chunk in check(blocks, 2000)] == [()]  # the document as a whole
    rest = check([Block("One", 1), Block("x " * 95), Block("x " * 95), *blocks[1:]], 200)
    assert [(chunk.span.headings, chunk.text.count("#")) for chunk in rest[-2:]] == [(("One",), 7), (("Two",), 3)]


def test_headings_do_not_part_from_what_they_head() -> None:
    long = " ".join(f"Sentence {n} stands here." for n in range(60))
    blocks = [Block("Guide", 1), Block("Part", 2), Block("Chapter", 3), Block(long), Block("Next", 3), Block(long)]
    found = check(blocks, 300)
    assert found[0].text.startswith("# Guide\n\n## Part\n\n### Chapter\n\nSentence 0")
    assert {chunk.span.headings[-1] for chunk in found} == {"Chapter", "Next"}
    assert not any(chunk.text.rstrip().endswith(("Guide", "Part", "Chapter", "Next")) for chunk in found)


def test_a_long_heading_does_not_part_from_its_text_either() -> None:
    found = check([Block("How is it that this " * 6 + "is so?", 2), Block("It is so. " * 80 + "End.")], 200)
    assert "\n\nIt is so. " in found[0].text


def test_a_long_section_is_cut_into_pieces_of_about_a_size() -> None:
    paragraph = "This is one sentence of a paragraph. " * 3
    found = check([Block("A", 1), *[Block(paragraph.strip())] * 16], 1000)
    sizes = [len(chunk.text) for chunk in found]
    assert len(sizes) == 2
    assert max(sizes) - min(sizes) <= len(paragraph) + 10
    assert all(chunk.text.endswith("paragraph.\n\n") for chunk in found[:-1])


def test_pages_and_headings_go_along() -> None:
    blocks = [Block("A", 1, page=3), Block("x " * 90, page=3), Block("y " * 90, page=4), Block("z " * 90, page=5)]
    assert [chunk.span.page for chunk in check(blocks, 200)] == [3, 4, 5]


def test_a_table_is_cut_between_its_lines() -> None:
    rows = [f"| {n:03} | the value no. {n}. Of old |" for n in range(40)]
    found = check([Block("\n".join(["| a | b |", "|---|---|", *rows]))], 400)
    assert len(found) > 3
    assert all(chunk.text.endswith("|\n") for chunk in found[:-1])


@pytest.mark.parametrize(
    ("sentence", "end"),
    [("यह एक वाक्य है। ", "। "), ("这是一个句子。", "。"), ("یہ ایک جملہ ہے۔ ", "۔ "), ("धर्मः॥१॥ ", "॥ ")],
)
def test_sentences_of_other_scripts_end_chunks(sentence: str, end: str) -> None:
    found = check([Block((sentence * 200).strip())], 300)
    assert all(chunk.text.endswith(end) for chunk in found[:-1])
    assert all(chunk.text.startswith(sentence[:2]) for chunk in found)


def test_numbers_initials_and_lower_case_end_no_sentence() -> None:
    text = ("The pump of J. Smith takes 3.5 litres, e.g. at no. 7 in A. B. Carter's shop, as it did. " * 40).strip()
    found = check([Block(text)], 300)
    assert all(chunk.text.endswith("did. ") for chunk in found[:-1])


@pytest.mark.parametrize("cluster", ["क्षि", "e\u0301\u0323", "👩‍👩‍👧‍👦", "🇮🇳", "각"])
def test_what_is_read_as_one_character_stays_whole(cluster: str) -> None:
    found = check([Block(cluster * 400)], 211)
    assert all(chunk.text == cluster * (len(chunk.text) // len(cluster)) for chunk in found)


def test_no_chunk_begins_with_a_mark_that_stands_on_a_space() -> None:
    found = check([Block("ab \u0301. \u0301" * 300)], 211)
    assert not any(chunk.text.startswith("\u0301") for chunk in found)


def test_a_cluster_longer_than_a_chunk_is_cut_all_the_same() -> None:
    check([Block("a" + "\u0301" * 5000)], 200)


def test_no_text_gives_no_chunk() -> None:
    assert cut([]) == cut([Block(""), Block(" \n")]) == []


def test_a_document_of_any_length_streams() -> None:
    """20 MB of blocks go through a few hundred kilobytes; one block of 5 MB takes time in proportion."""

    def endless() -> Iterator[Block]:
        paragraph = Prose(3).document(2000)
        for number in range(10_000):
            yield Block("Section", 2) if number % 25 == 0 else Block(paragraph)

    tracemalloc.start()
    total = sum(len(chunk.text) for chunk in chunks("d", endless(), 1600))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total > 18_000_000
    assert peak < 1_000_000
    check([Block("One sentence and no more. " * 200_000 + "End.")], 1600)


def test_letters_of_any_script_count() -> None:
    assert letters("ab 12 – é") == 3
    assert letters("क्षि") == 2
