"""DocBook 4 and 5, streamed: sections become headings, the rest Markdown.

Neither DTDs nor entities outside of the file are loaded; an entity that the file does not declare becomes its
name. expat stops where entities multiply.
"""

from __future__ import annotations

import xml.parsers.expat
from collections.abc import Iterator
from html.entities import html5

from aasut.documents.block import Block
from aasut.documents.docbook_names import (
    ADMONITIONS,
    BLOCKS,
    CELLS,
    CODE,
    EMPHASIS,
    INFOS,
    ITEMS,
    LISTS,
    ROWS,
    SECTIONS,
    SKIPPED,
    TABLES,
    TITLES,
    VERBATIM,
)
from aasut.documents.fault import Fault
from aasut.documents.markdown import fenced
from aasut.documents.opened import BUFFER, Opened, Wanted
from aasut.documents.table import LARGEST, Table

DEEPEST = 10_000  # elements in one another
DEEPEST_LIST = 20  # to which items are moved in


def read(file: Opened, wanted: Wanted) -> Iterator[Block]:
    """Blocks of a DocBook file. Raises Fault where it does not parse."""
    made = _Maker()
    parser = xml.parsers.expat.ParserCreate(None if wanted.encoding == "auto" else wanted.encoding)
    parser.buffer_text = True
    parser.UseForeignDTD(True)  # else a file without a document type may use no entity at all
    parser.StartElementHandler = made.start
    parser.EndElementHandler = made.end
    parser.CharacterDataHandler = made.characters
    parser.SkippedEntityHandler = made.entity
    file.stream.seek(0)
    try:
        while piece := file.stream.read(BUFFER):
            parser.Parse(piece, False)
            yield from made.taken()
        parser.Parse(b"", True)
    except (xml.parsers.expat.ExpatError, LookupError, ValueError) as error:
        raise Fault("XML that cannot be parsed", str(error)) from None
    yield from made.taken()


class _Maker:
    """Hears of elements and makes blocks of them."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.names: list[str] = []  # of the open elements
        self.text: list[str] = []
        self.lists: list[str] = []  # the open lists, by their kind
        self.numbers: list[int] = []
        self.listed: list[str] = []  # lines of the outermost list
        self.item = ""  # mark of an item whose first paragraph is to come
        self.note = ""
        self.sections = self.skipping = self.verbatim = self.footnotes = 0
        self.table = Table()
        self.row: list[str] | None = None

    def taken(self) -> Iterator[Block]:
        """The blocks since the last time."""
        blocks, self.blocks = self.blocks, []
        return iter(blocks)

    def start(self, name: str, attributes: dict[str, str]) -> None:
        name = name.rpartition(":")[2]
        informs = bool(self.names) and self.names[-1] in INFOS
        self.names.append(name)
        if len(self.names) > DEEPEST:
            raise Fault("nested too deeply")
        if self.skipping or name in SKIPPED or (informs and name not in TITLES):
            self.skipping += 1
        elif name in SECTIONS:
            self._flush()
            self.sections += 1
        elif name in VERBATIM:
            self._flush()
            self.verbatim += 1
        elif name in LISTS:
            self._flush()
            self.lists.append(name)
            self.numbers.append(0)
        elif name in ITEMS:
            self._begin_item(name)
        elif name in ADMONITIONS:
            self._flush()
            self.note = name
        elif name in ROWS:
            self._flush()
            self.row = []
        elif name in CELLS:
            self.text.clear()
        elif name in BLOCKS:
            self._flush()
        elif not self.verbatim:
            self._inline(name, opens=True)

    def end(self, name: str) -> None:
        name = name.rpartition(":")[2]
        self.names.pop()
        if self.skipping:
            self.skipping -= 1
        elif name == "title":
            self._title()
        elif name in SECTIONS:
            self._flush()
            self.sections -= 1
        elif name in VERBATIM:
            self._code()
        elif name in LISTS:
            self._end_list()
        elif name in CELLS:
            self._cell()
        elif name in ROWS:
            self._end_row()
        elif name in TABLES:
            self._flush()
            self.blocks += map(Block, self.table.rest())
        elif name in INFOS:
            self.text.clear()
        elif name in BLOCKS:
            if name == "glossterm" and not self.lists and (said := self._said()):
                self._add(f"**{said}**")
            self._flush()
            if name in ADMONITIONS:
                self.note = ""
        elif not self.verbatim:
            self._inline(name, opens=False)

    def characters(self, text: str) -> None:
        if not self.skipping:
            self.text.append(text)

    def entity(self, name: str, is_parameter: bool) -> None:
        if not self.skipping and not is_parameter:
            self.text.append(html5.get(f"{name};", name))

    def _inline(self, name: str, *, opens: bool) -> None:
        if name in CODE:
            self.text.append("`")
        elif name in EMPHASIS:
            self.text.append("*")
        elif name == "quote":
            self.text.append("“" if opens else "”")
        elif name == "footnote":
            self.footnotes += 1 if opens else -1
            self.text.append(" (" if opens else ")")
        elif name in ("sbr", "guimenuitem", "guisubmenu") and opens:
            self.text.append(" ")

    def _said(self) -> str:
        """The text so far, white space made one, and no longer kept."""
        said = " ".join("".join(self.text).replace("``", "").split()).replace("( ", "(").replace(" )", ")")
        self.text.clear()
        return said

    def _title(self) -> None:
        if not (said := self._said()):
            return
        parents = [name for name in self.names[-2:] if name not in INFOS]
        if parents and parents[-1] in SECTIONS:
            self.blocks.append(Block(said, level=min(self.sections, 6)))
        else:
            self._add(f"**{said}**")

    def _begin_item(self, name: str) -> None:
        self._flush()
        if name == "listitem" and len(self.names) > 1 and self.names[-2] == "varlistentry":
            return  # its term is the item's first line
        if len(self.lists) == 1 and sum(map(len, self.listed)) > LARGEST:
            self._give_list()
        if self.numbers:
            self.numbers[-1] += 1
        ordered = bool(self.lists) and self.lists[-1] in ("orderedlist", "procedure", "substeps")
        self.item = f"{self.numbers[-1]}. " if ordered else "- " if self.lists else ""

    def _end_list(self) -> None:
        self._flush()
        self.lists.pop()
        self.numbers.pop()
        self.item = ""
        if not self.lists:
            self._give_list()

    def _give_list(self) -> None:
        if self.listed:
            self.blocks.append(Block("\n".join(self.listed)))
            self.listed = []

    def _add(self, said: str) -> None:
        """A paragraph or code, as what it stands in wants it."""
        if self.note:
            said, self.note = f"**{self.note.capitalize()}:** {said}", ""
        if not self.lists:
            self.blocks.append(Block(self.item + said))
        else:
            within = self.numbers[-1] > 0 and not self.item  # not the item's first paragraph, nor the list's title
            indent = "  " * (min(len(self.lists), DEEPEST_LIST) - (0 if within else 1))
            self.listed += [indent + (self.item if number == 0 else "") + line for number, line in
                            enumerate(said.split("\n"))]  # fmt: skip
        self.item = ""

    def _flush(self) -> None:
        if self.row is not None or self.footnotes:  # all within is one paragraph
            self.text.append(" ")
        elif not self.verbatim and (said := self._said()):
            self._add(said)

    def _code(self) -> None:
        self.verbatim -= 1
        if self.row is not None or self.verbatim or self.footnotes:
            return
        said = "".join(self.text).strip("\n")
        self.text.clear()
        if said.strip():
            self._add(fenced(said))

    def _cell(self) -> None:
        said = self._said()
        if self.row is not None:
            self.row.append(said)

    def _end_row(self) -> None:
        row, self.row = self.row or [], None
        self.text.clear()
        self.blocks += map(Block, self.table.add(row))
