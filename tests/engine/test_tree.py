from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
import pytest

from aasut.engine.tree import TokenTree, build
from aasut.errors import ModelError

END, VOCABULARY = 0, 60
BILLING = [[7, 8, 20, 21], [7, 8, 20, 22, 23], [7, 8], [9]]  # refund, dispute, the beginning of both, another


def many_answers(count: int = 100) -> list[list[int]]:
    draw = random.Random(3)
    found: set[tuple[int, ...]] = set()
    while len(found) < count:
        found.add(tuple(draw.choices(range(1, 9), k=draw.randint(1, 5))))
    return [list(key) for key in sorted(found)]


SETS = {
    "one token each": [[5], [9], [7]],
    "several tokens, nothing shared": [[5, 6, 7], [8, 9]],
    "shared beginnings": [[7, 8, 20, 21], [7, 8, 20, 22, 23], [9, 8, 20]],
    "one the beginning of others": BILLING,
    "a chain of beginnings": [[1], [1, 2], [1, 2, 3], [1, 2, 3, 4]],
    "one hundred": many_answers(),
}


def finished(answers: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Answers with the end token where another goes on from them."""
    keys = [tuple(a) for a in answers]
    return [k + (END,) * any(o != k and o[: len(k)] == k for o in keys) for k in keys]


def path(tree: TokenTree, node: int) -> tuple[int, ...]:
    """Tokens from the prompt down to a position as in `Branch.node`."""
    return () if node == 0 else (*path(tree, tree.parents[node - 1]), tree.nodes[node - 1])


def logits_after(prefix: tuple[int, ...], row: int) -> np.ndarray:
    """Made-up logits over the vocabulary, fixed by what stands before."""
    return np.random.default_rng([row, *prefix]).normal(0, 4, VOCABULARY)


def reference(answers: Sequence[Sequence[int]], row: int) -> list[float]:
    """Token by token along each answer: the softmax over the tokens that lead to some answer."""
    keys = finished(answers)
    result = []
    for key in keys:
        total = 0.0
        for step, token in enumerate(key):
            allowed = sorted({k[step] for k in keys if k[:step] == key[:step]})
            logits = logits_after(key[:step], row)[allowed]
            total += logits[allowed.index(token)] - math.log(np.exp(logits).sum())
        result.append(total)
    return result


def tree_logits(tree: TokenTree, rows: int) -> np.ndarray:
    nodes = range(1 + len(tree.nodes))
    return np.array([[logits_after(path(tree, n), row)[list(tree.columns)] for n in nodes] for row in range(rows)])


@pytest.mark.parametrize("answers", SETS.values(), ids=SETS.keys())
def test_probabilities_are_those_of_decoding_bound_to_the_answers(answers: list[list[int]]) -> None:
    tree = build(answers, END)
    found = tree.logprobs(tree_logits(tree, 3))
    assert found == pytest.approx(np.array([reference(answers, row) for row in range(3)]), abs=1e-12)
    assert np.exp(found).sum(axis=1) == pytest.approx([1, 1, 1], abs=1e-12)


def test_answers_of_one_token_are_a_softmax_over_these_tokens() -> None:
    tree = build([[5], [9], [7]], None)
    assert (tree.nodes, tree.columns) == ((), (5, 7, 9))
    logits = np.array([[[1.0, 2.0, -3.0]]])  # of tokens 5, 7, 9
    expected = np.exp([1.0, -3.0, 2.0]) / np.exp([1.0, -3.0, 2.0]).sum()
    assert np.exp(tree.logprobs(logits))[0] == pytest.approx(expected)


def test_large_logits_do_not_overflow() -> None:
    tree = build([[5], [9]], None)
    assert tree.logprobs(np.array([[[2000.0, 1000.0]]]))[0] == pytest.approx([0.0, -1000.0])


def test_shared_tokens_are_nodes_once_and_unbranched_tails_are_not_there() -> None:
    tree = build([[7, 8, 20, 21, 30, 31], [7, 8, 20, 22, 32], [9, 40, 41]], END)
    assert [path(tree, n) for n in range(1, 1 + len(tree.nodes))] == [(7,), (7, 8), (7, 8, 20)]
    assert tree.depths == (1, 2, 3)
    assert tree.columns == (7, 9, 21, 22)


def test_the_beginning_of_another_answer_is_decided_by_the_end_token() -> None:
    tree = build(BILLING, END)
    branches = {path(tree, b.node): dict(zip(b.tokens, b.children, strict=True)) for b in tree.branches}
    assert branches == {(): {7: (0, 1, 2), 9: (3,)}, (7, 8): {END: (2,), 20: (0, 1)}, (7, 8, 20): {21: (0,), 22: (1,)}}


def test_parents_come_before_children() -> None:
    tree = build(many_answers(), END)
    assert all(parent <= place for place, parent in enumerate(tree.parents))
    assert all(depth == len(path(tree, place)) for place, depth in enumerate(tree.depths, 1))


def test_a_node_sees_itself_and_its_ancestors_alone() -> None:
    tree = build(many_answers(40), END)
    paths = [path(tree, n) for n in range(1, 1 + len(tree.nodes))]
    expected = [[one[: len(other)] == other for other in paths] for one in paths]
    assert tree.mask().tolist() == expected


@pytest.mark.parametrize("answers", SETS.values(), ids=SETS.keys())
def test_chains_cover_every_node_and_go_from_the_prompt_down(answers: list[list[int]]) -> None:
    tree = build(answers, END)
    chains = tree.chains()
    assert {node for chain in chains for node in chain} == set(range(1, 1 + len(tree.nodes)))
    for chain in chains:
        assert [tree.parents[node - 1] for node in chain] == [0, *chain[:-1]]


@pytest.mark.parametrize("answers", SETS.values(), ids=SETS.keys())
def test_branch_targets_give_the_plain_cross_entropy(answers: list[list[int]]) -> None:
    tree = build(answers, END)
    soft = np.random.default_rng(5).dirichlet(np.full(len(answers), 0.3), size=3)
    logits = tree_logits(tree, 3)
    plain = -(soft * tree.logprobs(logits)).sum(axis=1)
    place = {token: column for column, token in enumerate(tree.columns)}
    by_branch = np.zeros(3)
    for branch, mass in zip(tree.branches, tree.branch_targets(soft), strict=True):
        chosen = logits[:, branch.node, [place[t] for t in branch.tokens]]
        by_branch -= (mass * (chosen - np.log(np.exp(chosen).sum(axis=1, keepdims=True)))).sum(axis=1)
    assert by_branch == pytest.approx(plain, rel=1e-12)


def test_a_sure_label_puts_all_mass_on_its_own_path() -> None:
    tree = build(BILLING, END)
    masses = {path(tree, b.node): m for b, m in zip(tree.branches, tree.branch_targets(np.eye(4)), strict=True)}
    assert masses[()].tolist() == [[1, 0], [1, 0], [1, 0], [0, 1]]
    assert masses[(7, 8)].tolist() == [[0, 1], [0, 1], [1, 0], [0, 0]]
    assert masses[(7, 8, 20)].tolist() == [[1, 0], [0, 1], [0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("answers", "end", "message"),
    [
        ([[5, 6], [7], [5, 6]], END, "same tokens"),
        ([[5], []], END, "no tokens"),
        ([[5], [5, 6]], None, "no end token"),
    ],
)
def test_answers_that_cannot_be_told_apart_are_refused(answers: list[list[int]], end: int | None, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build(answers, end)
