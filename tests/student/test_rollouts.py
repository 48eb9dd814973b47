"""The student's own answers: what it writes and how that ends, which steps learn them, and what a kill leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import reference
from aasut.engine.base import Written
from aasut.engine.torch import load_model
from aasut.formats.tokenizer import Tokenizer
from aasut.progress import Progress, Step
from aasut.recipe import ModelAddress, OnPolicy, Student
from aasut.student import losses, schedule
from aasut.student.objective import Row, Text
from aasut.student.rollouts import EMPTY, LEFT, SKIPPED, Answer, Asking, Rollouts, _lost
from aasut.student.teaching import Live, Right
from aasut.student.trainer import Report, Trainer

QUIET = Progress(quiet=True)
WORDS = ["battery", "camera", "remote", "great", "review", "prices", "rose", "the", "not", "is", "a", "in"]
END = 1


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def prompts(count: int = 12) -> dict[str, str]:
    return {f"e{i}": f"{WORDS[i % len(WORDS)]} {i} =" for i in range(count)}


def rows(folder: Path, count: int = 12) -> list[Row]:
    """A prompt and its answer, one of its words twice; the teacher reads a longer prompt."""
    tokenizer, made = Tokenizer.load(folder), []
    for i, (name, text) in enumerate(prompts(count).items()):
        ids, answer = tokenizer.encode(text), tokenizer.encode(f" {WORDS[i % len(WORDS)]}")
        made.append(Row([*ids, *answer, END], answer=len(answer) + 1, key=f"{name}#0", asked=[7, *ids], own=1))
    return made


def settings(**changes: Any) -> Student:
    plain = {"epochs": 2, "batch_examples": 4, "checks": 1, "learning_rate": 1e-3, "precision": "float32"}
    return Student(model=ModelAddress(address="file:model"), **(plain | changes))


def trainer(folder: Path, *, loss: str = "reverse_kl", **changes: Any) -> Trainer:
    """Against a teacher alongside, which is a student with other weights."""
    teacher = load_model(folder, torch.float32)
    for i, parameter in enumerate(teacher.parameters()):
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i))
    objective = Text(losses.get(loss), Live(teacher, 100))
    return Trainer(load_model(folder, torch.float32), objective, settings(**changes), seed=5)


def rollouts(
    model: Path, folder: Path, asking: Asking | None = None, progress: Progress = QUIET, **changes: Any
) -> Rollouts:
    folder.mkdir(parents=True, exist_ok=True)
    own = OnPolicy(**({"share": 1, "start": 0, "rise": 0, "refresh": 2} | changes))
    return Rollouts(own, asking or Asking(prompts(), 8), Tokenizer.load(model), 5, folder, progress)


def weights(made: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in made.model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_without_a_share_the_training_is_the_offline_one(tiny_llama: Path, tmp_path: Path) -> None:
    """Bit for bit, where all of its steps are before `start`; and not where one is behind it."""
    ends = []
    for start in (None, 0.99, 0.8):
        made = trainer(tiny_llama)
        own = None if start is None else rollouts(tiny_llama, tmp_path / str(start), start=start)
        given = rows(tiny_llama)
        made.fit(given, given[:2], tmp_path, QUIET, own=own)
        ends.append(weights(made))
    assert schedule.own_share(5, 6, OnPolicy(start=0.99, rise=0)) > 0  # 6 steps: the last one
    assert not same(ends[0], ends[1])
    assert not same(ends[1], ends[2])
    made, own = trainer(tiny_llama), rollouts(tiny_llama, tmp_path / "none", share=1e-12)
    made.fit(rows(tiny_llama), rows(tiny_llama)[:2], tmp_path, QUIET, own=own)
    assert same(ends[0], weights(made))


def memorised(folder: Path, given: Sequence[Row]) -> Trainer:
    made = Trainer(
        load_model(folder, torch.float32),
        Text(losses.get("cross_entropy"), Right()),
        settings(epochs=300, learning_rate=3e-3, batch_examples=12),
        5,
    )
    made.fit(given, given, folder.parent, QUIET)
    assert made.evaluate(given) < 0.05
    return made


def test_what_was_memorised_is_written_token_by_token(tiny_llama: Path, tmp_path: Path) -> None:
    """At next to no temperature: prompt, answer and end, as the given rows have them."""
    given = rows(tiny_llama)
    made = memorised(tiny_llama, given)
    own = rollouts(tiny_llama, tmp_path / "own", temperature=0.05)
    found = own.rows(made, given, [list(range(12))], 0)
    assert [list(row.ids) for row in found] == [list(row.ids) for row in given]
    assert [(row.answer, row.own) for row in found] == [(row.answer, 0) for row in given]
    assert [row.asked for row in found] == [row.asked for row in given]
    assert made.model.training is False
    before = [answer.ended for answer in own._refresh.answers]
    assert all(before)


def test_answers_are_drawn_from_the_students_distribution(tiny_llama: Path, tmp_path: Path) -> None:
    """The first tokens of many answers to one prompt, against transformers' own model at that temperature."""
    count, made = 3000, trainer(tiny_llama)
    text, ids = "a =", Tokenizer.load(tiny_llama).encode("a =")
    asking = Asking({f"e{i}": text for i in range(count)}, 1)
    given = [Row([*ids, 3, END], answer=2, key=f"e{i}#0", asked=ids, own=1) for i in range(count)]
    own = rollouts(tiny_llama, tmp_path / "own", asking, temperature=0.2)
    found = own.rows(made, given, [list(range(count))], 0)
    said = torch.bincount(torch.tensor([row.ids[len(ids)] for row in found]), minlength=made.model.config.vocab_size)
    logits = reference.load(tiny_llama)(torch.tensor([ids])).logits[0, -1].detach()
    apart = [float((said / count - torch.softmax(logits / t, 0)).abs().sum()) / 2 for t in (0.2, 0.3, 0.15, 1.0)]
    assert apart[0] < 0.08 < min(apart[1:])


def test_which_examples_are_the_students_own_hangs_on_seed_step_and_example() -> None:
    drawn = {(s, step, i): schedule.is_own(step, f"e{i}#0", s, 0.3)
             for s in (1, 2) for step in range(40) for i in range(40)}  # fmt: skip
    assert sum(drawn.values()) / len(drawn) == pytest.approx(0.3, abs=0.03)
    assert [drawn[1, 0, i] for i in range(40)] != [drawn[1, 1, i] for i in range(40)]
    assert [drawn[1, 0, i] for i in range(40)] != [drawn[2, 0, i] for i in range(40)]
    more = [schedule.is_own(0, f"e{i}#0", 1, 0.6) for i in range(40)]
    assert all(m for i, m in enumerate(more) if drawn[1, 0, i])  # a larger share has those of a smaller one
    assert all(schedule.is_own(0, f"e{i}#0", 1, 1.0) for i in range(99))


def test_the_share_rises_behind_the_start() -> None:
    own = OnPolicy(share=0.5, start=0.25, rise=0.25)
    found = [schedule.own_share(step, 16, own) for step in range(16)]
    assert found[:4] == [0.0] * 4
    assert found[4:9] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert found[9:] == [0.5] * 7
    assert schedule.own_share(0, 1, own) == 0.5  # a training of one step has no time to begin slowly


def test_a_step_is_the_exact_gradient_of_the_kl_on_what_the_student_wrote(tiny_llama: Path, tmp_path: Path) -> None:
    """Reverse KL at every position of its answers, the end's included, by autograd through transformers' models."""
    given = rows(tiny_llama)
    made = trainer(tiny_llama, batch_examples=12, epochs=1, clip_norm=1e9)
    found = rollouts(tiny_llama, tmp_path / "own").rows(made, given, [list(range(12))], 0)
    assert all(list(a.ids) != list(b.ids) for a, b in zip(found, given, strict=True))
    student, teacher = reference.load(tiny_llama), made.objective.teaching.model  # type: ignore[attr-defined]
    student.get_input_embeddings().requires_grad_(False)
    targets = sum(row.answer for row in found)
    for row in found:
        answer = list(row.ids[len(row.ids) - row.answer :])
        logq = torch.log_softmax(student(torch.tensor([list(row.ids)])).logits[0, -row.answer - 1 : -1], 1)
        read = torch.tensor([[*row.asked, *answer]])
        states = reference_states(teacher, read)[-row.answer - 1 : -1]
        logp = torch.log_softmax(states @ teacher.get_output_embeddings().weight.T, 1)
        torch.autograd.backward((logq.exp() * (logq - logp)).sum() / targets)
    expected = torch.cat([p.grad.flatten() for p in student.parameters() if p.grad is not None])
    gradient = made.gradient(found)
    assert float((gradient - expected).norm() / expected.norm()) < 1e-4
    assert float((made.gradient(given) - expected).norm() / expected.norm()) > 0.5


def reference_states(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Of a model of our attention, by one plain row."""
    from aasut.engine.torch import hidden_states

    with torch.no_grad():
        return hidden_states(model, ids, torch.arange(ids.shape[1])[None], None, None)[0]


def said(folder: Path, text: str, finish: str = "stop") -> Written:
    ids = tuple(Tokenizer.load(folder).encode(text))
    return Written(text, len(ids), finish, (), ids)


@pytest.mark.parametrize(
    ("text", "finish", "asking", "kept", "end", "own"),
    [
        (" great", "stop", {}, " great", 1, 0),  # the teacher says what comes in the end's place
        (" great", "stop", {"ends": False}, " great", 0, 0),  # it ends otherwise: it has no word on that
        (" great", "length", {}, " great", 0, 0),
        ("", "stop", {}, "", 1, 0),
        ("", "stop", {"ends": False}, "", 0, 0),
        (" great\n\n", "stop", {"stop": ("\n\n",), "ends": False}, " great", 1, 1),
        ("\n\n", "stop", {"stop": ("\n\n",), "ends": False}, "", 0, 0),
        (' {"a": 1}', "stop", {"schema": "{}", "ends": False}, ' {"a": 1}', 1, 1),
        (' {"a": ', "length", {"schema": "{}"}, ' {"a": ', 0, 0),
        (" none", "stop", {"schema": "{}", "plain": True}, " none", 1, 0),  # text where no function is called
    ],
)
def test_how_an_answer_ends_decides_what_is_learned_there(
    tiny_llama: Path, tmp_path: Path, text: str, finish: str, asking: dict[str, Any], kept: str, end: int, own: int
) -> None:
    made = rollouts(tiny_llama, tmp_path, Asking({}, 8, **asking))
    found = made._answer(3, "e0#0", said(tiny_llama, text, finish))
    ids = Tokenizer.load(tiny_llama).encode(kept) if kept else []
    assert found == Answer(3, "e0#0", [*ids, *[END] * end], end, own, finish == "stop")


def test_a_token_that_begins_before_the_stop_text_is_left_out_and_no_end_is_learned(
    tiny_llama: Path, tmp_path: Path
) -> None:
    made = rollouts(tiny_llama, tmp_path, Asking({}, 8, stop=("reat",)))
    ids = tuple(Tokenizer.load(tiny_llama).encode(" is great"))
    found = made._answer(0, "e0#0", Written(" is g", len(ids), "stop", (), ids))
    assert Tokenizer.load(tiny_llama).decode(found.ids) == " is"
    assert (found.end, found.own) == (0, 0)


def test_an_empty_answer_leaves_the_given_one(tiny_llama: Path) -> None:
    given = rows(tiny_llama)[0]
    answer = Answer(0, given.key, [], 0, 0, ended=True)
    assert _lost(answer, (), 0) == EMPTY
    assert _lost(replace(answer, ids=[5]), (), 0) == ""
    assert _lost(replace(answer, ids=[5]), {0}, 0) == SKIPPED
    assert _lost(replace(answer, step=4, ids=[5]), (), 4) == LEFT
    assert _lost(replace(answer, step=3, ids=[5]), (), 4) == ""


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

    def steps(self, what: str, total: int) -> Any:
        from contextlib import nullcontext

        return nullcontext(Stopping(self, what, total))


def long_training(
    model: Path, folder: Path, progress: Progress, checkpoint_s: float = 0
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """12 steps, of which 3 learn given answers alone; refreshed every 2 steps."""
    torch.set_num_threads(1)
    given = rows(model)
    made = trainer(model, epochs=4, checks=3, checkpoint_s=checkpoint_s)
    own = rollouts(model, folder, share=0.6, start=0.25, rise=0.25)
    report = made.fit(given, given[:3], folder, progress, own=own)
    facts, accounts = own.finish(report)
    return weights(made), {"report": report, "rows": accounts["own answers"], **facts["on_policy"]}


def timeless(facts: dict[str, Any]) -> dict[str, Any]:
    curve = [{k: v for k, v in part.items() if "seconds" not in k} for part in facts["curve"]]
    return {k: v for k, v in facts.items() if "seconds" not in k} | {"curve": curve}


@pytest.fixture(scope="module")
def whole(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    return long_training(tiny_llama, tmp_path_factory.mktemp("whole"), QUIET)


@pytest.mark.parametrize(("after", "checkpoint_s"), [(2, 0), (3, 0), (4, 0), (6, 0), (11, 0), (8, 1e9)])
def test_a_killed_training_learns_the_same_answers_again(
    tiny_llama: Path, tmp_path: Path, whole: tuple[dict[str, torch.Tensor], dict[str, Any]], after: int,
    checkpoint_s: float,
) -> None:  # fmt: skip
    """Before the first refresh, at one, within one; and where there was no checkpoint, from the beginning."""
    expected, told = whole
    with pytest.raises(KeyboardInterrupt):
        long_training(tiny_llama, tmp_path, Killing(after), checkpoint_s)
    kept = sorted(tmp_path.glob("rollouts-*.json"))
    assert len(kept) == max(0, (after - 3 + 1) // 2)
    found, facts = long_training(tiny_llama, tmp_path, QUIET, checkpoint_s)
    assert same(found, expected)
    assert timeless(facts) == timeless(told)
    assert list(tmp_path.iterdir()) == []


def test_what_is_on_disk_is_learned_and_not_written_again(tiny_llama: Path, tmp_path: Path) -> None:
    """Other answers in its place make other weights."""
    with pytest.raises(KeyboardInterrupt):
        long_training(tiny_llama, tmp_path / "a", Killing(6))
    expected, _ = long_training(tiny_llama, tmp_path / "a", QUIET)
    with pytest.raises(KeyboardInterrupt):
        long_training(tiny_llama, tmp_path / "b", Killing(6))
    path = tmp_path / "b" / "rollouts-00001.json"
    plain = json.loads(path.read_text())
    changed = [answer | {"ids": [9, 9, 9]} for answer in plain["answers"] if answer["step"] == 6]
    assert changed
    path.write_text(json.dumps(plain | {"answers": changed}))
    found, _ = long_training(tiny_llama, tmp_path / "b", QUIET)
    assert not same(found, expected)


def test_a_process_that_is_killed_ends_in_the_same_weights(
    tiny_llama: Path, tmp_path: Path, whole: tuple[dict[str, torch.Tensor], dict[str, Any]]
) -> None:
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(Path(reference.__file__).parent))))
    ended = subprocess.run(
        [sys.executable, __file__, str(tiny_llama), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": path},
        timeout=120,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    found, facts = long_training(tiny_llama, tmp_path, QUIET)
    assert same(found, whole[0])
    assert timeless(facts) == timeless(whole[1])


def test_it_is_told_what_was_written(whole: tuple[dict[str, torch.Tensor], dict[str, Any]]) -> None:
    facts = whole[1]
    assert facts["rows"].balanced
    assert facts["rows"].rows_in == facts["rollouts"] == sum(part["answers"] for part in facts["curve"])
    assert facts["refreshes"] == len(facts["curve"]) == 5
    assert [part["step"] for part in facts["curve"]] == [4, 6, 8, 10, 12]
    assert 0 < facts["share_learned"] < 0.6
    assert facts["share_learned"] == pytest.approx(facts["rows"].kept / 48, abs=1e-4)
    assert facts["tokens_written"] == pytest.approx(
        sum(part["answers"] * part["tokens_each"] for part in facts["curve"]), abs=1
    )
    assert all(part["loss"] > 0 for part in facts["curve"])
    assert facts["engine"] == "torch-float32"
    assert facts["seconds_rollout"] > 0
    assert facts["seconds_updates"] > 0


def test_losses_on_given_answers_do_not_say_what_is_usual_on_own_ones(tiny_llama: Path, tmp_path: Path) -> None:
    own = rollouts(tiny_llama, tmp_path, start=0.5)
    report = Report(20, 5, skipped=[{"step": 3}, {"step": 10}, {"step": 12}])
    assert [own.since(step, report) for step in (0, 9, 10, 19)] == [0, 0, 8, 8]


if __name__ == "__main__":
    long_training(Path(sys.argv[1]), Path(sys.argv[2]), Killing(7, hard=True))
