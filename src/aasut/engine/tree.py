"""Answers as a tree of tokens, and the distribution of decoding that is bound to them.

Answers that begin alike share nodes, so `billing_refund` and `billing_dispute` cost their common
tokens once. Only where the tree branches is there anything to decide: the probability of an answer
is the product, over the branchings on its path, of the softmax over the tokens allowed there. It
sums to 1 over the answers, and for answers of one token each it is the softmax over those tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aasut.errors import ModelError


@dataclass(frozen=True)
class Branch:
    """A place where answers part. `tokens` may follow; `children[k]` lists the answers behind `tokens[k]`.

    `node` is the position that predicts them: 0 is the prompt's last token, n > 0 is `nodes[n - 1]`.
    """

    node: int
    tokens: tuple[int, ...]
    children: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class TokenTree:
    """The tree's inner tokens, those that something must be predicted after, parents before children.

    `nodes[n]` is a token; `parents[n]` its parent as in `Branch.node`; `depths[n]` counts from 1.
    """

    answers: int
    nodes: tuple[int, ...]
    parents: tuple[int, ...]
    depths: tuple[int, ...]
    branches: tuple[Branch, ...]

    @property
    def columns(self) -> tuple[int, ...]:
        """All tokens that any branch decides between, ascending: the only logits that are needed."""
        return tuple(sorted({token for branch in self.branches for token in branch.tokens}))

    def mask(self) -> NDArray[np.bool_]:
        """[nodes, nodes]: may the row's node look at the column's? A node sees itself and its ancestors."""
        size = len(self.nodes)
        seen = np.eye(size, dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent > 0:
                seen[node] |= seen[parent - 1]
        return seen

    def chains(self) -> list[tuple[int, ...]]:
        """Paths of nodes, as in `Branch.node`, from each innermost node's first ancestor down to it.

        For engines that know plain causal order only: together the chains cover every node.
        """
        inner = {parent for parent in self.parents if parent > 0}
        paths = []
        for last in range(1, len(self.nodes) + 1):
            if last in inner:
                continue
            path = [last]
            while self.parents[path[0] - 1] > 0:
                path.insert(0, self.parents[path[0] - 1])
            paths.append(tuple(path))
        return paths

    def logprobs(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log-probabilities of the answers, [rows, answers], from logits [rows, 1 + nodes, columns].

        Position 0 of the second axis is the prompt's last token, position n is `nodes[n - 1]`.
        """
        place = {token: column for column, token in enumerate(self.columns)}
        result = np.zeros((logits.shape[0], self.answers))
        for branch in self.branches:
            chosen = logits[:, branch.node, [place[token] for token in branch.tokens]].astype(np.float64)
            top = chosen.max(axis=1, keepdims=True)
            chosen = chosen - top - np.log(np.exp(chosen - top).sum(axis=1, keepdims=True))
            for column, answers in enumerate(branch.children):
                result[:, list(answers)] += chosen[:, [column]]
        return result

    def branch_targets(self, probabilities: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """For each branch, the mass that reaches each of its tokens, [rows, tokens], from [rows, answers].

        The sum over branches of the cross-entropy to these is the cross-entropy to `probabilities`.
        """
        return [
            np.stack([probabilities[:, list(answers)].sum(axis=1) for answers in branch.children], axis=1)
            for branch in self.branches
        ]


def build(answers: Sequence[Sequence[int]], end: int | None) -> TokenTree:
    """The tree of the answers' tokens. `end` is put after an answer where another goes on from it.

    Raises ModelError where two answers have the same tokens, or one has none.
    """
    keys = [tuple(a) for a in answers]
    if any(not key for key in keys):
        raise ModelError("A label has no tokens in this model's vocabulary.", "Rename the label.")
    if len(set(keys)) != len(keys):
        raise ModelError("Two labels have the same tokens in this model's vocabulary.", "Rename one of them.")
    begins = {key[:n] for key in keys for n in range(1, len(key))}
    if end is None and begins & set(keys):
        raise ModelError("One label is the beginning of another, and this model has no end token.", "Rename one.")
    keys = [(*key, end) if key in begins and end is not None else key for key in keys]

    nodes: list[int] = []
    parents: list[int] = []
    depths: list[int] = []
    branches: list[Branch] = []

    def visit(members: list[int], depth: int, node: int) -> None:
        following: dict[int, list[int]] = {}
        for member in members:
            following.setdefault(keys[member][depth], []).append(member)
        tokens = sorted(following)
        if len(tokens) > 1:
            branches.append(Branch(node, tuple(tokens), tuple(tuple(following[t]) for t in tokens)))
        for token in tokens:
            if len(following[token]) > 1:
                nodes.append(token)
                parents.append(node)
                depths.append(depth + 1)
                visit(following[token], depth + 1, len(nodes))

    visit(list(range(len(keys))), 0, 0)
    return TokenTree(len(keys), tuple(nodes), tuple(parents), tuple(depths), tuple(branches))
