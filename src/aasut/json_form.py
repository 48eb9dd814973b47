"""JSON values compared and written in one form, with the help of the JSON Schema that they follow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any


def ordered(value: Any, schema: Any, root: Any) -> Any:
    """The value with the fields of objects in the order of the schema, unknown ones after them by name.

    Whole numbers lose their fraction. References in `schema` are looked up in the document `root`.
    """
    parts = list(_parts(schema, root))
    if isinstance(value, dict):
        known: dict[str, Any] = {}
        for part in parts:
            for name, inner in (part.get("properties") or {}).items():
                known.setdefault(name, inner)
        names = [name for name in known if name in value] + sorted(name for name in value if name not in known)
        return {name: ordered(value[name], known.get(name), root) for name in names}
    if isinstance(value, list):
        items = next((part["items"] for part in parts if "items" in part), None)
        return [ordered(item, items, root) for item in value]
    return _number(value)


def compared(value: Any) -> str:
    """Text that is the same for equal JSON values: fields sorted, whole numbers without a fraction."""
    return json.dumps(_plain(value), sort_keys=True)


def schema_fault(schema: Any) -> str:
    """Why a value is no JSON Schema, in one line; "" where it is one."""
    import jsonschema

    try:
        jsonschema.validators.validator_for(schema).check_schema(schema)
    except jsonschema.SchemaError as error:
        return " ".join(error.message.split())[:200]
    except (RecursionError, TypeError, ValueError) as error:  # such as a $schema that is no text
        return f"it cannot be read ({type(error).__name__})"
    return ""


@lru_cache(maxsize=256)  # more than the functions of a request
def validator(schema: str) -> Any:
    """A jsonschema validator of a schema as text."""
    import jsonschema

    plain = json.loads(schema)
    return jsonschema.validators.validator_for(plain)(plain)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else _number(value)


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def _parts(schema: Any, root: Any) -> Iterator[dict[str, Any]]:
    """A schema, and those that it points to inside the document `root` or is put together from."""
    if not isinstance(schema, dict):
        return
    yield schema
    if str(schema.get("$ref", "")).startswith("#/"):
        target = root
        for name in schema["$ref"].removeprefix("#/").split("/"):
            target = target.get(name) if isinstance(target, dict) else None
        yield from _parts(target, root)
    for key in ("allOf", "anyOf", "oneOf"):
        for part in schema.get(key) or ():
            yield from _parts(part, root)
