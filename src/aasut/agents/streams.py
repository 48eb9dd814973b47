"""Standard input and output for us alone, while tools run in the same process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


@contextmanager
def own_streams() -> Iterator[tuple[TextIO, TextIO]]:
    """(input, output): what tools print goes to standard error, what programs print that they start too, and they have
    nothing to read."""
    sys.stdout.flush()
    before = sys.stdout
    try:
        kept = os.dup(0), os.dup(1)
    except OSError:  # there are no such files
        yield sys.stdin, sys.stdout
        return
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    stdin = os.fdopen(kept[0], encoding="utf-8", errors="surrogateescape", closefd=False)
    stdout = os.fdopen(kept[1], "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    try:
        yield stdin, stdout
        stdout.flush()
    finally:
        sys.stdout = before
        os.dup2(kept[0], 0)
        os.dup2(kept[1], 1)
        for number in kept:
            os.close(number)
