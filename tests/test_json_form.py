from __future__ import annotations

from typing import Any

import pytest

from aasut.json_form import compared, ordered, schema_fault, validator


def test_equal_values_have_the_same_text_whatever_the_order_of_their_fields() -> None:
    assert compared({"b": [1.0, {"y": 2, "x": True}], "a": None}) == compared(
        {"a": None, "b": [1, {"x": True, "y": 2}]}
    )
    assert compared([1, 2]) != compared([2, 1])
    assert compared(1) != compared(True)
    assert compared(0.5) != compared(0)


def test_fields_come_in_the_order_of_the_schema_through_its_references() -> None:
    inner = {"type": "object", "properties": {"y": {}, "x": {}}}
    schema = {"properties": {"b": {"$ref": "#/$defs/inner"}, "a": {"items": inner}}, "$defs": {"inner": inner}}
    value = {"z": 1.0, "a": [{"x": 1, "y": 2}], "b": {"x": 3, "y": 4.5}}
    found = ordered(value, schema, schema)
    assert list(found) == ["b", "a", "z"]
    assert (list(found["b"]), list(found["a"][0])) == (["y", "x"], ["y", "x"])
    assert isinstance(found["z"], int)


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({}, ""),
        ({"type": "object", "properties": {"a": {"type": "string"}}}, ""),
        ({"type": "thing"}, "'thing' is not valid"),
        ({"$schema": []}, "it cannot be read (TypeError)"),
        ({"properties": 3}, "3 is not of type 'object'"),
    ],
)
def test_a_schema_that_is_none_is_told_why(schema: Any, reason: str) -> None:
    found = schema_fault(schema)
    assert reason in found if reason else not found
    assert "\n" not in found


def test_a_schema_nested_too_deeply_is_no_crash() -> None:
    deep: Any = {}
    for _ in range(5000):
        deep = {"not": deep}
    assert "cannot be read" in schema_fault(deep)


def test_the_validator_of_a_schema_is_kept() -> None:
    assert validator('{"type": "integer"}') is validator('{"type": "integer"}')
    assert validator('{"type": "integer"}').is_valid(3)
    assert not validator('{"type": "integer"}').is_valid("3")
