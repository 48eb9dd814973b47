"""Logs of chat: the request and the old answer are found in every shape in which they are kept."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

import read_table
from aasut.errors import AasutError, DataError, RecipeError
from aasut.prompts import PromptTemplate
from aasut.sources.collect import TableRows
from aasut.sources.logs import UnknownShape, answers_a_batch, batch_answer, logged
from aasut.sources.rows import RowFault
from aasut.tasks import Classify, Tools
from aasut.types import Message

TURNS = [{"role": "system", "content": "Sort mail."}, {"role": "user", "content": "Mail: नमस्ते"}]
ASKED = (Message("system", "Sort mail."), Message("user", "Mail: नमस्ते"))
SAID = {"role": "assistant", "content": "spam"}
REPLY = {"id": "r", "model": "big-1", "choices": [{"index": 0, "message": SAID, "finish_reason": "stop"}]}
BODY = {"model": "big-1", "messages": TURNS}
PARTS = [{"role": "user", "content": [{"type": "text", "text": "Mail: "}, {"type": "text", "text": "a"}]}]

SHAPES: dict[str, tuple[dict[str, Any], str | None, str]] = {
    "body": (BODY, None, "big-1"),
    "fine-tuning": ({"messages": [*TURNS, SAID]}, "spam", ""),
    "stored": ({**BODY, "choices": REPLY["choices"]}, "spam", "big-1"),
    "batch": ({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": BODY}, None, "big-1"),
    "pair": ({"request": BODY, "response": REPLY}, "spam", "big-1"),
    "pair, model of the reply": ({"request": {"messages": TURNS}, "response": {"body": REPLY}}, "spam", "big-1"),
    "pair, text": ({"request": json.dumps(BODY), "response": json.dumps(REPLY)}, "spam", "big-1"),
    "pair, bodies": ({"request_body": BODY, "response_body": REPLY, "status": 200}, "spam", "big-1"),
    "pair, nested": ({"request": {"url": "/v1", "body": BODY}, "response": {"body": REPLY}}, "spam", "big-1"),
    "proxy": ({"id": "1", "model": "big-1", "messages": TURNS, "response": REPLY}, "spam", "big-1"),
    "trace": ({"input": TURNS, "output": SAID, "model": "big-1"}, "spam", "big-1"),
    "trace, plain output": ({"input": {"messages": TURNS}, "output": "spam"}, "spam", ""),
    "trace, text": ({"input": json.dumps(TURNS), "output": json.dumps(SAID)}, "spam", ""),
    "trace, output that is JSON": ({"input": TURNS, "output": '{"label": "spam"}'}, '{"label": "spam"}', ""),
    "responses": (
        {
            "model": "big-1",
            "instructions": "Sort mail.",
            "input": "Mail: नमस्ते",
            "output": [{"type": "message", "content": [{"type": "output_text", "text": "spam"}]}],
        },
        "spam",
        "big-1",
    ),
    "system apart": (
        {
            "request": {"model": "big-1", "system": "Sort mail.", "messages": TURNS[1:]},
            "response": {"content": [{"type": "text", "text": "spam"}]},
        },
        "spam",
        "big-1",
    ),
    "developer": ({"messages": [{"role": "developer", "content": "Sort mail."}, TURNS[1]]}, None, ""),
    "data set": (
        {"conversations": [{"from": "system", "value": "Sort mail."}, {"from": "human", "value": "Mail: नमस्ते"},
                           {"from": "gpt", "value": "spam"}]},
        "spam",
        "",
    ),
    "failed call": ({"request": BODY, "response": {"error": {"message": "overloaded"}}}, None, "big-1"),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_the_request_the_answer_and_the_model_are_found(name: str) -> None:
    line, answer, model = SHAPES[name]
    found = logged(line)
    assert (found.messages, found.answer, found.model) == (ASKED, answer, model)


def test_text_parts_are_joined_as_the_server_joins_them() -> None:
    assert logged({"messages": PARTS}).messages == (Message("user", "Mail: a"),)


def test_worked_examples_stay_in_the_request() -> None:
    turns = [{"role": "user", "content": "1"}, SAID, {"role": "user", "content": "2"}]
    assert [m.role for m in logged({"messages": turns}).messages] == ["user", "assistant", "user"]
    assert logged({"messages": turns}).answer is None


def test_the_address_and_the_schema_are_kept() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    found = logged({"request": {**BODY, "response_format": asked}, "api_base": "http://10.0.0.1:4000/v1"})
    assert (found.base_url, found.schema) == ("http://10.0.0.1:4000/v1", schema)


def test_answers_of_a_batch_are_told_from_its_requests() -> None:
    line = {"id": "b", "custom_id": "a", "response": {"status_code": 200, "body": REPLY}, "error": None}
    assert answers_a_batch(line)
    assert not answers_a_batch({"custom_id": "a", "body": BODY})
    assert batch_answer(line) == "spam"
    assert batch_answer({"custom_id": "a", "response": None, "error": {"code": "expired"}}) is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"messages": TURNS, "tools": [{"type": "function"}]}, "uses tools"),
        ({"messages": [*TURNS, {"role": "assistant", "content": None, "tool_calls": [{}]}]}, "uses tools"),
        ({"messages": [*TURNS, {"role": "tool", "content": "x", "tool_call_id": "1"}]}, "uses tools"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "holds more than text"),
        ({"messages": [{"role": "user", "content": None}]}, "a message without text"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "a role that is not known"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "a role that is not known"),
        ({"messages": ["hello"]}, "a message that is no object"),
        ({"messages": []}, "does not end with the user's turn"),
        ({"messages": TURNS[:1]}, "does not end with the user's turn"),
        ({"request": {"messages": [*TURNS, SAID]}, "response": {"content": "ham"}}, "ends with the assistant's turn"),
    ],
)
def test_a_request_that_a_student_cannot_be_asked_is_a_row_fault(line: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowFault, match=reason) as caught:
        logged(line)
    assert not isinstance(caught.value, UnknownShape)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ({}, "an empty object"),
        ({"text": "a", "label": "b"}, "the keys text, label"),
        ({"input": "a", "output": "b"}, "the keys input, output"),
        ({"input": {"question": "a"}, "output": "b"}, "the keys input, output"),
        ({"messages": "not a list"}, "the keys messages"),
        ({str(n): n for n in range(20)}, "6, 7 and 12 more"),
        ({"body": {"body": {"body": {"body": {"messages": TURNS}}}}}, "the keys body"),
        ({"input": "[" * 100_000}, "the keys input"),
    ],
)
def test_an_unknown_shape_is_named(line: dict[str, Any], found: str) -> None:
    with pytest.raises(UnknownShape) as caught:
        logged(line)
    assert found in caught.value.found


# --- as a table

TASK = Classify(("spam", "ham"), PromptTemplate.of([TURNS[0], {"role": "user", "content": "Mail: {text}"}]))
PAIR = Classify(("spam", "ham"), PromptTemplate.of("From: {sender}\n{text}\nTopic:"))


def read(folder: Path, lines: list[Any], *, task: Classify = TASK, name: str = "log.jsonl", **fields: Any) -> TableRows:
    data = gzip.compress(written(lines)) if name.endswith(".gz") else written(lines)
    return read_table.read(folder, name, data, task=task, format="chat", slots={}, **fields)


def written(lines: list[Any]) -> bytes:
    return "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines).encode()


def mail(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [TURNS[0], {"role": "user", "content": f"Mail: {text}"}], **more}


@pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.gz", "log.txt"])
def test_slots_are_read_with_the_tasks_prompt(tmp_path: Path, name: str) -> None:
    rows = read(tmp_path, [mail("one"), mail("{text} Mail: two")], name=name)
    assert [(e.id, dict(e.slots), e.answer) for e in rows.examples] == [
        ("1", {"text": "one"}, None),
        ("2", {"text": "{text} Mail: two"}, None),
    ]


def test_every_line_of_a_nasty_log_is_accounted_for(tmp_path: Path) -> None:
    rows = read(
        tmp_path,
        [
            mail("fine"),
            {"messages": [{"role": "user", "content": "Mail: no system"}]},
            {"messages": [TURNS[0], {"role": "user", "content": "Letter: x"}]},
            "{broken",
            "[]",
            {"level": "info"},
            mail(""),
            mail("x", tools=[{}]),
            "",
            '{"messages": [{"role": "system", "content": "Sort mail."}, {"role": "user", "content": "Mail: \\ud800"}]}',
        ],
    )
    assert len(rows.examples) == 1
    assert rows.failed == {
        "does not match the prompt": 2,
        "JSON that does not parse": 1,
        "not a JSON object": 1,
        "no chat request": 1,
        "empty input": 1,
        "uses tools": 1,
        "not valid utf-8": 1,
    }
    assert rows.first["uses tools"] == 8


def test_a_request_that_reads_in_two_ways_is_counted_as_such(tmp_path: Path) -> None:
    turns = [["From: a\nhello\nTopic:"], ["From: a\nhello\nFrom: b\nTopic:"], ["Fro"]]
    rows = read(tmp_path, [{"messages": [{"role": "user", "content": t}]} for (t,) in turns], task=PAIR)
    assert [dict(e.slots) for e in rows.examples] == [{"sender": "a", "text": "hello"}]
    assert rows.failed == {"ambiguous slots": 1, "does not match the prompt": 1}


def test_answers_of_a_batch_are_no_rows_beside_their_requests(tmp_path: Path) -> None:
    asked = [{"custom_id": n, "body": mail(n)} for n in ("a", "b")]
    answered = [{"custom_id": n, "response": {"body": REPLY}} for n in ("b", "zz")]
    rows = read(tmp_path, [*asked, *answered], id="custom_id")
    assert [e.id for e in rows.examples] == ["a", "b"]
    assert rows.failed == {"no chat request": 1}


def test_groups_and_human_answers_may_stand_beside_the_request(tmp_path: Path) -> None:
    rows = read(
        tmp_path,
        [mail("a", user="u1", verdict="Spam"), mail("b", user="u1")],
        group={"column": "user"},
        label={"column": "verdict"},
        role="both",
    )
    assert [(e.group, e.answer) for e in rows.examples] == [("u1", "spam"), ("u1", None)]


def fails(folder: Path, kind: type[AasutError], match: str, lines: list[Any], **fields: Any) -> None:
    read_table.fails(folder, kind, match, "log.jsonl", written(lines), task=TASK, format="chat", slots={}, **fields)


def test_what_no_log_can_be(tmp_path: Path) -> None:
    fails(
        tmp_path,
        DataError,
        "no chat requests; its first line is an object with the keys text, y",
        [{"text": "a", "y": 1}],
    )
    fails(
        tmp_path,
        RecipeError,
        "output holds what a model answered",
        [mail("a")],
        label={"column": "output"},
        role="both",
    )
    fails(tmp_path, RecipeError, "delimiter is for CSV, not for chat", [mail("a")], delimiter=";")
    fails(tmp_path, RecipeError, "columns are for CSV", [mail("a")], columns=["a"])
    fails(tmp_path, DataError, r"log\.jsonl is empty", [])


CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {"name": "weather", "description": "Tells it.", "parameters": CITY},
}
STOP: dict[str, Any] = {"type": "function", "function": {"name": "stop"}}
CALLED = {"role": "assistant", "content": None, "tool_calls": [
    {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Goa"}'}},
    {"id": "2", "type": "function", "function": {"name": "stop", "arguments": "{}"}}]}  # fmt: skip
CALLS = '[{"name": "weather", "arguments": {"city": "Goa"}}, {"name": "stop", "arguments": {}}]'
BOTH = json.dumps([STOP, WEATHER])


@pytest.mark.parametrize(
    "line",
    [
        {"messages": [*TURNS, CALLED], "tools": [WEATHER, STOP]},
        {"request": BODY | {"tools": [WEATHER, STOP]}, "response": {"choices": [{"message": CALLED}]}},
        {
            "request": json.dumps(BODY | {"tools": [STOP, WEATHER]}),
            "response": {"body": {"choices": [{"message": CALLED}]}},
        },
        {"input": {"messages": TURNS, "tools": [STOP, WEATHER]}, "output": CALLED},
    ],
    ids=range(4),
)
def test_requests_with_the_tasks_tools_are_read_with_what_was_called(line: dict[str, Any]) -> None:
    found = logged(line, BOTH)
    assert (found.messages, found.answer) == (ASKED, CALLS)
    with pytest.raises(RowFault, match="uses tools"):
        logged(line)


def test_a_text_answers_a_request_with_tools_too() -> None:
    body = BODY | {"tools": [WEATHER, STOP]}
    assert logged({"request": body, "response": REPLY}, BOTH).answer == "spam"
    assert logged(body, BOTH).answer is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"tools": [STOP]}, "other tools"),
        ({"tools": [WEATHER | {"function": WEATHER["function"] | {"description": "Other."}}, STOP]}, "other tools"),
        ({"tools": "x"}, "other tools"),
        ({}, "other tools"),
        ({"tools": [WEATHER, STOP], "functions": [{}]}, "uses tools"),
        ({"tools": [WEATHER, STOP], "messages": [*TURNS, CALLED, {"role": "tool", "content": "x"}]}, "uses tools"),
        ({"tools": [WEATHER, STOP], "messages": [CALLED, *TURNS]}, "uses tools"),
    ],
    ids=range(7),
)
def test_other_tools_and_results_of_tools_are_row_faults(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowFault, match=reason):
        logged(BODY | change, BOTH)


def test_a_log_of_calls_is_a_table_of_the_pool(tmp_path: Path) -> None:
    turns = PromptTemplate.of(
        [{"role": "system", "content": "Sort mail."}, {"role": "user", "content": "Mail: {text}"}]
    )
    task = Tools(turns, 60, BOTH)
    lines = [mail("one", tools=[WEATHER, STOP]), mail("two", tools=[STOP]), mail("three")]
    rows = read_table.read(tmp_path, "log.jsonl", written(lines), task=task, format="chat", slots={})
    assert read_table.texts(rows) == ["one"]
    assert rows.failed == {"other tools": 2}
