"""What an answer is bound to: the JSON of `response_format`, or calls of `tools`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from aasut import tools as functions
from aasut.errors import RecipeError
from aasut.json_form import compared, schema_fault
from aasut.serve.refusal import UNKNOWN, UNSUPPORTED, Refusal
from aasut.tasks import Task

ANY_OBJECT = '{"type": "object"}'
MISMATCH = "tools_mismatch"
_FORMAT_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Bound:
    """`schema` and `plain` as in `engine.base.Prompt`."""

    schema: str = ""
    plain: bool = False


def of_format(given: Any, task: Task) -> Bound:
    """What `response_format` binds an answer to; Refusal where the task's student cannot follow it.

    A student that extracts keeps to its own schema, one that writes text follows any, and others have none.
    """
    own = Bound("" if task.tools else task.schema)
    if given is None or given == {"type": "text"}:
        return own
    kind = given.get("type") if isinstance(given, dict) else None
    writes = not task.answers and not task.tools
    if writes and given == {"type": "json_object"}:
        return own if own.schema else Bound(ANY_OBJECT)
    if not writes or kind != "json_schema":
        kinds = ["text", "json_object", "json_schema"] if writes else ["text"]
        accepted = ", ".join(json.dumps({"type": kind}) for kind in kinds)
        raise _refused(f"is not supported at this value by this model; accepted: {accepted}", code=UNSUPPORTED)
    schema = _schema(given)
    if not own.schema:
        return Bound(schema)
    if compared(json.loads(own.schema)) != compared(json.loads(schema)):
        raise _refused("is of another schema than the one that this model was made for", code=UNSUPPORTED)
    return own


def _schema(given: dict[str, Any]) -> str:
    """The schema of a `response_format` as text; Refusal where it is wrong, or cannot be followed."""
    wanted = given.get("json_schema")
    if set(given) != {"type", "json_schema"} or not isinstance(wanted, dict):
        raise _refused("must be {type, json_schema: {name, schema}}", code="invalid_value")
    extra = sorted(set(wanted) - {"name", "description", "schema", "strict"})
    if extra:
        raise _refused(f"has no field {extra[0]!r}", f".json_schema.{extra[0]}", code="unknown_parameter")
    for name in ("name", "schema"):
        if wanted.get(name) is None:
            raise _refused(f"needs a {name}", f".json_schema.{name}", code="missing_required_parameter")
    if not isinstance(wanted["name"], str) or not _FORMAT_NAME.fullmatch(wanted["name"]):
        raise _refused("must be 1 to 64 letters, digits, _ or -", ".json_schema.name", code="invalid_value")
    for name, kind in (("description", str | None), ("strict", bool | None)):
        if not isinstance(wanted.get(name), kind):
            raise _refused("is of another type", f".json_schema.{name}", code="invalid_value")
    place = ".json_schema.schema"
    if not isinstance(wanted["schema"], dict):
        raise _refused("must be an object", place, code="invalid_value")
    try:
        text = json.dumps(wanted["schema"], ensure_ascii=False)
        reason = schema_fault(wanted["schema"])
    except RecursionError:
        text, reason = "", "it is nested too deeply"
    if reason:
        raise _refused(f"is no JSON Schema: {reason}", place, code="invalid_value")
    if reason := _unfollowable(text):
        raise _refused(reason, place, code=UNSUPPORTED)
    return text


@lru_cache(maxsize=64)
def _unfollowable(schema: str) -> str:
    """Why decoding cannot be bound to a schema, "" where it can."""
    from aasut.engine import grammar

    try:
        grammar.check(schema, "it")
    except RecipeError as error:
        return error.message.removeprefix("it ").rstrip(".")
    return ""


def of_tools(tools: Any, choice: Any, parallel: bool | None, task: Task) -> Bound:
    """What `tools`, `tool_choice` and `parallel_tool_calls` bind an answer to.

    Refusal where the task's student calls no tools, or others than these.
    """
    if not task.tools:
        if tools is not None:
            raise Refusal("tools are not called by this model.", param="tools", code=UNKNOWN)
        for name, value in (("tool_choice", choice), ("parallel_tool_calls", parallel)):
            if value is not None:
                raise Refusal(f"{name} goes with tools, which are not given.", param=name, code="invalid_value")
        return Bound()
    if tools is None:
        raise Refusal(
            "tools are not given, and this model was made for requests with tools.", param="tools", code=MISMATCH
        )
    try:
        reason = functions.fault_in(json.dumps(tools))
        other = not reason and not functions.same(tools, json.loads(task.tools))
    except RecursionError:
        reason, other = "they are nested too deeply", False
    if reason:
        raise Refusal(f"tools: {reason}.", param="tools", code="invalid_value")
    if other:
        raise Refusal(
            f"tools: this model was made for others: {', '.join(functions.names(task.tools))}.",
            param="tools",
            code=MISMATCH,
        )
    most = 1 if parallel is False else None
    if choice is None or choice == "auto":
        return Bound(functions.schema(task.tools, most=most), plain=True)
    if choice == "none":
        return Bound(plain=True)
    if choice == "required":
        return Bound(functions.schema(task.tools, most=most))
    named = _named(choice)
    if named is None:
        raise Refusal(
            "tool_choice: give auto, none, required or a function's name as {type: function, function: {name}}.",
            param="tool_choice",
            code=UNSUPPORTED,
        )
    if named not in functions.names(task.tools):
        raise Refusal(f"tool_choice: there is no tool {named!r}.", param="tool_choice", code="invalid_value")
    return Bound(functions.schema(task.tools, [named], most))


def _named(choice: Any) -> str | None:
    if not isinstance(choice, dict) or set(choice) != {"type", "function"} or choice["type"] != "function":
        return None
    function = choice["function"]
    named = isinstance(function, dict) and set(function) == {"name"} and isinstance(function["name"], str)
    return str(function["name"]) if named else None


def _refused(reason: str, place: str = "", *, code: str) -> Refusal:
    param = f"response_format{place}"
    return Refusal(f"{param} {reason}.", param=param, code=code)
