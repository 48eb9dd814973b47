"""A scripted teacher's rules as a Python file: its function `answer(text)` gives the answer to a prompt's last message.

The file may name in DEPENDS the files that its answers depend on, so that they belong to its identity too. It is run
where it is loaded, and its folder is searched for what it imports.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from aasut.errors import RecipeError
from aasut.store import digest, file_hash


@dataclass(frozen=True)
class PythonRules:
    """The file's function, and what identifies its answers."""

    answer: Callable[[str], Any]
    identity: str


def load(path: Path) -> PythonRules:
    """Raises RecipeError in one line for what is no such file."""
    module = _run(path)
    answer = getattr(module, "answer", None)
    if not callable(answer) or not _takes_one(answer):
        raise RecipeError(f"{path} has no function answer(text).", "Write one that gives the answer as text.")
    listed = getattr(module, "DEPENDS", ())
    try:
        depends = [file_hash(Path(each)) for each in listed]
    except (TypeError, OSError) as error:
        raise RecipeError(f"{path}: DEPENDS is no list of files: {_told(error)}.", "Name files that exist.") from None
    return PythonRules(answer, f"python:{digest([file_hash(path), *depends])}")


def _run(path: Path) -> ModuleType:
    module = ModuleType(f"aasut_rules_{path.stem}")
    module.__file__ = str(path.resolve())
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    sys.modules[module.__name__] = module  # where dataclasses look for the names of their hints
    try:
        exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), vars(module))
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror or _told(error)}.", "Check the path.") from None
    except (Exception, SystemExit) as error:
        raise RecipeError(
            f"{path} cannot be run: {_told(error)}.", "Mend it; it must be Python that imports."
        ) from None
    return module


def _takes_one(answer: Callable[..., Any]) -> bool:
    try:
        inspect.signature(answer).bind("text")
    except (TypeError, ValueError):
        return False
    return True


def _told(error: BaseException) -> str:
    """An error in one line, with its kind."""
    said = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {said}".rstrip(" :.")
