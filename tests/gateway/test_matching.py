from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aasut.export.manifest import StudentCard
from aasut.gateway import matching
from aasut.gateway.deployed import Deployed
from aasut.gateway.matching import Matched
from aasut.prompts import PromptTemplate
from aasut.serve.reader import Reader
from aasut.tasks import Classify, Generate, Task, Tools

LABELS = ("negative", "positive")
PROMPT = PromptTemplate.of("Text: {text} by {name}.")


def student(task: Task, model: str = "") -> Deployed:
    prompt = PromptTemplate.of("{text} =")
    card = StudentCard("s", "classify", LABELS, task.prompt.messages, prompt.messages, "f", "scripted", "auto", "ab")
    return Deployed(Path(), card, task, Reader(task, prompt), model, None)


SORTS, WRITES = student(Classify(LABELS, PROMPT)), student(Generate(PROMPT, 8))


def chat(text: str = "Text: hello by Ann.", **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}]} | more


def reason(chat: dict[str, Any], deployed: Deployed = SORTS) -> str:
    found = matching.match(chat, deployed)
    assert isinstance(found, str)
    return found


def test_a_request_in_the_tasks_prompt_is_asked_in_the_students_own() -> None:
    found = matching.match(chat(temperature=0.7, seed=3, max_tokens=1, stream=True), SORTS)
    assert isinstance(found, Matched)
    assert found.prompt == "hello ="


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (chat("Review: hello"), "other_prompt"),
        (chat("Text: a by b by c."), "ambiguous"),
        (chat(n=2), "cannot_honour:n"),
        (chat(n=2, temperature=0.5), "cannot_honour:n"),
        (chat(tools=[{"type": "function"}]), "cannot_honour:tools"),
        (chat(response_format={"type": "json_object"}), "cannot_honour:response_format"),
        (chat(stop=["tive"]), "cannot_honour:stop"),
        (chat(made_up=1), "cannot_honour:other"),
        (chat(messages=[{"role": "user", "content": [{"type": "image_url"}]}]), "cannot_honour:messages.content"),
        (chat(messages=[{"role": "tool", "content": "x"}]), "cannot_honour:messages.role"),
        (chat(messages=[]), "cannot_honour:messages"),
        (chat(messages=[{"role": "user", "content": "x", "x" * 99: 1}]), "cannot_honour:messages"),
        (chat("Text: \ud800 by x."), "cannot_honour:messages.content"),
        ({"messages": []}, "cannot_honour:model"),
    ],
)
def test_what_goes_upstream_says_why(body: dict[str, Any], why: str) -> None:
    assert reason(body) == why


TOOLS = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in ("on", "off")]
CALLS = student(Tools(PROMPT, 8, json.dumps(TOOLS)))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (chat(), "other_tools"),
        (chat(tools=TOOLS[:1]), "other_tools"),
        (chat(tools=TOOLS, tool_choice="required"), "cannot_honour:tool_choice"),
        (chat(tools=TOOLS, tool_choice="none"), "cannot_honour:tool_choice"),
        (chat(tools=TOOLS, parallel_tool_calls=False), "cannot_honour:parallel_tool_calls"),
    ],
)
def test_tools_are_those_of_the_task(body: dict[str, Any], why: str) -> None:
    assert isinstance(matching.match(chat(tools=TOOLS[::-1], tool_choice="auto"), CALLS), Matched)
    assert reason(body, CALLS) == why


def test_a_format_that_binds_the_answer_otherwise_goes_upstream() -> None:
    assert isinstance(matching.match(chat(response_format={"type": "text"}), WRITES), Matched)
    assert reason(chat(response_format={"type": "json_object"}), WRITES) == "cannot_honour:response_format"


def test_logprobs_are_for_labels() -> None:
    assert isinstance(matching.match(chat(logprobs=True, top_logprobs=2), SORTS), Matched)
    assert reason(chat(logprobs=True), WRITES) == "cannot_honour:logprobs"


def test_another_model_than_the_teacher_is_not_stood_in_for() -> None:
    named = replace(SORTS, model="large")
    assert reason(chat(), named) == "other_model"
    assert isinstance(matching.match(chat(model="large"), named), Matched)


@pytest.mark.parametrize(
    ("more", "tokens", "finish", "why"),
    [
        ({}, 5, "stop", ""),
        ({}, 8, "length", "max_tokens"),
        ({"max_tokens": 8}, 8, "length", ""),
        ({"max_completion_tokens": 100}, 8, "length", "max_tokens"),
        ({"max_tokens": 4}, 5, "stop", "max_tokens"),
        ({"max_tokens": 100}, 5, "stop", ""),
        ({"stop": "x"}, 5, "stop", ""),
        ({"stop": ["x", "they"]}, 5, "stop", "stop"),
    ],
)
def test_a_written_answer_is_given_whole_or_not_at_all(more: Any, tokens: int, finish: str, why: str) -> None:
    found = matching.match(chat(**more), WRITES)
    assert isinstance(found, Matched)
    assert matching.cut(found, WRITES, {"text": "as they say", "usage": [3, tokens], "finish": finish}) == why


def test_a_label_is_always_whole() -> None:
    found = matching.match(chat(max_tokens=1), SORTS)
    assert isinstance(found, Matched)
    assert matching.cut(found, SORTS, {"text": "positive", "usage": [3, 2], "finish": "stop"}) == ""
