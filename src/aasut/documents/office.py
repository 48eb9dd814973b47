"""DOCX and PPTX, through markitdown and what it stands on. Macros are never run, nothing outside is fetched."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from aasut.documents import html, markdown
from aasut.documents.archive import checked
from aasut.documents.block import Block
from aasut.documents.fault import Fault
from aasut.documents.opened import Opened, Wanted

_SLIDE = "<!-- Slide number: {} -->"
_TABLE = re.compile(r"^([^|\n].*)\n\|", re.MULTILINE)  # a table right after a text
_PICTURE = re.compile(r"!\[([^\]\n]*)\]\([^)\n]*\)")


def read_docx(file: Opened, wanted: Wanted) -> Iterator[Block]:
    """Blocks of a Word document. markitdown mends its styles and turns equations into LaTeX, mammoth reads it."""
    import mammoth
    from markitdown.converter_utils.docx.pre_process import pre_process_docx

    checked(file)
    file.stream.seek(0)
    try:
        # markitdown reads all members again and again: from memory.
        mended = pre_process_docx(io.BytesIO(file.stream.read()))
        page = mammoth.convert_to_html(
            mended, convert_image=_alternative, include_embedded_style_map=False, external_file_access=False
        ).value
    except (MemoryError, Fault):
        raise
    except Exception as error:  # what mammoth raises for broken parts is not told
        raise _broken("a DOCX that cannot be parsed", error) from None
    yield from html.blocks(page)


def _alternative(image: Any) -> list[Any]:
    """A picture's description, as text in the place of the picture."""
    from mammoth import html as nodes

    return [nodes.text(image.alt_text)] if image.alt_text else []


def read_pptx(file: Opened, wanted: Wanted) -> Iterator[Block]:
    """Blocks of a presentation; the slide's number is the page."""
    from markitdown import StreamInfo
    from markitdown.converters import PptxConverter

    checked(file)
    file.stream.seek(0)
    try:
        data = cast(BinaryIO, io.BytesIO(file.stream.read()))
        said = PptxConverter().convert(data, StreamInfo(extension=".pptx")).markdown
    except (MemoryError, Fault):
        raise
    except Exception as error:  # python-pptx's are of many kinds too
        raise _broken("a PPTX that cannot be parsed", error) from None
    slide, number = "", 0
    for line in said.replace("\x0b", "\n").split("\n"):
        if line == _SLIDE.format(number + 1):
            yield from _slide(slide, number)
            slide, number = "", number + 1
        else:
            slide += line + "\n"
    yield from _slide(slide, number)


def _slide(said: str, number: int) -> Iterator[Block]:
    parted = _TABLE.sub("\\1\n\n|", _PICTURE.sub(lambda found: found[1], said))
    for block in markdown.blocks(parted.split("\n")):
        yield Block(block.text, block.level, page=number)


def _broken(reason: str, error: Exception) -> Fault:
    if isinstance(error, RecursionError):
        return Fault("nested too deeply")
    return Fault(reason, f"{type(error).__name__}: {error}"[:200])
