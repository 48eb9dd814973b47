from __future__ import annotations

import multiprocessing
import signal
import time
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import write_logits
from write_logits import BINDING, VOCABULARY, texts_of

from aasut.engine.torch import load_model
from aasut.errors import DataError
from aasut.progress import Progress
from aasut.student import score_logits
from aasut.student.logit_cache import Cache, shard_path
from aasut.student.score_logits import THRESHOLDS, Asked, Plan, Teacher, cut, settings, write

QUIET = Progress(quiet=True)


def dense(sparse: Any) -> torch.Tensor:
    return torch.zeros(len(sparse), VOCABULARY).scatter_add_(1, sparse.ids, sparse.mass)


@pytest.fixture(scope="module")
def model(tiny_llama: Path) -> Any:
    return load_model(tiny_llama, torch.float32)


@pytest.fixture(scope="module")
def reference(tiny_llama: Path) -> Any:
    """The same, in transformers' own way."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32, attn_implementation="eager").eval()


def expected(model: Any, text: Asked) -> torch.Tensor:
    """The model's distributions for an answer's tokens, one plain pass a text."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[*text.prompt, *text.answer]])).logits[0].float()
    return torch.softmax(logits[len(text.prompt) - 1 : len(text.prompt) + len(text.answer) - 1, :VOCABULARY], 1)


@pytest.mark.parametrize("shared", [0, 5])
def test_the_cache_holds_the_teachers_distributions_of_the_answers(
    model: Any, reference: Any, tmp_path: Path, shared: int
) -> None:
    """Each position's mean over 40 seeds lies by the distribution there, and by no neighbour's."""
    texts = texts_of(12, shared=shared, longest=8)
    count = 40
    total = [torch.zeros(len(text.answer), VOCABULARY) for text in texts]
    for seed in range(count):
        binding = replace(BINDING, settings=settings(seed, 400))  # few texts: headers take much of it
        write(model, texts, tmp_path / str(seed), binding, QUIET)
        cache = Cache.open(tmp_path / str(seed), binding)
        for number, text in enumerate(texts):
            total[number] += dense(cache.sparse(text.key, text.answer)) / count
    every = torch.cat([expected(reference, text) for text in texts])
    found = torch.cat(total)
    distance = (found[:, None] - every[None]).abs().sum(2)
    assert distance.diagonal().mean() < 0.25
    assert (distance.argmin(1) == torch.arange(len(every))).all()


def test_logits_are_float32_whatever_the_teachers_precision(tiny_llama: Path, model: Any) -> None:
    """A bfloat16 teacher's hidden states are projected without rounding the logits."""
    rounded = load_model(tiny_llama, torch.bfloat16)
    texts = texts_of(20)
    teacher = Teacher(rounded, VOCABULARY, texts)
    weight = rounded.get_output_embeddings().weight[:VOCABULARY].double()
    compared = 0
    for _, hidden in teacher.states(texts):
        for rows, logits in teacher.logits(hidden):
            exact = hidden[rows].double() @ weight.T
            assert (logits.double() - exact).abs().max() < 1e-5 * exact.abs().max()
            compared += len(logits)
    assert compared == sum(len(text.answer) for text in texts)  # prompts are not projected


def test_bytes_stay_within_the_budget(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_logits, "SHARD_ANSWERS", 1000)
    texts = texts_of(300, longest=40)
    for budget in (24.0, 36.0):
        binding = replace(BINDING, settings=settings(1, budget))
        report = write(model, texts, tmp_path / str(budget), binding, QUIET)
        assert report["bytes_per_token"] == Cache.open(tmp_path / str(budget), binding).bytes_per_token
        assert 0.9 * budget < report["bytes_per_token"] <= budget
        assert report["tokens"] == sum(len(text.answer) for text in texts)
        assert report["shards"] > 5
    with pytest.raises(DataError, match="11 bytes a token"):
        settings(1, 11)


@pytest.mark.parametrize(("count", "drift"), [(30, (0.7, 1.4)), (30, (1.4, 0.7)), (30, (1.0, 2.0)), (4, (1.3, 1.3))])
def test_the_plan_keeps_to_the_budget_when_texts_are_dearer(count: int, drift: tuple[float, float]) -> None:
    """Shards cost up to twice what the sample said, all alike or more and more so."""
    shards = [[Asked(f"{n}", [1], range(400))] * 20 for n in range(count)]
    costs = [3 + 0.6 / threshold for threshold in THRESHOLDS]
    plan, tokens = Plan(36.0, shards, costs), 8000
    size = 0.0
    for number, factor in enumerate(np.linspace(*drift, len(shards))):
        spent = int((3 + 0.6 / plan.threshold()) * factor * tokens) + plan.fixed[number]
        plan.spend(number, spent)
        size += spent
    assert 0.95 * 36 < size / tokens / len(shards) <= 36


def test_shards_are_a_fixed_function_of_the_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_logits, "SHARD_ANSWERS", 100)
    texts = texts_of(40)
    shards = cut(texts)
    assert shards == cut(texts[::-1])
    assert [text.key for shard in shards for text in shard] == sorted(text.key for text in texts)
    assert all(sum(len(text.answer) for text in shard) >= 100 for shard in shards[:-1])
    monkeypatch.setattr(score_logits, "SHARD_TOKENS", 60)
    assert len(cut(texts)) > len(shards)
    assert cut([]) == []


def test_nothing_to_write_is_a_whole_cache(model: Any, tmp_path: Path) -> None:
    for name, texts in (("none", []), ("empty", [Asked("a#0", [1, 2], [])])):
        assert write(model, texts, tmp_path / name, BINDING, QUIET)["tokens"] == 0
        assert Cache.open(tmp_path / name, BINDING).tokens == 0


def test_what_the_teacher_cannot_read_is_refused(model: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"long#0: prompt and answer have 520 tokens; the teacher's context has 512"):
        write(model, [Asked("long#0", [1] * 500, [2] * 20)], tmp_path, BINDING, QUIET)
    with pytest.raises(DataError, match=r"none#0: the prompt has no tokens"):
        write(model, [Asked("none#0", [], [2])], tmp_path, BINDING, QUIET)


PROCESSES = multiprocessing.get_context("forkserver")  # one that has the libraries loaded begets all
PROCESSES.set_forkserver_preload(["aasut.student.score_logits", "transformers.models.llama.modeling_llama"])


def start(teacher: Path, folder: Path, said: Path) -> BaseProcess:
    process = PROCESSES.Process(target=write_logits.write, args=(teacher, folder, said))
    process.start()
    return process


def finish(process: BaseProcess, said: Path) -> str:
    process.join(120)
    assert process.exitcode == 0, said.read_text()
    return said.read_text()


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith(".partial")}


def test_a_killed_writing_ends_in_the_same_bytes(tiny_llama: Path, tmp_path: Path) -> None:
    """Killed once a shard stands, and again later; then a shard is damaged, and half of another is left lying."""
    said = tmp_path / "said.txt"
    finish(start(tiny_llama, tmp_path / "clean", said), said)
    whole = content(tmp_path / "clean")
    assert len(whole) > 10
    folder = tmp_path / "killed"
    for until in (0, 3):
        process = start(tiny_llama, folder, said)
        while not shard_path(folder, until).exists():
            assert process.is_alive(), said.read_text()
            time.sleep(0.001)
        process.kill()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        assert until < len(list(folder.glob("*.safetensors"))) < len(whole) - 1
    shard_path(folder, 1).write_bytes(whole["00001.safetensors"][:-1])
    (folder / "00009.safetensors.partial").write_bytes(b"x")
    assert "damaged shards are written anew: 1" in finish(start(tiny_llama, folder, said), said)
    assert content(folder) == whole


def test_a_second_writing_keeps_everything(model: Any, tmp_path: Path) -> None:
    texts = texts_of(20)
    assert write(model, texts, tmp_path, BINDING, QUIET)["shards_kept"] == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    report = write(model, texts, tmp_path, BINDING, QUIET)
    assert report["shards_kept"] == report["shards"]
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
