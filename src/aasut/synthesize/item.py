"""What the teacher made of documents: one question with its answer, a conversation, calls, or a text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aasut.recipe.field import TEXTS, Kind
from aasut.types import Message, Span

Split = Literal["train", "tune", "test"]
SPLITS: tuple[Split, ...] = ("train", "tune", "test")


@dataclass(frozen=True, slots=True)
class Item:
    """Turns that end with the assistant's; of a text, whose kind is in TEXTS, that turn alone.

    `spans` are what it was made of, `evidence` what it quotes of them, for each answer in order where the teacher was
    asked for it. `prompt` names the prompt and its version, `teacher` is the teacher's identity. The answer of `calls`
    is their canonical JSON (see tools.py).
    """

    id: str
    kind: Kind
    split: Split
    turns: tuple[Message, ...]
    spans: tuple[Span, ...]
    prompt: str
    teacher: str
    evidence: tuple[str, ...] = ()
    language: str = ""

    @property
    def is_text(self) -> bool:
        """Is it read, and not asked?"""
        return self.kind in TEXTS

    @property
    def answers(self) -> tuple[str, ...]:
        """What the assistant says, in order."""
        return tuple(turn.content for turn in self.turns if turn.role == "assistant")

    @property
    def questions(self) -> tuple[str, ...]:
        """What the user asks, in order."""
        return tuple(turn.content for turn in self.turns if turn.role == "user")

    @property
    def text(self) -> str:
        """All turns as one text."""
        return "\n".join(turn.content for turn in self.turns)


def as_dict(item: Item) -> dict[str, Any]:
    """As plain data, of which `of` makes the item again."""
    return {
        "id": item.id,
        "kind": item.kind,
        "split": item.split,
        "turns": [{"role": turn.role, "content": turn.content} for turn in item.turns],
        "spans": [
            {"document": s.document, "start": s.start, "end": s.end, "page": s.page, "headings": list(s.headings)}
            for s in item.spans
        ],
        "prompt": item.prompt,
        "teacher": item.teacher,
        "evidence": list(item.evidence),
        "language": item.language,
    }


def of(plain: Mapping[str, Any]) -> Item:
    """The item of plain data."""
    return Item(
        plain["id"],
        plain["kind"],
        plain["split"],
        tuple(Message(turn["role"], turn["content"]) for turn in plain["turns"]),
        tuple(Span(s["document"], s["start"], s["end"], s["page"], tuple(s["headings"])) for s in plain["spans"]),
        plain["prompt"],
        plain["teacher"],
        tuple(plain["evidence"]),
        plain["language"],
    )


def save(items: Iterable[Item], path: Path) -> None:
    """One JSON object a line."""
    with path.open("w", encoding="utf-8") as file:
        for item in items:
            file.write(json.dumps(as_dict(item), ensure_ascii=False) + "\n")


def load(path: Path) -> Iterator[Item]:
    """The items of a file, one at a time."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield of(json.loads(line))
