"""Between vLLM's requests and ours: what a prompt asks of vLLM, what its outputs say, and answers under way on it.

An answer's end, its text and its stop texts are found here, by the same `Row` as on the other engines: vLLM is given
tokens and gives tokens. A label is scored by the log-probabilities, after each place where the answers' tokens part, of
the tokens that may come there; each such place is a request of its own, whose beginning vLLM's prefix cache holds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aasut.engine.base import Piece, Prompt
from aasut.engine.common import tokens_of
from aasut.engine.decode import Row, check_length
from aasut.engine.grammar import compiled
from aasut.engine.tree import TokenTree
from aasut.errors import EngineError
from aasut.formats.tokenizer import Tokenizer

LISTED = 128  # tokens whose log-probabilities vLLM gives in one request


def settings(prompt: Prompt, ends: Sequence[int], *, share: bool = True) -> dict[str, Any]:
    """What vLLM's SamplingParams say of a prompt, and its `grammar` where it has one."""
    bound = bool(prompt.schema or prompt.plain)
    greedy = prompt.temperature <= 0 or prompt.top_p <= 0
    drawn = {"temperature": prompt.temperature, "top_p": min(prompt.top_p, 1.0), "seed": prompt.seed % (1 << 63)}
    return {
        **({"temperature": 0.0} if greedy else drawn),
        "max_tokens": prompt.max_tokens, "ignore_eos": True, "stop_token_ids": list(ends),
        "logprobs": prompt.top_logprobs if prompt.logprobs else None,
        "grammar": compiled(prompt.schema, prompt.plain) if bound else None, "skip_reading_prefix_cache": not share,
    }  # fmt: skip


def heard(output: Any, alternatives: int) -> Iterator[tuple[int, float, list[tuple[int, float]]]]:
    """(token, its log-probability, the likeliest in its place) of what is new in one of vLLM's CompletionOutputs."""
    for place, token in enumerate(output.token_ids):
        known = output.logprobs[place] if output.logprobs else {}
        allowed = [(number, one.logprob) for number, one in known.items() if one.logprob > -np.inf]
        likely = sorted(allowed, key=lambda pair: -pair[1])
        yield token, known[token].logprob if known else 0.0, likely[:alternatives]


@dataclass(frozen=True)
class Place:
    """Where answers part: the node of the tree, the tokens that lead to it, and tokens that may follow."""

    node: int
    path: tuple[int, ...]
    tokens: tuple[int, ...]


def choice(place: Place, *, share: bool = True) -> dict[str, Any]:
    """What vLLM's SamplingParams say to learn the log-probabilities of the tokens that may follow."""
    return {
        "temperature": 0.0, "max_tokens": 1, "ignore_eos": True, "logprob_token_ids": list(place.tokens),
        "skip_reading_prefix_cache": not share,
    }  # fmt: skip


def places(tree: TokenTree) -> list[Place]:
    """All branches of the tree, those of many tokens in several parts."""
    paths: list[tuple[int, ...]] = [()]
    for token, parent in zip(tree.nodes, tree.parents, strict=True):
        paths.append((*paths[parent], token))
    return [
        Place(branch.node, paths[branch.node], branch.tokens[first : first + LISTED])
        for branch in tree.branches
        for first in range(0, len(branch.tokens), LISTED)
    ]


def filled(tree: TokenTree, asked: Sequence[Place], outputs: Sequence[Any]) -> NDArray[np.float64]:
    """Log-probabilities [1 + nodes, columns], as `TokenTree.logprobs` takes them, from one CompletionOutput a place."""
    column = {token: place for place, token in enumerate(tree.columns)}
    found = np.zeros((1 + len(tree.nodes), len(column)))
    for place, output in zip(asked, outputs, strict=True):
        for token in place.tokens:
            found[place.node, column[token]] = output.logprobs[0][token].logprob
    return found


class Requests:
    """vLLM's LLMEngine, whose outputs are kept for those who asked. `params` makes its SamplingParams of `settings`."""

    def __init__(self, inner: Any, params: Callable[[Mapping[str, Any]], Any]) -> None:
        self._inner, self._params = inner, params
        self._boxes: dict[str, list[Any]] = {}
        self._done: set[str] = set()
        self._count = 0

    def ask(self, tokens: Sequence[int], wanted: Mapping[str, Any]) -> str:
        """The name of a new request. Raises EngineError where vLLM refuses it."""
        name, self._count = str(self._count), self._count + 1
        try:
            self._inner.add_request(name, {"prompt_token_ids": list(tokens)}, self._params(wanted))
        except Exception as error:  # the library raises what its parts raise
            raise EngineError(f"vLLM refuses a prompt: {_reason(error)}.") from error
        self._boxes[name] = []
        return name

    def step(self) -> None:
        """Run the model once over all that is asked. Raises EngineError where that fails, and with it all of them."""
        try:
            outputs = self._inner.step()
        except Exception as error:  # the library raises what its parts raise
            self._done |= set(self._boxes)
            raise EngineError(f"vLLM failed: {_reason(error)}.", "Load the model again.") from error
        for output in outputs:
            if output.request_id in self._boxes:
                self._boxes[output.request_id].append(output.outputs[0])
                self._done |= {output.request_id} if output.finished else set()

    def take(self, name: str) -> list[Any]:
        """What is new of a request, as CompletionOutputs."""
        found, self._boxes[name] = self._boxes[name], []
        return found

    def drop(self, name: str) -> None:
        """Want nothing more of a request."""
        self._boxes.pop(name)
        if name not in self._done:
            self._inner.abort_request([name])
        self._done.discard(name)

    def close(self) -> None:
        """End vLLM's process."""
        self._inner.engine_core.shutdown()


class Session:
    """See `engine.base.Session`. At most `rows` answers are under way at once; further ones wait in order."""

    def __init__(
        self, requests: Requests, tokenizer: Tokenizer, context: int, *, rows: int, share: bool = True
    ) -> None:
        self.requests, self.tokenizer, self.context = requests, tokenizer, context
        self.rows, self.share = rows, share
        self._live: dict[int, tuple[str, Row]] = {}
        self._waiting: deque[tuple[Row, list[int], dict[str, Any]]] = deque()
        self._count = 0

    def __len__(self) -> int:
        return len(self._live) + len(self._waiting)

    def add(self, prompt: Prompt) -> int:
        (tokens,) = tokens_of(self.tokenizer, [prompt.text], "", reuse=False)[1]
        return self.add_tokens(prompt, tokens)

    def add_tokens(self, prompt: Prompt, tokens: Sequence[int]) -> int:
        """`add` for a prompt whose tokens are known."""
        check_length(len(tokens), prompt.max_tokens, self.context)
        wanted = settings(prompt, sorted(self.tokenizer.end_ids), share=self.share)
        row = Row(self._count, prompt, self.tokenizer)
        self._waiting.append((row, list(tokens), wanted))
        self._count += 1
        return row.number

    def step(self) -> list[tuple[int, Piece | Exception]]:
        said: list[tuple[int, Piece | Exception]] = []
        while self._waiting and len(self._live) < self.rows:
            row, tokens, wanted = self._waiting.popleft()
            try:
                self._live[row.number] = self.requests.ask(tokens, wanted), row
            except EngineError as error:
                said.append((row.number, error))
        try:
            if self._live:
                self.requests.step()
        except EngineError as error:
            failed = list(self._live)
            for number in failed:
                self.cancel(number)
            return said + [(number, error) for number in failed]
        for number, (name, row) in list(self._live.items()):
            pieces = [piece for output in self.requests.take(name) for piece in _pieces(row, output)]
            ends = [place for place, piece in enumerate(pieces, 1) if isinstance(piece, Exception) or piece.finish]
            if ends:  # vLLM may have gone on behind a stop text
                pieces = pieces[: ends[0]]
                self.cancel(number)
            said += [(number, piece) for piece in pieces]
        return said

    def cancel(self, row: int) -> None:
        self._waiting = deque(entry for entry in self._waiting if entry[0].number != row)
        if row in self._live:
            self.requests.drop(self._live.pop(row)[0])

    def close(self) -> None:
        """Leave all answers as they are."""
        self._waiting.clear()
        for number in list(self._live):
            self.cancel(number)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")


def _pieces(row: Row, output: Any) -> Iterator[Piece | Exception]:
    """What new tokens add to the answer, up to its end; an error where vLLM ends it and the row does not."""
    for token, sure, likely in heard(output, row.prompt.top_logprobs):
        try:
            piece = row.hear(token, sure, likely)
        except Exception as error:  # a form that cannot be followed is this answer's alone
            yield error
            return
        if piece.text or piece.finish:
            yield piece
        if piece.finish:
            return
    if output.finish_reason:
        yield EngineError(f"vLLM broke an answer off: {output.finish_reason}.", "Ask again.")
