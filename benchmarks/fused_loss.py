"""The fused loss against the plain one: peak memory and time. The last line is one JSON object.

Plain, as it is written by hand: both models' logits in their own type, brought to float32, log_softmax, KL divergence,
autograd's backward. Inputs are bfloat16, the student's and the teacher's of one width; the gradient is the hidden
states', and with --weight the output matrix's too.

1. Peak memory above the inputs, of one forward and backward pass, each in a process of its own.
2. Time of both, interleaved in one process: the ratio of each pair, and its median.

    python benchmarks/fused_loss.py [--full] [--weight] [--loss forward_kl] [--rounds 5]

On a CUDA device memory is the allocator's, and Liger's fused JSD is measured too where it is installed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from aasut.student import losses
from aasut.student.targets import Dense

SHAPES = [(512, 49152, 576), (1024, 49152, 2048), (4096, 49152, 576), (1024, 128256, 576), (2048, 128256, 2048)]
FULL = [*SHAPES, (4096, 128256, 2048)]  # tokens, vocabulary, width
PLAIN_BYTES = 26  # a logit, at the plain loss's peak; what does not fit beside all else is left out
MIB = 2**20

Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def plain(name: str, hidden: torch.Tensor, weight: torch.Tensor, teacher: torch.Tensor, matrix: torch.Tensor) -> Any:
    """The sum of the loss over rows."""
    functional = torch.nn.functional
    with torch.no_grad():
        log_t = functional.log_softmax((teacher @ matrix.T).float(), dim=-1)
    log_s = functional.log_softmax((hidden @ weight.T).float(), dim=-1)
    if name == "forward_kl":
        return functional.kl_div(log_s, log_t, log_target=True, reduction="sum")
    if name == "reverse_kl":
        return functional.kl_div(log_t, log_s, log_target=True, reduction="sum")
    halves = torch.log(torch.tensor(0.5))
    mixture = torch.logsumexp(torch.stack([log_s + halves, log_t + halves]), dim=0)
    of_teacher = functional.kl_div(mixture, log_t, log_target=True, reduction="sum")
    return (of_teacher + functional.kl_div(mixture, log_s, log_target=True, reduction="sum")) / 2


def ours(name: str, hidden: torch.Tensor, weight: torch.Tensor, teacher: torch.Tensor, matrix: torch.Tensor) -> Any:
    return losses.get(name)(hidden, weight, Dense(teacher, matrix), None)


def liger(name: str, hidden: torch.Tensor, weight: torch.Tensor, teacher: torch.Tensor, matrix: torch.Tensor) -> Any:
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    nothing = torch.full((len(hidden),), -100, device=hidden.device)
    loss = LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=0.5, compiled=False)
    return loss(hidden, weight, teacher, matrix, nothing) * len(hidden)


LOSSES: dict[str, Callable[..., Any]] = {"ours": ours, "plain": plain, "liger": liger}


def inputs(tokens: int, vocabulary: int, width: int, *, weight: bool) -> Inputs:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    random = torch.Generator(device).manual_seed(0)

    def draw(rows: int, scale: float) -> torch.Tensor:
        drawn = torch.empty(rows, width, device=device, dtype=torch.bfloat16)
        return drawn.normal_(0, scale, generator=random)

    scale = 2 / width**0.5
    hidden, matrix = draw(tokens, 1.0).requires_grad_(True), draw(vocabulary, scale).requires_grad_(weight)
    return hidden, matrix, draw(tokens, 1.0), draw(vocabulary, scale)


def step(which: str, name: str, given: Inputs) -> float:
    """Seconds of one forward and backward pass."""
    given[0].grad = given[1].grad = None
    if given[0].is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    (LOSSES[which](name, *given) / len(given[0])).backward()
    if given[0].is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def status(field: str) -> int:
    """Bytes that /proc says of this process: VmRSS, or VmHWM, the highest it has been."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def peak(which: str, name: str, shape: tuple[int, int, int], *, weight: bool) -> int:
    """Bytes above the inputs, in this process, which has made a small pass before."""
    step(which, name, inputs(8, 64, 32, weight=weight))
    given = inputs(*shape, weight=weight)
    if given[0].is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(which, name, given)
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the highest so far is forgotten
    before = status("VmRSS")
    step(which, name, given)
    return status("VmHWM") - before


def peak_of(which: str, arguments: argparse.Namespace, shape: tuple[int, int, int]) -> int:
    """`peak` in a process of its own."""
    command = [sys.executable, __file__, "--peak", which, "--loss", arguments.loss, "--shape", *map(str, shape)]
    command += ["--weight"] * arguments.weight
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1])


def compare(arguments: argparse.Namespace, shape: tuple[int, int, int]) -> dict[str, Any]:
    """One shape's figures: peaks, median times and median ratios of time."""
    names = ["ours", "plain"] + ["liger"] * _has_liger(arguments.loss)
    peaks = {which: peak_of(which, arguments, shape) for which in names}
    given = inputs(*shape, weight=arguments.weight)
    rounds = [{which: step(which, arguments.loss, given) for which in names} for _ in range(arguments.rounds + 1)][1:]
    found: dict[str, Any] = dict(zip(("tokens", "vocabulary", "width"), shape, strict=True))
    for which in names:
        found |= {f"mib_{which}": round(peaks[which] / MIB, 1)}
        found |= {f"ms_{which}": round(1000 * median(r[which] for r in rounds), 1)}
    for other in names[1:]:
        found[f"memory_ratio_vs_{other}"] = round(peaks["ours"] / peaks[other], 4)
        found[f"time_ratio_vs_{other}"] = round(median(r["ours"] / r[other] for r in rounds), 3)
    return found


def _has_liger(name: str) -> bool:
    from importlib.util import find_spec

    return name == "jsd" and torch.cuda.is_available() and find_spec("liger_kernel") is not None


def free_bytes() -> int:
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="4,096 tokens of 128,256 too: the plain loss takes 13 GB")
    parser.add_argument("--weight", action="store_true", help="make the output matrix's gradient too")
    parser.add_argument("--loss", default="forward_kl", choices=["forward_kl", "reverse_kl", "jsd"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--shape", nargs=3, type=int, help="tokens, vocabulary, width")
    arguments = parser.parse_args()
    if arguments.peak:
        print(peak(arguments.peak, arguments.loss, tuple(arguments.shape), weight=arguments.weight))
        return
    shapes = [tuple(arguments.shape)] if arguments.shape else FULL if arguments.full else SHAPES
    found = []
    for shape in shapes:
        if PLAIN_BYTES * shape[0] * shape[1] > free_bytes():
            print(f"{shape}: the plain loss does not fit in memory, left out")
            continue
        found.append(compare(arguments, shape))
        print(json.dumps(found[-1]), flush=True)
    ratios = [key for key in found[0] if "ratio" in key]
    worst = {key: max(figures[key] for figures in found) for key in ratios}
    print(json.dumps(worst | {"loss": arguments.loss, "threads": torch.get_num_threads(), "shapes": found}))


if __name__ == "__main__":
    main()
