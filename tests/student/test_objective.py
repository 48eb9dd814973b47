from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import reference
from aasut.engine.packing import pack
from aasut.engine.torch import load_model
from aasut.engine.tree import build
from aasut.formats.tokenizer import Tokenizer
from aasut.student.losses import cross_entropy
from aasut.student.objective import Labels, Objective, Row, Text
from aasut.student.teaching import Right

ALL = 1_000_000


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def rows(count: int = 9, seed: int = 0) -> list[Row]:
    """Prompts and answers of very different lengths, single tokens among them."""
    draw = random.Random(seed)
    made = []
    for i in range(count):
        answer = draw.choices(range(2, 300), k=1 if i % 3 == 0 else draw.randint(2, 12))
        made.append(Row([*draw.choices(range(2, 300), k=draw.randint(1, 30)), *answer], answer=len(answer)))
    return made


def learned(
    objective: Objective, model: Any, given: Sequence[Row], micro: int
) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss of all rows together, and its gradient by weight."""
    model.zero_grad()
    total = 0.0
    for batch in objective.batches(given, micro):
        loss = objective.loss(model, given, batch)
        torch.autograd.backward(loss / objective.targets(given))
        total += float(loss.detach())
    return total, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def loaded(folder: Path) -> Any:
    model = load_model(folder, torch.float32)
    model.get_input_embeddings().requires_grad_(False)
    return model


def apart(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Distance over length, all tensors as one vector."""
    assert a.keys() == b.keys()
    difference = sum(float(((a[n] - b[n]).double() ** 2).sum()) for n in a)
    return (difference / sum(float((b[n].double() ** 2).sum()) for n in b)) ** 0.5


def naive(folder: Path, given: Sequence[Row]) -> tuple[float, dict[str, torch.Tensor]]:
    """The same by transformers alone: full logits of one row at a time, cross-entropy over the answer's tokens."""
    model = reference.load(folder)
    model.get_input_embeddings().requires_grad_(False)
    tokens = sum(row.answer for row in given)
    total = 0.0
    for row in given:
        logits = model(torch.tensor([list(row.ids)])).logits[0]
        wanted = torch.tensor(row.ids[-row.answer :])
        loss = torch.nn.functional.cross_entropy(logits[-row.answer - 1 : -1], wanted, reduction="sum")
        torch.autograd.backward(loss / tokens)
        total += float(loss.detach())
    return total, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("micro", [1, 90, ALL])
def test_text_is_the_mean_cross_entropy_over_the_answers_tokens(tiny_llama: Path, micro: int) -> None:
    """Whatever the micro-batches: rows one by one, a few together, all padded to the longest."""
    given, model = rows(), loaded(tiny_llama)
    found, gradient = learned(Text(cross_entropy, Right()), model, given, micro)
    expected, wanted = naive(tiny_llama, given)
    assert found == pytest.approx(expected, rel=1e-5)
    assert apart(gradient, wanted) < 1e-4


def test_tokens_of_the_prompt_are_read_and_not_learned(tiny_llama: Path) -> None:
    """What a prompt says changes the loss; how likely it is itself, or what another row's says, does not."""
    model = loaded(tiny_llama)
    objective = Text(cross_entropy, Right())
    one = Row([5, 6, 7, 8, 20, 21], answer=2)
    alone, gradient = learned(objective, model, [one], ALL)
    assert learned(objective, model, [Row([5, 6, 7, 9, 20, 21], answer=2)], ALL)[0] != pytest.approx(alone, rel=1e-3)
    logits = reference.load(tiny_llama)(torch.tensor([list(one.ids)])).logits[0].detach()
    each = torch.log_softmax(logits, dim=1)
    assert alone == pytest.approx(-float(each[3, 20] + each[4, 21]), rel=1e-5)
    longer, _ = learned(objective, model, [one, Row([9] * 40, answer=1)], ALL)
    other, _ = learned(objective, model, [Row([9] * 40, answer=1)], ALL)
    assert longer == pytest.approx(alone + other, rel=1e-5)
    assert gradient


def test_targets_of_text_are_tokens_and_its_least_loss_is_nothing(tiny_llama: Path) -> None:
    objective = Text(cross_entropy, Right())
    given = [Row([1, 2, 3], answer=2), Row([1, 2, 3, 4], answer=1)]
    assert (objective.targets(given), objective.targets([]), objective.floor(given)) == (3, 0, 0.0)


def test_a_rows_part_in_a_batch_does_not_hang_on_its_place(tiny_llama: Path) -> None:
    model = loaded(tiny_llama)
    objective = Text(cross_entropy, Right())
    given = rows(6)
    each = [learned(objective, model, [row], ALL)[0] for row in given]
    for order in ([0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 2, 4]):
        turned, _ = learned(objective, model, [given[i] for i in order], ALL)
        assert turned == pytest.approx(sum(each), rel=1e-5)
    batch = pack([row.ids for row in given], [4, 1])  # two of the six
    assert float(objective.loss(model, given, batch).detach()) == pytest.approx(each[4] + each[1], rel=1e-5)


def test_labels_are_one_decision_a_prompt(tiny_llama: Path) -> None:
    """The sum over rows of the cross-entropy to the answers' distribution, by transformers' own model."""
    tokenizer, answers = Tokenizer.load(tiny_llama), [" negative", " positive", " neg"]
    tree = build([tokenizer.encode(answer) for answer in answers], tokenizer.eos_id)
    draw = np.random.default_rng(3)
    given = [Row(tokenizer.encode(f"Review: {'great ' * i}="), draw.dirichlet([1, 1, 1]).tolist()) for i in range(1, 6)]
    model = loaded(tiny_llama)
    objective = Labels(tree, cross_entropy)
    found, _ = learned(objective, model, given, ALL)
    plain, keys = reference.load(tiny_llama), reference.answer_keys(tokenizer, answers)
    expected = -sum(
        float((torch.tensor(row.probabilities) * reference.bound_logprobs(plain, row.ids, keys)).sum()) for row in given
    )
    assert found == pytest.approx(expected, rel=1e-5)
    assert objective.targets(given) == 5
    p = np.array([row.probabilities for row in given])
    assert objective.floor(given) == pytest.approx(float(-(p * np.log(p)).sum()))
    assert found > objective.floor(given)
