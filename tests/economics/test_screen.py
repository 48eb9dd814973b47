"""The questions as they are asked: defaults, nonsense, the end of the input, and answers from a file."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from situations import SAID

from aasut.economics import screen
from aasut.errors import DataError, RecipeError


def asked(text: str) -> tuple[dict[str, Any], str]:
    out = io.StringIO()
    return screen.run(io.StringIO(text), out), out.getvalue()


def test_empty_lines_take_the_defaults() -> None:
    found, shown = asked("\n" * 30)
    assert found["by_default"] == [question.name for question in screen.QUESTIONS]
    assert found["said"]["requests_per_month"] == 100_000
    assert "How many requests a month? [100k] " in shown
    assert shown.count("? [") + shown.count(". [") == len(screen.QUESTIONS)
    assert json.loads(json.dumps(found)) == found


def test_what_is_typed_is_read() -> None:
    lines = ["Cl", "4", "2.5M", "", "1,200", "3", "$0.4", "1.6", "endless", "par", "y", "12", "1k", "0.25", "5e-3"]
    lines += ["900", "NO", "mon"]
    found, _ = asked("\n".join(lines) + "\n")
    assert found["said"] == SAID | {
        "labels": 4, "requests_per_month": 2.5e6, "input_tokens": 1200, "output_tokens": 3,
        "usd_per_million_input_tokens": 0.4, "usd_per_million_output_tokens": 1.6, "rule": "partly",
        "single_words": True, "human_answers": 12, "more_human_answers": 1000, "usd_per_human_answer": 0.25,
        "usd_per_wrong_answer": 0.005, "latency_ms": 900, "may_leave": False, "changes": "monthly",
    }  # fmt: skip
    assert found["by_default"] == ["usd_per_request"]
    assert found["use"] == "linear"


def test_a_question_that_does_not_apply_is_not_asked() -> None:
    _, shown = asked("generate\n100k\n0.002\n" + "\n" * 30)
    assert "How many labels" not in shown
    assert "USD for a million tokens" not in shown
    assert "Tokens of an answer? [120]" in shown


@pytest.mark.parametrize("nonsense", ["maybe", "😀", "c l", "\x00", "a" * 50_000, "classify extract"])
def test_nonsense_is_asked_again_in_one_line(nonsense: str) -> None:
    found, shown = asked(f"{nonsense}\nclassify\n" + "\n" * 30)
    assert found["said"]["task"] == "classify"
    assert "That is no answer; give one of classify, extract, generate, other.\n" in shown


@pytest.mark.parametrize("nonsense", ["-3", "many", "nan", "inf", "0", "1e999", "k", "1/2"])
def test_a_number_that_cannot_be_is_asked_again(nonsense: str) -> None:
    found, shown = asked(f"\n\n{nonsense}\n7k\n" + "\n" * 30)
    assert found["said"]["requests_per_month"] == 7000
    assert shown.count("That is no answer; give a number from 1 on, such as 250, 100k or 1.5M.\n") == 1


def test_bytes_that_are_no_text_are_refused() -> None:
    stream = io.TextIOWrapper(io.BytesIO(b"\xff\xfe\nclassify\n" + b"\n" * 30), encoding="utf-8", errors="strict")
    with pytest.raises(DataError, match="not UTF-8"):
        screen.run(stream, io.StringIO())


@pytest.mark.parametrize("lines", [0, 1, 9])
def test_the_end_of_the_input_is_one_clear_line(lines: int) -> None:
    with pytest.raises(DataError, match=rf"ended at question {lines + 1} of 18, and nothing was decided") as caught:
        asked("\n" * lines)
    assert "--answers" in caught.value.remedy
    assert "\n" not in str(caught.value)


def test_answers_from_a_file_ask_nothing(tmp_path: Path) -> None:
    path = tmp_path / "answers.yaml"
    path.write_text("{requests_per_month: 5M, single_words: yes, may_leave: true, human_answers: 1200}")
    out = io.StringIO()
    found = screen.run(io.StringIO(), out, screen.read(path))
    assert out.getvalue() == ""
    assert (found["said"]["requests_per_month"], found["said"]["single_words"]) == (5e6, True)
    assert "requests_per_month" not in found["by_default"]
    assert "labels" in found["by_default"]
    assert found["use"] == "linear"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("colour: red", "colour: there is no such question"),
        ("labels: [1, 2]", "labels: [1, 2] is no answer. Give a number from 2 on"),
        ("task: ''", "task:  is no answer"),
        ("may_leave: perhaps", "Give yes or no"),
        ("changes: null", "changes: None is no answer"),
        ("- a", "holds no answers"),
        ("", "holds no answers"),
        ("a: [", "is no YAML"),
    ],
)
def test_a_file_that_cannot_be_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "answers.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        screen.run(io.StringIO(), io.StringIO(), screen.read(path))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        screen.read(tmp_path / "nowhere.yaml")


def test_the_advice_in_lines() -> None:
    said = {name: ("endless" if name == "different_inputs" else value) for name, value in SAID.items()}
    lines = screen.describe(screen.run(io.StringIO(), io.StringIO(), said))
    assert lines[0].startswith("A small model: the answers hang on the sense of the text; it would save about $")
    assert "Today: $381.00 a month, $76.20 a million requests. Owning pays" in "\n".join(lines)
    assert "1,121, of these 717 for the verdict; 1,100 can be had." in "\n".join(lines)
    assert lines[-1] == "Next: aasut init FILE   (a log of requests or a table)"
