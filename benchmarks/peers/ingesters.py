"""Reads a list of files and writes their text down: one of the ways that are compared, in a process of its own.

Called with the way, a JSON file, a folder to write into and a file for the answer; says `ready` when all is imported
and begins at a line on its input. The answer is one JSON object: seconds, the files that were read with the seconds of
each, and their characters.

    aasut        {"recipe": ..., "cache": ...}: the stage `documents`, which also cuts, tells languages and finds copies
    markitdown   [path, ...]: MarkItDown().convert, one file after another
    sdk          [path, ...]: synthetic-data-kit's core.ingest.process_file, one file after another
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Read = Callable[[str, Path], int]  # a file and where its text goes; characters


def markitdown() -> Read:
    from markitdown import MarkItDown

    converter = MarkItDown(enable_plugins=False)

    def read(path: str, target: Path) -> int:
        return target.write_text(converter.convert(path).text_content, encoding="utf-8", errors="replace")

    return read


def sdk() -> Read:
    from synthetic_data_kit.core.ingest import process_file

    def read(path: str, target: Path) -> int:
        return len(Path(process_file(path, str(target.parent), target.name)).read_text(encoding="utf-8"))

    return read


def one_by_one(read: Read, files: list[str], folder: Path) -> dict[str, Any]:
    started, characters = time.perf_counter(), 0
    took: dict[str, float] = {}
    for number, path in enumerate(files):
        began = time.perf_counter()
        try:
            characters += read(path, folder / f"{number}.txt")
        except Exception as error:  # what a converter raises for a file that it cannot read differs by format
            print(f"{path}: {type(error).__name__}", file=sys.stderr)
        else:
            took[path] = time.perf_counter() - began
    return {"seconds": time.perf_counter() - started, "read": took, "characters": characters}


def aasut() -> Callable[[dict[str, Any], Path], dict[str, Any]]:
    from aasut.documents import ingest, language
    from aasut.progress import Progress
    from aasut.recipe.field import FieldRecipe

    language.tell("The model of languages is part of what is imported.")

    def read(asked: dict[str, Any], folder: Path) -> dict[str, Any]:
        recipe = FieldRecipe.model_validate(asked["recipe"])
        cache = Path(asked["cache"]) if asked.get("cache") else None
        started = time.perf_counter()
        facts = ingest.build(recipe, Path(), folder, Progress(quiet=True), cache=cache)
        seconds = time.perf_counter() - started
        files, documents = facts["conservation"]["files"], facts["conservation"]["documents"]
        return {
            "seconds": seconds,
            "files": files.kept,
            "unread": files.rows_in - files.kept,
            "documents": documents.rows_in,
            "characters": facts["characters"],
            "chunks": facts["chunks"],
        }

    return read


def main() -> None:
    logging.disable(logging.WARNING)
    way, listed, folder = sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")), Path(sys.argv[3])
    if way == "aasut":
        build = aasut()
        work: Callable[[], dict[str, Any]] = lambda: build(listed, folder)  # noqa: E731
    else:
        read = {"markitdown": markitdown, "sdk": sdk}[way]()
        work = lambda: one_by_one(read, listed, folder)  # noqa: E731
    print("ready", flush=True)
    sys.stdin.readline()
    Path(sys.argv[4]).write_text(json.dumps(work()), encoding="utf-8")


if __name__ == "__main__":
    main()
