"""A small run without a model: sentences whose words decide the answer, a scripted teacher, a linear student."""

from __future__ import annotations

import copy
import csv
import random
from pathlib import Path
from typing import Any

import yaml

RULES = {"great": "positive", "lovely": "positive", "solid": "positive", "": "negative"}
WORDS = {"positive": ("great", "lovely", "solid"), "negative": ("awful", "broken", "poor")}
NOUNS = ["camera", "phone", "battery", "cable", "remote", "player", "case", "lens", "strap", "screen", "menu", "button"]

RECIPE: dict[str, Any] = {
    "name": "words",
    "task": {"kind": "classify", "labels": ["negative", "positive"], "prompt": "Text: {text}"},
    "data": {
        "tables": [
            {
                "source": "table.csv",
                "slots": {"text": "text"},
                "id": "id",
                "group": {"column": "review"},
                "label": {"column": "sentiment"},
            }
        ]
    },
    "teacher": {"scripted": RULES},
    "student": {"initialise": "linear"},
    "evaluate": {"timing_requests": 4},
}


def sentences(count: int, seed: int = 1) -> list[dict[str, str]]:
    """Rows in pairs: each review has a negative and a positive sentence."""
    draw = random.Random(seed)
    rows = []
    for i in range(count):
        answer = "positive" if i % 2 else "negative"
        text = " ".join([*draw.choices(NOUNS, k=4), draw.choice(WORDS[answer]), *draw.choices(NOUNS, k=2), f"no {i}"])
        rows.append({"id": f"r{i}", "review": f"g{i // 2}", "text": text, "sentiment": answer})
    return rows


def write_table(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["id", "review", "text", "sentiment"])
        writer.writeheader()
        writer.writerows(rows)
    return path


def recipe(**changes: Any) -> dict[str, Any]:
    """RECIPE as plain data, with top-level sections replaced."""
    return copy.deepcopy(RECIPE) | changes


def write_recipe(folder: Path, plain: dict[str, Any] | None = None, rows: int = 120) -> Path:
    """recipe.yaml and table.csv in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "table.csv", sentences(rows))
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(plain or recipe(), sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path
