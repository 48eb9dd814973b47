"""Charts are well-formed, take the page's colours, show the numbers, and stand side by side in one page."""

from __future__ import annotations

import re
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from drawn import lines, words
from facts import facts
from scipy import stats

from aasut.economics.breakeven import Owning, break_even
from aasut.report import certificate_charts, charts, curves, judged_charts, loss_curves, tornado

DRAWN: dict[str, Callable[[Any], str]] = {
    "accuracy": charts.accuracy,
    "difference": charts.difference,
    "confusion": lambda f: charts.confusion(f, "student"),
    "reliability": charts.reliability,
    "losses": loss_curves.losses,
    "risk_coverage": certificate_charts.risk_coverage,
    "learning_curve": curves.learning_curve,
    "preference": judged_charts.preference,
    "corrected": judged_charts.corrected,
    "costs": charts.costs,
    "break_even": charts.break_even,
    "tornado": tornado.tornado,
}


@pytest.mark.parametrize("name", DRAWN)
def test_every_chart_is_small_self_contained_and_themed(name: str) -> None:
    svg = DRAWN[name](facts())
    ElementTree.fromstring(svg)
    assert len(svg) < 25_000
    assert "http" not in svg
    assert not re.search(r"#[0-9a-f]{6}\b", svg), "a colour that does not follow the page"
    assert "var(--ink)" in svg or "var(--muted)" in svg
    assert "DejaVu" not in svg
    assert words(svg)


@pytest.mark.parametrize("name", DRAWN)
def test_same_facts_same_bytes(name: str) -> None:
    assert DRAWN[name](facts()) == DRAWN[name](facts())


def test_ids_do_not_clash_in_one_page() -> None:
    page = "".join(draw(facts()) for draw in DRAWN.values()) + str(charts.confusion(facts(), "teacher"))
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids)) > 0
    assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', page)) == set(ids)


def test_accuracy_shows_every_model_and_orders_them_by_value() -> None:
    found = facts()
    svg = charts.accuracy(found)
    shown = words(svg)
    for role, result in (("teacher", found["teacher"]), ("student", found["student"]), *found["baselines"].items()):
        assert role in shown
        assert f"{result['accuracy'] * 100:.1f} %" in shown
    points = [float(x) for x in re.findall(r'<use href="#[\w-]+" x="([\d.]+)"', svg)]
    values = [r["accuracy"] for r in reversed([found["teacher"], found["student"], *found["baselines"].values()])]
    assert sorted(range(5), key=points.__getitem__) == sorted(range(5), key=values.__getitem__)


def test_difference_puts_the_margin_where_it_is() -> None:
    svg = charts.difference(facts())
    found = facts()["verdict"]
    places = {w: float(e.get("x", "nan")) for e in ElementTree.fromstring(svg).iter("text") for w in [e.text]}
    dot = float(re.findall(r'<use href="#[\w-]+" x="([\d.]+)"', svg)[-1])
    line = re.search(r'd="M ([\d.]+)[^"]*"[^>]*stroke: var\(--bad\)', svg)
    assert line is not None
    assert float(line[1]) == pytest.approx(places["margin"], abs=0.01)
    share = (dot - places["margin"]) / (places["equal"] - places["margin"])
    assert share == pytest.approx((found["difference"] + found["margin"]) / found["margin"], abs=0.01)


def test_confusion_shows_counts_or_only_shades() -> None:
    found = facts()
    shown = words(charts.confusion(found, "teacher"))
    assert {f"{c:,}" for row in found["teacher"]["confusion"] for c in row} <= set(shown)
    names = [f"intent_number_{i}" for i in range(40)]
    found["task"]["answers"] = names
    found["teacher"]["confusion"] = [[int(i == j) * 9 + 1 for j in range(40)] for i in range(40)]
    many = charts.confusion(found, "teacher")
    assert words(many) == ["answer of the teacher", "human answer"]
    assert len(many) < 400_000


def test_labels_are_text_whatever_they_hold() -> None:
    found = facts()
    found["task"]["answers"] = ["<b>&\"'</b>", "$a$ नमस्ते -->"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown = words(charts.confusion(found, "student"))
    assert "<b>&\"'</b>" in shown
    assert "$a$ नमस्ते -->" in shown


def test_what_was_not_measured_is_left_out() -> None:
    found = facts()
    found["training"] = {"seconds": 1.2}
    for side in ("teacher", "student"):
        found[side]["reliability"] = None
        found[side]["confusion"] = []
        found[side]["requests_per_s"] = found[side]["usd_per_million_requests"] = None
    found["baselines"]["linear"]["requests_per_s"] = None
    found["economics"]["break_even"] = []
    left = [
        loss_curves.losses,
        charts.reliability,
        charts.costs,
        charts.break_even,
        lambda f: charts.confusion(f, "student"),
    ]
    assert [draw(found) for draw in left] == [""] * 5


def test_break_even_marks_each_crossing() -> None:
    found = facts()
    both = charts.break_even(found)
    assert {"100k", "1M", "$1", "$100"} <= set(words(both))
    found["economics"]["break_even"][0]["requests_per_month"] = None
    one = charts.break_even(found)
    assert len(re.findall("<use href", both)) - len(re.findall("<use href", one)) == 1


def test_steps_and_deferral_are_drawn() -> None:
    """Whole machines make a staircase; where requests are deferred, owning costs what each alternative makes of it."""
    found = facts()
    lines = charts.break_even(found).count("stroke: var(--student)")
    own = Owning(2.0, 5.0, 0.0, 12.0, 400_000.0, dedicated=True)
    found["economics"]["break_even"] = [break_even("an API", price, own).as_dict() for price in (10.0, 60.0)]
    path = max(re.findall(r'd="([^"]+)"[^>]*stroke: var\(--student\)', charts.break_even(found)), key=len)
    across, up = (np.array([float(v) for v in re.findall(pattern, path)]) for pattern in
                  (r"[ML] ([-\d.]+) ", r"[ML] [-\d.]+ ([-\d.]+)"))  # fmt: skip
    assert max(abs(np.diff(up))[np.diff(across) < 0.01]) > 1
    deferring = replace(own, deferred_share=0.5)
    found["economics"]["break_even"] = [break_even("an API", price, deferring).as_dict() for price in (10.0, 60.0)]
    assert charts.break_even(found).count("stroke: var(--student)") == lines + 2  # each line and its name


def test_costs_show_prices_with_and_without_the_cache() -> None:
    found = facts()
    shown = words(charts.costs(found))
    teacher = found["teacher"]
    slow = teacher["usd_per_million_requests"] * teacher["requests_per_s"] / teacher["requests_per_s_no_prefix_cache"]
    assert f"${teacher['usd_per_million_requests']:.2f}" in shown
    assert f"${slow:.2f}" in shown
    assert "untrained" not in shown


def test_reliability_has_an_interval_for_each_bin_at_the_design_effect() -> None:
    found = facts()
    drawn = lines(charts.reliability(found), "student")
    bars = [line for line in drawn if len(line) == 2 and line[0][0] == line[1][0]]
    assert len(bars) == len(found["student"]["reliability"])
    z = stats.norm.ppf(0.975) * stats.t.ppf(0.975, 95) / stats.t.ppf(0.975, 945)  # 96 groups, 946 items
    for bar, chunk in zip(bars, found["student"]["reliability"], strict=True):
        n = chunk["n"] / found["student"]["design_effect"]
        share = chunk["accuracy"]  # Wilson's bounds p solve n (share - p)^2 = z^2 p (1 - p)
        wanted = sorted(np.roots([n + z**2, -(2 * n * share + z**2), n * share**2]))
        assert [y for _, y in bar] == pytest.approx([100 * value for value in wanted], abs=0.05)
        assert bar[0][0] == pytest.approx(100 * chunk["confidence"] + charts.APART, abs=0.05)
    del found["student"]["design_effect"]
    assert len(lines(charts.reliability(found), "student")) == len(drawn) - len(bars)


def test_deferred_requests_give_each_alternative_its_own_cost_of_owning() -> None:
    found = facts()
    assert words(charts.break_even(found)).count("own the student") == 1
    for item in found["economics"]["break_even"]:
        item["deferred_share"] = 0.3
    assert [w[:16] for w in words(charts.break_even(found)) if w.startswith("own")] == ["own, the rest to"] * 2
