"""The page shows what anybody may have written: nothing of it runs, nothing is fetched, and nothing is left out."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from aasut.report import synthesis
from aasut.synthesize.item import as_dict
from aasut.types import Conservation, Document
from written import HINDI, MANUAL, asked, chunks, recipe

EVIL = "</pre></dd><script>alert('x')</script><img src=x onerror=alert(1)>{{ 7*7 }}\"'><svg/onload=alert(2)>"
TURNED = "\u202egnp.exe\u0000\ud800"
VOID = {"meta", "img", "br", "link", "use", "path", "rect"}


class Reader(HTMLParser):
    """What elements a page has, what their attributes are, and what of it is text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if "style" not in self.open else ""


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return reader


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three documents with evil names, their chunks, and files that could not be read."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    names = {f"a{EVIL}.pdf": "en", "hi.md#पंप": "hi", "tune.md": "en"}
    documents = [Document(name, name.partition("#")[0], name, language, 9) for name, language in names.items()]
    every = [
        chunk for document in documents
        for chunk in chunks(document.id, HINDI if document.language == "hi" else MANUAL, document.language)
    ]  # fmt: skip
    unread = [{"file": f"{number}{EVIL}.docx", "reason": "an archive bomb"} for number in range(synthesis.LISTED + 3)]
    for name, rows in (
        ("documents", [vars_of(one) for one in documents]),
        ("chunks", [{"language": c.language, "span": {"document": c.span.document}} for c in every]),
        ("unread", unread),
    ):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return folder


def vars_of(document: Document) -> dict[str, Any]:
    return {name: getattr(document, name) for name in ("id", "file", "group", "language", "characters")}


@pytest.fixture
def facts(corpus: Path) -> synthesis.Facts:
    evil, hindi = f"a{EVIL}.pdf", "hi.md#पंप"
    one = asked("1", f"Which? {EVIL}", TURNED, chunks(evil, MANUAL)[0], evidence=(EVIL,), prompt=EVIL)
    two = asked("2", "कौन-सा फ़्यूज़ है?", "F12", chunks(hindi, HINDI, "hi", ["देखभाल", EVIL])[1])
    lost = {"a number is not in the span": 5, "a refusal": 2}
    sieved = {
        "conservation": {
            "filtered": Conservation(12, 5, lost),
            "filtered train": {"in": 12, "kept": 5, "dropped": lost, "failed": {}},
        },
        "kinds": {"questions": {"in": 12, "kept": 5}},
        "reasons": {"train": lost, "tune": {}, "test": {}},
        "rates": {
            "grounding": {"reached": 10, "passed": 5, "share": 0.5},
            "round_trip": {"reached": 0, "passed": 0, "share": None},
        },
        "samples": {
            "kept": [as_dict(two) | {"detail": "", "text": HINDI[1]}],
            "a refusal": [as_dict(one) | {"detail": EVIL, "text": EVIL * 200}],
        },
        "calls": {"calls_made": 3, "calls_reused": 1, "usd_spent": 0.25, "usd_reused": 0.0},
    }
    rows = Conservation(506, 3, {}, {"an archive bomb": 503})
    stages = {
        "documents": {"conservation": {"files": rows}},
        "items": {
            "calls": {"calls_made": 7, "usd_spent": 1.0},
            "requests": {"questions": 6, "relations": 1},
            "tokens": {"prompt": 12345, "completion": 678},
            "repairs": {EVIL: 2},
        },
        "filter": sieved,
    }
    parts = {evil: "train", hindi: "test", "tune.md": "tune"}
    return synthesis.gather(recipe(), stages, corpus, parts)


def test_facts_are_gathered_of_every_stage(facts: synthesis.Facts) -> None:
    assert facts["splits"] == {
        "train": {"documents": 1, "chunks": 3, "languages": {"en": 3}},
        "tune": {"documents": 1, "chunks": 3, "languages": {"en": 3}},
        "test": {"documents": 1, "chunks": 2, "languages": {"hi": 2}},
    }
    assert facts["ledger"] == {"calls_made": 10, "calls_reused": 1, "usd_spent": 1.25, "usd_reused": 0.0}
    assert len(facts["unread"]) == synthesis.LISTED + 3
    assert facts["samples"]["kept"][0]["citations"] == [f"hi.md, पंप, page 2, देखभाल › {EVIL}"]
    assert facts["conservation"]["filtered"] == {
        "in": 12,
        "kept": 5,
        "dropped": facts["reasons"]["train"],
        "failed": {},
    }


def test_hostile_text_is_text(facts: synthesis.Facts, tmp_path: Path) -> None:
    synthesis.write(facts, tmp_path)
    page = (tmp_path / synthesis.PAGE).read_text(encoding="utf-8")
    found = read(page)
    assert {"script", "img", "iframe", "object", "link", "base", "form"}.isdisjoint(found.tags)
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert not [value for name, value in found.attributes if name in ("href", "src") and not value.startswith("#")]
    assert found.text.count(EVIL) > 5  # shown as it stands
    assert not any(mark in page for mark in "\u202e\x00\ud800")
    assert "\N{REPLACEMENT CHARACTER}gnp.exe" in found.text
    assert "कौन-सा फ़्यूज़ है?" in found.text
    assert "default-src 'none'" in page


def test_the_json_has_all_and_the_page_says_what_it_leaves_out(facts: synthesis.Facts, tmp_path: Path) -> None:
    synthesis.write(facts, tmp_path)
    kept = json.loads((tmp_path / synthesis.FACTS).read_text(encoding="utf-8"))
    assert len(kept["unread"]) == synthesis.LISTED + 3
    assert kept["samples"]["a refusal"][0]["text"] == EVIL * 200
    page = read((tmp_path / synthesis.PAGE).read_text(encoding="utf-8")).text
    for told in ("Asked to write questions6", "Tokens of prompts12,345", f"Answers mended2 {EVIL}", "Paid$1.25"):
        assert told in page.replace("\n", "")
    assert "And 3 more, in synthesis.json." in page
    assert "more characters)" in page
    assert "50.0\N{NO-BREAK SPACE}%" in page
    first = (tmp_path / synthesis.PAGE).read_bytes()
    synthesis.write(facts, tmp_path)
    assert (tmp_path / synthesis.PAGE).read_bytes() == first


def test_the_way_has_a_bar_for_each_reason(facts: synthesis.Facts) -> None:
    drawn = str(synthesis.way(facts))
    for name in ("kept", "a number is not in the span", "a refusal", "of 12 items, %"):
        assert f">{name}</text>" in drawn
    assert "var(--student)" in drawn
    assert "#0100" not in drawn  # every colour is the page's, in light and dark
    empty = facts | {"conservation": {"filtered": {"in": 0, "kept": 0, "dropped": {}, "failed": {}}}}
    assert synthesis.way(empty) == ""
    assert "kept" in synthesis.html(empty | {"samples": {}, "reasons": {}, "rates": {}})


def test_both_colour_schemes_have_every_colour(facts: synthesis.Facts) -> None:
    page = synthesis.html(facts)
    light, _, rest = page.partition("@media (prefers-color-scheme: dark)")
    dark = rest.partition("}\n}")[0]
    for colour in ("--surface", "--panel", "--ink", "--muted", "--line", "--student", "--other"):
        assert f"{colour}:" in light
        assert f"{colour}:" in dark


def test_lines_for_a_terminal(facts: synthesis.Facts) -> None:
    assert synthesis.lines(facts) == [
        "Files      3 of 506 read; 503 an archive bomb",
        "Documents  3 in 8 chunks (6 en, 2 hi): 1 train, 1 tune, 1 test",
        "Teacher    10 calls made, 1 answered before, for $1.25",
        "Kept       5 of 12 items: 5 of 12 questions",
        "Not kept   5 a number is not in the span",
        "           2 a refusal",
        "Accepted   50.0\N{NO-BREAK SPACE}% rest on their span (5 of 10)",
        "           \N{EN DASH} answered alike again (0 of 0)",
    ]
