"""JSON answers for people: what the schema asks for, a form to fill, and what is wrong with what was typed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def fault(text: str, schema: str) -> str:
    """Why a text is no answer of this JSON Schema, in one line."""
    import jsonschema

    try:
        value = json.loads(text)
    except RecursionError:
        return "it is nested too deeply"
    except ValueError as error:
        return f"it is no JSON ({error})"
    plain = json.loads(schema)
    found = jsonschema.exceptions.best_match(jsonschema.validators.validator_for(plain)(plain).iter_errors(value))
    if found is None:
        return "it holds a number or a character that cannot be written as JSON"
    place = ".".join(str(part) for part in found.absolute_path)
    message = " ".join(found.message.split())
    return (f"{place}: " if place else "") + (message if len(message) <= 200 else f"{message[:199]}…")


def blank(schema: str) -> str:
    """An answer to fill in, null in every field that the schema names; empty where there is no schema."""
    names = _properties(schema)
    return (
        "{\n" + ",\n".join(f"  {json.dumps(name, ensure_ascii=False)}: null" for name in names) + "\n}" if names else ""
    )


def hint(schema: str) -> str:
    """The fields of a schema with their types, or the values that they may have; empty where there is no schema."""
    return ", ".join(f"{name} ({_kind(inner)})" for name, inner in _properties(schema).items())


def _properties(schema: str) -> Mapping[str, Any]:
    found = json.loads(schema).get("properties") if schema else None
    return found if isinstance(found, dict) else {}


def _kind(inner: Any) -> str:
    """In a few words; schemas say more than fits here, and `fault` knows all of it."""
    inner = inner if isinstance(inner, dict) else {}
    if isinstance(inner.get("enum"), list):
        return "one of " + ", ".join(json.dumps(value, ensure_ascii=False) for value in inner["enum"])
    kinds = inner.get("type", "any value")
    return " or ".join(str(kind) for kind in kinds) if isinstance(kinds, list) else str(kinds)
