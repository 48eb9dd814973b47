"""A short try of the real models on the run's real inputs, in a process of its own: seconds and memory, no traces.

The job comes as JSON on standard input, what was measured goes as JSON to standard output. The
process ends with what it held, so a model that does not fit takes nothing with it.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aasut.errors import AasutError, ModelError
from aasut.progress import Progress, Step

BUDGET_S = 6.0  # seconds of asking the teacher, or of training, after which no further batch is begun
STEPS = 4  # of training, the first of which is the slow one
DECODED = 24  # tokens of free text that the student writes


def measure(job: Mapping[str, Any]) -> dict[str, float]:
    """Run a job in a process of its own. Raises ModelError where it ends without a result."""
    began = time.perf_counter()
    ran = subprocess.run(
        [sys.executable, "-m", "aasut.forecast.probe"],
        input=json.dumps(job), capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = ran.stdout.strip().splitlines()
    if ran.returncode != 0 or not lines:
        reason = (ran.stderr.strip().splitlines() or [f"it ended with {ran.returncode}"])[-1]
        raise ModelError(
            f"The {job['kind']} {job['path']} could not be tried on this machine: {reason}.",
            "The run would stop at it too; give it more memory, or a smaller model.",
        )
    found: dict[str, float] = json.loads(lines[-1])
    return {**found, "process": time.perf_counter() - began}


def try_teacher(job: Mapping[str, Any]) -> dict[str, float]:
    """Seconds to load; a computed token's, with the shared prefix kept and without; or a written answer's."""
    from aasut.engine.base import load
    from aasut.teacher.local import LocalTeacher

    began = time.perf_counter()
    engine = load(job["engine"], Path(job["path"]), precision=job["precision"])
    found = {"load": time.perf_counter() - began, "parameters": float(engine.parameters)}
    teacher = LocalTeacher(engine, "")
    batches = [[_request(plain) for plain in batch] for batch in job["batches"]]
    teacher.complete(batches[0][:8])  # first calls compile and allocate
    if not batches[0][0].choices:
        return found | _writing(teacher, batches)
    found["tokens"] = _pace(teacher, batches, BUDGET_S)
    engine.prefix_cache = False
    found["whole"] = _pace(teacher, [batch[:8] for batch in batches[1:] or batches], BUDGET_S / 3)
    return found


def _pace(teacher: Any, batches: Sequence[Any], most: float) -> float:
    """Seconds a token that is computed, over whole batches."""
    tokens, began = 0, time.perf_counter()
    for batch in batches:
        usages = [completion.usage for completion in teacher.complete(batch)]
        tokens += sum(usage.prompt_tokens - usage.cached_tokens for usage in usages)
        if time.perf_counter() - began > most:
            break
    return (time.perf_counter() - began) / max(tokens, 1)


def _writing(teacher: Any, batches: Sequence[Any]) -> dict[str, float]:
    """Seconds an answer of free text in a full batch, and its mean number of tokens."""
    tokens = answers = 0
    began = time.perf_counter()
    for batch in batches:
        tokens += sum(completion.usage.completion_tokens for completion in teacher.complete(batch))
        answers += len(batch)
        if time.perf_counter() - began > BUDGET_S:
            break
    return {"written": (time.perf_counter() - began) / answers, "answer_tokens": tokens / answers}


def _request(plain: Mapping[str, Any]) -> Any:
    from aasut.types import Message, Request

    messages = tuple(Message(role, content) for role, content in plain["messages"])
    rest = {name: value for name, value in plain.items() if name not in ("messages", "choices")}
    return Request(messages, tuple(plain["choices"]), **rest)


def try_student(job: Mapping[str, Any]) -> dict[str, float]:
    """Seconds to load, to train a position, to look at one, to score a token, and to write the model's file."""
    import torch

    from aasut.engine.base import load
    from aasut.engine.torch import TorchEngine, choose_precision, load_model
    from aasut.formats import gguf_write
    from aasut.formats.tokenizer import Tokenizer
    from aasut.recipe import Student
    from aasut.student import importance, random_start
    from aasut.student.calibration import Calibration

    settings, source = Student.model_validate(job["settings"]), Path(job["path"])
    began = time.perf_counter()
    model, tokenizer = load_model(source, choose_precision(settings.precision)), Tokenizer.load(source)
    if torch.cuda.is_available():
        model = model.to("cuda")
    found = {"load": time.perf_counter() - began}
    if job["influence"]:
        began = time.perf_counter()
        texts = Calibration.of(tokenizer, job["influence"], int(model.config.max_position_embeddings))
        importance.measure(model, texts.measured, width=settings.shape is not None and settings.shape.wide)
        found["influence"] = (time.perf_counter() - began) / len(job["influence"])
    with tempfile.TemporaryDirectory() as folder:
        start = source
        if settings.shape is not None:  # what its weights are makes no difference here
            start = Path(folder) / "start"
            random_start.write(settings, source, start, 0)
            model = load_model(start, model.dtype).to(model.device)
        found["parameters"] = float(sum(p.numel() for p in model.parameters()))
        if job["rows"]:
            found |= _train(model, tokenizer, settings, job)
        found |= _answering(TorchEngine(model.eval(), tokenizer), job)
        found["peak_gb"] = _peak()
        file = Path(folder) / "student.gguf"
        began = time.perf_counter()
        gguf_write.write(start, file, "bf16", licence="")
        found |= {"write": time.perf_counter() - began, "written_gb": file.stat().st_size / 1e9}
        if not job["answers"] and job["served"] != "torch":
            os.environ["XDG_CACHE_HOME"] = folder  # the engine's graph goes with the folder
            began = time.perf_counter()
            engine = load(job["served"], file, precision=job["precision"])
            found["served_load"] = time.perf_counter() - began
            found |= {f"served_{name}": value for name, value in _answering(engine, job).items()}
    return found


def _answering(engine: Any, job: Mapping[str, Any]) -> dict[str, float]:
    """Seconds a token that is scored; for free text seconds an answer that is written, and its tokens."""
    from aasut.engine.base import Prompt, write

    prompts, answers = job["prompts"], job["answers"]
    if answers:
        engine.score(prompts[:8], answers)
        began = time.perf_counter()
        tokens = engine.score(prompts, answers).usage.prompt_tokens
        return {"score": (time.perf_counter() - began) / tokens}
    began = time.perf_counter()
    most = min(job["max_tokens"], DECODED)
    done = write(engine, [Prompt(text, most, schema=job["schema"], plain=job["plain"]) for text in prompts])
    seconds, tokens = time.perf_counter() - began, sum(answer.tokens for answer in done)
    asked = sum(map(engine.count_tokens, prompts))
    return {"score": seconds / (asked + tokens), "token": seconds / max(tokens, 1)}


def _train(model: Any, tokenizer: Any, settings: Any, job: Mapping[str, Any]) -> dict[str, float]:
    """A few steps of the real trainer on real rows: the first one's extra seconds, and seconds a position."""
    from aasut.engine.tree import build as build_tree
    from aasut.student import schedule
    from aasut.student.objective import Row
    from aasut.student.train import objective_of
    from aasut.student.trainer import Trainer

    short = settings.model_copy(update={"epochs": 1, "checks": 1, "patience": 0})
    answers = [tokenizer.encode(text) for text in job["answers"]]
    rows = [Row(**row) for row in job["rows"]]
    objective = objective_of(build_tree(answers, tokenizer.eos_id) if answers else None)
    clock = Clock()
    began = time.perf_counter()
    trainer = Trainer(model, objective, short, 1)
    set_up = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        trainer.fit(rows, rows[:1], Path(folder), clock)
    micro = settings.micro_tokens
    lengths = [len(row.ids) for row in rows]
    steps = schedule.steps(lengths, 1, settings.batch_examples, 1, mixed=objective.packed)
    positions = [sum(b.ids.size for b in objective.batches([rows[i] for i in step], micro)) for step in steps]
    seconds = clock.seconds
    later = max(len(seconds) - 1, 1)
    pace = sum(seconds[-later:]) / sum(positions[-later:])
    parts = list(objective.batches(rows, micro))
    began = time.perf_counter()
    trainer.evaluate(rows[: len(parts[0].rows)])
    forward = (time.perf_counter() - began) / parts[0].ids.size
    return {
        "first": set_up + max(seconds[0] - pace * positions[0], 0.0),
        "position": pace,
        "forward": forward,
        "trained": float(sum(p.numel() for p in trainer.weights.parameters)),
    }


class Clock(Progress):
    """Notes the seconds of every step."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.seconds: list[float] = []

    @contextmanager
    def steps(self, what: str, total: int) -> Iterator[Step]:
        yield _Tick(self, what, total, self.seconds)


class _Tick(Step):
    def __init__(self, progress: Progress, what: str, total: int, seconds: list[float]) -> None:
        super().__init__(progress, what, total)
        self.seconds = seconds

    def advance(self, parts: int = 1, note: str = "", *, resumed: bool = False) -> None:
        now = time.monotonic()
        if not resumed:
            self.seconds.append(now - self.shown)
        self.shown = now


def _peak() -> float:
    """Most memory that this process had, in GB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e9 if sys.platform == "darwin" else most * 1024 / 1e9


def main() -> None:
    """One job."""
    began = time.perf_counter()
    job = json.load(sys.stdin)
    if job["kind"] != "linear":
        import transformers  # noqa: F401

        from aasut.engine import torch  # noqa: F401
    started = time.perf_counter() - began
    try:
        found = {"teacher": try_teacher, "student": try_student}[job["kind"]](job)
    except AasutError as error:
        sys.exit(str(error))
    print(json.dumps({"import": started, "peak_gb": _peak(), **found}))


if __name__ == "__main__":
    main()
