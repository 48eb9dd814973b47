"""XLSX, row by row: sheets as headings, rows as tables in Markdown. Formulas are not computed."""

from __future__ import annotations

import datetime
import posixpath
import re
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from aasut.documents.archive import checked
from aasut.documents.block import Block
from aasut.documents.fault import UNPACKED, Fault
from aasut.documents.opened import Opened, Wanted
from aasut.documents.table import Table


def read(file: Opened, wanted: Wanted) -> Iterator[Block]:
    """Blocks of a workbook: what its cells showed when it was saved. The sheet's number is the page.

    A sheet's declared size is not believed; its rows are read one after another.
    """
    import openpyxl

    with checked(file) as archive:
        _whole(archive)
    file.stream.seek(0)
    seen = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and extensions that are not kept
            book = openpyxl.load_workbook(file.stream, read_only=True, data_only=True, keep_links=False)
            for number, sheet in enumerate(book.worksheets, 1):
                table, begun = Table(), False
                for row, cells in _rows(sheet):
                    seen += cells
                    if seen > file.unpacked:
                        raise Fault(UNPACKED, "in cells")
                    if not begun:
                        yield Block(sheet.title, level=1, page=number)
                        begun = True
                    for text in table.add(row):
                        yield Block(text, page=number)
                for text in table.rest():
                    yield Block(text, page=number)
    except (MemoryError, Fault, GeneratorExit):
        raise
    except Exception as error:  # openpyxl's are of many kinds
        raise Fault("an XLSX that cannot be parsed", f"{type(error).__name__}: {error}"[:200]) from None


def _whole(archive: zipfile.ZipFile) -> None:
    """Raise Fault where a sheet that the workbook names is missing: openpyxl would leave it out."""
    for part in archive.namelist():
        if not re.fullmatch(r"[^/]+/_rels/workbook\.xml\.rels", part):
            continue
        folder = part.partition("/")[0]
        try:
            root = ElementTree.fromstring(archive.read(part))
        except ElementTree.ParseError as error:
            raise Fault("an XLSX that cannot be parsed", str(error)) from None
        for related in root:
            target = related.get("Target", "")
            place = target[1:] if target.startswith("/") else posixpath.normpath(f"{folder}/{target}")
            if related.get("Type", "").endswith("/worksheet") and place not in archive.NameToInfo:
                raise Fault("an XLSX that lacks a sheet", ascii(place)[:200])


def _rows(sheet: Any) -> Iterator[tuple[list[str], int]]:
    """Rows with something in them, without the empty cells at their ends, and how many cells they have with them."""
    sheet.reset_dimensions()
    for row in sheet.iter_rows(values_only=True):
        cells = [_cell(value) for value in row]
        while cells and not cells[-1]:
            cells.pop()
        if cells:
            yield cells, len(row)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    return " ".join(str(value).split())
