"""The element names do not contradict each other."""

from __future__ import annotations

from itertools import combinations

from aasut.documents import docbook_names as names

KINDS = {
    kind: getattr(names, kind)
    for kind in ("SECTIONS", "LISTS", "ITEMS", "VERBATIM", "CODE", "EMPHASIS", "INFOS", "SKIPPED", "ROWS", "CELLS")
}


def test_an_element_is_of_one_kind() -> None:
    for (one, first), (other, second) in combinations(KINDS.items(), 2):
        assert not first & second, f"{one} and {other}"


def test_roots_are_docbook_s_own() -> None:
    assert {"book", "article", "chapter", "glossary", "sect1", "para"} <= names.ELEMENTS
    assert not names.ELEMENTS & {"html", "svg", "project", "rss", "type", "reference", "set", "part", "topic"}
