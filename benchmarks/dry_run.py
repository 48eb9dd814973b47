"""Forecast and truth: `aasut run --dry-run`, then the run, on several recipes. The last line is one JSON object.

Each recipe is forecast and then run from an empty folder. A ratio is forecast over truth; a ratio's
error is how far the larger of the two lies above the smaller. `--full` takes the reviews recipe as it
is, about 12 minutes, instead of small slices of it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
REVIEWS = ROOT / "examples" / "reviews" / "recipe.yaml"
FIGURES = ("calls", "tokens_in", "tokens_out", "usd", "minutes", "gigabytes")
WORDS = {"positive": ("great", "lovely", "solid"), "negative": ("awful", "broken", "poor")}
NOUNS = ["camera", "phone", "battery", "cable", "remote", "player", "case", "lens", "strap", "screen", "menu"]


def aasut(arguments: list[str]) -> tuple[float, dict[str, Any]]:
    """Seconds of a whole process, and what it printed."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "aasut", "run", *arguments, "--json", "--quiet"]
    finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return time.perf_counter() - started, json.loads(finished.stdout)


def kept(folder: Path) -> float:
    """Gigabytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9


def openvino_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "aasut" / "openvino"


def compare(recipe: Path, *flags: str, dry_flags: tuple[str, ...] = ()) -> dict[str, Any]:
    """Forecast a recipe, run it, and forecast it again: the ratios, and the calls that are left."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "runs"
        where = [str(recipe), "--root", str(root), *flags]
        dry_s, forecast = aasut([*where, "--dry-run", *dry_flags])
        before = kept(Path(folder)) + kept(openvino_cache())
        seconds, done = aasut(where)
        ledger = sqlite3.connect(root / ".store" / "ledger.db")
        usages = [json.loads(row[0])["usage"] for row in ledger.execute("SELECT completion FROM call")]
        truth = {
            "calls": done["calls_made_now"],
            "tokens_in": sum(usage[0] for usage in usages),
            "tokens_out": sum(usage[1] for usage in usages),
            "usd": ledger.execute("SELECT SUM(usd) FROM call").fetchone()[0],
            "minutes": seconds / 60,
            "gigabytes": kept(Path(folder)) + kept(openvino_cache()) - before,
        }
        ledger.close()
        _, again = aasut([*where, "--dry-run", *dry_flags])
    said = {name: forecast["total"][name] for name in FIGURES}
    ratios = {name: said[name] / truth[name] if truth[name] else float(said[name] == 0) for name in FIGURES}
    stages = {
        line["stage"]: [round(line["seconds"], 1), done["seconds"].get(line["stage"])] for line in forecast["lines"]
    }
    print(json.dumps({"recipe": recipe.parent.name, "stage_seconds": stages}))
    return {
        "forecast": said, "truth": truth, "ratios": ratios, "dry_run_s": round(dry_s, 1),
        "calls_left": again["total"]["calls"], "seconds_left": round(again["total"]["minutes"] * 60, 1),
    }  # fmt: skip


def sentences(folder: Path, count: int) -> dict[str, Any]:
    """A table of labelled sentences in `folder`, and the section `data` for it."""
    draw = random.Random(1)
    lines = ["id,review,text,sentiment"]
    for i in range(count):
        answer = "positive" if i % 2 else "negative"
        words = [*draw.choices(NOUNS, k=8), draw.choice(WORDS[answer]), *draw.choices(NOUNS, k=6), f"no {i}"]
        lines.append(f"r{i},g{i // 2},{' '.join(words)},{answer}")
    folder.mkdir(parents=True)
    (folder / "table.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    table = {"source": "table.csv", "slots": {"text": "text"}, "id": "id", "group": {"column": "review"}}
    return {"tables": [{**table, "label": {"column": "sentiment"}}]}


def write(folder: Path, plain: dict[str, Any]) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    return path


def pruned(folder: Path) -> Path:
    """A local teacher of 135M without shots, and a student of its first layers by influence."""
    model = yaml.safe_load(REVIEWS.read_text(encoding="utf-8"))["student"]["model"]
    prompt = "Review: {text}\nSentiment:"
    task = {"kind": "classify", "labels": ["negative", "positive"], "prompt": "Text: {text}"}
    return write(
        folder,
        {
            "name": "pruned",
            "task": task,
            "data": sentences(folder, 800),
            "teacher": {"model": model, "prompt": prompt, "shots": 4, "candidates": 2},
            "student": {"initialise": "drop_layers", "layers": 20, "model": model, "prompt": prompt, "epochs": 1},
            "evaluate": {"timing_requests": 32},
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="the reviews recipe at full scale")
    parser.add_argument("--only", help="one recipe by name")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        scale = [] if options.full else ["--scale", "ci"]
        recipes: dict[str, Callable[[], dict[str, Any]]] = {
            "reviews": lambda: compare(REVIEWS, *scale),
            "pruned": lambda: compare(pruned(place / "pruned")),
        }
        found = {name: ask() for name, ask in recipes.items() if options.only in (None, name)}
    for name, one in found.items():
        print(json.dumps({"recipe": name, **one}))
    errors = {
        f"{name}.{figure}": max(ratio, 1 / ratio) - 1 if ratio else float("inf")
        for name, one in found.items()
        for figure, ratio in one["ratios"].items()
    }
    worst = max(errors, key=lambda name: errors[name])
    left = sum(one["calls_left"] for one in found.values())
    ratios = {name: {k: round(v, 3) for k, v in one["ratios"].items()} for name, one in found.items()}
    print(
        json.dumps({"ratios": ratios, "worst": worst, "worst_ratio_error": round(errors[worst], 3), "calls_left": left})
    )


if __name__ == "__main__":
    main()
