from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import chunked
from aasut.cli import app
from aasut.commands.synthesize import accounted, estimated, render_preview
from aasut.progress import Progress
from aasut.synthesize.preview import preview

MADE = chunked.chunks(30, "hi")
KINDS = {"kinds": ["relations", "questions", "conversations"], "turns": 2}


def test_a_preview_shows_questions_answers_evidence_and_where_they_stand(tmp_path: Path) -> None:
    recipe = chunked.recipe(synthesize=KINDS)
    ledger = chunked.open_ledger(recipe, tmp_path)
    found = preview(recipe, MADE, chunked.parts(MADE), ledger, None, 6, Progress(quiet=True))
    ledger.close()
    shown = render_preview(found).splitlines()
    assert sum(line.startswith("   from      hi/") for line in shown) == 6
    for item in found["items"]:
        for quote in item["evidence"]:
            assert f"   evidence  {quote}" in shown
    talk = next(item for item in found["items"] if item["kind"] == "conversations")
    assert f"   question  {talk['turns'][2]['content']}" in shown
    assert f"   answer    {talk['turns'][3]['content']}" in shown
    text = next(item for item in found["items"] if item["kind"] == "relations")
    assert f"   text      {text['turns'][0]['content']}" in shown
    assert shown[-1].startswith(f"By this measure a whole run asks {found['estimate']['requests']:,} times: ")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "$1,234.50."),
        (90, ", about 90 seconds."),
        (5000, ", about 83.3 minutes."),
        (90000, ", about 25.0 hours."),
    ],
)
def test_the_estimate_is_a_sentence(seconds: float | None, said: str) -> None:
    estimate: dict[str, Any] = {"requests": 1200, "prompt_tokens": 5_000_000, "completion_tokens": 70, "usd": 1234.5}
    sentence = estimated(estimate | {"seconds": seconds})
    assert sentence.startswith("By this measure a whole run asks 1,200 times: 5,000,000 tokens of prompts and 70 ")
    assert sentence.endswith(said)


def test_row_accounting_is_by_reason() -> None:
    rows = {"in": 1200, "kept": 1000, "dropped": {"short": 150, "none": 0}, "failed": {"no JSON": 50}}
    lines = accounted({"conservation": {"answers": rows}}).splitlines()
    assert [" ".join(line.split()) for line in lines] == ["answers 1,200 in 1,000 kept", "150 short", "50 no JSON"]


def test_the_command_has_its_options() -> None:
    shown = CliRunner().invoke(app, ["synthesize", "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    for option in ("--preview", "--set", "--scale", "--root", "--quiet", "--json"):
        assert option in shown
