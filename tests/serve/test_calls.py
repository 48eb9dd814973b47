from __future__ import annotations

import pytest

from aasut.serve.calls import CallReader, Part, read

FIRST = '{"name": "weather", "arguments": {"city": "Go\\"a}]", "days": [1, {"x": {}}]}}'
TWO = f'[{FIRST}, {{"name": "stop", "arguments": {{}}}}]'
CALLS = [("weather", '{"city": "Go\\"a}]", "days": [1, {"x": {}}]}'), ("stop", "{}")]


def told(pieces: list[str]) -> list[Part]:
    reader = CallReader()
    return [part for piece in pieces for part in reader.feed(piece)] + reader.end()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_calls_are_read_whatever_pieces_they_come_in(size: int) -> None:
    parts = told([TWO[i : i + size] for i in range(0, len(TWO), size)])
    assert [(p.text, p.index) for p in parts if p.kind == "call"] == [("weather", 0), ("stop", 1)]
    for number, (_, arguments) in enumerate(CALLS):
        assert "".join(p.text for p in parts if p.kind == "arguments" and p.index == number) == arguments
    assert not [p for p in parts if p.kind == "text"]


def test_arguments_are_told_as_they_come() -> None:
    reader = CallReader()
    assert reader.feed('[{"name": "weather", "argu') == []
    assert reader.feed('ments": {"ci') == [Part("call", "weather", 0), Part("arguments", '{"ci', 0)]
    assert reader.feed('ty": "Goa"}') == [Part("arguments", 'ty": "Goa"}', 0)]
    assert reader.feed("}]") == reader.end() == []
    assert reader.count == 1


def test_a_whole_answer_is_read_as_a_stream_is() -> None:
    assert read(TWO) == ("", CALLS)
    assert read(f" {TWO}") == ("", CALLS)
    assert read('[ {"name":"a\\u0062","arguments":{}} ]') == ("", [("ab", "{}")])


def test_text_is_text_from_its_first_piece_on() -> None:
    assert told([" ", "It is ", '[{"name": 3']) == [Part("text", " It is "), Part("text", '[{"name": 3')]
    assert told(["", "  "]) == [Part("text", "  ")]


@pytest.mark.parametrize(
    "text", ["[1]", "{}", '[{"name": 3, "arguments": {}}]', "[", '[{"name": "a", "arguments": 3}]']
)
def test_what_begins_as_calls_and_is_none_is_text_in_the_end(text: str) -> None:
    assert read(text) == (text, [])


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        (TWO[:40], [("weather", '{"city')]),
        (TWO[:-30], CALLS[:1]),
        ('[{"name": "a", "arguments": {"b": "\\', [("a", '{"b": "\\')]),
    ],
)
def test_a_cut_answer_has_what_was_written(text: str, calls: list[tuple[str, str]]) -> None:
    assert read(text) == ("", calls)
