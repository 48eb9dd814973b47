"""HTML: its text in Markdown, without what only leads the reader about or runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from aasut.documents import markdown
from aasut.documents.block import Block
from aasut.documents.encoding import MARKS, codec_of
from aasut.documents.fault import ENCODING, Fault
from aasut.documents.opened import Opened, Wanted

DROPPED = (
    "script", "style", "noscript", "template", "nav", "aside", "iframe", "frame", "object", "embed", "applet", "svg",
    "canvas", "audio", "video", "form", "button", "input", "select", "textarea", "dialog", "head", "link", "meta",
)  # fmt: skip
ROLES = ("navigation", "search", "banner", "contentinfo", "menu", "menubar", "complementary")
CLASSES = ("navheader", "navfooter", "toc", "breadcrumb", "breadcrumbs")  # of DocBook's stylesheets, Sphinx, Bootstrap
_MARK = "\x02"  # begins a heading's line; no document has one, since control characters are taken out
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_HEADING = re.compile(f"{_MARK}([1-6])(.*)$")
_DECLARED = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]+)""", re.IGNORECASE)


def read(file: Opened, wanted: Wanted) -> Iterator[Block]:
    """Blocks of an HTML file; its title is the first heading where no heading says the same."""
    file.stream.seek(0)
    yield from blocks(_decoded(file, wanted))


def blocks(page: str) -> Iterator[Block]:
    """Blocks of HTML given as text. Nothing that it refers to is fetched."""
    import bs4

    soup = bs4.BeautifulSoup(_CONTROLS.sub("", page), "html.parser")
    title = " ".join(soup.title.get_text().split()) if soup.title else ""
    for element in soup(DROPPED):
        element.extract()
    for element in (*soup(attrs={"role": ROLES}), *soup(class_=CLASSES)):
        element.extract()
    body = soup.body or soup
    for element in body(["header", "footer"]):
        if element.find_parent(["main", "article", "section"]) is None and element.find(["h1", "h2"]) is None:
            element.extract()
    try:
        said = _converter().convert_soup(body)
    except RecursionError:  # nested too deeply to be more than text
        said = body.get_text("\n\n", strip=True)
    found = _split(said)
    first = next(found, None)
    if title and (first is None or not first.level or first.text != title):
        yield Block(title, level=1)
    if first is not None:
        yield first
    yield from found


def _split(said: str) -> Iterator[Block]:
    """Markdown with marked headings, as blocks."""
    lines: list[str] = []
    for line in said.split("\n"):
        if found := _HEADING.match(line):
            yield from _unmarked(lines)
            lines = []
            if found[2].strip():
                yield Block(found[2].strip(), level=int(found[1]))
        else:
            lines.append(line)
    yield from _unmarked(lines)


def _unmarked(lines: list[str]) -> Iterator[Block]:
    """Blocks of what stands between headings: a line that looks like a heading is none."""
    for block in markdown.blocks(lines):
        yield Block("#" * block.level + " " + block.text) if block.level else block


@cache
def _converter() -> Any:
    import markdownify

    class Converter(markdownify.MarkdownConverter):
        """Markdown without addresses: a student that learns them makes up others."""

        def convert_hN(self, n: int, el: Any, text: str, parent_tags: set[str]) -> str:  # noqa: N802
            said = " ".join(text.split())
            if "_inline" in parent_tags:
                return said
            return f"\n\n{_MARK}{min(max(n, 1), 6)}{said}\n\n" if said else ""

        def convert_img(self, el: Any, text: str, parent_tags: set[str]) -> str:
            return " ".join(str(el.attrs.get("alt") or "").split())

    return Converter(strip=["a"], escape_asterisks=False, escape_underscores=False, bullets="-")


def _decoded(file: Opened, wanted: Wanted) -> str:
    """The page as text: in the encoding of the recipe, of its mark, UTF-8, the page's own, or the likeliest."""
    data = file.stream.read()
    codec = wanted.encoding
    if codec == "auto" and not any(data.startswith(mark) for mark, _ in MARKS):
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            if declared := _DECLARED.search(data[:4096]):
                codec = declared[1].decode("ascii")
    if codec != "auto" and codec.lower() not in ("utf-8", "utf8"):
        try:
            return data.decode(codec)
        except (LookupError, UnicodeError) as error:
            if wanted.encoding != "auto":
                raise Fault(
                    f"not {codec.lower()}" if isinstance(error, UnicodeError) else ENCODING, str(error)
                ) from None
    return data.decode(codec_of(file, wanted.encoding))
