"""Requests of OpenAI's chat-completions protocol, as far as a student can honour them.

Every field is honoured, or accepted at the values that change nothing, or refused by name:

    messages              text, as a string or a list of text parts; `developer` is read as `system`
    model                 the student's name
    stream, stream_options.include_usage
    temperature, top_p    answers are drawn from the student's probabilities; the likeliest at 0, and where
                          temperature is absent
    seed                  the same seed and the same text draw the same answer
    n                     1 to 8; labels are drawn so often, texts are written with so many seeds
    user, safety_identifier, prompt_cache_key, metadata   accepted; nothing is stored
    all others            see NEUTRAL

A student that answers with labels:

    logprobs, top_logprobs  the label's whole text is one token; top_logprobs lists the likeliest labels
    max_tokens, max_completion_tokens   at least 1; a label is always given whole
    stop                  accepted where no label contains it, and so could not be cut by it

A student that writes text:

    logprobs, top_logprobs  each token's; alternatives where the engine lists them
    max_tokens, max_completion_tokens   the task's max_tokens where absent
    stop                  up to 4 texts; the answer ends before the first
    response_format       json_object, or json_schema; for a student that extracts with the task's own schema

A student that calls tools, as one that writes text, but for

    tools                 those of the task, in any order
    tool_choice           auto, none, required, or a function's name
    parallel_tool_calls   false: one call at most
    stop                  with tool_choice none alone, as it would cut calls
    response_format       text alone
"""

from __future__ import annotations

import json
import secrets
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aasut.engine.base import Prompt
from aasut.serve.bound import Bound, of_format, of_tools
from aasut.serve.content import text_of
from aasut.serve.refusal import UNKNOWN, UNSUPPORTED, Refusal
from aasut.store import digest
from aasut.tasks import Task
from aasut.types import Message, Role

__all__ = ["ChatRequest", "Refusal", "parse", "parse_plain"]

MOST_ANSWERS = 8
_ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
# Fields that a student cannot honour, with the values at which they ask for nothing; null is one always.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "frequency_penalty": (0, 0.0),
    "function_call": (),
    "functions": (),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "moderation": (),
    "prediction": (),
    "presence_penalty": (0, 0.0),
    "prompt_cache_options": (),
    "prompt_cache_retention": (),
    "reasoning_effort": (),
    "service_tier": ("auto", "default"),
    "store": (False,),
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
    "tool_call_id": (),
    "tool_calls": (),
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(_Strict):
    """`include_obfuscation` pads chunks to equal length, which is not done here."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class ChatMessage(_Strict):
    """One message; `text` reads its content."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Any = None
    annotations: Any = None
    audio: Any = None
    function_call: Any = None
    name: Any = None
    refusal: Any = None
    tool_call_id: Any = None
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
    n: Annotated[int, Field(ge=1, le=MOST_ANSWERS)] | None = None
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
    parallel_tool_calls: bool | None = None
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
            turns.append(Message(_ROLES[message.role], text_of(message.content, f"messages[{number}].content")))
        return tuple(turns)

    def check(self, task: Task, alternatives: int = 20) -> None:
        """Refuse what depends on the task: stop texts that would cut an answer, formats and tools that it has not.

        `alternatives`: to a token, that the engine of a student that writes text lists.
        """
        bound, stops = self.bound(task), self.stops()
        if not task.answers and (self.top_logprobs or 0) > alternatives:
            raise Refusal(
                f"top_logprobs: this model's engine lists {alternatives or 'no'} alternatives to a token.",
                param="top_logprobs",
                code=UNSUPPORTED,
            )
        if stops and task.tools and bound.schema:
            raise Refusal("stop would cut calls of tools.", param="stop", code=UNSUPPORTED)
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

    def bound(self, task: Task) -> Bound:
        """What the answer is bound to; Refusal for formats and tools that the task has not."""
        called = of_tools(self.tools, self.tool_choice, self.parallel_tool_calls, task)
        shaped = of_format(self.response_format, task)
        return called if task.tools else shaped

    def prompts(self, task: Task, text: str) -> list[Prompt]:
        """What an engine is asked for `n` texts that answer the student's plain prompt; see `check`.

        Seeds are drawn where the request has none. The first answer is the same whatever `n` is.
        """
        bound = self.bound(task)
        base = secrets.randbits(60) if self.seed is None else self.seed
        seeds = [digest([base, text, number] if number else [base, text]) for number in range(self.n or 1)]
        return [
            Prompt(
                text,
                self.most_tokens(task),
                temperature=self.temperature or 0.0,
                top_p=1.0 if self.top_p is None else self.top_p,
                seed=int(seed[:15], 16),
                stop=tuple(self.stops()),
                schema=bound.schema,
                logprobs=bool(self.logprobs),
                plain=bound.plain,
                top_logprobs=self.top_logprobs or 0,
            )
            for seed in seeds
        ]


def parse(body: bytes) -> ChatRequest:
    """Read a request's body; Refusal names the first field that is wrong or not honoured."""
    try:
        return _checked(ChatRequest.model_validate_json(body))
    except ValidationError as error:
        raise _refusal(error) from None


def parse_plain(plain: Any) -> ChatRequest:
    """As `parse`, of a body that is decoded already."""
    try:
        return _checked(ChatRequest.model_validate(plain))
    except ValidationError as error:
        raise _refusal(error) from None


def _checked(request: ChatRequest) -> ChatRequest:
    _check_neutral(request, NEUTRAL, "")
    for number, message in enumerate(request.messages):
        if message.role not in _ROLES:
            raise Refusal(
                f"messages[{number}]: results of tools, in a message of role {message.role!r}, are not read by this "
                "model, which answers single turns.",
                param=f"messages[{number}].role",
                code=UNSUPPORTED,
            )
        _check_neutral(message, MESSAGE_NEUTRAL, f"messages[{number}].")
    if request.top_logprobs is not None and not request.logprobs:
        raise Refusal("top_logprobs is given, so logprobs must be true.", param="top_logprobs", code="invalid_value")
    if request.stream_options is not None and not request.stream:
        raise Refusal("stream_options is given, so stream must be true.", param="stream_options", code="invalid_value")
    return request


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
            code=UNSUPPORTED if values else UNKNOWN,
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
