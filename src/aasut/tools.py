"""Tools: OpenAI's function definitions, and answers that call them, read from and written as text.

An answer that calls functions is a JSON list, [{"name": ..., "arguments": {...}}, ...]; any text that
begins with neither [ nor { calls nothing. So one text says which of the two it is with its first character.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

from aasut.json_form import compared, ordered, schema_fault, validator

MOST = 128  # functions that a request may define, as at OpenAI
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FIELDS = {"name", "description", "parameters", "strict"}
_VALUES = ("const", "default", "enum", "examples")  # keywords whose values are data and no schemas
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")  # schemas by any name
_NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}


def fault(tools: Any) -> str:
    """Why a value is no list of function definitions, in one line; "" where it is one."""
    if not isinstance(tools, list) or not 0 < len(tools) <= MOST:
        return f"give a list of 1 to {MOST} functions"
    names: set[str] = set()
    for number, tool in enumerate(tools):
        reason = _fault(tool)
        if reason:
            return f"[{number}]: {reason}"
        name = tool["function"]["name"]
        if name in names:
            return f"[{number}]: the function {name!r} stands there twice"
        names.add(name)
    return ""


@lru_cache(maxsize=8)
def fault_in(text: str) -> str:
    """`fault` of JSON text, kept in mind: many requests have the same functions."""
    return fault(json.loads(text))


def _fault(tool: Any) -> str:
    if not isinstance(tool, dict) or set(tool) != {"type", "function"} or tool["type"] != "function":
        return "must be {type: function, function: {...}}"
    function = tool["function"]
    if not isinstance(function, dict):
        return "function is no object"
    extra = sorted(set(function) - _FIELDS)
    if extra:
        return f"function.{extra[0]} is not known"
    if not isinstance(function.get("name"), str) or not _NAME.fullmatch(function["name"]):
        return "function.name must be 1 to 64 letters, digits, _ or -"
    if not isinstance(function.get("description"), str | None) or not isinstance(function.get("strict"), bool | None):
        return "function.description is a text, and function.strict true or false"
    parameters = function.get("parameters")
    if parameters is None:
        return ""
    if not isinstance(parameters, dict) or (parameters and parameters.get("type") != "object"):
        return "function.parameters must be a JSON Schema of type object"
    reason = schema_fault(parameters)
    try:
        json.dumps(parameters, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        reason = reason or f"holds what JSON has not: {error}"
    return f"function.parameters: {reason}" if reason else ""


def same(one: Any, other: Any) -> bool:
    """Do two lists define the same functions? Their order, and `strict`, do not count; descriptions do."""
    return sorted(map(_identity, one)) == sorted(map(_identity, other))


def _identity(tool: Any) -> str:
    function = tool["function"]
    return compared([function["name"], function.get("description") or "", function.get("parameters") or _NOTHING])


def names(tools: str) -> list[str]:
    """Names of the functions that a text defines, in order."""
    return [tool["function"]["name"] for tool in json.loads(tools)]


def schema(tools: str, only: Collection[str] | None = None, most: int | None = None) -> str:
    """The JSON Schema, as text, of a list of calls: of the functions named in `only`, and at most `most` calls."""
    calls, definitions = [], {}
    for number, tool in enumerate(json.loads(tools)):
        function = tool["function"]
        if only is not None and function["name"] not in only:
            continue
        place = f"tool{number}"
        definitions[place] = _moved(function.get("parameters") or _NOTHING, f"#/$defs/{place}")
        fields = {"name": {"const": function["name"]}, "arguments": {"$ref": f"#/$defs/{place}"}}
        calls.append(
            {
                "type": "object",
                "properties": fields,
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    size = {"minItems": 1} | ({} if most is None else {"maxItems": most})
    whole = {"type": "array", **size, "items": calls[0] if len(calls) == 1 else {"anyOf": calls}, "$defs": definitions}
    return json.dumps(whole, ensure_ascii=False)


def _moved(value: Any, place: str) -> Any:
    """A schema whose references hold where it stands at `place` of another document."""
    if isinstance(value, list):
        return [_moved(inner, place) for inner in value]
    if not isinstance(value, dict):
        return value
    moved: dict[str, Any] = {}
    for key, inner in value.items():
        if key in _NAMED and isinstance(inner, dict):
            moved[key] = {name: _moved(one, place) for name, one in inner.items()}
        else:
            moved[key] = inner if key in _VALUES else _moved(inner, place)
    target = value.get("$ref")
    if isinstance(target, str) and target.startswith("#"):
        moved["$ref"] = place + target[1:]
    return moved


def is_calls(text: str) -> bool:
    """Does a text, by its first character, call functions?"""
    return text.lstrip()[:1] in ("[", "{")


def canonical(text: str, tools: str) -> str | None:
    """Calls in their one written form; None for what is no calls of these functions.

    Calls stand in the order of the functions' definitions, equal ones by their arguments, whose fields have the
    schema's order; one space after commas and colons.
    """
    defined = {tool["function"]["name"]: tool["function"].get("parameters") or _NOTHING for tool in json.loads(tools)}
    places = {name: place for place, name in enumerate(defined)}
    try:
        found = _read(text)
        if not found or not all(
            name in defined and validator(json.dumps(defined[name])).is_valid(given) for name, given in found
        ):
            return None
        found.sort(key=lambda call: (places[call[0]], compared(call[1])))
        plain = [{"name": name, "arguments": ordered(given, defined[name], defined[name])} for name, given in found]
        written = json.dumps(plain, ensure_ascii=False, allow_nan=False)
        written.encode()  # escapes can name half a surrogate pair
    except (ValueError, RecursionError):
        return None
    return written


def calls(answer: str) -> list[tuple[str, str]]:
    """(name, arguments in one comparable form) of each call in an answer, none where it is no list of calls."""
    try:
        return [(name, compared(given)) for name, given in _read(answer)]
    except (ValueError, RecursionError):
        return []


def _read(text: str) -> list[tuple[str, dict[str, Any]]]:
    found = json.loads(text)
    return [_call(one) for one in (found if isinstance(found, list) else [found])]


def _call(found: Any) -> tuple[str, dict[str, Any]]:
    """One call. Raises ValueError where it is none."""
    if isinstance(found, dict) and isinstance(found.get("function"), dict):
        found = found["function"]
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        raise ValueError("no tool call")
    given = found.get("arguments")
    if isinstance(given, str):
        given = json.loads(given) if given.strip() else {}
    if not isinstance(given, dict | None):
        raise ValueError("arguments are no object")
    return found["name"], given or {}


def written(tool_calls: Any) -> str:
    """A message's `tool_calls` as text; arguments that are no JSON stay as they are. Raises ValueError for no calls."""
    if not isinstance(tool_calls, list) or not tool_calls:
        raise ValueError("no tool calls")
    plain = []
    for one in tool_calls:
        function = one.get("function") if isinstance(one, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise ValueError("no tool call")
        given = function.get("arguments")
        with suppress(ValueError, RecursionError):
            _, given = _call(function)
        plain.append({"name": function["name"], "arguments": given})
    return json.dumps(plain, ensure_ascii=False)


def native(text: str, ids: Sequence[str] = ()) -> list[dict[str, Any]]:
    """A text of calls as a message's `tool_calls`; none where it is no calls. Ids are call_0 and so on, or `ids`."""
    try:
        found = _read(text) if is_calls(text) else []
    except (ValueError, RecursionError):
        return []
    return [
        {
            "id": ids[number] if ids else f"call_{number}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(given, ensure_ascii=False)},
        }
        for number, (name, given) in enumerate(found)
    ]
