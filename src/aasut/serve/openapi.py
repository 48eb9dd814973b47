"""OpenAPI 3.1 descriptions of what is served, made from the models that requests are read with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from aasut import __version__
from aasut.serve import protocol
from aasut.serve.protocol import ChatRequest
from aasut.tools import MOST

Plain = dict[str, Any]

JSON = "application/json"
EVENTS = "text/event-stream"  # whose schema is of each event, to some readers, and of the whole text to others
REASONS = {
    400: "The request is wrong, or asks for what is not honoured.",
    401: "The key is missing or wrong.",
    403: "The key does not allow it.",
    404: "There is no such model.",
    405: "The method is not allowed here.",
    408: "The request did not come whole in time.",
    413: "The body is too large.",
    429: "A limit is reached.",
    500: "The server failed.",
    502: "The upstream failed.",
    503: "Too many requests wait.",
    504: "The upstream was too slow.",
}


def describe(
    title: str, paths: Mapping[str, Plain], schemas: Mapping[str, Any] | None = None, *, keyed: bool = False
) -> Plain:
    """A description of these paths, made with `operation` and its like; `schemas` are added to those of answers.

    `keyed`: every request carries a key, as `Authorization: Bearer KEY`.
    """
    components: Plain = {"schemas": {**SCHEMAS, **(schemas or {})}}
    if keyed:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": __version__},
        "paths": dict(paths),
        "components": components,
    } | ({"security": [{"key": []}]} if keyed else {})


def student() -> Plain:
    """What `aasut serve` answers."""
    request = chat_request()
    paths = {
        "/v1/chat/completions": {"post": chat(ref("ChatRequest"), (400, 404, 413, 500, 503))},
        "/v1/models": {"get": operation("The model that is served.", {JSON: ref("Models")})},
        "/v1/models/{id}": {"get": operation("One model.", {JSON: ref("Model")}, (404,), parameters=[MODEL_ID])},
        "/health": {"get": operation("Whether the server answers, and with which file.", {JSON: ref("Health")})},
        "/openapi.json": {"get": operation("This description.", {JSON: {"type": "object"}})},
    }
    return describe("aasut serve", paths, request)


def chat(body: Plain, errors: Iterable[int]) -> Plain:
    """The operation of chat completions with this schema of its body."""
    answers: Mapping[str, Plain] = {JSON: ref("ChatCompletion"), EVENTS: {}}
    return operation("Answer a conversation: whole, or as server-sent events.", answers, errors, body=body)


def operation(
    summary: str,
    answers: Mapping[str, Plain],
    errors: Iterable[int] = (),
    *,
    body: Plain | None = None,
    parameters: Iterable[Plain] = (),
) -> Plain:
    """One operation: `answers` are schemas by media type, `errors` the statuses of its refusals."""
    refused = {JSON: {"schema": ref("Error")}}
    responses: Plain = {
        "200": {"description": "The answer.", "content": {kind: {"schema": schema} for kind, schema in answers.items()}}
    }
    responses |= {str(status): {"description": REASONS[status], "content": refused} for status in errors}
    found: Plain = {"summary": summary, "responses": responses}
    if body is not None:
        found["requestBody"] = {"required": True, "content": {JSON: {"schema": body}}}
    listed = list(parameters)
    return found | ({"parameters": listed} if listed else {})


def ref(name: str) -> Plain:
    """A schema by its name among the components."""
    return {"$ref": f"#/components/schemas/{name}"}


def chat_request() -> Plain:
    """The schemas of a chat request that a student reads, by name; `ChatRequest` is the whole."""
    whole = ChatRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas: Plain = whole.pop("$defs")
    message = schemas["ChatMessage"]["properties"]
    for properties, neutral in ((whole["properties"], protocol.NEUTRAL), (message, protocol.MESSAGE_NEUTRAL)):
        properties |= {name: _neutral(values) for name, values in neutral.items()}
    message["role"] = {"enum": ["system", "developer", "user", "assistant"]}
    message["content"] = {"anyOf": [{"type": "string"}, {"type": "array", "items": ref("TextPart"), "minItems": 1}]}
    schemas["ChatMessage"]["required"] = ["role", "content"]
    whole["properties"] |= {
        "stop": _nullable({"type": "string"}, {"type": "array", "items": {"type": "string"}, "maxItems": 4}),
        "response_format": _nullable(ref("ResponseFormat")),
        "tools": _nullable({"type": "array", "items": ref("Tool"), "minItems": 1, "maxItems": MOST}),
        "tool_choice": _nullable({"enum": ["auto", "none", "required"]}, ref("ToolChoice")),
    }
    return {**REQUEST_SCHEMAS, **schemas, "ChatRequest": whole}


def _neutral(values: tuple[Any, ...]) -> Plain:
    """A field that is taken at values alone that ask for nothing."""
    different = {json.dumps(value): value for value in values if not isinstance(value, float)}
    return {"enum": [*different.values(), None]}


def _nullable(*schemas: Plain) -> Plain:
    return {"anyOf": [*schemas, {"type": "null"}]}


def _object(required: Mapping[str, Any], more: Mapping[str, Any] | None = None, *, closed: bool = False) -> Plain:
    properties = {**required, **(more or {})}
    found: Plain = {"type": "object", "properties": properties, "required": list(required)}
    return found | ({"additionalProperties": False} if closed else {})


def _list(item: Plain) -> Plain:
    return {"type": "array", "items": item}


_TEXT: Plain = {"type": "string"}
_TEXT_OR_NULL: Plain = {"type": ["string", "null"]}
_COUNT: Plain = {"type": "integer", "minimum": 0}
_NAME: Plain = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}
_FUNCTION = _object(
    {"name": _NAME},
    {
        "description": _TEXT_OR_NULL,
        "parameters": _nullable({"type": "object", "properties": {"type": {"const": "object"}}}),
        "strict": {"type": ["boolean", "null"]},
    },
    closed=True,
)
_JSON_SCHEMA = _object(
    {"name": _NAME, "schema": {"type": "object"}},
    {"description": _TEXT_OR_NULL, "strict": {"type": ["boolean", "null"]}},
    closed=True,
)
_LOGPROB: Plain = {"token": _TEXT, "logprob": {"type": "number", "maximum": 0}, "bytes": _list(_COUNT)}
_CALL = _object({"id": _TEXT, "type": {"const": "function"}, "function": _object({"name": _TEXT, "arguments": _TEXT})})
_MESSAGE = _object(
    {"role": {"const": "assistant"}, "content": _TEXT_OR_NULL, "refusal": _TEXT_OR_NULL}, {"tool_calls": _list(_CALL)}
)
_CHOICE = _object(
    {
        "index": _COUNT,
        "message": _MESSAGE,
        "logprobs": _nullable(_object({"content": _nullable(_list(ref("TokenLogprob"))), "refusal": {}})),
        "finish_reason": {"enum": ["stop", "length", "tool_calls", "content_filter"]},
    }
)
MODEL_ID: Plain = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
SCHEMAS: Plain = {
    "Error": _object(
        {"error": _object({"message": _TEXT, "type": _TEXT, "param": _TEXT_OR_NULL, "code": _TEXT_OR_NULL})}
    ),
    "TokenLogprob": _object({**_LOGPROB, "top_logprobs": _list(_object(_LOGPROB))}),
    "Usage": _object({"prompt_tokens": _COUNT, "completion_tokens": _COUNT, "total_tokens": _COUNT}),
    "ChatCompletion": _object(
        {
            "id": _TEXT,
            "object": {"const": "chat.completion"},
            "created": _COUNT,
            "model": _TEXT,
            "choices": _list(_CHOICE),
            "usage": ref("Usage"),
        },
        {"system_fingerprint": _TEXT_OR_NULL, "service_tier": _TEXT_OR_NULL},
    ),
    "Model": _object({"id": _TEXT, "object": {"const": "model"}, "created": _COUNT, "owned_by": _TEXT}),
    "Models": _object({"object": {"const": "list"}, "data": _list(ref("Model"))}),
    "Health": _object({"status": {"const": "ok"}}),
}
REQUEST_SCHEMAS: Plain = {
    "TextPart": _object({"type": {"const": "text"}, "text": _TEXT}, closed=True),
    "Tool": _object({"type": {"const": "function"}, "function": _FUNCTION}, closed=True),
    "ToolChoice": _object(
        {"type": {"const": "function"}, "function": _object({"name": _NAME}, closed=True)}, closed=True
    ),
    "ResponseFormat": {
        "anyOf": [
            _object({"type": {"enum": ["text", "json_object"]}}, closed=True),
            _object({"type": {"const": "json_schema"}, "json_schema": _JSON_SCHEMA}, closed=True),
        ]
    },
}
