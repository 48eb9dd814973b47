"""XLSX, row by row: sheets as headings, rows as tables in Markdown. Formulas are not computed."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Iterator
from typing import Any

from aasut.documents.archive import checked
from aasut.documents.block import Block
from aasut.documents.fault import Fault
from aasut.documents.opened import Opened, Wanted
from aasut.documents.table import Table


def read(file: Opened, wanted: Wanted) -> Iterator[Block]:
    """Blocks of a workbook: what its cells showed when it was saved. The sheet's number is the page.

    A sheet's declared size is not believed; its rows are read one after another.
    """
    import openpyxl

    checked(file)
    file.stream.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and extensions that are not kept
            book = openpyxl.load_workbook(file.stream, read_only=True, data_only=True, keep_links=False)
            for number, sheet in enumerate(book.worksheets, 1):
                table, begun = Table(), False
                for row in _rows(sheet):
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


def _rows(sheet: Any) -> Iterator[list[str]]:
    """Rows with something in them, without the empty cells at their ends."""
    sheet.reset_dimensions()
    for row in sheet.iter_rows(values_only=True):
        cells = [_cell(value) for value in row]
        while cells and not cells[-1]:
            cells.pop()
        if cells:
            yield cells


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
