"""Small fields of made-up words with a tiny student each, and the recipe of their mixture."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from aasut.progress import Progress, Step

WORDS = {
    "pumps": ("valve", "pressure", "seal", "pump", "flow", "leak"),
    "ledger": ("debit", "credit", "account", "balance", "invoice", "tax"),
    "chess": ("rook", "bishop", "check", "pawn", "castle", "mate"),
    "general": ("harbour", "school", "road", "council", "letter", "day"),
}


def write_texts(folder: Path, words: tuple[str, ...], count: int = 14) -> None:
    folder.mkdir(parents=True)
    draw = random.Random(folder.name)
    for number in range(count):
        sentences = [" ".join(draw.choices(words, k=6)) + "." for _ in range(12)]
        (folder / f"{number}.txt").write_text(f"Page {number}. " + " ".join(sentences), encoding="utf-8")


def field(name: str, **student: Any) -> dict[str, Any]:
    return {
        "name": name,
        "documents": [{"source": f"texts/{name}"}],
        "split": {"train": 60, "tune": 15, "test": 25},
        "teacher": {"scripted": {"": "yes"}},
        "student": {
            "model": {"address": "file:model"}, "epochs": 1, "batch_examples": 4, "precision": "float32",
            "validation": 0.2, "checks": 1, "learning_rate": 1e-3,
        } | student,
        "adapt": {
            "replay": [{"source": "texts/general"}], "context": 64, "replay_share": 0.2, "generated": False,
        },
    }  # fmt: skip


def make(base: Path, model: Path) -> Path:
    """A folder with the texts, the start, and a recipe for each field."""
    for name, words in WORDS.items():
        write_texts(base / "texts" / name, words)
        if name != "general":
            write(base, f"{name}.yaml", field(name))
    shutil.copytree(model, base / "model")
    return base


def write(base: Path, name: str, plain: dict[str, Any]) -> Path:
    (base / name).write_text(yaml.safe_dump(plain), encoding="utf-8")
    return base / name


def plain(**more: Any) -> dict[str, Any]:
    """The recipe of a mixture of two of them."""
    train = {"batch_examples": 4, "precision": "float32", "learning_rate": 1e-3, "checks": 1, "bias_rate": 0.01}
    return {"name": "works", "fields": ["pumps.yaml", "ledger.yaml"], "train": train, "measured": 3000} | more


class Interrupted(Progress):
    """A kill after `at` steps of a training."""

    def __init__(self, at: int) -> None:
        super().__init__(quiet=True)
        self.at = at

    @contextmanager
    def steps(self, what: str, total: int) -> Iterator[Step]:
        with super().steps(what, total) as step:
            yield _Breaking(self, what, total) if what == "student learns" else step


class _Breaking(Step):
    def advance(self, parts: int = 1, note: str = "", *, resumed: bool = False) -> None:
        super().advance(parts, note, resumed=resumed)
        assert isinstance(self.progress, Interrupted)
        if self.done == self.progress.at:
            raise KeyboardInterrupt
