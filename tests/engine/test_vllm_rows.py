"""What is asked of vLLM and read from it, on outputs of its shape; `benchmarks/vllm_run.py` takes vLLM itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aasut.engine.base import Piece, Prompt
from aasut.engine.decode import Row
from aasut.engine.grammar import compiled
from aasut.engine.session import write_all
from aasut.engine.tree import build
from aasut.engine.vllm_rows import LISTED, Requests, Session, choice, filled, heard, places, settings
from aasut.errors import ModelError
from aasut.formats.tokenizer import Tokenizer

SCHEMA = (
    '{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": false}'
)


@dataclass
class Logprob:
    """As vLLM's."""

    logprob: float


@dataclass
class Completion:
    """The parts of vLLM's CompletionOutput that are read."""

    token_ids: Sequence[int]
    logprobs: list[dict[int, Logprob]] | None = None
    finish_reason: str | None = None


@dataclass
class Output:
    """The parts of vLLM's RequestOutput that are read."""

    request_id: str
    outputs: list[Completion]
    finished: bool = False


@dataclass
class Machine:
    """Of vLLM's LLMEngine what is called: it says `texts` in turn, `width` tokens a step, up to max_tokens."""

    texts: list[list[int]]
    width: int = 1
    broken: bool = False
    aborted: list[str] = field(default_factory=list)
    asked: dict[str, tuple[list[int], Mapping[str, Any]]] = field(default_factory=dict)
    under_way: dict[str, list[int]] = field(default_factory=dict)

    def add_request(self, name: str, prompt: Mapping[str, Any], params: Mapping[str, Any]) -> None:
        if params["max_tokens"] > 90:
            raise ValueError("too many\ntokens")
        self.asked[name] = prompt["prompt_token_ids"], params
        self.under_way[name] = self.texts.pop(0)[: params["max_tokens"]]

    def step(self) -> list[Output]:
        if self.broken:
            raise RuntimeError("out of memory.")
        found = []
        for name, left in list(self.under_way.items()):
            now, self.under_way[name] = left[: self.width], left[self.width :]
            known = [{token: Logprob(-0.5), 7: Logprob(-0.25), 8: Logprob(-3.0)} for token in now]
            ended = not self.under_way[name]
            logprobs = known if self.asked[name][1]["logprobs"] is not None else None
            found.append(Output(name, [Completion(now, logprobs, "length" if ended else None)], ended))
            if ended:
                del self.under_way[name]
        return found

    def abort_request(self, names: list[str]) -> None:
        self.aborted += names
        for name in names:
            self.under_way.pop(name, None)


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> Tokenizer:
    return Tokenizer.load(tiny_llama)


def session(machine: Machine, tokenizer: Tokenizer, rows: int = 4, *, share: bool = True) -> Session:
    return Session(Requests(machine, dict), tokenizer, 100, rows=rows, share=share)


def answers(machine: Machine, tokenizer: Tokenizer, prompts: Sequence[Prompt], rows: int = 4) -> list[list[Piece]]:
    found: list[list[Piece]] = [[] for _ in prompts]
    for piece in write_all(session(machine, tokenizer, rows), prompts, ""):
        found[piece.row].append(piece)
    return found


def test_settings_are_those_of_the_prompt() -> None:
    drawn = settings(Prompt("a", 9, temperature=0.7, top_p=0.9, seed=(1 << 63) + 3), [2, 5])
    assert {name: drawn[name] for name in ("temperature", "top_p", "seed")} == {
        "temperature": 0.7,
        "top_p": 0.9,
        "seed": 3,
    }
    assert (drawn["max_tokens"], drawn["stop_token_ids"], drawn["ignore_eos"]) == (9, [2, 5], True)
    assert drawn["logprobs"] is drawn["grammar"] is None
    assert drawn["skip_reading_prefix_cache"] is False
    for prompt in (Prompt("a", 9), Prompt("a", 9, temperature=1, top_p=0)):
        assert settings(prompt, [2])["temperature"] == 0
    assert settings(Prompt("a", 9, logprobs=True, top_logprobs=3), [2])["logprobs"] == 3
    assert settings(Prompt("a", 9, logprobs=True), [2], share=False)["logprobs"] == 0
    assert settings(Prompt("a", 9), [2], share=False)["skip_reading_prefix_cache"] is True


@pytest.mark.parametrize("bound", [{"schema": SCHEMA}, {"plain": True}])
def test_a_form_goes_along(bound: dict[str, Any]) -> None:
    wanted = settings(Prompt("a", 9, logprobs=True, **bound), [2])
    assert wanted["grammar"] == compiled(bound.get("schema", ""), bound.get("plain", False))
    assert wanted["logprobs"] == 0


def test_what_is_heard_is_each_token_with_the_likeliest_in_its_place() -> None:
    output = Completion([5, 8], [{5: Logprob(-2.0), 8: Logprob(-1.0)}, {8: Logprob(-0.1), 5: Logprob(-4.0)}])
    assert list(heard(output, 1)) == [(5, -2.0, [(8, -1.0)]), (8, -0.1, [(8, -0.1)])]
    assert list(heard(Completion([5]), 3)) == [(5, 0.0, [])]
    bound = Completion([5], [{5: Logprob(0.0), 8: Logprob(-np.inf)}])
    assert list(heard(bound, 3)) == [(5, 0.0, [(5, 0.0)])]


def test_scores_are_those_of_the_tree() -> None:
    """Whole rows of log-probabilities, and those of the places alone, give the same."""
    many = [[20, token] for token in range(30, 30 + LISTED + 5)]
    tree = build([[1, 2, 3], [1, 2, 4, 5], [1, 2, 4, 6], [9], *many], end=0)
    asked = places(tree)
    assert {(place.path, place.tokens) for place in asked} >= {((), (1, 9, 20)), ((1, 2), (3, 4)), ((1, 2, 4), (5, 6))}
    assert [len(place.tokens) for place in asked if place.path == (20,)] == [LISTED, 5]
    assert choice(asked[0])["logprob_token_ids"] == list(asked[0].tokens)
    whole = np.random.default_rng(1).normal(size=(1 + len(tree.nodes), 400))
    whole -= np.log(np.exp(whole).sum(axis=1, keepdims=True))
    outputs = [
        Completion([7], [{7: Logprob(0.0)} | {token: Logprob(whole[place.node, token]) for token in place.tokens}])
        for place in asked
    ]
    found = tree.logprobs(filled(tree, asked, outputs)[None])
    np.testing.assert_allclose(found, tree.logprobs(whole[:, list(tree.columns)][None]), atol=1e-12)
    assert np.exp(found).sum() == pytest.approx(1)


@pytest.mark.parametrize("width", [1, 3])
def test_answers_end_at_the_end_token_a_stop_text_or_the_length(tokenizer: Tokenizer, width: int) -> None:
    end = min(tokenizer.end_ids)
    said = [tokenizer.encode(text) for text in ("good day", "one, two", "abcdefg")]
    machine = Machine([[*said[0], end], said[1], said[2]], width)
    prompts = [Prompt("x", 50), Prompt("y", 50, stop=(",",)), Prompt("zz", 2)]
    found = answers(machine, tokenizer, prompts)
    texts = ["".join(piece.text for piece in pieces) for pieces in found]
    assert texts == ["good day", "one", tokenizer.decode(said[2][:2])]
    assert [pieces[-1].finish for pieces in found] == ["stop", "stop", "length"]
    assert found[0][-1].ids == tuple(said[0])
    assert len(found[2][-1].ids) == 2
    assert machine.aborted == (["1"] if machine.under_way or len(said[1]) > width else [])
    assert machine.asked["2"][0] == tokenizer.encode("zz")


def test_likely_tokens_are_told_where_asked_for(tokenizer: Tokenizer) -> None:
    (pieces,) = answers(Machine([tokenizer.encode("ab")]), tokenizer, [Prompt("x", 2, logprobs=True, top_logprobs=1)])
    said = [token for piece in pieces for token in piece.said]
    assert [token.logprob for token in said] == [-0.5] * len(said) == list(pieces[-1].logprobs)
    assert [value for token in said for _, value in token.top] == [-0.25] * len(said)


def test_a_form_ends_an_answer_by_itself_and_one_that_breaks_it_fails_alone(tokenizer: Tokenizer) -> None:
    good, bad = tokenizer.encode('{"n": 31}'), tokenizer.encode('{"x')
    machine = Machine([[*good, *good], [*bad, *good], tokenizer.encode("fine")], width=30)
    asked = session(machine, tokenizer)
    for prompt in (Prompt("a", 60, schema=SCHEMA), Prompt("b", 60, schema=SCHEMA), Prompt("c", 4)):
        asked.add(prompt)
    said = asked.step()
    assert "".join(piece.text for row, piece in said if row == 0 and isinstance(piece, Piece)) == '{"n": 31}'
    assert [row for row, piece in said if isinstance(piece, Exception)] == [1]
    assert [piece.finish for row, piece in said if row == 2 and isinstance(piece, Piece)][-1] == "length"
    assert len(asked) == 0


def test_text_that_a_form_leaves_no_choice_in_is_certain(tokenizer: Tokenizer) -> None:
    """As on the engines that do not ask the model for it; what may be chosen has the log-probability that vLLM says."""
    ids = tokenizer.encode('{"n": 31}')
    prompt = Prompt("x", 60, schema=SCHEMA, logprobs=True, top_logprobs=1)
    (pieces,) = answers(Machine([ids]), tokenizer, [prompt])
    logits = np.full((len(ids), tokenizer.size), -5.0, np.float32)
    logits[np.arange(len(ids)), ids] = 5
    row, alone = Row(0, prompt, tokenizer), list[Piece]()
    while not alone or not alone[-1].finish:
        alone.append(row.take(logits[len(row.answer)]))
    said = pieces[-1].logprobs
    assert pieces[-1].ids == alone[-1].ids == tuple(ids)
    assert [one == 0 for one in said] == [one == 0 for one in alone[-1].logprobs]
    assert 0 < sum(one == -0.5 for one in said) < len(said)
    told = [token.top[0] for piece in pieces for token in piece.said if token.logprob == 0]
    assert told == [(token.raw, 0.0) for piece in alone for token in piece.said if token.logprob == 0]


def test_further_answers_wait_and_may_leave(tokenizer: Tokenizer) -> None:
    machine = Machine([tokenizer.encode("abcdef") for _ in range(3)])
    asked = session(machine, tokenizer, rows=1, share=False)
    for _ in range(3):
        asked.add(Prompt("x", 2))
    asked.step()
    assert list(machine.under_way) == ["0"]
    asked.cancel(1)
    assert len(asked) == 2
    while asked:
        asked.step()
    assert list(machine.asked) == ["0", "1"]
    assert machine.aborted == []
    asked.add(Prompt("x", 4))
    machine.texts.append(tokenizer.encode("abcdef"))
    asked.step()
    asked.close()
    assert machine.aborted == ["2"]
    assert len(asked) == 0


def test_what_vllm_refuses_or_breaks_off_is_told(tokenizer: Tokenizer) -> None:
    asked = session(Machine([tokenizer.encode("a")]), tokenizer)
    asked.add(Prompt("x", 95))
    asked.add(Prompt("x", 50))
    errors = [(row, str(piece)) for row, piece in asked.step() if isinstance(piece, Exception)]
    assert errors == [
        (0, "vLLM refuses a prompt: too many tokens."),
        (1, "vLLM broke an answer off: length. Ask again."),
    ]
    with pytest.raises(ModelError, match="pass the model's context of 100"):
        asked.add(Prompt("x", 100))


def test_what_fails_together_ends_all_that_is_under_way(tokenizer: Tokenizer) -> None:
    machine = Machine([tokenizer.encode("abc") for _ in range(3)], broken=True)
    asked = session(machine, tokenizer, rows=2)
    for _ in range(3):
        asked.add(Prompt("x", 3))
    said = [(row, str(error)) for row, error in asked.step()]
    assert said == [(row, "vLLM failed: out of memory. Load the model again.") for row in (0, 1)]
    machine.broken = False
    while asked:
        said += [(row, piece.finish) for row, piece in asked.step() if isinstance(piece, Piece)]
    assert said[-1] == (2, "length")
    assert machine.aborted == []


def test_two_sessions_hear_their_own(tokenizer: Tokenizer) -> None:
    texts = [tokenizer.encode(text) for text in ("abc", "xyz")]
    requests = Requests(Machine([list(text) for text in texts]), dict)
    both = [Session(requests, tokenizer, 100, rows=4) for _ in texts]
    for one, text in zip(both, texts, strict=True):
        one.add(Prompt("q", len(text)))
    said = ["", ""]
    while any(both):
        for number, one in enumerate(both):
            said[number] += "".join(piece.text for _, piece in one.step() if isinstance(piece, Piece))
    assert said == ["abc", "xyz"]
