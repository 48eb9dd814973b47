"""JSON answers for people: the form, the fields and the faults."""

from __future__ import annotations

import json

from aasut.gold import form

SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            "नाम": {"type": "string"},
            "kind": {"enum": ["a", 1]},
            "n": {"type": ["number", "null"]},
            "x": True,
        },
        "required": ["नाम"],
        "additionalProperties": False,
    }
)


def test_the_form_has_every_field_and_is_no_answer_yet() -> None:
    assert json.loads(form.blank(SCHEMA)) == {"नाम": None, "kind": None, "n": None, "x": None}
    assert '"नाम": null' in form.blank(SCHEMA)
    assert form.fault(form.blank(SCHEMA), SCHEMA)
    assert form.hint(SCHEMA) == 'नाम (string), kind (one of "a", 1), n (number or null), x (any value)'
    assert (form.blank(""), form.hint("")) == ("", "")
    assert (form.blank('{"type": "object"}'), form.hint('{"type": "object"}')) == ("", "")


def test_a_fault_names_the_place_in_one_line() -> None:
    assert form.fault('{"नाम": 3}', SCHEMA) == "नाम: 3 is not of type 'string'"
    assert "'नाम' is a required property" in form.fault("{}", SCHEMA)
    assert "unexpected" in form.fault('{"नाम": "x", "more": 1}', SCHEMA)
    assert form.fault("{", SCHEMA).startswith("it is no JSON (")
    assert form.fault("[" * 100_000, SCHEMA) == "it is nested too deeply"
    long = form.fault(json.dumps({"नाम": ["\n" * 50 + "x" * 999]}), SCHEMA)
    assert len(long) < 220
    assert "\n" not in long
