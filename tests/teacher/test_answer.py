from __future__ import annotations

import json
import math
from typing import Any

import pytest

from aasut.teacher.answer import NO_COMPLETION, choice_logprobs, parse
from aasut.teacher.chat import complete
from aasut.teacher.scripted import ScriptedTeacher
from aasut.types import Completion, Message, Request, Usage

CHOICES = ("negative", "positive")
COUNTS = {"prompt_tokens": 7, "completion_tokens": 2}


def request(choices: tuple[str, ...] = CHOICES) -> Request:
    return Request((Message("user", "q"),), choices=choices)


def said(content: Any, finish: Any = "stop", **more: Any) -> bytes:
    choice = {"message": {"content": content}, "finish_reason": finish} | more.pop("choice", {})
    return json.dumps({"choices": [choice], "usage": COUNTS} | more).encode()


def token(text: str, top: dict[str, float], **more: Any) -> dict[str, Any]:
    """A token of an answer, with the probabilities of its alternatives."""
    listed = [{"token": word, "logprob": math.log(p)} for word, p in top.items()]
    return {"token": text, "logprob": math.log(top.get(text, 0.5)), "top_logprobs": listed} | more


def probabilities(tokens: list[dict[str, Any]], choices: tuple[str, ...]) -> list[float] | None:
    found = choice_logprobs(tokens, choices)
    return None if found is None else [round(math.exp(value), 4) for value in found]


def test_text_counts_and_reason() -> None:
    cached = COUNTS | {"prompt_tokens_details": {"cached_tokens": 4}}
    assert parse(said("Positive", usage=cached), request()) == (Completion("Positive", Usage(7, 2, 4)), True)
    assert parse(said(None, None), request()) == (Completion("", Usage(7, 2)), True)


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"<html>", b"{", b"null", b"[]", b"5", b"{}", b'{"choices": []}', b'{"choices": {}}',
        b'{"choices": [null]}', b'{"choices": [{"message": {}}]}', b'{"choices": [{"message": {"content": 5}}]}',
        b'{"choices": [{"message": {"content": ["a"]}}]}', b"\xff\xfe", b"[" * 100_000, b'{"error": {"message": "no"}}',
    ],
    ids=range(16),
)  # fmt: skip
def test_garbage_is_a_failed_row(raw: bytes) -> None:
    assert parse(raw, request()) == (Completion("", failure=NO_COMPLETION), False)


@pytest.mark.parametrize(
    "usage",
    [
        None, {}, [1], "many", {"prompt_tokens": "many"}, {"prompt_tokens": 5}, COUNTS | {"prompt_tokens": -1},
        COUNTS | {"prompt_tokens": 10**400}, COUNTS | {"completion_tokens": 1e308},
    ],
)  # fmt: skip
def test_counts_that_are_garbled_are_missing(usage: Any) -> None:
    assert parse(said("positive", usage=usage), request()) == (Completion("positive"), False)


@pytest.mark.parametrize("content", [5, [5], [{}], [{"token": "a", "top_logprobs": [{}]}], [{"top_logprobs": []}]])
def test_log_probabilities_that_are_garbled_are_missing(content: Any) -> None:
    found, _ = parse(said("positive", choice={"logprobs": {"content": content}}), request())
    assert (found.text, found.choice_logprobs, found.failure) == ("positive", None, "")


@pytest.mark.parametrize("finish", ["length", "content_filter"])
def test_a_cut_answer_is_used_where_it_names_a_choice(finish: str) -> None:
    reason = {"length": "cut short at max_tokens", "content_filter": "withheld by the endpoint's content filter"}[
        finish
    ]
    for text, choices, failure in (
        ("**Positive.**", CHOICES, ""),
        ("I think it is", CHOICES, reason),
        ("", CHOICES, reason),
        ("Once upon a", (), reason),
    ):
        found, _ = parse(said(text, finish), request(choices))
        assert (found.text, found.failure, found.finish_reason) == (text, failure, finish)
    listed = {"logprobs": {"content": [token("posi", {"posi": 0.9, "nega": 0.1})]}}
    found, _ = parse(said("posi", finish, choice=listed), request())
    assert (found.failure, found.choice_logprobs is not None) == ("", True)


def test_the_first_token_decides_where_it_can() -> None:
    top = {" Positive": 0.5, "pos": 0.2, "Neg": 0.2, "the": 0.05, " ": 0.01}
    assert probabilities([token(" Positive", top)], CHOICES) == [0.2222, 0.7778]
    found = choice_logprobs([token("positive", {"positive": 0.9})], CHOICES)
    assert found is not None
    assert -20 < found[0] < -10  # what was not listed keeps a little


@pytest.mark.parametrize(
    ("choices", "tokens"),
    [
        (("billing_refund", "billing_dispute"), [token("x", {"billing": 0.9, "_": 0.05})]),  # another was said
        (CHOICES, [token("the", {"the": 0.8, "positive": 0.2})]),  # mostly something else
        (CHOICES, [token("positive", {"positive": 1.0} | {"negative": 1.0})] * 0),
        ((), [token("positive", {"positive": 0.9})]),
        (("ab", "ac"), [token("a", {"a": 0.99})]),  # ends while it could be both
        (CHOICES, [{"token": "positive", "top_logprobs": [{"token": "positive", "logprob": math.nan}]}]),
        (CHOICES, [{"token": "positive", "logprob": -0.1}]),  # no alternatives
    ],
    ids=range(7),
)
def test_tokens_that_do_not_decide_are_left_out(choices: tuple[str, ...], tokens: list[dict[str, Any]]) -> None:
    assert choice_logprobs(tokens, choices) is None


def test_choices_that_begin_alike_are_told_apart_later() -> None:
    choices = ("billing_refund", "billing_dispute", "other")
    tokens = [token("billing", {"billing": 0.9, "other": 0.1}), token("_dis", {"_dis": 0.8, "_ref": 0.2})]
    assert probabilities(tokens, choices) == [0.18, 0.72, 0.1]
    spaced = [token('"', {'"': 0.8, "other": 0.1, "billing_ref": 0.1}), *tokens]  # a mark first, itself a token
    assert probabilities(spaced, choices) == [0.244, 0.576, 0.18]


def test_an_alternative_that_could_be_several_is_shared() -> None:
    choices = ("off_all", "off_one", "on")
    assert probabilities([token("on", {"on": 0.9, "off": 0.1})], choices) == [0.05, 0.05, 0.9]
    assert probabilities([token("on", {"on": 0.6, "off": 0.4})], choices) is None  # too much of a guess


def test_a_choice_that_begins_another() -> None:
    choices = ("neutral", "neutral-positive")
    first = token("neutral", {"neutral": 1.0})
    assert probabilities([first], choices) == [1.0, 0.0]  # it ended there
    assert probabilities([first, token("-positive", {"-positive": 0.7, "<|end|>": 0.3})], choices) == [0.3, 0.7]
    assert probabilities([first, token("\n", {"\n": 0.9, "-pos": 0.1})], choices) == [0.9, 0.1]


def test_a_token_may_be_a_part_of_a_character() -> None:
    choices = ("अच्छा", "ख़राब")
    good, bad = (choice[0].encode() for choice in choices)  # e0 a4 85 and e0 a4 96

    def part(data: bytes, top: dict[bytes, float]) -> dict[str, Any]:
        listed = [{"token": repr(b), "bytes": list(b), "logprob": math.log(p)} for b, p in top.items()]
        return {"token": repr(data), "bytes": list(data), "logprob": -0.1, "top_logprobs": listed}

    tokens = [part(good[:2], {good[:2]: 1.0}), part(good[2:], {good[2:]: 0.9, bad[2:]: 0.1})]
    assert probabilities(tokens, choices) == [0.9, 0.1]


@pytest.mark.parametrize("answer", ["billing_refund", "billing_dispute", "other", "odd"])
def test_the_scripted_teachers_log_probabilities_are_read_back(answer: str) -> None:
    """Five answers, four of which begin like another: 0.9 for the one given and 0.025 for each other."""
    answers = ("billing_refund", "billing_dispute", "bill", "other", "odd")
    teacher = ScriptedTeacher({answer: answer} | {f"<{other}>": other for other in answers})
    body = {"messages": [{"role": "user", "content": answer}], "logprobs": True, "top_logprobs": 20}
    found, _ = parse(json.dumps(complete(body, teacher)).encode(), request(answers))
    assert found.choice_logprobs is not None
    wanted = [0.9 if other == answer else 0.025 for other in answers]
    assert [math.exp(value) for value in found.choice_logprobs] == pytest.approx(wanted, abs=1e-4)


TOOLS = json.dumps([{"type": "function", "function": {"name": "stop"}}])
CALL = {"id": "1", "type": "function", "function": {"name": "stop", "arguments": "{}"}}


def test_calls_of_tools_become_their_text() -> None:
    asked = Request((Message("user", "q"),), tools=TOOLS)
    message = {"role": "assistant", "tool_calls": [CALL, CALL]}
    raw = json.dumps({"choices": [{"message": message, "finish_reason": "tool_calls"}], "usage": COUNTS}).encode()
    call = '{"name": "stop", "arguments": {}}'
    assert parse(raw, asked) == (Completion(f"[{call}, {call}]", Usage(7, 2), finish_reason="tool_calls"), True)
    assert parse(said("Hello", choice={"message": {"content": "Hello", "tool_calls": []}}), asked)[0].text == "Hello"
    assert parse(said(None, choice={"message": {"content": None, "tool_calls": [{"x": 1}]}}), asked)[0].failure
