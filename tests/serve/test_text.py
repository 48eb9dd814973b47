"""Students that write text, behind the API and in the chat: a random Llama on a real engine, over a real socket."""

from __future__ import annotations

import io
import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest

from aasut.engine.base import Engine, Prompt, load, write
from aasut.formats import trim_model
from aasut.prompts import PromptTemplate
from aasut.serve.chat import chat
from aasut.serve.student import ServedStudent
from aasut.tasks import Extract, Generate, Task
from served import serving

TOOL = {"type": "function", "function": {"name": "f"}}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Goa", "Pune"]}, "n": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["city", "n"],
    "additionalProperties": False,
}
PROMPT = PromptTemplate.of("Please read this.\nText: {text}\nAnswer:")
SHORT = PromptTemplate.of("{text} =")
TASKS: dict[str, Task] = {
    "writer": Generate(PROMPT, 12),
    "reader": Extract(PROMPT, 60, json.dumps(SCHEMA)),
}


@pytest.fixture(scope="module")
def engine(tiny_llama: Path) -> Engine:
    return load("torch", tiny_llama, precision="float32")


@pytest.fixture(scope="module", params=list(TASKS))
def student(request: pytest.FixtureRequest, engine: Engine) -> ServedStudent:
    return ServedStudent(TASKS[request.param], SHORT, engine, request.param, "0" * 64)


@pytest.fixture(scope="module")
def client(student: ServedStudent) -> Iterator[openai.OpenAI]:
    with (
        serving(student) as port,
        openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


def ask(text: str) -> list[openai.types.chat.ChatCompletionMessageParam]:
    return [{"role": "user", "content": f"Please read this.\nText: {text}\nAnswer:"}]


def test_the_long_prompt_is_answered_by_the_short_one(client: openai.OpenAI, student: ServedStudent) -> None:
    made = client.chat.completions.create(model=student.name, messages=ask("good"))
    expected = write(student.engine, [student.prompt_of("good =")])[0]
    assert made.choices[0].message.content == expected.text.lstrip()
    assert made.choices[0].finish_reason == expected.finish
    assert made.usage is not None
    assert made.usage.completion_tokens == expected.tokens
    assert made.usage.prompt_tokens == student.engine.count_tokens("good =")


def test_a_stream_gives_the_same_text_in_several_pieces(client: openai.OpenAI, student: ServedStudent) -> None:
    whole = client.chat.completions.create(model=student.name, messages=ask("good"))
    chunks = list(client.chat.completions.create(model=student.name, messages=ask("good"), stream=True))
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
    assert "".join(pieces) == whole.choices[0].message.content
    assert len(pieces) > 2
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason


def test_limits_stops_and_draws_are_honoured(client: openai.OpenAI, student: ServedStudent) -> None:
    def text(**fields: object) -> tuple[str, str]:
        made = client.chat.completions.create(model=student.name, messages=ask("good"), **fields)  # type: ignore[call-overload]
        return made.choices[0].message.content, made.choices[0].finish_reason

    whole, _ = text(max_tokens=8)
    assert text(max_tokens=2) == (text(max_tokens=2)[0], "length")
    assert whole.startswith(text(max_tokens=2)[0])
    stop = whole[3]
    assert text(max_tokens=8, stop=stop) == (whole[: whole.index(stop)], "stop")
    assert text(temperature=1.5, seed=3) == text(temperature=1.5, seed=3)
    assert len({text(temperature=1.5)[0] for _ in range(6)}) > 1
    assert text(temperature=1.5, top_p=0.0, seed=4) == text()


def test_what_a_writer_cannot_do_is_refused(client: openai.OpenAI, student: ServedStudent) -> None:
    for fields in ({"tools": [TOOL]}, {"n": 9}, {"max_tokens": 600}, {"stop": ["a"] * 5}):
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model=student.name, messages=ask("good"), **fields)  # type: ignore[call-overload]
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model=student.name, messages=ask("good"), stream=True, **fields)  # type: ignore[call-overload]


def test_a_schema_binds_the_answer(client: openai.OpenAI, student: ServedStudent) -> None:
    for number in range(5):
        made = client.chat.completions.create(
            model=student.name,
            messages=ask(f"text {number}"),
            temperature=1.0,
            seed=number,
            max_tokens=60,
            response_format={"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA}},
        )
        found = json.loads(made.choices[0].message.content or "")
        assert found["city"] in ("Goa", "Pune")
        assert 0 <= found["n"] <= 99
        assert made.choices[0].finish_reason == "stop"


def test_any_object_is_asked_for_and_a_wrong_schema_is_refused(client: openai.OpenAI, student: ServedStudent) -> None:
    made = client.chat.completions.create(
        model=student.name, messages=ask("x"), response_format={"type": "json_object"}, stop="\n", max_tokens=9
    )
    assert (made.choices[0].message.content or "").startswith("{")
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model=student.name,
            messages=ask("x"),
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "thing"}}},
        )
    assert caught.value.param == "response_format.json_schema.schema"


def test_tokens_come_with_their_log_probabilities(client: openai.OpenAI, student: ServedStudent) -> None:
    asked: dict[str, Any] = {"model": student.name, "messages": ask("good"), "logprobs": True, "top_logprobs": 4}
    made = client.chat.completions.create(**asked, max_tokens=9).choices[0]
    assert made.logprobs is not None
    tokens = made.logprobs.content or []
    assert "".join(token.token for token in tokens) == made.message.content
    raw = b"".join(bytes(token.bytes or []) for token in tokens)
    assert raw.decode("utf-8", "replace") == made.message.content
    (expected,) = write(student.engine, [replace(student.prompt_of("good ="), max_tokens=9, logprobs=True)])
    assert [token.logprob for token in tokens] == pytest.approx(expected.logprobs[-len(tokens) :])
    for token in tokens:
        assert 0 < len(token.top_logprobs) <= 4
        assert token.logprob == pytest.approx(token.top_logprobs[0].logprob)  # greedy
        listed = [other.logprob for other in token.top_logprobs]
        assert listed == sorted(listed, reverse=True)
        assert sum(map(math.exp, listed)) <= 1 + 1e-6
    chunks = list(client.chat.completions.create(**asked, max_tokens=9, stream=True))
    streamed = []
    for chunk in chunks:
        of_chunk = (chunk.choices[0].logprobs.content or []) if chunk.choices[0].logprobs else []
        assert "".join(token.token for token in of_chunk) == (chunk.choices[0].delta.content or "")
        streamed += of_chunk
    assert [token.model_dump() for token in streamed] == [token.model_dump() for token in tokens]


def test_several_answers_differ_and_come_again_with_the_same_seed(
    client: openai.OpenAI, student: ServedStudent
) -> None:
    asked: dict[str, Any] = {"model": student.name, "messages": ask("good"), "temperature": 1.5, "seed": 3}
    made = client.chat.completions.create(**asked, n=4)
    texts = [choice.message.content for choice in made.choices]
    assert [choice.index for choice in made.choices] == [0, 1, 2, 3]
    assert len(set(texts)) > 1
    assert [c.message.content for c in client.chat.completions.create(**asked, n=4).choices] == texts
    assert client.chat.completions.create(**asked).choices[0].message.content == texts[0]
    streamed, ends = [""] * 4, [""] * 4
    chunks = list(client.chat.completions.create(**asked, n=4, stream=True, stream_options={"include_usage": True}))
    for chunk in chunks[:-1]:
        (choice,) = chunk.choices
        streamed[choice.index] += choice.delta.content or ""
        ends[choice.index] = choice.finish_reason or ends[choice.index]
    assert streamed == texts
    assert ends == [choice.finish_reason for choice in made.choices]
    assert chunks[-1].usage == made.usage
    assert made.usage is not None
    tokens = [made.usage.completion_tokens, made.usage.prompt_tokens]
    alone = client.chat.completions.create(**asked).usage
    assert alone is not None
    assert tokens[0] > alone.completion_tokens
    assert tokens[1] == alone.prompt_tokens


def test_one_prompt_that_is_too_long_spoils_no_other(student: ServedStudent) -> None:
    prompts = [student.prompt_of(text) for text in ("a =", "zq" * 300, "b =")]
    texts, errors = ["", "", ""], {}
    for row, piece in student.write(prompts):
        if isinstance(piece, Exception):
            errors[row] = str(piece)
        else:
            texts[row] += piece.text
    assert list(errors) == [1]
    assert "context" in errors[1]
    alone = [write(student.engine, [Prompt(p.text, p.max_tokens, schema=p.schema)])[0].text for p in prompts[::2]]
    assert texts[::2] == alone


def test_the_chat_writes_each_answer_on_a_line(student: ServedStudent) -> None:
    out = io.StringIO()
    assert chat(student, io.StringIO("good\nbad\n"), out, as_json=True) == 0
    records = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [record["text"] for record in records] == [
        student.write_prompt(f"{text} =").text.strip() for text in ("good", "bad")
    ]
    assert all(record["finish"] in ("stop", "length") for record in records)
    plain = io.StringIO()
    assert chat(student, io.StringIO("good\n"), plain) == 0
    assert plain.getvalue().endswith("[…]\n" if records[0]["finish"] == "length" else "\n")
    assert plain.getvalue().count("\n") == 1


FOREIGN = "नमस्ते 👩\u200d👧 漢字"


def test_a_student_of_few_tokens_reads_and_writes_any_text(tiny_llama: Path, tmp_path: Path) -> None:
    """Its letters are then single bytes, which are told with their log-probabilities one by one."""
    folder = Path(shutil.copytree(tiny_llama, tmp_path / "small"))
    trim_model.rewrite(folder, [])
    engine = load("torch", folder, precision="float32")
    schema = {"properties": {"said": {"enum": [FOREIGN]}}, "required": ["said"], "additionalProperties": False}
    student = ServedStudent(
        Extract(PROMPT, 120, json.dumps(schema | {"type": "object"})), SHORT, engine, "small", "0" * 64
    )
    with (
        serving(student) as port,
        openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client,
    ):
        asked: dict[str, Any] = {"model": "small", "messages": ask(FOREIGN + "\x00"), "logprobs": True}
        made = client.chat.completions.create(**asked)
        chunks = list(client.chat.completions.create(**asked, stream=True))
    (choice,) = made.choices
    assert json.loads(choice.message.content or "")["said"] == FOREIGN
    assert made.usage is not None
    assert made.usage.prompt_tokens == len(f"{FOREIGN}\x00 =".encode())
    assert choice.logprobs is not None
    tokens = choice.logprobs.content or []
    assert b"".join(bytes(token.bytes or []) for token in tokens).decode() == choice.message.content
    assert sum(len(token.bytes or []) == 1 for token in tokens) >= len(FOREIGN.encode())
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == choice.message.content
