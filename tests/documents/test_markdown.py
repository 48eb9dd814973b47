"""Markdown and plain text: headings, paragraphs, code, and files too large to hold."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from read_blocks import HINDI, blocks, levels, texts, written

from aasut.documents.block import Block
from aasut.documents.markdown import fenced

PAGE = f"""---
title: "ग्राहक पुस्तिका"
author: x
---
Intro line
goes on.

# खाता #
{HINDI}

Second
------
- one
- two

```python
# no heading

x = 1
```
| a | b |
|---|---|
| 1 | 2 |

***
#notag
###### Deep
"""


def test_markdown(tmp_path: Path) -> None:
    assert written(tmp_path / "a.md", PAGE) == [
        Block("ग्राहक पुस्तिका", 1),
        Block("Intro line\ngoes on."),
        Block("खाता", 1),
        Block(HINDI),
        Block("Second", 2),
        Block("- one\n- two"),
        Block("```python\n# no heading\n\nx = 1\n```"),
        Block("| a | b |\n|---|---|\n| 1 | 2 |"),
        Block("#notag"),
        Block("Deep", 6),
    ]


def test_what_looks_like_front_matter(tmp_path: Path) -> None:
    assert texts(written(tmp_path / "a.md", "---\njust a rule\n\nand text\n")) == ["just a rule", "and text"]
    assert levels(written(tmp_path / "b.md", "title: x\n\n# Real\n")) == [(1, "Real")]


@pytest.mark.parametrize("fence", ["```", "~~~~", "  ```"])
def test_a_fence_is_closed_by_its_like_alone(tmp_path: Path, fence: str) -> None:
    found = written(tmp_path / "a.md", f"{fence}\n``\n# x\n{fence}\n# Heading\n")
    assert levels(found) == [(1, "Heading")]
    assert len(found) == 2


def test_long_code_is_parted_between_fences(tmp_path: Path) -> None:
    found = written(tmp_path / "a.md", "```\n" + "word " * 3000 + "\n" + "line\n" * 5000 + "```\nend\n")
    assert len(found) > 2
    assert found[-1].text == "end"
    assert all(block.text.startswith("```\n") and block.text.endswith("\n```") for block in found[1:-1])


def test_plain_text_stays_as_it_is(tmp_path: Path) -> None:
    assert texts(written(tmp_path / "a.txt", f"# one\n  two\n\n\n{HINDI}\r\n\r\n---\nlast")) == [
        "# one\n  two",
        HINDI,
        "---\nlast",
    ]


def test_a_long_line_is_cut_into_bounded_blocks_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "line.txt"
    with path.open("w", encoding="utf-8") as file:
        for _ in range(2000):
            file.write("क्षेत्र और नियम " * 500)
    tracemalloc.start()
    longest = total = 0
    for block in blocks_of(path):
        longest, total = max(longest, len(block)), total + sum(not letter.isspace() for letter in block)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert longest <= 16_000
    assert total == 2000 * 500 * len("क्षेत्रऔरनियम")
    assert peak < 12 << 20, "the whole line was held"


def blocks_of(path: Path):  # type: ignore[no-untyped-def]
    from aasut.documents import readers
    from aasut.documents.opened import Wanted

    return (block.text for block in readers.read(str(path), Wanted(), 1 << 30))


def test_fences_do_not_stand_in_their_code() -> None:
    assert fenced("a\n```\nb") == "````\na\n```\nb\n````"
    assert fenced("a") == "```\na\n```"


def test_blocks_of_a_page_belong_to_no_record(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# H\n\ntext\n", encoding="utf-8")
    assert [block.record for block in blocks(tmp_path / "a.md")] == [None, None]
