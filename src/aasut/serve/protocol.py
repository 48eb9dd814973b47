"""Requests of OpenAI's chat-completions protocol, as far as a student can honour them.

Every field is honoured, or accepted at the values that change nothing, or refused by name:

    messages              text, as a string or a list of text parts; `developer` is read as `system`
    model                 the student's name
    stream, stream_options.include_usage
    temperature, top_p    answers are drawn from the student's probabilities; the likeliest at 0, and where
                          temperature is absent
    seed                  the same seed and the same text draw the same answer
    n                     1
    user, safety_identifier, prompt_cache_key, metadata   accepted; nothing is stored
    all others            see NEUTRAL

A student that answers with labels:

    logprobs, top_logprobs  the label's whole text is one token; top_logprobs lists the likeliest labels
    max_tokens, max_completion_tokens   at least 1; a label is always given whole
    stop                  accepted where no label contains it, and so could not be cut by it

A student that writes text:

    max_tokens, max_completion_tokens   the task's max_tokens where absent
    stop                  up to 4 texts; the answer ends before the first
    response_format       for a student that extracts: json_object, or json_schema with the task's own schema
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aasut.tasks import Task
from aasut.types import Message, Role

# Fields that a student cannot honour, with the values at which they ask for nothing; null is one always.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "frequency_penalty": (0, 0.0),
    "function_call": (),
    "functions": (),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "moderation": (),
    "n": (1,),
    "parallel_tool_calls": (),
    "prediction": (),
    "presence_penalty": (0, 0.0),
    "prompt_cache_options": (),
    "prompt_cache_retention": (),
    "reasoning_effort": (),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "tool_choice": (),
    "tools": (),
    "verbosity": (),
    "web_search_options": (),
}
# The same for fields of a message.
MESSAGE_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "annotations": ([],),
    "audio": (),
    "function_call": (),
    "name": (),
    "refusal": (),
    "tool_calls": (),
}
UNKNOWN = "unsupported_parameter"


class Refusal(Exception):
    """A request that is not answered, with what OpenAI's error object says of it."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        kind: str = "invalid_request_error",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(_Strict):
    """`include_obfuscation` pads chunks to equal length, which is not done here."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class ChatMessage(_Strict):
    """One message; `text` reads its content."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Any = None
    annotations: Any = None
    audio: Any = None
    function_call: Any = None
    name: Any = None
    refusal: Any = None
    tool_calls: Any = None


class ChatRequest(_Strict):
    """The body of a request. `parse` makes one and refuses what is not honoured."""

    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: int | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: Any = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    metadata: dict[str, str] | None = None
    audio: Any = None
    frequency_penalty: Any = None
    function_call: Any = None
    functions: Any = None
    logit_bias: Any = None
    modalities: Any = None
    moderation: Any = None
    n: Any = None
    parallel_tool_calls: Any = None
    prediction: Any = None
    presence_penalty: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None
    reasoning_effort: Any = None
    response_format: Any = None
    service_tier: Any = None
    store: Any = None
    tool_choice: Any = None
    tools: Any = None
    verbosity: Any = None
    web_search_options: Any = None

    def conversation(self) -> tuple[Message, ...]:
        """The messages as plain text; Refusal where one is anything else."""
        turns = []
        for number, message in enumerate(self.messages):
            role: Role = "system" if message.role == "developer" else message.role
            turns.append(Message(role, _text(message.content, f"messages[{number}].content")))
        return tuple(turns)

    def check(self, task: Task) -> None:
        """Refuse what depends on the task: stop texts that would cut a label, formats and logprobs that it has not."""
        stops = self.stops()
        if self.logprobs and not task.answers:
            raise Refusal("logprobs are not given by this model, which writes text.", param="logprobs", code=UNKNOWN)
        if self.response_format not in (None, {"type": "text"}, *_formats(task)):
            self._check_format(task)
        for stop in stops:
            labels = task.answers
            cut = next((label for label in labels if stop and stop in label), None)
            if cut is not None:
                raise Refusal(
                    f"stop: {stop!r} stands in the label {cut!r}, and labels are always given whole.",
                    param="stop",
                    code="unsupported_value",
                )

    def stops(self) -> list[str]:
        """The texts that end an answer; Refusal where `stop` is anything else."""
        stops = [self.stop] if isinstance(self.stop, str) else ([] if self.stop is None else self.stop)
        if not isinstance(stops, list) or not all(isinstance(s, str) for s in stops) or len(stops) > 4:
            raise Refusal("stop: give one text or a list of up to 4.", param="stop", code="invalid_value")
        return [stop for stop in stops if stop]

    def most_tokens(self, task: Task) -> int:
        """Tokens that the answer may have."""
        given = [count for count in (self.max_completion_tokens, self.max_tokens) if count is not None]
        return min(given, default=task.max_tokens)

    def _check_format(self, task: Task) -> None:
        given = self.response_format
        kind = given.get("type") if isinstance(given, dict) else None
        if kind == "json_schema" and task.schema:
            wanted = given.get("json_schema")
            if isinstance(wanted, dict) and wanted.get("schema") == json.loads(task.schema):
                return
            message = "response_format: this model was made for another schema, the one that its recipe gives."
        else:
            accepted = ", ".join(json.dumps(one) for one in [{"type": "text"}, *_formats(task)])
            message = f"response_format at this value is not supported by this model; accepted: {accepted}."
        raise Refusal(message, param="response_format", code="unsupported_value")


def _formats(task: Task) -> list[dict[str, str]]:
    return [{"type": "json_object"}] if task.schema else []


def parse(body: bytes) -> ChatRequest:
    """Read a request's body; Refusal names the first field that is wrong or not honoured."""
    try:
        request = ChatRequest.model_validate_json(body)
    except ValidationError as error:
        raise _refusal(error) from None
    _check_neutral(request, NEUTRAL, "")
    for number, message in enumerate(request.messages):
        _check_neutral(message, MESSAGE_NEUTRAL, f"messages[{number}].")
    if request.top_logprobs is not None and not request.logprobs:
        raise Refusal("top_logprobs is given, so logprobs must be true.", param="top_logprobs", code="invalid_value")
    if request.stream_options is not None and not request.stream:
        raise Refusal("stream_options is given, so stream must be true.", param="stream_options", code="invalid_value")
    return request


def _text(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise Refusal(f"{where}: give a text or a list of text parts.", param=where, code="invalid_type")
    texts = []
    for number, part in enumerate(content):
        place = f"{where}[{number}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text":
            raise Refusal(
                f"{place}: a part of type {kind!r} is refused: this model reads text only.",
                param=place,
                code="unsupported_value",
            )
        extra = [key for key, value in part.items() if key not in ("type", "text") and value is not None]
        if extra:
            raise Refusal(
                f"{place}: {extra[0]} is not supported.", param=f"{place}.{extra[0]}", code="unknown_parameter"
            )
        if not isinstance(part.get("text"), str):
            raise Refusal(f"{place}.text: give a text.", param=f"{place}.text", code="invalid_type")
        texts.append(part["text"])
    return "".join(texts)


def _check_neutral(model: BaseModel, neutral: dict[str, tuple[Any, ...]], where: str) -> None:
    for field, values in neutral.items():
        given = getattr(model, field)
        # The type counts too: in Python True == 1 and 0 == False.
        if given is None or any(type(given) is type(value) and given == value for value in values):
            continue
        accepted = f"; accepted: {', '.join(json.dumps(v) for v in values)}" if values else ""
        raise Refusal(
            f"{where}{field} at this value is not supported by this model{accepted}.",
            param=f"{where}{field}",
            code="unsupported_value" if values else UNKNOWN,
        )


def _refusal(error: ValidationError) -> Refusal:
    problem = error.errors(include_url=False, include_input=False)[0]
    if problem["type"] == "json_invalid":
        reason = str(problem["msg"]).removeprefix("Invalid JSON: ")
        return Refusal(f"The body is no JSON: {reason}.", code="invalid_json")
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"]).lstrip(".")
    if problem["type"] == "extra_forbidden":
        return Refusal(f"Unknown parameter: {path!r}.", param=path, code="unknown_parameter")
    if problem["type"] == "missing":
        return Refusal(f"Missing required parameter: {path!r}.", param=path, code="missing_required_parameter")
    return Refusal(f"{path or 'body'}: {problem['msg']}.", param=path or None, code="invalid_value")
