from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import reference
from aasut.engine.torch import TorchEngine, load_model
from aasut.engine.tree import build
from aasut.errors import ModelError, RecipeError
from aasut.formats.safetensors import metadata
from aasut.formats.tokenizer import Tokenizer
from aasut.progress import Progress, Step
from aasut.recipe import ModelAddress, Student
from aasut.student.losses import cross_entropy
from aasut.student.objective import Labels, Row
from aasut.student.trainer import Report, Trainer

QUIET = Progress(quiet=True)
TWO = [" negative", " positive"]
SEVERAL = [" billing_refund", " billing", " shipping_late", " shipping_lost"]  # nodes that must not see each other
ALL = 1_000_000


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def settings(**changes: Any) -> Student:
    plain = {"epochs": 1, "batch_examples": 8, "checks": 1, "learning_rate": 1e-3, "precision": "float32"}
    return Student(model=ModelAddress(address="file:model"), **(plain | changes))


def trainer(folder: Path, answers: Sequence[str] = TWO, dtype: torch.dtype = torch.float32, **changes: Any) -> Trainer:
    tokenizer = Tokenizer.load(folder)
    tree = build([tokenizer.encode(answer) for answer in answers], tokenizer.eos_id)
    model = load_model(folder, dtype)
    return Trainer(model, Labels(tree, cross_entropy), settings(**changes), seed=5)


def texts(count: int, classes: int, seed: int = 0) -> list[str]:
    """Texts of very different lengths in which a letter says the class, number modulo `classes`."""
    draw = random.Random(seed)
    words = ["the", "battery", "is", "great", "camera", "review", "remote"]
    marks = ["ABCDEF"[i % classes] * 2 for i in range(count)]
    return [
        " ".join([*draw.choices(words, k=draw.randint(0, 6)), mark, *draw.choices(words, k=2), "="]) for mark in marks
    ]


def examples(folder: Path, count: int, classes: int = 2, sure: float = 0.9, seed: int = 0) -> list[Row]:
    """Rows whose answers are `sure` of the text's class, and even over the others."""
    tokenizer = Tokenizer.load(folder)
    soft = np.full((classes, classes), (1 - sure) / (classes - 1))
    np.fill_diagonal(soft, sure)
    return [
        Row(ids, soft[i % classes].tolist()) for i, ids in enumerate(tokenizer.encode_all(texts(count, classes, seed)))
    ]


def gradient(made: Trainer) -> dict[str, torch.Tensor]:
    """Gradient of the first step: AdamW's first moment begins as (1 - 0.9) times it."""
    found = zip(made.weights.names, made.weights.master, strict=True)
    return {name: made.weights.optimiser.state[weight]["exp_avg"] / 0.1 for name, weight in found}


def apart(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Distance over length, all tensors as one vector."""
    assert a.keys() == b.keys()
    difference = sum(float(((a[n] - b[n]).double() ** 2).sum()) for n in a)
    return (difference / sum(float((b[n].double() ** 2).sum()) for n in b)) ** 0.5


def weights(made: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in made.model.state_dict().items()}


def one_step(folder: Path, rows: list[Row], out: Path, micro: int, answers: Sequence[str] = TWO) -> Trainer:
    """A training of one step over all rows, without clipping."""
    made = trainer(folder, answers, batch_examples=len(rows), clip_norm=1e9)
    report = made.fit(rows, rows[:2], out, QUIET, micro=micro)
    assert report.steps == 1
    return made


@pytest.mark.parametrize(("answers", "classes"), [(TWO, 2), (SEVERAL, 4)], ids=["one token", "several tokens"])
def test_the_gradient_is_that_of_the_mean_loss(
    tiny_llama: Path, tmp_path: Path, answers: list[str], classes: int
) -> None:
    """Against autograd through transformers' own model, one whole sequence for each row and answer."""
    rows = examples(tiny_llama, 6, classes, sure=0.7)
    made = one_step(tiny_llama, rows, tmp_path, micro=60, answers=answers)
    model, keys = reference.load(tiny_llama), reference.answer_keys(Tokenizer.load(tiny_llama), answers)
    model.get_input_embeddings().requires_grad_(False)
    for row in rows:
        loss = -(torch.tensor(row.probabilities) * reference.bound_logprobs(model, row.ids, keys)).sum()
        torch.autograd.backward(loss / len(rows))
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert apart(gradient(made), expected) < 1e-4


def test_the_gradient_does_not_depend_on_micro_batches(tiny_llama: Path, tmp_path: Path) -> None:
    rows = examples(tiny_llama, 13, 4)
    whole = one_step(tiny_llama, rows, tmp_path, ALL, SEVERAL)
    for micro in (1, 150):
        parts = one_step(tiny_llama, rows, tmp_path, micro, SEVERAL)
        assert apart(gradient(parts), gradient(whole)) < 1e-5
        assert apart(weights(parts), weights(whole)) < 1e-5


def test_the_gradient_does_not_depend_on_the_order_of_the_examples(tiny_llama: Path, tmp_path: Path) -> None:
    rows = examples(tiny_llama, 12)
    whole = one_step(tiny_llama, rows, tmp_path, 150)
    turned = one_step(tiny_llama, rows[::-1], tmp_path, 150)
    assert apart(gradient(turned), gradient(whole)) < 1e-5


def test_many_steps_end_in_the_same_weights_whatever_the_micro_batch(tiny_llama: Path, tmp_path: Path) -> None:
    rows = examples(tiny_llama, 20)
    ends = []
    for micro in (1, ALL):
        made = trainer(tiny_llama, epochs=2, batch_examples=5, learning_rate=1e-4)
        made.fit(rows, rows[:4], tmp_path, QUIET, micro=micro)
        ends.append(weights(made))
    assert apart(*ends) < 1e-5


def test_padding_changes_nothing(tiny_llama: Path, tmp_path: Path) -> None:
    made = trainer(tiny_llama, SEVERAL)
    rows = examples(tiny_llama, 10, 4)
    alone = [made.evaluate([row]) for row in rows]
    assert made.evaluate(rows) == pytest.approx(sum(alone) / len(rows), rel=1e-6)
    short, long = rows[:1], [Row([*rows[0].ids] * 9, rows[0].probabilities)]
    assert made.evaluate(short + long) == pytest.approx((alone[0] + made.evaluate(long)) / 2, rel=1e-6)


def test_the_embeddings_stay_and_everything_else_moves(tiny_llama: Path, tmp_path: Path) -> None:
    made = trainer(tiny_llama, epochs=3)
    before = weights(made)
    made.fit(examples(tiny_llama, 16), examples(tiny_llama, 8, seed=1), tmp_path, QUIET)
    after = weights(made)
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {"model.embed_tokens.weight", "lm_head.weight"}


def test_frozen_layers_stay_and_the_others_have_the_same_gradient(tiny_llama: Path, tmp_path: Path) -> None:
    rows = examples(tiny_llama, 8)
    whole = one_step(tiny_llama, rows, tmp_path, ALL)
    made = trainer(tiny_llama, batch_examples=8, clip_norm=1e9, frozen_layers=1)
    before = weights(made)
    made.fit(rows, rows[:2], tmp_path, QUIET)
    after = weights(made)
    still = {name for name in before if torch.equal(before[name], after[name])}
    assert still == {name for name in before if "layers.0." in name or "embed" in name or "lm_head" in name}
    expected = {name: g for name, g in gradient(whole).items() if "layers.0." not in name}
    assert apart(gradient(made), expected) < 1e-5


def test_a_student_with_all_layers_frozen_is_refused(tiny_llama: Path) -> None:
    with pytest.raises(RecipeError, match="frozen_layers is 2, and the student has 2"):
        trainer(tiny_llama, frozen_layers=2)


def test_the_weights_that_were_best_on_validation_are_left(tiny_llama: Path, tmp_path: Path) -> None:
    """Validation contradicts the training, so that it gets worse with every look."""
    rows = examples(tiny_llama, 32)
    contrary = [Row(row.ids, row.probabilities[::-1]) for row in rows[:8]]
    made = trainer(tiny_llama, epochs=6, checks=4)
    report = made.fit(rows, contrary, tmp_path, QUIET)
    losses = {int(point["step"]): point["validation_loss"] for point in report.curve}
    assert len(losses) == 4
    assert report.best_loss == min(losses.values()) == losses[report.best_step]
    assert report.best_step < report.steps == max(losses)
    assert max(losses.values()) > report.best_loss + 0.1
    assert made.evaluate(contrary) == report.best_loss


class Stopping(Step):
    """Ends the training after a number of steps."""

    def advance(self, parts: int = 1, note: str = "", *, resumed: bool = False) -> None:
        super().advance(parts, note, resumed=resumed)
        assert isinstance(self.progress, Killing)
        if not resumed and self.done == self.progress.after:
            self.progress.kill()


class Killing(Progress):
    def __init__(self, after: int, *, hard: bool = False) -> None:
        super().__init__(quiet=True)
        self.after, self.hard = after, hard

    def kill(self) -> None:
        if self.hard:
            os.kill(os.getpid(), signal.SIGKILL)
        raise KeyboardInterrupt

    @contextmanager
    def steps(self, what: str, total: int) -> Iterator[Step]:
        yield Stopping(self, what, total)


def long_training(
    model: Path, folder: Path, progress: Progress, *, worsens: bool = False
) -> tuple[dict[str, torch.Tensor], Report]:
    """12 steps, each with a checkpoint, and 4 looks at validation, which is like the rows, or likes the start."""
    torch.set_num_threads(1)
    made = trainer(model, SEVERAL, epochs=3, checks=4, checkpoint_s=0)
    held = examples(model, 8, 4, seed=1)
    if worsens:
        own = TorchEngine(made.model, Tokenizer.load(model)).score(texts(8, 4, seed=1), SEVERAL).logprobs
        held = [Row(row.ids, q.tolist()) for row, q in zip(held, np.exp(own), strict=True)]
    report = made.fit(examples(model, 32, 4), held, folder, progress, micro=150)
    return weights(made), report


@pytest.mark.parametrize("worsens", [False, True])
def test_a_killed_training_goes_on_and_ends_in_the_same_weights(
    tiny_llama: Path, tmp_path: Path, *, worsens: bool
) -> None:
    (tmp_path / "whole").mkdir()
    expected, told = long_training(tiny_llama, tmp_path / "whole", QUIET, worsens=worsens)
    assert told.steps == 12
    assert (told.best_step == 3) is worsens  # the best weights may be those of the first checkpoint
    for after in (1, 2, 3, 8):  # before the first look at validation, right at one, between two
        folder = tmp_path / f"after-{after}"
        folder.mkdir()
        with pytest.raises(KeyboardInterrupt):
            long_training(tiny_llama, folder, Killing(after), worsens=worsens)
        assert int(json.loads(metadata(folder / "checkpoint.safetensors")["facts"])["step"]) == after
        (folder / "checkpoint.partial").write_bytes(b"cut off")
        found, report = long_training(tiny_llama, folder, QUIET, worsens=worsens)
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        assert report == told
        assert not (folder / "checkpoint.safetensors").exists()


class Watching(Progress):
    """Keeps the step, to be looked at."""

    @contextmanager
    def steps(self, what: str, total: int) -> Iterator[Step]:
        self.step = Step(self, what, total)
        yield self.step


def test_a_resumed_training_does_not_begin_anew(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        long_training(tiny_llama, tmp_path, Killing(11))
    watching = Watching(quiet=True)
    long_training(tiny_llama, tmp_path, watching)
    assert (watching.step.done, watching.step.resumed) == (12, 11)


def test_a_training_whose_process_is_killed_goes_on_too(tiny_llama: Path, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    expected, told = long_training(tiny_llama, tmp_path / "whole", QUIET)
    (tmp_path / "killed").mkdir()
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(Path(reference.__file__).parent))))
    died = subprocess.run(
        [sys.executable, __file__, str(tiny_llama), str(tmp_path / "killed")],
        env=os.environ | {"PYTHONPATH": path},
        timeout=120,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL
    found, report = long_training(tiny_llama, tmp_path / "killed", QUIET)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert report == told


def test_checkpoints_are_rare_unless_told_otherwise(tiny_llama: Path, tmp_path: Path) -> None:
    made = trainer(tiny_llama, epochs=2, checks=4)
    with pytest.raises(KeyboardInterrupt):
        made.fit(examples(tiny_llama, 32), [], tmp_path, Killing(7))
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:.*overflow")
def test_a_loss_that_is_no_number_stops_the_training(tiny_llama: Path, tmp_path: Path) -> None:
    made = trainer(tiny_llama, learning_rate=1e30, warmup=0.0, epochs=4)
    with pytest.raises(ModelError, match=r"no number at step \d+ of 16") as error:
        made.fit(examples(tiny_llama, 32), [], tmp_path, QUIET)
    assert "student.learning_rate" in error.value.remedy


def test_the_gradient_is_clipped(tiny_llama: Path, tmp_path: Path) -> None:
    rows = examples(tiny_llama, 8)
    free = gradient(one_step(tiny_llama, rows, tmp_path, ALL))
    length = sum(float((g**2).sum()) for g in free.values()) ** 0.5
    made = trainer(tiny_llama, batch_examples=8, clip_norm=length / 4)
    made.fit(rows, [], tmp_path, QUIET)
    assert apart({n: g * 4 for n, g in gradient(made).items()}, free) < 1e-4


def test_two_classes_are_learned(tiny_llama: Path, tmp_path: Path) -> None:
    made = trainer(tiny_llama, epochs=12, checks=3)
    rows, held = examples(tiny_llama, 64), examples(tiny_llama, 16, seed=1)
    before = made.evaluate(held)
    report = made.fit(rows, held, tmp_path, QUIET)
    assert report.floor == pytest.approx(-(0.9 * np.log(0.9) + 0.1 * np.log(0.1)))
    assert report.floor < report.best_loss < report.floor + 0.1 < before
    assert report.curve[-1]["train_loss"] < report.floor + 0.1 < report.curve[0]["train_loss"]
    assert (report.examples, report.steps) == (64, 96)
    assert report.tokens == 12 * sum(len(row.ids) + len(made.objective.tree.nodes) for row in rows)
    assert 0 < report.padding_share < 0.3


def test_soft_answers_of_several_tokens_are_learned(tiny_llama: Path, tmp_path: Path) -> None:
    made = trainer(tiny_llama, SEVERAL, epochs=25)
    rows = examples(tiny_llama, 64, 4, sure=0.7)
    made.fit(rows, rows[:16], tmp_path, QUIET)
    engine = TorchEngine(made.model, Tokenizer.load(tiny_llama))
    found = np.exp(engine.score(texts(64, 4), SEVERAL).logprobs)
    assert found.argmax(axis=1).tolist() == [i % 4 for i in range(64)]
    assert found.max(axis=1).mean() == pytest.approx(0.7, abs=0.1)


@pytest.mark.parametrize("answers", [TWO, SEVERAL], ids=["one token", "several tokens"])
def test_a_student_that_agrees_with_its_teacher_has_the_least_loss_and_no_gradient(
    tiny_llama: Path, tmp_path: Path, answers: list[str]
) -> None:
    engine = TorchEngine(load_model(tiny_llama, torch.float32), Tokenizer.load(tiny_llama))
    prompts = texts(10, 2)
    own = np.exp(engine.score(prompts, answers).logprobs)
    rows = [Row(engine.tokenizer.encode(p), q.tolist()) for p, q in zip(prompts, own, strict=True)]
    made = one_step(tiny_llama, rows, tmp_path, 150, answers)
    other = one_step(tiny_llama, [Row(r.ids, r.probabilities[::-1]) for r in rows], tmp_path, 150, answers)
    floor = made.objective.floor(rows) / len(rows)
    assert trainer(tiny_llama, answers).evaluate(rows) == pytest.approx(floor, abs=1e-5)
    assert floor == pytest.approx(float(-(own * np.log(own)).sum(axis=1).mean()))
    assert _length(gradient(made)) < 1e-3 * _length(gradient(other))


def _length(tensors: dict[str, torch.Tensor]) -> float:
    return sum(float((t**2).sum()) for t in tensors.values()) ** 0.5


def test_small_steps_are_not_lost_in_bfloat16(tiny_llama: Path, tmp_path: Path) -> None:
    """A step of 1e-4 is less than half of bfloat16's spacing at 0.1; only float32 master weights add them up."""
    made = trainer(tiny_llama, dtype=torch.bfloat16, learning_rate=1e-4, epochs=10)
    before = weights(made)
    made.fit(examples(tiny_llama, 32), [], tmp_path, QUIET)
    after = weights(made)
    large = {name: tensor.abs() > 0.1 for name, tensor in before.items() if "layers" in name}
    moved = sum(int((before[n] != after[n])[mask].sum()) for n, mask in large.items())
    assert moved > 0.2 * sum(int(mask.sum()) for mask in large.values())


if __name__ == "__main__":
    long_training(Path(sys.argv[1]), Path(sys.argv[2]), Killing(8, hard=True))
