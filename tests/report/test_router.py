"""The page shows how experts are used, and nothing of it for a dense student."""

from __future__ import annotations

from typing import Any

from facts import facts

from aasut.report import report, router

USED: dict[str, Any] = {
    "shares": [[0.25, 0.25, 0.25, 0.25], [0.7, 0.1, 0.2, 0.0]],
    "cv": 0.5412,
    "dead": 1,
    "groups": {"finance": [[0.6, 0.2, 0.1, 0.1]] * 2, "games": [[0.1, 0.2, 0.6, 0.1]] * 2},
}
START = {"experts": 4, "parameters": [100, 400], "active_parameters": 200}


def with_experts() -> dict[str, Any]:
    found = facts()
    found["training"]["experts"] = USED
    found["training"]["initialise"] = {"initialise": "pretrained", "experts": START}
    return found


def test_what_is_told_of_experts() -> None:
    assert router.rows(with_experts()["training"]) == [
        ("Weights that a token uses", "200 of 400 (50%)"),
        ("Load of the experts", "deviation over mean 0.54, on the mean over layers"),
        ("Dead experts", "1 of 8"),
    ]
    assert router.rows({"experts": USED})[0][0] == "Load of the experts"
    assert router.rows(facts()["training"]) == []


def test_heat_maps_have_a_cell_for_every_expert_darker_with_its_load() -> None:
    drawn = str(router.loads(with_experts()))
    assert drawn.count("var(--student)") == 8
    assert "opacity: 0.05" in drawn, "the dead one"
    assert "opacity: 0.85" in drawn, "more than twice the even share is as dark as it gets"
    assert drawn.count("opacity: 0.45") == 4, "even shares"
    of_groups = str(router.groups(with_experts()))
    assert "finance" in of_groups
    assert of_groups.count("var(--student)") == 8


def test_the_page_shows_them() -> None:
    page = report.html(with_experts())
    assert "Share of tokens of each expert by layer" in page
    assert "1 of 8" in page
    plain = report.html(facts())
    assert "Dead experts" not in plain
    assert "What each expert is for" not in plain
