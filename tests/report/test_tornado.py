"""The tornado chart shows every input with its two values, and where owning loses."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
from facts import facts

from aasut.report import report, tornado


def words(svg: str) -> list[str]:
    return ["".join(e.itertext()).strip() for e in ElementTree.fromstring(svg).iter("text")]


def test_every_input_and_its_values_are_named() -> None:
    found = facts()
    shown = words(tornado.tornado(found))
    for bar in found["economics"]["tornado"]:
        assert bar["what"] in shown
        assert bar["low_value"].split(" ")[0] in shown
        assert bar["high_value"].split(" ")[0] in shown


def test_bars_end_where_the_values_say() -> None:
    """Widths in the drawing are in proportion to what each input moves the gain by."""
    found = facts()
    economics = found["economics"]
    base, bars = economics["tornado_of"]["base"], economics["tornado"]
    paths = re.findall(r'd="([^"]+)"[^>]*style="[^"]*fill: var\(--student\)', tornado.tornado(found))
    drawn = []
    for path in paths:
        across = [float(x) for x in re.findall(r"[ML] ([-\d.]+) ", path)]
        drawn.append(max(across) - min(across))
    wanted = [abs(bar[side] - base) for bar in reversed(bars) for side in ("low", "high")]
    scale = max(drawn) / max(wanted)
    assert [width / scale for width in drawn] == pytest.approx(wanted, abs=0.02 * max(wanted))


@pytest.mark.parametrize(("base", "seen"), [(0.5, True), (500.0, False)])
def test_the_losing_side_is_shaded_where_it_is_in_reach(base: float, seen: bool) -> None:
    found = facts()
    bar: dict[str, Any] = found["economics"]["tornado"][0] | {"low": base - 1, "high": base + 1}
    found["economics"] |= {"tornado": [bar], "tornado_of": {"what": "net gain", "base": base}}
    assert ("var(--bad)" in tornado.tornado(found)) == seen


def test_nothing_moved_is_nothing_drawn() -> None:
    found = facts()
    found["economics"] |= {"tornado": [], "tornado_of": None, "hangs_on": "", "return": None}
    assert tornado.tornado(found) == ""
    assert 'id="tornado"' not in report.html(found)
    for key in ("tornado", "tornado_of", "hangs_on", "return", "machines", "deferred_share", "human_answers_usd"):
        del found["economics"][key]
    assert 'id="tornado"' not in report.html(found)


def test_the_page_tells_return_and_what_it_hangs_on() -> None:
    found = facts()
    page = report.html(found).replace("\N{NO-BREAK SPACE}%", " %")
    assert 'id="tornado"' in page
    assert found["economics"]["return"]["sentence"] in page
    assert found["economics"]["hangs_on"] in page


def test_losses_are_signed() -> None:
    assert [tornado.signed(value) for value in (-1200.0, 0.0, 12.5)] == ["\N{MINUS SIGN}$1,200", "$0", "$12.50"]
