from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import read_table
from aasut.errors import DataError
from aasut.prompts import PromptTemplate
from aasut.sources.collect import TableRows
from aasut.tasks import Extract
from aasut.types import Example

SCHEMA = {
    "type": "object",
    "properties": {"number": {"type": "string", "pattern": "^[0-9]*$"}, "street": {"type": "string"}},
    "required": ["number", "street"],
    "additionalProperties": False,
}
TASK = Extract(PromptTemplate.of("{address}"), 40, json.dumps(SCHEMA))
MAPPED = {
    "slots": {"address": "*"},
    "role": "both",
    "label": {"fields": {"street": ["Pre", "Name", "Type"], "number": ["No"]}, "strip": " ,;"},
}
ROWS = """<?xml version="1.0"?>
<all>
  <a><No>12</No> <Name>Rue</Name> <Name>d&#233; l&amp;Or,</Name></a>
  <a><Pre>West</Pre> <Name>5th</Name> <Type>Ave;</Type></a>
  <a>nothing <b>taken <i>apart</i></b></a>
  <a><No>x7</No> <Name>Strange</Name></a>
</all>"""


def read(folder: Path, text: str | bytes, **fields: Any) -> TableRows:
    return read_table.read(folder, "t.xml", text, task=TASK, **MAPPED | fields)


def test_elements_are_rows_and_their_children_columns(tmp_path: Path) -> None:
    found = read(tmp_path, ROWS)
    assert found.examples == [
        Example("1", {"address": "12 Rue dé l&Or,"}, "1", '{"number": "12", "street": "Rue dé l&Or"}'),
        Example("2", {"address": "West 5th Ave;"}, "2", '{"number": "", "street": "West 5th Ave"}'),
        Example("3", {"address": "nothing taken apart"}, "3", '{"number": "", "street": ""}'),
    ]
    assert found.failed == {"the human answer does not fit the task": 1}
    assert (found.rows_in, found.first) == (4, {"the human answer does not fit the task": 6})


def test_columns_of_one_tag_serve_as_slots_too_and_the_file_names_its_encoding(tmp_path: Path) -> None:
    text = '<?xml version="1.0" encoding="latin-1"?><all><a><b>é</b></a><a><c>no b</c></a></all>'
    found = read(tmp_path, text.encode("latin-1"), slots={"address": "b"}, label=None, role="pool")
    assert [example.slots["address"] for example in found.examples] == ["é"]
    assert found.failed == {"no value in column b": 1}


def test_a_row_in_pieces_of_the_file_is_one_row(tmp_path: Path) -> None:
    long = "word " * 30_000
    found = read(tmp_path, f"<all>{f'<a><Name>{long}</Name></a>' * 3}<a><Pre/><No/><Type/></a></all>")
    assert [example.slots["address"] for example in found.examples] == [long] * 3
    assert found.failed == {"empty input": 1}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1 is no XML: no element found"),
        ("a,b\n1,2\n", "line 1 is no XML: syntax error"),
        ("<all><a></all>", "line 1 is no XML: mismatched tag"),
        ("<all>\n<a><No>1</No></a>", "line 2 is no XML: no element found"),
        (b"<all><a>\xff\xfe</a></all>", "is no XML: not well-formed"),
        ('<!DOCTYPE a [<!ENTITY l "lol">]><all><a>&l;</a></all>', "declares entities of its own"),
        ('<!DOCTYPE a [<!ENTITY l SYSTEM "file:///etc/passwd">]><all><a>&l;</a></all>', "declares entities of its own"),
        ("<all></all>", "is empty: it has no rows"),
        ("<all><a><No>1</No></a></all>", "no element 'Pre' in its rows"),
    ],
)
def test_what_is_no_table_is_told_in_one_line(tmp_path: Path, text: str | bytes, says: str) -> None:
    read_table.fails(tmp_path, DataError, says, "t.xml", text, task=TASK, **MAPPED)
