"""Targets by the three teachings, and the loss over packed rows by each of them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

import reference
from aasut.engine.torch import load_model
from aasut.student import losses
from aasut.student.objective import Row, Text
from aasut.student.targets import Sparse
from aasut.student.teaching import Cached, Live, Right, taught


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def rows(count: int = 6, *, longer: int = 0) -> list[Row]:
    """Prompts and answers of several lengths; the last answer tokens are the rows' own, once all of them.

    The teacher's prompt has `longer` tokens before the student's.
    """
    draw = random.Random(2)
    made = []
    for i in range(count):
        prompt, answer = (draw.choices(range(2, 300), k=draw.randint(1, 9)) for _ in range(2))
        before = draw.choices(range(2, 300), k=longer)
        own = len(answer) if i == 3 else i % 3
        own = min(own, len(answer))
        made.append(Row([*prompt, *answer], answer=len(answer), key=f"e{i}#0", asked=[*before, *prompt], own=own))
    return made


def logprobs(folder: Path, ids: Sequence[int], count: int) -> torch.Tensor:
    """By transformers alone: of the last `count` tokens' distributions, [count, V]."""
    logits = reference.load(folder)(torch.tensor([list(ids)])).logits[0, -count - 1 : -1]
    return torch.log_softmax(logits.detach(), dim=1)


def test_right_answers_are_their_own_tokens() -> None:
    given = [Row([1, 2, 3, 4], answer=3, own=1), Row([5, 6], answer=1, own=1), Row([7, 8], answer=1)]
    assert [list(taught(row)) for row in given] == [[2, 3], [], [8]]
    assert Right().targets(given).tolist() == [2, 3, 8]


def test_a_cache_is_asked_for_the_teachers_tokens_of_each_row() -> None:
    asked: list[tuple[str, Sequence[int]]] = []

    def look_up(texts: Sequence[tuple[str, Sequence[int]]]) -> Sparse:
        asked.extend(texts)
        count = sum(len(ids) for _, ids in texts)
        return Sparse(torch.zeros(count, 1, dtype=torch.int64), torch.ones(count, 1))

    given = [Row([1, 2, 3, 4], answer=3, own=1, key="a#0"), Row([5, 6], answer=1, own=1, key="b#0")]
    assert len(Cached(look_up).targets(given)) == 2
    assert asked == [("a#0", [2, 3])]


@pytest.mark.parametrize("most", [1, 20, 10**6])
def test_a_teacher_alongside_says_what_it_would_after_its_own_prompt(tiny_llama: Path, most: int) -> None:
    """Its prompt is longer than the student's; however many rows it reads at once."""
    given = rows(longer=5)
    target = Live(load_model(tiny_llama, torch.float32), most).targets(given)
    found = torch.log_softmax(target.hidden @ target.weight.T, dim=1)
    expected = [
        logprobs(tiny_llama, [*row.asked, *taught(row)], len(taught(row))) for row in given if row.answer > row.own
    ]
    torch.testing.assert_close(found, torch.cat(expected), atol=1e-4, rtol=1e-4)
    assert not target.hidden.requires_grad
    assert not target.weight.requires_grad


def test_a_student_with_its_teachers_weights_and_prompt_has_no_divergence(tiny_llama: Path) -> None:
    student, teacher = load_model(tiny_llama, torch.float32), load_model(tiny_llama, torch.float32)
    given = [Row(row.ids, answer=row.answer, asked=row.asked) for row in rows()]
    for name in ("forward_kl", "reverse_kl", "jsd", "skewed_kl", "total_variation"):
        objective = Text(losses.get(name), Live(teacher, 100))
        (batch,) = objective.batches(given, 10**6)
        loss = objective.loss(student, given, batch)
        assert float(loss.detach()) == pytest.approx(0.0, abs=1e-4)
        torch.autograd.backward(loss)
    assert max(float(p.grad.abs().max()) for p in student.parameters() if p.grad is not None) < 0.01


def test_the_rows_own_tokens_are_learned_as_right_ones(tiny_llama: Path) -> None:
    """The divergence from the teacher on its tokens, and the cross-entropy on the others."""
    given = rows(longer=4)
    student = load_model(tiny_llama, torch.float32)
    objective = Text(losses.get("forward_kl"), Live(load_model(tiny_llama, torch.float32), 100))
    (batch,) = objective.batches(given, 10**6)
    expected = 0.0
    for row in given:
        q = logprobs(tiny_llama, row.ids, row.answer)
        taken = row.answer - row.own
        if taken:
            p = logprobs(tiny_llama, [*row.asked, *taught(row)], taken)
            expected += float((p.exp() * (p - q[:taken])).sum())
        expected -= sum(
            float(q[place, row.ids[len(row.ids) - row.answer + place]]) for place in range(taken, row.answer)
        )
    assert float(objective.loss(student, given, batch).detach()) == pytest.approx(expected, rel=1e-4)
    assert objective.targets(given) == sum(row.answer for row in given)


def test_rows_of_which_nothing_is_the_teachers_are_learned_too(tiny_llama: Path) -> None:
    def never(_: Sequence[tuple[str, Sequence[int]]]) -> Sparse:
        raise AssertionError

    given = [Row([3, 4, 5], answer=1, own=1)]
    objective = Text(losses.get("forward_kl"), Cached(never))
    (batch,) = objective.batches(given, 100)
    found = float(objective.loss(load_model(tiny_llama, torch.float32), given, batch).detach())
    assert found == pytest.approx(-float(logprobs(tiny_llama, [3, 4, 5], 1)[0, 5]), rel=1e-5)


def test_foreseen_rows_are_read_once_and_say_the_same(tiny_llama: Path) -> None:
    model, read = load_model(tiny_llama, torch.float32), []
    model.model.register_forward_hook(lambda *_: read.append(1))
    live, given = Live(model, 60), rows()
    plain = live.states(given)
    live.foresee(given[1:])  # one stays a stranger
    read.clear()
    torch.testing.assert_close(live.states(given), plain, rtol=1e-5, atol=1e-5)
    first = len(read)
    again = live.states([given[2], given[1]])
    assert len(read) == first > 1
    apart = torch.split(plain, [row.answer - row.own for row in given])
    torch.testing.assert_close(again, torch.cat([apart[2], apart[1]]), rtol=1e-5, atol=1e-5)
    alone = Live(model, 60)  # the order in which rows are wanted changes no bit
    alone.foresee(given[1:])
    assert torch.equal(alone.states([given[2], given[1]]), again)
