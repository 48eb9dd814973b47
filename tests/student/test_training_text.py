"""Trainings on text: packing, micro-batches, adapters, embeddings, spikes, early ends and memory that runs out."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import reference
from aasut.engine.torch import load_model
from aasut.errors import ModelError
from aasut.progress import Progress, Step
from aasut.recipe import ModelAddress, Student
from aasut.student import losses
from aasut.student.objective import Row, Text
from aasut.student.teaching import Live, Right
from aasut.student.trainer import Report, Trainer

QUIET = Progress(quiet=True)
ALL = 1_000_000


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def settings(**changes: Any) -> Student:
    plain = {"epochs": 1, "batch_examples": 4, "checks": 1, "learning_rate": 1e-3, "clip_norm": 1e9}
    return Student(model=ModelAddress(address="file:model"), **(plain | changes))


def trainer(folder: Path, loss: str = "cross_entropy", dtype: torch.dtype = torch.float32, **changes: Any) -> Trainer:
    """Against the texts alone, or another loss against a teacher alongside, which is a student with other weights."""
    if loss == "cross_entropy":
        objective = Text(losses.get(loss), Right())
    else:
        teacher = load_model(folder, torch.float32)
        for i, parameter in enumerate(teacher.parameters()):
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i))
        objective = Text(losses.get(loss), Live(teacher, 100))
    return Trainer(load_model(folder, dtype), objective, settings(**changes), seed=5)


def rows(count: int = 12, seed: int = 0, longest: int = 20) -> list[Row]:
    """Prompts and answers of like lengths; an answer repeats one token that its prompt says."""
    draw = random.Random(seed)
    made = []
    for _ in range(count):
        token = draw.randrange(2, 30)
        prompt = [*draw.choices(range(40, 250), k=draw.randint(1, longest)), token]
        answer = [token] * draw.randint(1, 6) + [1]
        made.append(Row([*prompt, *answer], answer=len(answer), asked=[7, *prompt], own=1))
    return made


def gradient(made: Trainer) -> dict[str, torch.Tensor]:
    """Gradient of the first step: AdamW's first moment begins as (1 - 0.9) times it."""
    found = zip(made.weights.names, made.weights.master, strict=True)
    return {name: made.weights.optimiser.state[weight]["exp_avg"] / 0.1 for name, weight in found}


def apart(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Distance over length, all tensors as one vector."""
    assert a.keys() == b.keys()
    difference = sum(float(((a[n] - b[n]).double() ** 2).sum()) for n in a)
    return (difference / sum(float((b[n].double() ** 2).sum()) for n in b)) ** 0.5


def one_step(
    folder: Path, given: Sequence[Row], out: Path, micro: int = ALL, loss: str = "cross_entropy", **changes: Any
) -> Trainer:
    made = trainer(folder, loss, batch_examples=len(given), **changes)
    assert made.fit(given, given[:2], out, QUIET, micro=micro).steps == 1
    return made


def weights(made: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in made.model.state_dict().items()}


@pytest.mark.parametrize(
    ("loss", "changes"),
    [
        ("cross_entropy", {}),
        ("cross_entropy", {"frozen_embeddings": False}),
        ("cross_entropy", {"lora": {"rank": 4}}),
        ("forward_kl", {}),
        ("jsd", {"frozen_embeddings": False}),
        ("forward_kl", {"activation_checkpointing": True}),
    ],
)
def test_the_gradient_does_not_depend_on_micro_batches_and_packing(
    tiny_llama: Path, tmp_path: Path, loss: str, changes: dict[str, Any]
) -> None:
    """One packed row, several, and one row after another; the same for whatever is trained, and by whatever loss."""
    given = rows()
    whole = one_step(tiny_llama, given, tmp_path, ALL, loss, **changes)
    for micro in (1, 60):
        parts = one_step(tiny_llama, given, tmp_path, micro, loss, **changes)
        assert apart(gradient(parts), gradient(whole)) < 1e-5


def test_checkpointed_activations_give_the_same_gradient(tiny_llama: Path, tmp_path: Path) -> None:
    plain = one_step(tiny_llama, rows(), tmp_path)
    saving = one_step(tiny_llama, rows(), tmp_path, activation_checkpointing=True)
    assert all(layer.gradient_checkpointing for layer in saving.model.model.layers)
    assert apart(gradient(saving), gradient(plain)) < 1e-5


def test_checkpointed_activations_are_not_kept_but_computed_again(tiny_llama: Path, tmp_path: Path) -> None:
    """How often a layer runs for one step's gradient; models that are not in training mode ignore the wish."""
    runs = {}
    for saving in (False, True):
        made, seen = trainer(tiny_llama, batch_examples=12, activation_checkpointing=saving), list[bool]()
        layer = made.model.model.layers[
            0
        ].self_attn  # its beginning: what is computed again may end before a layer does
        layer.register_forward_pre_hook(lambda *_, seen=seen: seen.append(torch.is_grad_enabled()))
        made.fit(rows(), rows(2), tmp_path, QUIET, micro=ALL)
        runs[saving] = sum(seen)
    assert runs == {False: 1, True: 2}


def test_losses_are_told_in_nats_a_token(tiny_llama: Path, tmp_path: Path) -> None:
    """Of training and of validation, whatever the rows' lengths and the micro-batches; by transformers' own model."""
    given, held, model = rows(), rows(4, seed=1), reference.load(tiny_llama)

    def mean(some: Sequence[Row]) -> float:
        total = 0.0
        for row in some:
            logits = model(torch.tensor([list(row.ids)])).logits[0, -row.answer - 1 : -1].detach()
            total += float(
                torch.nn.functional.cross_entropy(logits, torch.tensor(list(row.ids[-row.answer :])), reduction="sum")
            )
        return total / sum(row.answer for row in some)

    made = trainer(tiny_llama, batch_examples=len(given), learning_rate=1e-12)
    report = made.fit(given, held, tmp_path, QUIET, micro=60)
    assert report.losses == pytest.approx([mean(given)], rel=1e-4)
    assert [report.best_loss, made.evaluate(given)] == pytest.approx([mean(held), mean(given)], rel=1e-4)


def test_no_more_than_micro_tokens_are_computed_at_once(tiny_llama: Path, tmp_path: Path) -> None:
    made, seen = trainer(tiny_llama, batch_examples=12, micro_tokens=60), list[int]()
    made.model.model.register_forward_pre_hook(
        lambda _model, _args, given: seen.append(given["input_ids"].numel()), with_kwargs=True
    )
    report = made.fit(rows(), rows(2), tmp_path, QUIET)
    assert max(seen) <= report.micro_tokens == 60 < sum(len(row.ids) for row in rows())


def test_tied_embeddings_get_the_gradient_of_both_their_parts(tiny_llama: Path, tmp_path: Path) -> None:
    """Against autograd through transformers' own model, one row at a time, with full logits."""
    given = rows()
    made = one_step(tiny_llama, given, tmp_path, 60, frozen_embeddings=False)
    model = reference.load(tiny_llama)
    tokens = sum(row.answer for row in given)
    for row in given:
        logits = model(torch.tensor([list(row.ids)])).logits[0, -row.answer - 1 : -1]
        wanted = torch.tensor(list(row.ids[-row.answer :]))
        torch.autograd.backward(torch.nn.functional.cross_entropy(logits, wanted, reduction="sum") / tokens)
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert "model.embed_tokens.weight" in expected
    assert apart(gradient(made), expected) < 1e-4


def test_adapters_learn_and_end_in_plain_weights(tiny_llama: Path, tmp_path: Path) -> None:
    made = trainer(tiny_llama, lora={"rank": 8, "alpha": 16}, epochs=15, learning_rate=5e-3, checks=3)
    before = weights(made)
    held = rows(8, seed=1)
    worst = made.evaluate(held)
    report = made.fit(rows(32), held, tmp_path, QUIET)
    after = weights(made)
    plain = load_model(tiny_llama, torch.float32).state_dict()
    assert after.keys() == plain.keys() != before.keys()
    changed = {name for name in plain if not torch.equal(after[name], plain[name])}
    assert changed == {name for name in plain if "proj" in name}
    assert report.best_loss < worst - 1
    assert report.merged_loss == pytest.approx(report.best_loss, rel=1e-3)
    assert made.evaluate(held) == report.merged_loss
    assert report.parameters_trained == sum(p.numel() for p in made.weights.parameters) < 20_000


class Stopping(Step):
    """Ends the training after a number of steps."""

    def advance(self, parts: int = 1, note: str = "", *, resumed: bool = False) -> None:
        super().advance(parts, note, resumed=resumed)
        if not resumed and self.done == 7:
            raise KeyboardInterrupt


class Killing(Progress):
    def __init__(self) -> None:
        super().__init__(quiet=True)

    def steps(self, what: str, total: int) -> Any:
        from contextlib import nullcontext

        return nullcontext(Stopping(self, what, total))


@pytest.mark.parametrize(
    "changes",
    [{"lora": {"rank": 4}}, {"patience": 1, "learning_rate": 0.05}, {"frozen_embeddings": False}],
    ids=["adapters", "early end", "embeddings"],
)
def test_a_killed_training_ends_as_the_whole_one(tiny_llama: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    def learn(folder: Path, progress: Progress) -> tuple[dict[str, torch.Tensor], Report]:
        folder.mkdir(exist_ok=True)
        made = trainer(tiny_llama, **({"epochs": 4, "checks": 6, "checkpoint_s": 0} | changes))
        report = made.fit(rows(16), rows(6, seed=1), folder, progress, micro=60)
        return weights(made), report

    expected, told = learn(tmp_path / "whole", QUIET)
    assert (0 < told.stopped < told.steps) is ("patience" in changes)
    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path / "killed", Killing())
    found, report = learn(tmp_path / "killed", QUIET)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert report == told


def test_training_ends_when_validation_gets_no_better(tiny_llama: Path, tmp_path: Path) -> None:
    """Validation asks for other answers, so that it gets worse with every look after the first ones."""
    contrary = [Row([*row.ids[:-2], 299, 298], answer=2) for row in rows(8)]
    made = trainer(tiny_llama, epochs=10, checks=10, patience=2, learning_rate=5e-3)
    report = made.fit(rows(16), contrary, tmp_path, QUIET)
    after_best = [point["step"] for point in report.curve if point["step"] > report.best_step]
    assert len(after_best) == 2
    assert report.stopped == after_best[-1] < report.steps == 40
    assert len(report.losses) == report.stopped
    assert made.evaluate(contrary) == report.best_loss


class Spoiling:
    """Text whose loss is multiplied in some steps, as a broken row might do."""

    packed = True

    def __init__(self, inner: Text, by: dict[int, float]) -> None:
        self.inner, self.by, self.calls = inner, by, 0
        self.targets, self.batches, self.floor = inner.targets, inner.batches, inner.floor

    def loss(self, model: Any, given: Sequence[Row], batch: Any) -> torch.Tensor:
        self.calls += torch.is_grad_enabled()
        times = self.by.get(self.calls, 1.0) if torch.is_grad_enabled() else 1.0
        return self.inner.loss(model, given, batch) * times


def spoilt(folder: Path, by: dict[int, float], **changes: Any) -> Trainer:
    """Steps are counted from 1."""
    inner = Text(losses.get("cross_entropy"), Right())
    given = settings(**({"epochs": 8, "learning_rate": 1e-5} | changes))
    return Trainer(load_model(folder, torch.float32), Spoiling(inner, by), given, seed=5)


def test_a_spoilt_step_is_reported_and_not_taken(tiny_llama: Path, tmp_path: Path) -> None:
    made = spoilt(tiny_llama, {3: math.nan, 22: 50.0})
    report = made.fit(rows(), rows(4, seed=1), tmp_path, QUIET, micro=ALL)
    assert report.steps == 24
    assert [step["step"] for step in report.skipped] == [3, 22]
    assert (report.skipped[0]["why"], report.skipped[0]["loss"]) == ("is no number", None)
    assert report.skipped[1]["why"].startswith("jumped to ")
    assert made.weights.updates == len(report.losses) == 22
    assert all(torch.isfinite(tensor).all() for tensor in made.model.state_dict().values())
    assert math.isfinite(report.curve[-1]["train_loss"])


def test_a_step_that_is_skipped_changes_nothing(tiny_llama: Path, tmp_path: Path) -> None:
    made = spoilt(tiny_llama, {1: math.inf}, epochs=1, batch_examples=12)
    before = weights(made)
    report = made.fit(rows(), rows(4, seed=1), tmp_path, QUIET, micro=ALL)
    after = weights(made)
    assert (report.steps, report.losses) == (1, [])
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("most", [0, 2])
def test_too_many_spoilt_steps_stop_the_training(tiny_llama: Path, tmp_path: Path, most: int) -> None:
    made = spoilt(tiny_llama, dict.fromkeys(range(4, 30), math.nan), most_spikes=most)
    with pytest.raises(ModelError, match=f"no number at step {4 + most} of 24; {1 + most} steps? w") as caught:
        made.fit(rows(), rows(4, seed=1), tmp_path, QUIET, micro=ALL)
    assert "student.learning_rate" in caught.value.remedy


def test_the_losses_of_all_steps_are_kept_compactly() -> None:
    report = Report(2500, 1, losses=[float(i) for i in range(2500)], norms=[1 / 3] * 2500)
    report.thin()
    assert (len(report.losses), report.steps_a_point) == (834, 3)
    assert report.losses[:2] == [1.0, 4.0]
    assert report.norms[0] == 0.33333
    few = Report(3, 1, losses=[0.123456789, 2.0], norms=[1.0, 1.0])
    few.thin()
    assert (few.losses, few.steps_a_point) == ([0.12346, 2.0], 1)


def trained_within(folder: Path, out: Path, megabytes: int | None = None, longest: int = 200, count: int = 64) -> None:
    """One step in a process of its own that may take so much more memory; prints the gradient's norm and the report."""
    made = trainer(folder, batch_examples=count)
    before = virtual("VmSize")
    if megabytes is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (before + megabytes * 2**20,) * 2)
    report = made.fit(rows(count, longest=longest), rows(2, longest=3), out, QUIET, micro=ALL)
    norms = {name: float(g.norm()) for name, g in gradient(made).items()}
    used = (virtual("VmPeak") - before) // 2**20
    print(json.dumps({"halved": report.halved, "micro": report.micro_tokens, "norms": norms, "megabytes": used}))


def virtual(field: str) -> int:
    """Bytes of address space, now or at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def within(folder: Path, out: Path, *limit: int) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(Path(reference.__file__).parent))))
    out.mkdir()
    return subprocess.run(
        [sys.executable, __file__, str(folder), str(out), *map(str, limit)],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_where_memory_runs_out_the_step_is_done_again_in_smaller_parts(tiny_llama: Path, tmp_path: Path) -> None:
    free = within(tiny_llama, tmp_path / "free")
    wanted = json.loads(free.stdout or free.stderr)
    assert wanted["halved"] == 0
    bounded = within(tiny_llama, tmp_path / "bounded", int(0.6 * wanted["megabytes"]))
    found = json.loads(bounded.stdout or bounded.stderr)
    whole = gradient(one_step(tiny_llama, rows(64, longest=200), tmp_path))
    assert found["halved"] > 0
    assert found["micro"] <= sum(len(row.ids) for row in rows(64, longest=200)) // 2
    expected = pytest.approx({name: float(g.norm()) for name, g in whole.items()}, rel=1e-4)
    assert found["norms"] == expected
    assert wanted["norms"] == expected


def test_one_row_that_does_not_fit_alone_stops_the_training_with_one_line(tiny_llama: Path, tmp_path: Path) -> None:
    died = within(tiny_llama, tmp_path / "out", 60, 30_000, 1)
    says = died.stderr.strip().splitlines()[-1]
    assert "Memory ran out in training on one row of " in says, died.stderr
    assert " tokens alone." in says


if __name__ == "__main__":
    torch.set_num_threads(1)
    trained_within(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
