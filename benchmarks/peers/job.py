"""What every trainer is given: models, rows of token ids, the batches of all steps, settings."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """Token ids of prompt and answer; the last `answer` are the answer's, its end token counted."""

    ids: list[int]
    answer: int


@dataclass(frozen=True)
class Job:
    """`teacher` and `student` are model folders; the student learns from `rows`, and is examined on `held_out`.

    `batches` has the numbers of each step's rows, `rates` its learning rate.
    """

    teacher: str
    student: str
    rows: list[Row]
    held_out: list[Row]
    batches: list[list[int]]
    rates: list[float]
    settings: dict[str, Any]

    @property
    def tokens(self) -> int:
        """Tokens of all steps, none of them padding."""
        return sum(len(self.rows[number].ids) for batch in self.batches for number in batch)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Job:
        plain = json.loads(path.read_text(encoding="utf-8"))
        return cls(**plain | {name: [Row(**row) for row in plain[name]] for name in ("rows", "held_out")})
