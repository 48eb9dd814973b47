"""The decision table row by row, and the figures behind it by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest
from situations import situation

from aasut.economics.advice import ASSUMED, MARGIN, advise, estimate, proof
from aasut.evaluate.power import examples_needed, margin_shown


@pytest.mark.parametrize(
    ("changes", "use", "words"),
    [
        ({}, "model", "the answers hang on the sense of the text; it would save about $"),
        ({"rule": "yes", "may_leave": False}, "code", "a rule that can be written down needs no model"),
        ({"different_inputs": 2000.0}, "code", "only about 2,000 different inputs"),
        ({"different_inputs": 2001.0}, "model", "sense of the text"),
        ({"task": "other"}, "api", "without one right answer to a request"),
        ({"task": "other", "different_inputs": 5.0}, "api", "without one right answer to a request"),
        ({"may_leave": False, "requests_per_month": 10.0}, "model", "the teacher must run in your own house too"),
        ({"latency_ms": 199.0, "requests_per_month": 10.0}, "model", "an answer within 199 ms"),
        ({"latency_ms": 200.0, "requests_per_month": 10.0}, "api", "10 requests a month are too few. Owning pays"),
        ({"usd_per_million_input_tokens": 0.001, "usd_per_million_output_tokens": 0.0}, "api", "Owning never pays"),
        ({"human_answers": 0, "more_human_answers": 50}, "api", "show 17.8 points at best. Without the proof"),
        ({"human_answers": 0, "more_human_answers": 0}, "api", "show nothing. Without the proof"),
        ({"single_words": True}, "linear", "the labels hang on single words"),
        ({"single_words": True, "labels": 101}, "model", "sense of the text"),
        ({"single_words": True, "may_leave": False}, "linear", "the inputs may not leave"),
        ({"task": "generate", "single_words": True, "output_tokens": 100.0}, "model", "sense of the text"),
        ({"usd_per_wrong_answer": 1.0}, "api", "at most 0.1 points less accurate can be borne"),
        ({"changes": "daily"}, "api", "requests a month are too few"),
    ],
)  # fmt: skip
def test_each_row_of_the_table(changes: dict[str, Any], use: str, words: str) -> None:
    found = advise(situation(**changes))
    assert found["use"] == use, found["sentence"]
    assert words in found["sentence"]
    assert found["next"].startswith("aasut ")
    assert json.loads(json.dumps(found)) == found


def test_todays_price() -> None:
    assert situation().price == pytest.approx(500 * 0.15 + 2 * 0.60)
    assert situation(usd_per_request=0.002).price == pytest.approx(2000.0)
    assert advise(situation())["usd_per_month_today"] == pytest.approx(76.2 * 5)


def test_the_models_break_even_by_hand() -> None:
    """500/2509 + 2/1030 s a request, half used, $73 a machine; 3,000 answers of $76.2 a million, 900 asked, an hour."""
    found = estimate(situation(), False, 1000)
    rate = 1 / (500 / 2509 + 2 / 1030)
    assert found.owning.usd_per_million_requests == pytest.approx(0.10 * 1e6 / (3600 * rate * 0.5))
    assert found.owning.one_off_usd == pytest.approx(0.2286 + 900 * 0.1 + 0.10)
    assert found.owning.machine_usd_per_month == pytest.approx(73.0)
    assert found.requests_per_month == pytest.approx((73 + 90.3286 / 12) / 76.2e-6, abs=1)


def test_a_linear_classifier_needs_no_machine_of_its_own() -> None:
    found = estimate(situation(single_words=True), True, 100)
    assert not found.owning.dedicated
    assert found.requests_per_month == pytest.approx(0.2286 / 12 / 76.2e-6, rel=0.01)


def test_human_answers_for_the_margin() -> None:
    """The recipe's split keeps 32 of 50 for the verdict; no wrong answer costs anything."""
    wanted = proof(situation(), 70e-6)
    assert (wanted.margin, wanted.test, wanted.at_hand) == (MARGIN, examples_needed(MARGIN), 1100)
    assert wanted.answers == pytest.approx(wanted.test * 50 / 32, abs=1)
    assert wanted.shown == pytest.approx(margin_shown(704), abs=1e-4)


def test_a_costly_wrong_answer_narrows_the_margin() -> None:
    """$70 a million saved against $0.007 a wrong answer: one in a hundred more eats it up."""
    wanted = proof(situation(usd_per_wrong_answer=0.007), 70e-6)
    assert (wanted.margin, wanted.widest) == (pytest.approx(0.01), pytest.approx(0.01))
    enough = {"usd_per_wrong_answer": 0.003, "more_human_answers": 20_000}
    notes = advise(situation(**enough, usd_per_human_answer=0.001))["notes"]
    assert any("aasut certify" in note for note in notes)


def test_notes_say_what_else_was_seen() -> None:
    def notes(**changes: Any) -> str:
        return " ".join(advise(situation(**changes))["notes"])

    assert "Write the part of the rule" in notes(rule="partly")
    assert "labels, training and proof are made anew" in notes(changes="weekly")
    assert "1,121 human answers are wanted for a margin of 3.0 points; the 500" in notes(more_human_answers=400)
    assert "A linear classifier is made beside the model" in notes()
    assert advise(situation())["assumed"] == list(ASSUMED)
