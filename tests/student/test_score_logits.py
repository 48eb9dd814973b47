from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aasut.engine.torch import load_model
from aasut.errors import DataError
from aasut.progress import Progress
from aasut.student import score_logits
from aasut.student.logit_cache import Binding, Cache, shard_path
from aasut.student.score_logits import THRESHOLDS, Asked, Plan, Teacher, cut, settings, write

VOCABULARY = 290  # of the model's 300 columns, the last stand for no token
BINDING = Binding("tok", "prompt", "weights", VOCABULARY, settings=settings(1))
QUIET = Progress(quiet=True)


def texts_of(count: int, seed: int = 1, longest: int = 30, shared: int = 5) -> list[Asked]:
    """Random prompts that begin alike, with answers of 0 to `longest` tokens."""
    draw = np.random.default_rng(seed)
    begin = draw.integers(0, 260, shared).tolist()

    def some(least: int) -> list[int]:
        return draw.integers(0, 260, draw.integers(least, longest + 1)).tolist()  # type: ignore[no-any-return]

    return [Asked(f"e{number}#0", [*begin, *some(1)], some(0)) for number in range(count)]


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


WRITE = """
import sys
from pathlib import Path
import torch
sys.path.insert(0, sys.argv[3])
import test_score_logits as here
from aasut.engine.torch import load_model
from aasut.progress import Progress
from aasut.student import score_logits
score_logits.SHARD_ANSWERS = 300
torch.set_num_threads(1)
model = load_model(Path(sys.argv[1]), torch.bfloat16)
score_logits.write(model, here.texts_of(300), Path(sys.argv[2]), here.BINDING, Progress(every_s=0))
"""


def start(teacher: Path, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITE, str(teacher), str(folder), str(Path(__file__).parent)],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen[str]) -> str:
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return err


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith(".partial")}


def test_a_killed_writing_ends_in_the_same_bytes(tiny_llama: Path, tmp_path: Path) -> None:
    """Killed once a shard stands, and again later; then a shard is damaged, and half of another is left lying."""
    finish(start(tiny_llama, tmp_path / "clean"))
    whole = content(tmp_path / "clean")
    assert len(whole) > 10
    folder = tmp_path / "killed"
    for until in (0, 3):
        process = start(tiny_llama, folder)
        while not shard_path(folder, until).exists():
            assert process.poll() is None
            time.sleep(0.001)
        process.kill()
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        assert until < len(list(folder.glob("*.safetensors"))) < len(whole) - 1
    shard_path(folder, 1).write_bytes(whole["00001.safetensors"][:-1])
    (folder / "00009.safetensors.partial").write_bytes(b"x")
    said = finish(start(tiny_llama, folder))
    assert "damaged shards are written anew: 1" in said
    assert content(folder) == whole


def test_a_second_writing_keeps_everything(model: Any, tmp_path: Path) -> None:
    texts = texts_of(20)
    assert write(model, texts, tmp_path, BINDING, QUIET)["shards_kept"] == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    report = write(model, texts, tmp_path, BINDING, QUIET)
    assert report["shards_kept"] == report["shards"]
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
