from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from aasut.teacher.chat import Refused, complete, tokens, tokens_of
from aasut.teacher.scripted import ScriptedTeacher

RULES = {"great": "billing_refund", "poor": "billing_dispute", "odd": "other"}


def made(text: str = "a great day", rules: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    body = {"model": "m", "messages": [{"role": "user", "content": text}]} | fields
    return complete(body, ScriptedTeacher(rules or RULES))


def test_an_answer_has_the_shape_of_the_api() -> None:
    found = made()
    (choice,) = found["choices"]
    assert choice["message"] == {"role": "assistant", "content": "billing_refund"}
    assert (choice["finish_reason"], choice["logprobs"], choice["index"]) == ("stop", None, 0)
    assert found["usage"] == {"prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 8}  # a| gre|at| day
    assert (found["object"], found["model"]) == ("chat.completion", "m")


@pytest.mark.parametrize("text", ["", "billing_refund", " a  b\n\tc ", "नमस्ते, दुनिया!", "x" * 9, "\x00 🙂\ud83d"])
def test_pieces_make_the_text(text: str) -> None:
    assert "".join(tokens(text)) == text


def test_tokens_of_a_model_may_be_parts_of_characters(tiny_llama: Path) -> None:
    split = tokens_of(tiny_llama)
    body = {"messages": [{"role": "user", "content": "q"}], "logprobs": True, "top_logprobs": 3}
    choice = complete(body, ScriptedTeacher({"": "दुनिया 🙂"}), split=split)["choices"][0]
    content = choice["logprobs"]["content"]
    assert choice["message"]["content"] == "दुनिया 🙂"
    assert b"".join(bytes(entry["bytes"]) for entry in content).decode() == "दुनिया 🙂"
    assert "\ufffd" in {entry["token"] for entry in content}
    assert [entry["top_logprobs"][0]["bytes"] for entry in content] == [entry["bytes"] for entry in content]


def test_too_few_tokens_cut_the_answer() -> None:
    for fields in ({"max_tokens": 2}, {"max_completion_tokens": 2}):
        choice = made(**fields)["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("billing_", "length")


def test_several_answers_are_the_same() -> None:
    found = made(n=3)
    assert [choice["index"] for choice in found["choices"]] == [0, 1, 2]
    assert len({choice["message"]["content"] for choice in found["choices"]}) == 1
    assert found["usage"]["completion_tokens"] == 12


def test_parts_are_read_and_images_say_nothing() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,great", "detail": "low"}}
    content = [{"type": "text", "text": "a po"}, image, {"type": "text", "text": "or day"}]
    found = made(messages=[{"role": "developer", "content": "great"}, {"role": "user", "content": content}])
    assert found["choices"][0]["message"]["content"] == "billing_dispute"


def test_what_a_function_gave_is_read_like_a_question() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": "great"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "odd"},
    ]
    assert made(messages=turns)["choices"][0]["message"]["content"] == "other"
    assert made(messages=turns[:2])["choices"][0]["message"]["content"] == "billing_refund"


def test_log_probabilities_follow_from_the_answers() -> None:
    content = made(logprobs=True, top_logprobs=5)["choices"][0]["logprobs"]["content"]
    assert "".join(entry["token"] for entry in content) == "billing_refund"
    tops = [{t["token"]: math.exp(t["logprob"]) for t in entry["top_logprobs"]} for entry in content]
    assert tops[0] == pytest.approx({"bill": 0.95, "othe": 0.05})
    assert tops[2] == pytest.approx({"refu": 0.9 / 0.95, "disp": 0.05 / 0.95})
    assert math.exp(sum(entry["logprob"] for entry in content)) == pytest.approx(0.9)
    assert [len(e["top_logprobs"]) for e in made(logprobs=True, top_logprobs=1)["choices"][0]["logprobs"]["content"]]
    only = made(rules={"": "yes"}, logprobs=True, top_logprobs=5)["choices"][0]["logprobs"]["content"]
    assert only[0]["logprob"] == 0.0


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"modalities": ["audio"]}, 400),
        ({"n": 0}, 400),
        ({"n": 129}, 400),
        ({"messages": []}, 400),
        ({"messages": "a"}, 400),
        ({"messages": [{"role": "user"}]}, 400),
        ({"messages": [{"role": "function", "content": "a"}]}, 400),
        ({"messages": [{"role": ["user"], "content": "a"}]}, 400),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "u"}]}]}, 400),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, 400),
        ({"max_tokens": "many"}, 400),
        ({"top_logprobs": -1}, 400),
        ({"messages": [{"role": "user", "content": "nothing"}]}, 422),
    ],
)
def test_what_is_not_honoured_is_refused(fields: dict[str, Any], status: int) -> None:
    with pytest.raises(Refused) as caught:
        made(**fields)
    assert caught.value.status == status
    for body in (None, [], "text", {}):
        with pytest.raises(Refused):
            complete(body, ScriptedTeacher(RULES))


CALLS = '[{"name": "weather", "arguments": {"city": "Goa"}}]'
WEATHER = {"type": "function", "function": {"name": "weather"}}


def test_a_rule_that_calls_is_given_as_calls_to_a_request_with_tools() -> None:
    rules = {"goa": CALLS, "": "Where?"}
    choice = made("in Goa", rules, tools=[WEATHER], tool_choice="auto", logprobs=True)["choices"][0]
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"] == [
        {"id": "call_0", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Goa"}'}}
    ]
    assert (choice["finish_reason"], choice["logprobs"]) == ("tool_calls", None)
    assert made("in Goa", rules)["choices"][0]["message"]["content"] == CALLS
    assert made("hello", rules, tools=[WEATHER])["choices"][0]["message"]["content"] == "Where?"
    assert made("in Goa", rules, tools=[WEATHER], max_tokens=3)["choices"][0]["finish_reason"] == "length"


def test_wrong_tools_are_refused_and_earlier_calls_are_passed_over() -> None:
    for tools in ([], "x", [{"type": "function"}]):
        with pytest.raises(Refused, match="Invalid tools"):
            made("in Goa", {"": "a"}, tools=tools)
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    turns = [{"role": "user", "content": "a"}, call, {"role": "tool", "tool_call_id": "1", "content": "Done."}]
    body = {"messages": [*turns, {"role": "user", "content": "great"}]}
    assert complete(body, ScriptedTeacher(RULES))["choices"][0]["message"]["content"] == "billing_refund"
    with pytest.raises(Refused, match="a message without calls"):
        complete({"messages": [call]}, ScriptedTeacher(RULES))
