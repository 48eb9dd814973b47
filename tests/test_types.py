from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest

from aasut import types
from aasut.store import digest
from aasut.types import Completion, Conservation, Example, Label, Message, Request, Usage

OTHER: dict[str, Any] = {
    "messages": (Message("user", "other"),),
    "choices": ("yes", "no"),
    "max_tokens": 65,
    "temperature": 0.5,
    "sample": 1,
    "schema": '{"type": "object"}',
    "tools": "[]",
}


@pytest.mark.parametrize("name", [field.name for field in fields(Request)])
def test_every_field_of_a_request_is_part_of_its_identity(name: str) -> None:
    request = Request((Message("user", "question"),))
    assert digest(replace(request, **{name: OTHER[name]}).body()) != digest(request.body())


def test_roles_and_places_of_messages_are_part_of_the_identity() -> None:
    bodies = [
        Request((Message("user", "a"), Message("user", "b"))).body(),
        Request((Message("user", "b"), Message("user", "a"))).body(),
        Request((Message("user", "ab"),)).body(),
        Request((Message("system", "a"), Message("user", "b"))).body(),
    ]
    assert len({digest(body) for body in bodies}) == 4


def test_a_request_without_tools_is_what_it_was_before_there_were_any() -> None:
    names = ["messages", "choices", "max_tokens", "temperature", "sample"]
    assert list(Request((Message("user", "a"),)).body()) == names
    assert list(Request((Message("user", "a"),), schema="{}", tools="[]").body()) == [*names, "schema", "tools"]


def test_usages_add_up() -> None:
    assert Usage(1, 2, 3) + Usage(10, 20, 30) == Usage(11, 22, 33)


@pytest.mark.parametrize(
    ("rows", "balanced"),
    [
        (Conservation(10, 10), True),
        (Conservation(10, 6, {"duplicate": 3}, {"empty": 1}), True),
        (Conservation(10, 6, {"duplicate": 1, "limit": 2}, {"empty": 1}), True),
        (Conservation(10, 9), False),
        (Conservation(10, 6, {"duplicate": 4}, {"empty": 1}), False),
        (Conservation(10, 10, {}, {"empty": 1}), False),
    ],
)
def test_conservation_is_a_sum(rows: Conservation, balanced: bool) -> None:
    assert rows.balanced is balanced


def test_conservation_as_plain_data() -> None:
    rows = Conservation(10, 6, {"duplicate": 3}, {"empty": 1})
    assert rows.as_dict() == {"in": 10, "kept": 6, "dropped": {"duplicate": 3}, "failed": {"empty": 1}}


def test_confidence_is_the_likeliest_answer() -> None:
    assert Label("1", (0.2, 0.5, 0.3)).confidence == 0.5


@pytest.mark.parametrize(
    "value",
    [Message("user", "a"), Example("1", {}, "g"), Usage(), Request(()), Completion(""), Label("1", (1.0,)),
     Conservation(0, 0)],
)  # fmt: skip
def test_the_nouns_are_frozen(value: Any) -> None:
    assert type(value).__module__ == types.__name__
    with pytest.raises(FrozenInstanceError):
        setattr(value, fields(value)[0].name, None)
