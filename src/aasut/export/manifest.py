"""`student.json`: what a finished run says of the student that it serves.

runs/<name>/student.json    this card
runs/<name>/student.gguf    or the folder `student/`: the file that was measured, and is served
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from aasut.errors import ModelError
from aasut.prompts import PromptTemplate
from aasut.store import file_hash, folder_hash, write_atomically
from aasut.tasks import Task, make
from aasut.types import Message

CARD = "student.json"


@dataclass(frozen=True)
class StudentCard:
    """All that is needed to serve a student. `sha256` is `content_hash` of the served file or folder."""

    name: str
    kind: Literal["classify", "generate", "extract", "tools"]
    answers: tuple[str, ...]
    task_prompt: tuple[Message, ...]
    student_prompt: tuple[Message, ...]
    file: str
    engine: str
    precision: str
    sha256: str
    max_tokens: int = 16
    schema: str = ""
    tools: str = ""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    @classmethod
    def read(cls, folder: Path) -> StudentCard:
        """The card of a run folder; ModelError where there is none, or it cannot be read."""
        if not folder.is_dir():
            raise ModelError(f"There is no run {folder}.", _others(folder))
        path = folder / CARD
        try:
            card = _ADAPTER.validate_json(path.read_bytes())
        except FileNotFoundError:
            raise ModelError(f"{folder} holds no finished student: {CARD} is missing.", _others(folder)) from None
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error.strerror}.", "Check the file's permissions.") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ModelError(
                f"{path} is damaged or of another version: {where or 'file'}: {first['msg']}.",
                "Run its recipe again: finished work is reused.",
            ) from None
        if Path(card.file).name != card.file or card.file in ("", ".", ".."):
            raise ModelError(
                f"{path}: file {card.file!r} is not a name inside the run folder.", "Run its recipe again."
            )
        return card

    def write(self, folder: Path) -> Path:
        """Write the card into a run folder, whole or not at all; returns its path."""
        path = folder / CARD
        write_atomically(path, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")
        return path

    def served(self, folder: Path) -> Path:
        """The served file or folder, its hash verified; ModelError where it is missing or has changed."""
        path = folder / self.file
        if not path.exists():
            raise ModelError(f"{path} is missing, which {folder / CARD} names.", "Run its recipe again.")
        found = content_hash(path)
        if found != self.sha256:
            raise ModelError(
                f"{path}: SHA-256 is {found}, {folder / CARD} says {self.sha256}: not the measured file.",
                "Put the measured file back, or run the recipe again.",
            )
        return path

    def task(self) -> Task:
        """The task that the student was made for."""
        return make(self.kind, PromptTemplate(self.task_prompt), self.answers, self.max_tokens, self.schema, self.tools)


_ADAPTER = TypeAdapter(StudentCard)


def content_hash(path: Path) -> str:
    """SHA-256 of a file, or `store.folder_hash` of a folder."""
    return folder_hash(path) if path.is_dir() else file_hash(path)


def _others(folder: Path) -> str:
    """A remedy: the finished runs that lie beside `folder`."""
    beside = folder.absolute().parent
    names = sorted(card.parent.name for card in beside.glob(f"*/{CARD}")) if beside.is_dir() else []
    if not names:
        return f"There is no finished run in {folder.parent}: make one with aasut run RECIPE."
    return f"Finished runs in {folder.parent}: {', '.join(names)}."
