"""The terminal table holds the headline in 100 columns, plain text included."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from facts import facts
from proof_facts import refused, without
from rich.console import Console

from aasut.report import table


def printed(found: dict[str, object], folder: Path | None = None, width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(table.render(found, folder))
    return console.file.getvalue()


def test_one_row_a_model_within_100_columns() -> None:
    found = facts()
    text = printed(found, Path("runs/reviews"))
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "…" not in text
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.split()}
    student = found["student"]
    low, high = (f"{v * 100:.1f}" for v in student["ci95"])
    dear = student["usd_per_million_requests"]
    ratio = found["teacher"]["usd_per_million_requests"] / dear
    assert rows["student"] == [
        "student", "77.9M", f"{student['accuracy'] * 100:.1f}", "%", low, "to", high, "271", "26.4",
        f"${dear:.2f}", f"{ratio:.1f}×",
    ]  # fmt: skip
    assert rows["teacher"][-1] == "1"
    assert rows["majority"][-3:] == ["–", "–", "–"]
    order = [text.index(f"\n {role} ") for role in ("teacher", "student", "linear", "untrained", "majority")]
    assert order == sorted(order)


def test_verdict_costs_and_files_are_said_in_words() -> None:
    found = facts()
    flat = " ".join(printed(found, Path("runs/reviews")).split())
    for part in (found["verdict"]["sentence"], found["recommendation"]["sentence"], found["economics"]["sentence"]):
        assert part in flat
    for item in found["economics"]["break_even"]:
        assert item["sentence"] in flat
    assert f"Certified {found['certificate']['sentence']}" in flat
    assert found["economics"]["return"]["sentence"] in flat
    assert "runs/reviews/ report.html · report.json · student.gguf" in flat
    assert "scale" not in flat


def test_no_certificate_is_told_only_where_one_was_asked_for() -> None:
    found = facts()
    assert "ertif" not in printed(without(found))
    text = " ".join(printed(found | {"certificate": refused()}).split())
    assert f"Certificate: agreement with the teacher {refused()['sentence']}" in text


def test_the_linear_model_comes_first_where_it_is_enough() -> None:
    found = facts()
    found["recommendation"] = {"use": "linear", "sentence": "The linear model is as good."}
    text = printed(found)
    assert text.strip().startswith("The linear model is as good.")
    assert text.count("The linear model is as good.") == 1


def test_widest_case_fits() -> None:
    found = facts()
    found["baselines"]["student_q8_0"] = found["student"] | {"requests_per_s": 123456.0, "tokens_per_request": 123456.0}
    found["student"]["usd_per_million_requests"] = 123456.0
    found["scale"] = "ci"
    text = printed(found)
    assert "student Q8_0" in text
    assert "$123,456" in text
    assert "Made with --scale ci" in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_markup_in_names_is_text() -> None:
    found = facts()
    found["verdict"]["sentence"] = "Text with [bold]brackets[/bold]."
    assert "[bold]brackets[/bold]" in printed(found)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (134_515_008, "135M"),
        (999_700_000, "1000M"),
        (1_240_000_000, "1.24B"),
        (41_208, "41.2k"),
        (12, "12"),
        (0, "–"),
        (None, "–"),
    ],
)
def test_parameters(value: int | None, text: str) -> None:
    assert table.parameters(value) == text
