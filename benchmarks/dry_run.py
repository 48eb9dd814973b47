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
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
REVIEWS = ROOT / "examples" / "reviews" / "recipe.yaml"
FIGURES = ("calls", "tokens_in", "tokens_out", "usd", "minutes", "gigabytes", "memory_gb")
WORDS = {"positive": ("great", "lovely", "solid"), "negative": ("awful", "broken", "poor")}
NOUNS = ["camera", "phone", "battery", "cable", "remote", "player", "case", "lens", "strap", "screen", "menu"]


def aasut(arguments: list[str]) -> tuple[float, float, dict[str, Any]]:
    """Seconds of a whole process, the most memory it had in GB, and what it printed."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "aasut", "run", *arguments, "--json", "--quiet"]
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
        out.seek(0)
        return seconds, usage.ru_maxrss * 1024 / 1e9, json.load(out)


def kept(folder: Path) -> float:
    """Gigabytes of all files below a folder, links aside."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files) / 1e9


@contextmanager
def cache(folder: Path) -> Iterator[None]:
    """A cache of one's own, with the models and tables that are fetched already."""
    base = os.environ.get("XDG_CACHE_HOME")
    real = (Path(base) if base else Path.home() / ".cache") / "aasut"
    own = folder / "cache" / "aasut"
    own.mkdir(parents=True)
    for name in ("models", "tables"):
        (real / name).mkdir(parents=True, exist_ok=True)
        (own / name).symlink_to(real / name)
    os.environ["XDG_CACHE_HOME"] = str(own.parent)
    try:
        yield
    finally:
        os.environ.pop("XDG_CACHE_HOME")
        if base:
            os.environ["XDG_CACHE_HOME"] = base


def compare(recipe: Path, *flags: str, first: tuple[str, ...] = ()) -> dict[str, Any]:
    """Forecast a recipe, run it, and forecast it again: the ratios, and the calls that are left.

    first: flags of a small run before, from which the ledger learns how the endpoint counts and how fast it is.
    """
    with tempfile.TemporaryDirectory() as folder, cache(Path(folder)):
        root = Path(folder) / "runs"
        where = [str(recipe), "--root", str(root), *flags]
        if first:
            aasut([*where, *first])
        busy = [os.getloadavg()[0]]
        dry_s, _, forecast = aasut([*where, "--dry-run"])
        busy.append(os.getloadavg()[0])
        had = ledger_rows(root)
        before = kept(Path(folder))
        seconds, memory, done = aasut(where)
        busy.append(os.getloadavg()[0])
        rows = ledger_rows(root)[len(had) :]
        usages = [json.loads(completion)["usage"] for completion, _ in rows]
        truth = {
            "calls": done["calls_made_now"],
            "tokens_in": sum(usage[0] for usage in usages),
            "tokens_out": sum(usage[1] for usage in usages),
            "usd": sum(usd for _, usd in rows),
            "minutes": seconds / 60,
            "gigabytes": kept(Path(folder)) - before,
            "memory_gb": memory,
        }
        _, _, again = aasut([*where, "--dry-run"])
    said = {name: forecast["total"][name] for name in FIGURES}
    ratios = {name: said[name] / truth[name] if truth[name] else float(said[name] == 0) for name in FIGURES}
    stages = {
        line["stage"]: [round(line["seconds"], 1), done["seconds"].get(line["stage"])] for line in forecast["lines"]
    }
    print(json.dumps({"recipe": recipe.parent.name, "stage_seconds": stages}))
    return {
        "forecast": said, "truth": truth, "ratios": ratios, "dry_run_s": round(dry_s, 1),
        "load": [round(value, 1) for value in busy],  # before, between, after: minutes compare at equal load alone
        "calls_left": again["total"]["calls"], "seconds_left": round(again["total"]["minutes"] * 60, 1),
    }  # fmt: skip


def ledger_rows(root: Path) -> list[tuple[str, float]]:
    """Answers and prices in the ledger, in the order in which they came; none where there is no ledger."""
    path = root / ".store" / "ledger.db"
    if not path.exists():
        return []
    ledger = sqlite3.connect(path)
    rows = ledger.execute("SELECT completion, usd FROM call ORDER BY rowid").fetchall()
    ledger.close()
    return rows


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
            "student": {"initialise": "pruned", "shape": {"layers": 20}, "model": model, "prompt": prompt, "epochs": 1},
            "evaluate": {"timing_requests": 32},
        },
    )


@contextmanager
def scripted_server(folder: Path, latency_s: float) -> Iterator[str]:
    """`aasut teacher` with this latency, on a free port; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    rules = {word: answer for answer, words in WORDS.items() for word in words}
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
    (folder / "plan.yaml").write_text(yaml.safe_dump({"latency_s": latency_s}))
    command = [sys.executable, "-m", "aasut", "teacher", str(folder / "rules.yaml"), "--port", str(port)]
    process = subprocess.Popen([*command, "--faults", str(folder / "plan.yaml"), "--json"], stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/v1"
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"{url}/models", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


def paid(folder: Path) -> dict[str, Any]:
    """A paid endpoint that counts tokens in its own way, after a run at small scale; a linear student."""
    data = sentences(folder, 3000)
    with scripted_server(folder, latency_s=0.2) as url:
        endpoint = {
            "base_url": url, "model": "scripted", "api_key_env": "", "concurrency": 8,
            "usd_per_million_input_tokens": 0.5, "usd_per_million_output_tokens": 1.5,
        }  # fmt: skip
        prompt = (
            "Decide whether the customer's sentiment about the product is negative or positive. "
            "Answer with exactly one word, negative or positive, and nothing else.\n\nSentence: {text}"
        )
        recipe = {
            "name": "paid",
            "task": {"kind": "classify", "labels": ["negative", "positive"], "prompt": prompt},
            "data": data,
            "teacher": {"endpoint": endpoint, "shots": 2, "candidates": 2, "max_usd": 5.0},
            "student": {"initialise": "linear"},
        }
        return compare(write(folder, recipe), first=("--scale", "ci"))


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
            "paid": lambda: paid(place / "paid"),
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
