"""A finished run's student as it stands behind the gateway: what it reads, and what its certificate lets it answer.

Loads no engine. A certificate of another file, engine or template is refused; that of the engine can only be told when
the student is loaded, by its process.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aasut import recipe as recipes
from aasut.errors import AasutError, DataError
from aasut.evaluate import monitor
from aasut.evaluate.confidence import Scorer
from aasut.evaluate.monitor import Monitor
from aasut.export.manifest import StudentCard
from aasut.gateway import settings
from aasut.prompts import PromptTemplate
from aasut.serve.reader import Reader
from aasut.store import digest, file_hash
from aasut.tasks import Task

CERTIFICATE = "certificate.json"

Mode = Literal["shadow", "canary", "certified"]


@dataclass(frozen=True)
class Certificate:
    """What the gateway needs of a certificate.json. `sha256` is that of the file itself.

    `threshold` is None, and so is `monitor`, where nothing is certified, which mode `shadow` bears.
    """

    sha256: str
    threshold: float | None
    scorer: dict[str, Any]
    engine: str
    monitor: Monitor | None


@dataclass(frozen=True)
class Deployed:
    """The student. `model` is the name of the model that it was made from, "" where the recipe has none."""

    folder: Path
    card: StudentCard
    task: Task
    reader: Reader
    model: str
    certificate: Certificate | None

    @property
    def scorer(self) -> dict[str, Any]:
        """What makes an answer's score: the certificate's, or where there is none the plainest one."""
        if self.certificate is not None:
            return self.certificate.scorer
        return {"kind": "label" if self.task.answers else "least_token"}


def read(wanted: settings.Cascade, root: Path) -> Deployed:
    """The student of the settings' run, a name below `root` or a folder.

    Raises ModelError where there is no such student, DataError where its certificate is missing or not one of it.
    """
    named = root / wanted.run
    folder = named if named.is_dir() or "/" not in wanted.run else Path(wanted.run)
    card = StudentCard.read(folder)
    found = None
    if wanted.mode != "shadow" or (folder / CERTIFICATE).exists():
        found = _certificate(folder, card, wanted.mode)
    return Deployed(folder, card, card.task(), Reader.of(card), _teachers_model(folder), found)


def _certificate(folder: Path, card: StudentCard, mode: Mode) -> Certificate:
    path = folder / CERTIFICATE
    again = f"Make one with aasut certify {folder}."
    try:
        plain = json.loads(path.read_bytes())
        certified, hashes, sentence = bool(plain["certified"]), plain["hashes"], str(plain["sentence"])
        threshold = float(plain["threshold"]) if certified else None
        scorer = {name: value for name, value in plain["scorer"].items() if name != "quantiles"}
        Scorer(**scorer)
        _check_same(path, "file", hashes["file"], card.file)
        _check_same(path, "file's SHA-256", hashes["file_sha256"], card.sha256)
        template = digest([card.task().prompt.plain(), PromptTemplate(card.student_prompt).plain()])
        _check_same(path, "prompts' template", hashes["template"], template)
        if not certified and mode != "shadow":
            raise DataError(f"{path} certifies nothing. {sentence}", "Until then, set student.mode to shadow.")
        watched = _watched(path, plain, mode) if certified else None
        return Certificate(file_hash(path), threshold, scorer, str(hashes["engine"]), watched)
    except FileNotFoundError:
        shadow = "Or set student.mode to shadow, which needs none."
        raise DataError(f"{folder} has no certificate.", f"{again} {shadow}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", "Check the file's permissions.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{path} is damaged.", again) from None


def _watched(path: Path, plain: dict[str, Any], mode: Mode) -> Monitor | None:
    try:
        return monitor.beside(plain)
    except DataError as error:
        if mode == "shadow":
            return None
        raise DataError(f"{path}: {error.message}", error.remedy) from None


def _check_same(path: Path, what: str, certified: object, now: str) -> None:
    if certified != now:
        raise DataError(
            f"{path} is of another student: its {what} is {certified}, this student's is {now}.",
            f"Certify this one: aasut certify {path.parent}.",
        )


def _teachers_model(folder: Path) -> str:
    try:
        teacher = recipes.load(folder / "recipe.yaml").teacher
    except AasutError as error:
        raise DataError(f"{folder} is no finished run: {error.message}", "Run its recipe again.") from None
    return teacher.endpoint.model if teacher.endpoint is not None else ""
