"""A model asked over pydantic-ai: messages and tools in OpenAI's plain form go in, and its answer comes out in it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aasut.agents import lazily
from aasut.errors import AasutError, TeacherError
from aasut.recipe import Endpoint

Message = dict[str, Any]  # one message of OpenAI's chat completions


@dataclass(frozen=True)
class Said:
    """One answer: the assistant's message, what it used, and how it ended ("stop", "tool_calls", "length" ...).

    `kept` is pydantic-ai's own form of it, for the next request.
    """

    message: Message
    input_tokens: int
    output_tokens: int
    finish: str
    kept: Any = field(repr=False, compare=False, default=None)


class Model:
    """A model behind an OpenAI-compatible endpoint."""

    def __init__(self, endpoint: Endpoint, key: str, temperature: float | None, answer_tokens: int) -> None:
        ai, openai = lazily.load("pydantic_ai.models.openai"), lazily.load("openai")
        httpx = lazily.load("httpx2") if lazily.there("httpx2") else lazily.load("httpx")
        self.name = endpoint.model
        timeout = httpx.Timeout(
            endpoint.timeout_s, connect=endpoint.connect_timeout_s, read=endpoint.first_byte_timeout_s
        )
        self._client = openai.AsyncOpenAI(
            base_url=endpoint.base_url, api_key=key or "none", max_retries=endpoint.retries, timeout=timeout
        )
        provider = lazily.load("pydantic_ai.providers.openai").OpenAIProvider(openai_client=self._client)
        as_they_are = {"json_schema_transformer": None}  # a student knows its tools word by word
        self._model = ai.OpenAIChatModel(endpoint.model, provider=provider, profile=as_they_are)
        self._settings: dict[str, Any] = {"max_tokens": answer_tokens}
        if temperature is not None:
            self._settings["temperature"] = temperature
        self._timeout_s = endpoint.timeout_s

    async def ask(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], kept: Mapping[int, Any]
    ) -> Said:
        """The answer to a conversation; `kept`: by place in it, pydantic-ai's form of answers that it gave before.

        Raises TeacherError where there is none.
        """
        direct, models = lazily.load("pydantic_ai.direct"), lazily.load("pydantic_ai.models")
        parameters = models.ModelRequestParameters(function_tools=[_tool(tool) for tool in tools])
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await direct.model_request(
                    self._model,
                    [_message(one, kept.get(place)) for place, one in enumerate(messages)],
                    model_settings=self._settings,
                    model_request_parameters=parameters,
                )
        except AasutError:
            raise
        except Exception as error:  # the wire's errors are of three libraries
            raise TeacherError(f"{self.name} gave no answer: {_told(error)}.") from None
        return _said(response)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def _tool(tool: Mapping[str, Any]) -> Any:
    function = tool["function"]
    return lazily.load("pydantic_ai.tools").ToolDefinition(
        name=function["name"],
        description=function.get("description"),
        parameters_json_schema=function.get("parameters") or {"type": "object", "properties": {}},
        strict=False if function.get("strict") is None else function["strict"],
    )


def _message(message: Message, kept: Any) -> Any:
    """A plain message as pydantic-ai has it."""
    ai = lazily.load("pydantic_ai.messages")
    role, content = message["role"], message.get("content") or ""
    if role == "assistant":
        if kept is not None:
            return kept
        calls = [
            ai.ToolCallPart(call["function"]["name"], call["function"]["arguments"], tool_call_id=call["id"])
            for call in message.get("tool_calls") or ()
        ]
        return ai.ModelResponse(parts=[*([ai.TextPart(content)] if content else []), *calls])
    if role == "system":
        return ai.ModelRequest(parts=[ai.SystemPromptPart(content)])
    if role == "user":
        return ai.ModelRequest(parts=[ai.UserPromptPart(content)])
    return ai.ModelRequest(
        parts=[ai.ToolReturnPart(message.get("name", ""), content, tool_call_id=message["tool_call_id"])]
    )


def _said(response: Any) -> Said:
    """pydantic-ai's answer in OpenAI's form. Thoughts are left out: they are no part of the answer."""
    ai = lazily.load("pydantic_ai.messages")
    text = "".join(part.content for part in response.parts if isinstance(part, ai.TextPart))
    calls = [
        {
            "id": part.tool_call_id,
            "type": "function",
            "function": {"name": part.tool_name, "arguments": _arguments(part.args)},
        }
        for part in response.parts
        if isinstance(part, ai.ToolCallPart)
    ]
    message: Message = {"role": "assistant", "content": text or (None if calls else "")}
    if calls:
        message["tool_calls"] = calls
    usage = response.usage
    return Said(message, usage.input_tokens, usage.output_tokens, response.finish_reason or "stop", response)


def _arguments(given: Any) -> str:
    return given if isinstance(given, str) else json.dumps(given or {}, ensure_ascii=False)


def _told(error: BaseException) -> str:
    """An error in one line: what the endpoint said, where it said something."""
    if isinstance(error, TimeoutError):
        return "it took too long"
    said = " ".join(str(error).split()) or type(error).__name__
    cause = error.__cause__ and " ".join(str(error.__cause__).split())
    if cause and cause not in said:
        said += f" ({cause})"
    return (said if len(said) <= 400 else said[:399] + "…").rstrip(".")
