"""What a docstring says of a function and of its parameters: Google's form, Sphinx's, NumPy's, or plain text."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection

_SECTION = re.compile(r"(args|arguments|parameters|params|returns?|yields?|raises|examples?|notes?):?", re.IGNORECASE)
_ABOUT_PARAMETERS = re.compile(r"(args|arguments|parameters|params):?", re.IGNORECASE)
_UNDERLINE = re.compile(r"-{3,}")
_FIELD = re.compile(r":(\w+)\s*([^:]*):\s*(.*)")
_ENTRY = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*(?::\s*(.*))?")


def read(docstring: str, parameters: Collection[str]) -> tuple[str, dict[str, str]]:
    """(what the function does, what each of these `parameters` is); one that the text does not name is left out.

    Sections on what is returned or raised are of no use to who calls it and are dropped.
    """
    lines = inspect.cleandoc(docstring).splitlines()
    said: list[str] = []
    found: dict[str, list[str]] = {}
    place = 0
    while place < len(lines):
        line = lines[place].strip()
        underlined = place + 1 < len(lines) and _UNDERLINE.fullmatch(lines[place + 1].strip())
        headed = _SECTION.fullmatch(line) and lines[place][:1].strip() and (line.endswith(":") or underlined)
        if headed:
            place += 2 if underlined else 1
            body, place = _section(lines, place, indented=not underlined)
            if _ABOUT_PARAMETERS.fullmatch(line):
                _entries(body, parameters, found)
        elif field := _FIELD.fullmatch(line):
            body, place = _section(lines, place + 1, indented=True)
            if field[1] in ("param", "parameter", "arg", "argument") and field[2].split():
                name = field[2].split()[-1]  # a type may stand before it
                if name in parameters:
                    found[name] = [field[3], *body]
        else:
            said.append(lines[place])
            place += 1
    return _joined(said), {name: _joined(text) for name, text in found.items() if _joined(text)}


def _section(lines: list[str], place: int, *, indented: bool) -> tuple[list[str], int]:
    """The lines of a section that begins at `place`, and where it ends: where the indentation or the next head does."""
    begun = place
    while place < len(lines):
        line = lines[place]
        if indented and line.strip() and not line[:1].isspace():
            break
        following = lines[place + 1].strip() if place + 1 < len(lines) else ""
        if not indented and _SECTION.fullmatch(line.strip()) and _UNDERLINE.fullmatch(following):
            break
        place += 1
    return lines[begun:place], place


def _entries(body: list[str], parameters: Collection[str], found: dict[str, list[str]]) -> None:
    """Entries of a section on parameters: those that stand out least begin one, what is further in goes on."""
    outer = min((len(line) - len(line.lstrip()) for line in body if line.strip()), default=0)
    name = ""
    for line in body:
        begins = line.strip() and len(line) - len(line.lstrip()) == outer
        entry = _ENTRY.fullmatch(line.strip()) if begins else None
        if entry and entry[1] in parameters:
            name = entry[1]
            # NumPy's form has a type behind the colon, and the text below.
            found[name] = [entry[2] or ""] if outer else []
        elif begins:
            name = ""
        elif name:
            found[name].append(line)


def _joined(lines: list[str]) -> str:
    """Lines as one text; paragraphs stay apart."""
    paragraphs = re.split(r"\n\s*\n", "\n".join(lines))
    return "\n".join(text for paragraph in paragraphs if (text := " ".join(paragraph.split())))
