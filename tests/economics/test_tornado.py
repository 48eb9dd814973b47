"""Bars by hand, their order, what flips, and that declared ranges are taken."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from cases import case

from aasut.economics.returns import Difference, Noise
from aasut.economics.tornado import tornado, tornado_sentence

SEEN = Difference(-0.02, -0.038, -0.004, 0.95)
# 10,000,000 requests: $40 saved less $10 for machines, $1 fixed, $2 one-off and 10,000,000 * .02 * $.00001 = $2.
CASE = case(requests_per_month=1e7, usd_per_correct_answer=1e-5)


def bars(**changes: Any) -> dict[str, Any]:
    settings = {"case": CASE, "difference": SEEN, **changes}
    found = tornado(**settings)
    assert json.loads(json.dumps(found)) == found
    return {bar["what"]: bar for bar in found["tornado"]}


def test_each_bar_by_hand() -> None:
    assert tornado(CASE, SEEN)["tornado_of"]["base"] == pytest.approx(25.0)
    by_hand = {
        "volume": (14 - 3, 56 - 3),
        "price of the teacher": (25 - 20, 25 + 40),
        "utilisation": (25 - 10, 25 + 5),
        "machine price": (25 + 5 + 0.15, 25 - 10 - 0.3),
        "speed of the student": (25 - (10 / 0.8 - 10), 25 + 10 - 10 / 1.2),
        "share deferred": (25.0, 25 - 8 + 0.4),
        "labelling cost": (25 + 22.2 / 24, 25 - 22.2 / 12),
        "months of use": (25 - 2, 25 + 1),
        "difference in accuracy": (25 - 1.8, 25 + 1.6),
        "worth of right answers": (25 + 1, 25 - 2),
    }
    found = bars()
    assert set(found) == set(by_hand)
    for what, ends in by_hand.items():
        assert (found[what]["low"], found[what]["high"]) == (pytest.approx(ends[0]), pytest.approx(ends[1])), what


def test_the_widest_stands_first() -> None:
    found = tornado(CASE, SEEN)
    base = found["tornado_of"]["base"]
    widths = [max(b["low"], b["high"], base) - min(b["low"], b["high"], base) for b in found["tornado"]]
    assert widths == sorted(widths, reverse=True)
    assert found["tornado"][0]["what"] == "price of the teacher"


def test_a_sign_that_turns_is_marked() -> None:
    assert not any(bar["flips"] for bar in bars().values())
    smaller = replace(CASE, requests_per_month=2e6)  # $8 less $2, $3 and $.40: $2.60
    found = tornado(smaller, SEEN)
    assert [bar["what"] for bar in found["tornado"] if bar["flips"]] == ["price of the teacher", "volume"]
    said = tornado_sentence(found)
    assert said.startswith(
        "Owning gains $2.60 a month; most hangs on the price of the teacher. Alone within its range, "
    )
    assert "price of the teacher or volume would turn it." in said
    assert "none of the inputs alone" in tornado_sentence(tornado(CASE, SEEN))


def test_a_loss_is_called_one() -> None:
    found = tornado(replace(CASE, requests_per_month=1e6), SEEN)
    assert tornado_sentence(found).startswith("Owning loses $0.20 a month")


def test_without_a_worth_accuracy_does_not_count() -> None:
    found = bars(case=replace(CASE, usd_per_correct_answer=0.0))
    assert not {"difference in accuracy", "worth of right answers"} & set(found)


def test_declared_ranges_are_taken() -> None:
    found = bars(
        ranges={
            "requests_per_month": [1e7, 3e7], "teacher_usd_per_million_requests": [3.0, 5.0], "utilisation": [0.1, 0.9],
            "requests_per_s": [80.0, 90.0], "deferred_share": [0.1, 0.3], "labelling_usd": [0.0, 44.4],
            "months": [6.0, 18.0], "usd_per_machine_hour": [0.09, 0.18],
        }
    )  # fmt: skip
    assert {what for what, bar in found.items() if bar["basis"] == "declared"} == {
        "volume", "price of the teacher", "utilisation", "speed of the student", "share deferred", "labelling cost",
        "months of use", "machine price",
    }  # fmt: skip
    assert (found["price of the teacher"]["low"], found["price of the teacher"]["high"]) == (
        pytest.approx(15.0),
        pytest.approx(35.0),
    )
    assert found["volume"]["low_value"] == "10,000,000"
    assert found["labelling cost"]["low"] == pytest.approx(25 + 22.2 / 12)
    assert found["share deferred"]["high_value"] == "30\N{NO-BREAK SPACE}%"


def test_the_price_of_a_teacher_on_a_machine_is_its_speed() -> None:
    local = replace(CASE, teacher_requests_per_s=25.0)
    remote, here = bars()["price of the teacher"], bars(case=local)["price of the teacher"]
    assert (here["low"], here["high"]) == (pytest.approx(remote["low"]), pytest.approx(remote["high"]))
    cheaper = bars(case=local)["machine price"]["low"]
    assert cheaper == pytest.approx(20 - 2 - 5 - 3 + 0.15)  # both halve


def test_a_repeated_speed_moves_as_far_as_it_was_measured() -> None:
    noise = Noise(0.05, 1_000_000)
    moved = bars(noise=noise)["speed of the student"]
    assert moved["basis"] == "measured"
    assert (moved["low_value"], moved["high_value"]) == ("90.7", "110 requests/s")


def test_shares_stay_below_one() -> None:
    assert bars(case=replace(CASE, deferred_share=0.9))["share deferred"]["high_value"] == "95\N{NO-BREAK SPACE}%"
    assert bars(case=replace(CASE, utilisation=0.8))["utilisation"]["high_value"] == "100\N{NO-BREAK SPACE}%"
