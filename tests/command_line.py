"""The command line in this process."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest

from aasut.cli import main


def command(*words: object) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    arguments, out, err = sys.argv, io.StringIO(), io.StringIO()
    sys.argv = ["aasut", *map(str, words)]
    try:
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as caught:
            main()
    finally:
        sys.argv = arguments
    return int(caught.value.code or 0), out.getvalue(), err.getvalue()
