"""Which requests are for the student: those in its prompt, for the model that it was made from, that it can honour."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aasut.errors import AmbiguousPrompt, PromptMismatch
from aasut.gateway.deployed import Deployed
from aasut.serve import protocol
from aasut.serve.bound import MISMATCH, Bound
from aasut.serve.protocol import ChatMessage, ChatRequest, Refusal
from aasut.tasks import Task


@dataclass(frozen=True)
class Matched:
    """A request for the student, and the student's own plain prompt for it."""

    request: ChatRequest
    prompt: str


def match(chat: Mapping[str, Any], deployed: Deployed) -> Matched | str:
    """The request as the student reads it; or in a word or two why it goes upstream.

    `other_model`: it is for another model than the recipe's teacher.endpoint.model; a recipe with another kind of
    teacher takes requests for any model. `cannot_honour:FIELD`: the student cannot do what a field asks for.
    `other_tools`: it defines other functions than the task, or none where the task has some.
    `other_prompt`, `ambiguous`: the messages are not the task's prompt, or can be read as it in several ways.
    """
    if deployed.model and chat.get("model") != deployed.model:
        return "other_model"
    try:
        request = protocol.parse_plain(chat)
        request.check(deployed.task)
        field = _other_answer(request, deployed.task)
        if field:
            return f"cannot_honour:{field}"
        return Matched(request, deployed.reader.read(request.conversation()))
    except Refusal as refusal:
        error = refusal.body["error"]
        return "other_tools" if error["code"] == MISMATCH else f"cannot_honour:{_field(error['param'])}"
    except AmbiguousPrompt:
        return "ambiguous"
    except PromptMismatch:
        return "other_prompt"
    except (RecursionError, ValueError):
        return "cannot_honour:body"


def _other_answer(request: ChatRequest, task: Task) -> str:
    """The field that asks for another answer than the certified one, which is one, and bound as the task is."""
    if request.n not in (None, 1):
        return "n"
    if request.logprobs and not task.answers:  # a text is given in the task's form, without its tokens
        return "logprobs"
    if request.bound(task) == Bound(task.schema, bool(task.tools)):
        return ""
    if not task.tools:
        return "response_format"
    return "parallel_tool_calls" if request.tool_choice in (None, "auto") else "tool_choice"


def cut(matched: Matched, deployed: Deployed, told: Mapping[str, Any]) -> str:
    """The field that would have cut a text that the student wrote whole, "" for none; labels are always whole.

    A certificate is about whole answers. One that ran into the task's own limit is whole only where the client's
    limit is the same.
    """
    if deployed.task.answers:
        return ""
    request = matched.request
    most = min((n for n in (request.max_completion_tokens, request.max_tokens) if n is not None), default=None)
    too_many = most is not None and told["usage"][1] > most
    if too_many or (told["finish"] == "length" and most != deployed.task.max_tokens):
        return "max_tokens"
    return "stop" if any(stop in told["text"] for stop in request.stops()) else ""


def _field(param: str | None) -> str:
    """A field's name without numbers; `other` for names that the protocol has not, as clients may send any."""
    first, _, rest = re.sub(r"\[\d+\]", "", param or "body").partition(".")
    if first not in ChatRequest.model_fields:
        return "body" if param is None else "other"
    second = rest.partition(".")[0]
    return f"{first}.{second}" if first == "messages" and second in ChatMessage.model_fields else first
