"""The gateway's API in OpenAPI 3.1. What the upstream decides, its fields and its refusals, is loosely described."""

from __future__ import annotations

from typing import Any

from aasut.serve.openapi import EVENTS, JSON, MODEL_ID, Plain, chat, describe, operation, ref

# What a request may be refused with by the gateway itself, beside what the upstream refuses.
KEYED = (401, 403, 429)
PASSED = (404, 502, 503, 504)
READ = (400, 408, 413)

# Bodies that an upstream would answer.
CHAT: Plain = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}
TEXT: Plain = {"model": "gpt-4o-mini", "input": "Hello"}

_TEXT: Plain = {"type": ["string", "null"]}
_NUMBER: Plain = {"type": ["number", "null"]}
_COUNT: Plain = {"type": ["integer", "null"]}
_SWITCH: Plain = {"type": ["boolean", "null"]}
_LIST: Plain = {"type": ["array", "null"]}
_OBJECT: Plain = {"type": ["object", "null"]}
_ANY: Plain = {}


def gateway(*, keyed: bool) -> Plain:
    """What a gateway answers; `keyed`: it has virtual keys, so that requests need one."""
    errors = (*READ, *PASSED, *(KEYED if keyed else ()))
    asking = tuple(status for status in errors if status not in READ)
    embeddings = operation(
        "Vectors of texts, by the upstream.", {JSON: ref("Embeddings")}, errors, body=ref("EmbeddingsRequest")
    )
    responses = operation(
        "Answer by the upstream's Responses API: whole, or as server-sent events.",
        {JSON: ref("Response"), EVENTS: {}},
        errors,
        body=ref("ResponseRequest"),
    )
    model = operation("One of the upstream's models.", {JSON: {"type": "object"}}, asking, parameters=[MODEL_ID])
    paths = {
        "/v1/chat/completions": {"post": _passed(chat(ref("ChatRequest"), errors), CHAT)},
        "/v1/embeddings": {"post": _passed(embeddings, TEXT)},
        "/v1/responses": {"post": _passed(responses, TEXT)},
        "/v1/models": {"get": _passed(operation("The upstream's models.", {JSON: ref("Models")}, asking))},
        "/v1/models/{id}": {"get": _passed(model)},
        "/health": {"get": _open(operation("Whether it answers, records, and has a student.", {JSON: ref("Health")}))},
        "/metrics": {
            "get": operation("For Prometheus.", {"text/plain": {"type": "string"}}, (401, 404) if keyed else (404,))
        },
        "/openapi.json": {"get": _open(operation("This description.", {JSON: {"type": "object"}}))},
    }
    return describe("aasut gateway", paths, SCHEMAS, keyed=keyed)


def _passed(found: Plain, example: Plain | None = None) -> Plain:
    """An operation that the upstream may answer: its refusals come as it gives them. `example`: a body."""
    refused = {"content": {JSON: {"schema": ref("Error")}}}
    headers = {
        name: {"description": text, "schema": {"type": "string"}}
        for name, text in (
            ("x-aasut-answered-by", "Who answered: upstream or student."),
            ("x-aasut-request-id", "The exchange's id in the gateway's record."),
        )
    }
    found["responses"]["200"]["headers"] = headers
    for status in ("4XX", "5XX"):
        found["responses"][status] = {"description": "The upstream refused or failed.", **refused}
    if example is not None:
        found["requestBody"]["content"][JSON]["example"] = example
    return found


def _open(found: Plain) -> Plain:
    """An operation without a key."""
    return found | {"security": []}


def _object(required: Plain, more: Plain | None = None) -> Plain:
    return {"type": "object", "properties": {**required, **(more or {})}, "required": list(required)}


def _one_or_more(*items: Plain) -> Plain:
    return {"anyOf": [*items, {"type": "array", "minItems": 1}]}


_MESSAGE = _object(
    {"role": {"type": "string"}},
    {"content": {"type": ["string", "array", "null"]}, "name": _TEXT, "tool_calls": _LIST, "tool_call_id": _TEXT},
)
_CHAT: dict[str, Any] = {
    "audio": _OBJECT,
    "frequency_penalty": _NUMBER,
    "function_call": _ANY,
    "functions": _LIST,
    "logit_bias": _OBJECT,
    "logprobs": _SWITCH,
    "max_completion_tokens": _COUNT,
    "max_tokens": _COUNT,
    "metadata": _OBJECT,
    "modalities": _LIST,
    "moderation": _ANY,
    "n": _COUNT,
    "parallel_tool_calls": _SWITCH,
    "prediction": _OBJECT,
    "presence_penalty": _NUMBER,
    "prompt_cache_key": _TEXT,
    "prompt_cache_options": _OBJECT,
    "prompt_cache_retention": _TEXT,
    "reasoning_effort": _TEXT,
    "response_format": _OBJECT,
    "safety_identifier": _TEXT,
    "seed": _COUNT,
    "service_tier": _TEXT,
    "stop": {"type": ["string", "array", "null"]},
    "store": _SWITCH,
    "stream": _SWITCH,
    "stream_options": _OBJECT,
    "temperature": _NUMBER,
    "tool_choice": {"type": ["string", "object", "null"]},
    "tools": _LIST,
    "top_logprobs": _COUNT,
    "top_p": _NUMBER,
    "user": _TEXT,
    "verbosity": _TEXT,
    "web_search_options": _OBJECT,
}
_RESPONSE: dict[str, Any] = {
    "include": _LIST,
    "instructions": _TEXT,
    "max_output_tokens": _COUNT,
    "metadata": _OBJECT,
    "parallel_tool_calls": _SWITCH,
    "previous_response_id": _TEXT,
    "reasoning": _OBJECT,
    "store": _SWITCH,
    "stream": _SWITCH,
    "temperature": _NUMBER,
    "text": _OBJECT,
    "tool_choice": {"type": ["string", "object", "null"]},
    "tools": _LIST,
    "top_p": _NUMBER,
    "truncation": _TEXT,
    "user": _TEXT,
}
_RECORDING = _object({"failing": {"type": "string"}, "lost": {"type": "integer", "minimum": 0}})
SCHEMAS: Plain = {
    "ChatMessage": _MESSAGE,
    "ChatRequest": _object(
        {"model": {"type": "string"}, "messages": {"type": "array", "items": ref("ChatMessage"), "minItems": 1}}, _CHAT
    ),
    "ChatCompletion": _object({"choices": {"type": "array", "items": {"type": "object"}}}, {"usage": _OBJECT}),
    "EmbeddingsRequest": _object(
        {"model": {"type": "string"}, "input": _one_or_more({"type": "string"})},
        {"dimensions": _COUNT, "encoding_format": _TEXT, "user": _TEXT},
    ),
    "Embeddings": {"type": "object"},
    "ResponseRequest": _object({"model": {"type": "string"}, "input": _one_or_more({"type": "string"})}, _RESPONSE),
    "Response": {"type": "object"},
    "Models": {"type": "object"},
    "Health": _object({"status": {"enum": ["ok", "failing"]}, "recording": _RECORDING, "student": _OBJECT}),
}
