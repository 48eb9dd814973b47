"""An answer without the form it came in, so that a judge is not told by its form whose it is."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

NONE = "(no answer)"
MARKS = (
    (re.compile(r"^\s*```[^\n]*\n(.*?)\n?\s*```\s*$", re.DOTALL), r"\1"),  # a fence around all of it
    (re.compile(r"^\s*```.*$", re.MULTILINE), ""),
    (re.compile(r"^[ \t]*#{1,6}[ \t]+", re.MULTILINE), ""),
    (re.compile(r"^[ \t]*>[ \t]?", re.MULTILINE), ""),
    (re.compile(r"^[ \t]*[-*+\u2022][ \t]+", re.MULTILINE), ""),
    (re.compile(r"^[ \t]*([-*_][ \t]*){3,}$", re.MULTILINE), ""),
    (re.compile(r"(?<![\w*])(\*{1,3})(?=\S)(.+?)(?<=\S)\1(?![\w*])"), r"\2"),
    (re.compile(r"(?<![\w_])(_{1,3})(?=\S)(.+?)(?<=\S)\1(?![\w_])"), r"\2"),
    (re.compile(r"`([^`\n]+)`"), r"\1"),
)


def plain(text: str, answers: Sequence[str] = ()) -> str:
    """The text without marks of Markdown and with even white space; JSON with one space after commas and colons.

    Of a task with a list of `answers`, the listed answer whose letters the text has, in the case of the list.
    """
    for pattern, kept in MARKS:
        text = pattern.sub(kept, text)
    listed = [answer for answer in answers if answer.casefold() == text.strip().casefold()]
    if len(listed) == 1:
        return listed[0]
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    lines = (re.sub(r"[^\S\n]+", " ", line).strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line) or NONE
