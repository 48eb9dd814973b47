"""Answers that were recorded: which are taken for the recipe's own questions, and that none is bought again."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from aasut import recipe as recipes
from aasut.data import recorded
from aasut.errors import RecipeError
from aasut.recipe import Recipe
from aasut.teacher.ledger import Ledger
from aasut.teacher.openai import OpenAiTeacher
from aasut.types import Message, Request
from chat_server import ChatServer, completion
from logged import PROMPT, line, recipe

TEXT: dict[str, Any] = {"kind": "generate", "prompt": PROMPT, "max_tokens": 8}
SCHEMA = {"type": "object", "properties": {"good": {"type": "boolean"}}}
ALTERNATIVES = [{"token": "yes", "logprob": -0.1}, {"token": "no", "logprob": -2.4}]


def made(**changes: Any) -> Recipe:
    """The recipe; `teacher` and `endpoint` are merged into what it says."""
    plain = copy.deepcopy(recipe())
    plain["teacher"]["endpoint"] |= changes.pop("endpoint", {})
    plain["teacher"] |= changes.pop("teacher", {})
    if changes.get("task", {}).get("kind", "classify") != "classify":
        plain["student"] = {"model": {"address": "file:nowhere"}}
    return recipes.parse(plain | changes, "recipe.yaml")


def why(wanted: Recipe, **changes: Any) -> str:
    """Why the answer of one line is not taken; "" where it is."""
    found = recorded.of(wanted, [line(1, "a text", changes.pop("said", "yes"), **changes)])
    assert found.conservation.balanced
    assert len(found.answers) == found.conservation.kept == 1 - len(found.conservation.failed)
    return next(iter(found.conservation.failed), "")


def told(*listed: dict[str, Any]) -> dict[str, Any]:
    """A reply with log-probabilities of its one token."""
    choice = line(1, "")["response"]["choices"][0]
    said = {"token": "yes", "logprob": -0.1, "top_logprobs": list(listed)}
    return {"choices": [choice | {"logprobs": {"content": [said]}}]}


def cut(reason: str = "length", said: str = "yes indeed, it") -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"content": said}, "finish_reason": reason}]}


def test_an_answer_becomes_that_to_the_request_which_the_recipe_makes() -> None:
    found = recorded.of(made(), [line(1, "a text", "No.", usd=0.5)])
    (entry,) = found.answers
    messages = (Message("user", PROMPT.format(text="a text")),)
    assert entry.request == Request(messages, choices=("yes", "no"), max_tokens=made().task.build().max_tokens)
    assert (entry.completion.text, entry.usd, entry.at) == ("No.", 0.5, 1001.0)
    assert (entry.completion.usage.prompt_tokens, entry.completion.usage.completion_tokens) == (20, 1)
    assert found.held == {recorded.key_of(messages): 1}


@pytest.mark.parametrize(
    "body",
    [
        {"stream": True, "stream_options": {"include_usage": True}, "user": "u", "seed": 3},
        {"max_tokens": 5000, "temperature": 0, "n": 1, "top_p": 1.0, "presence_penalty": 0, "stop": None, "tools": []},
        {"max_completion_tokens": 1, "temperature": 0.7, "logit_bias": {}, "response_format": {"type": "text"}},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": PROMPT.format(text="a text")}]}]},
    ],
)
def test_what_does_not_shape_an_answer_may_differ(body: dict[str, Any]) -> None:
    assert why(made(), body=body) == ""


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"body": {"model": "small"}, "model": "small"}, recorded.MODEL),
        ({"base_url": "https://elsewhere/v1"}, recorded.ENDPOINT),
        ({"body": {"stop": ["."]}}, "asked with stop"),
        ({"body": {"top_p": 0.5}}, "asked with top_p"),
        ({"body": {"n": 2}}, "asked with n"),
        ({"body": {"logit_bias": {"11": 5}}}, "asked with logit_bias"),
        ({"body": {"reasoning_effort": "high"}}, "asked with reasoning_effort"),
        ({"body": {"response_format": {"type": "json_object"}}}, "asked with response_format"),
        ({"body": {"messages": [{"role": "user", "content": "Hello"}]}}, "does not match the prompt"),
        ({"body": {"tools": [{"type": "function"}]}}, "uses tools"),
        ({"reply": cut()}, recorded.CUT_SHORT),
        ({"reply": cut("content_filter")}, "withheld by the endpoint's content filter"),
        ({"reply": {"choices": []}}, "the answer is no chat completion"),
        ({"response": "yes"}, "no request and response of the API"),
    ],
)
def test_an_answer_to_another_question_or_none_is_not_taken(changes: dict[str, Any], reason: str) -> None:
    assert why(made(), **changes) == reason


def test_an_answer_that_was_cut_after_the_label_is_whole() -> None:
    assert why(made(), reply=cut(said="Yes.")) == ""


def test_addresses_and_revisions_must_be_those_of_the_recipe() -> None:
    assert why(made(), base_url="http://127.0.0.1:9/v1/") == ""
    assert why(made(endpoint={"revision": "big-2026"})) == ""
    assert why(made(endpoint={"revision": "big-2025"})) == recorded.MODEL


@pytest.mark.parametrize(
    ("teacher", "reason"),
    [
        ({"shots": 2}, recorded.EXAMPLES),
        ({"prompt": "Good? {text}"}, recorded.PROMPT),
    ],
)
def test_a_recipe_that_asks_otherwise_takes_none(teacher: dict[str, Any], reason: str) -> None:
    assert why(made(teacher=teacher)) == reason


def test_log_probabilities_that_are_asked_for_must_be_there() -> None:
    wanted = made(endpoint={"logprobs": True, "top_logprobs": 2}, teacher={"calibration": "prior"})
    assert why(wanted) == recorded.NO_LOGPROBS
    assert why(wanted, reply=told(ALTERNATIVES[0])) == recorded.NO_LOGPROBS
    assert why(wanted, reply=told(*ALTERNATIVES)) == ""
    (entry,) = recorded.of(wanted, [line(1, "a", reply=told(*ALTERNATIVES))]).answers
    assert entry.completion.choice_logprobs is not None
    (entry,) = recorded.of(made(), [line(1, "a", reply=told(*ALTERNATIVES))]).answers
    assert entry.completion.choice_logprobs is None  # not of some rows alone


def test_free_text_keeps_to_temperature_and_length() -> None:
    assert why(made(task=TEXT), body={"temperature": 0.7}) == ""
    drawn = made(task=TEXT, teacher={"temperature": 0.7})
    assert why(drawn, body={"temperature": 0.7}) == ""
    assert why(drawn, body={"temperature": 0}) == why(drawn) == recorded.TEMPERATURE  # 1 where it is not said
    assert why(made(task=TEXT | {"max_tokens": 1}), reply={"usage": {"prompt_tokens": 1, "completion_tokens": 1}}) == ""
    usage = {"prompt_tokens": 1, "completion_tokens": 9}
    assert why(made(task=TEXT), reply={"usage": usage}) == recorded.LONGER
    thought = {"usage": usage | {"completion_tokens_details": {"reasoning_tokens": 5}}}
    assert why(made(task=TEXT), reply=thought) == ""
    assert why(made(), reply={"usage": usage | {"completion_tokens": 90}}) == ""  # a label is a label


def test_a_schema_must_be_the_recipes() -> None:
    task = {"kind": "extract", "prompt": PROMPT, "max_tokens": 8, "schema": SCHEMA}
    shape = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}}
    said = json.dumps({"good": True})
    assert why(made(task=task), said=said, body=shape) == why(made(task=task), said=said) == ""
    other = {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA | {"required": ["good"]}}}}
    assert why(made(task=task), said=said, body=other) == "asked with response_format"
    assert why(made(task=task, endpoint={"send_schema": False}), said=said, body=shape) == "asked with response_format"


def test_of_several_answers_the_commonest_label_is_taken_and_of_two_the_first() -> None:
    said = ["hm", "no", "yes", "No", "yes", "no"]
    found = recorded.of(made(), [line(n, "a", one) for n, one in enumerate(said)])
    assert [entry.completion.text for entry in found.answers] == ["no"]
    assert found.conservation.as_dict() == {"in": 6, "kept": 1, "dropped": {recorded.AGAIN: 5}, "failed": {}}
    found = recorded.of(made(), [line(2, "a", "no"), line(1, "a", "yes")])
    assert [entry.completion.text for entry in found.answers] == ["yes"]


def test_draws_of_free_text_are_as_many_as_the_recipe_wants() -> None:
    wanted = made(task=TEXT, teacher={"temperature": 1.0, "samples": 2})
    found = recorded.of(wanted, [line(n, "a", f"answer {n}") for n in (3, 1, 2)] + [line(4, "b", "alone")])
    assert [(entry.request.sample, entry.completion.text) for entry in found.answers] == [
        (0, "answer 1"),
        (1, "answer 2"),
        (0, "alone"),
    ]
    assert list(found.held.values()) == [2, 1]


def test_an_answer_outside_the_task_is_an_answer_but_not_one_to_learn_from() -> None:
    found = recorded.of(made(), [line(1, "a", "perhaps")])
    assert len(found.answers) == 1  # asked again, it would be bought again
    assert (list(found.held.values()), list(found.why.values())) == ([0], [recorded.NO_FIT])


def test_draws_are_told_apart_from_answers_at_0() -> None:
    found = recorded.of(made(), [line(1, "a"), line(2, "b", body={"temperature": 0}), line(3, "c", None)])
    assert (found.drawn, found.conservation.rows_in) == (1, 2)


def test_recorded_answers_are_of_chat_files_and_endpoints() -> None:
    plain = recipe()
    plain["data"]["tables"][0] |= {"format": "jsonl", "slots": {"text": "text"}}
    with pytest.raises(RecipeError, match="recorded is for format chat"):
        recipes.parse(plain, "recipe.yaml")
    with pytest.raises(RecipeError, match="give it, or leave recorded out"):
        recipes.parse(recipe() | {"teacher": {"scripted": {"": "yes"}}}, "recipe.yaml")


def test_what_is_entered_is_not_asked_and_counts_towards_no_cap(tmp_path: Path) -> None:
    rows = [line(n, f"text {n}", "no" if n % 2 else "yes", usd=100.0) for n in range(6)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    with ChatServer(lambda _n, _body: completion("yes")) as server:
        prices = {"usd_per_million_input_tokens": 1.0, "usd_per_million_output_tokens": 1.0}
        wanted = made(endpoint={"base_url": server.url, **prices}, teacher={"max_usd": 1.0})
        found = recorded.read(wanted, tmp_path)
        questions = [entry.request for entry in found.answers]
        more = Request((Message("user", "new"),), choices=("yes", "no"))
        assert wanted.teacher.endpoint is not None
        for _ in range(2):
            ledger = Ledger(OpenAiTeacher(wanted.teacher.endpoint, wanted.teacher.max_usd), tmp_path / "ledger.db")
            ledger.enter(found.answers)
            answers = ledger.complete([*questions, questions[0], more])
            ledger.close()
            assert [one.text for one in answers] == ["yes", "no", "yes", "no", "yes", "no", "yes", "yes"]
            assert ledger.calls_recorded == 7
            assert ledger.usd_reused < 1e-3
        assert (ledger.calls_made, ledger.calls_reused, len(server.bodies)) == (0, 8, 1)


def test_an_answer_that_was_bought_before_stays(tmp_path: Path) -> None:
    with ChatServer(lambda _n, _body: completion("no")) as server:
        wanted = made(endpoint={"base_url": server.url})
        assert wanted.teacher.endpoint is not None
        entries = recorded.of(wanted, [line(1, "a", "yes")]).answers
        ledger = Ledger(OpenAiTeacher(wanted.teacher.endpoint), tmp_path / "ledger.db")
        ledger.complete([entries[0].request])
        ledger.enter(entries)
        assert (ledger.complete([entries[0].request])[0].text, ledger.calls_recorded) == ("no", 0)
        ledger.close()
