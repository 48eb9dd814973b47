from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import chunked
from aasut.progress import Progress
from aasut.recipe.field import FieldRecipe
from aasut.synthesize.preview import citation, preview
from aasut.teacher.faults import Plan
from aasut.teacher.server import ScriptedServer
from aasut.types import Span

MADE = [*chunked.chunks(60), *chunked.chunks(60, "hi")]
KINDS = ["questions", "relations", "reading", "conversations", "calls"]


def shown(recipe: FieldRecipe, folder: Path, count: int, made: Any = MADE) -> dict[str, Any]:
    ledger = chunked.open_ledger(recipe, folder)
    try:
        return preview(recipe, made, chunked.parts(MADE), ledger, None, count, Progress(quiet=True))
    finally:
        ledger.close()


def recipe(server: ScriptedServer, **synthesize: Any) -> FieldRecipe:
    endpoint = {"base_url": server.url, "model": "m", "api_key_env": "", "concurrency": 8}
    prices = {"usd_per_million_input_tokens": 1.0, "usd_per_million_output_tokens": 2.0}
    wanted = {"kinds": KINDS, "tools": chunked.TOOLS, "turns": 2} | synthesize
    return chunked.recipe(teacher={"endpoint": endpoint | prices}, synthesize=wanted)


def test_items_of_every_kind_are_shown_with_where_they_come_from(tmp_path: Path) -> None:
    with ScriptedServer(chunked.RULES) as server:
        found = shown(recipe(server), tmp_path, 10)
        assert server.stats()["requests"] < 40
    assert len(found["items"]) == 10
    assert [item["kind"] for item in found["items"][:5]] == KINDS
    first = found["items"][0]
    assert [turn["role"] for turn in first["turns"]] == ["user", "assistant"]
    assert first["evidence"] == [first["turns"][1]["content"]]
    (place,) = first["citations"]
    assert re.fullmatch(r"(en|hi)/\d+\.md, page \d+ › Upkeep \d+, characters \d+ to \d+", place)


def test_the_whole_run_takes_what_the_preview_says_and_does_not_pay_again(tmp_path: Path) -> None:
    with ScriptedServer(chunked.RULES, Plan(latency_s=0.002)) as server:
        wanted = recipe(server)
        estimate = shown(wanted, tmp_path, 20)["estimate"]
        previewed = server.stats()["requests"]
        assert previewed > 0
        facts, _ = chunked.build(wanted, MADE, tmp_path)
        assert server.stats()["answered_again"] == 0
        asked = sum(facts["requests"].values())
    assert estimate["requests"] == pytest.approx(asked, rel=0.1)
    assert estimate["prompt_tokens"] == pytest.approx(facts["tokens"]["prompt"], rel=0.15)
    assert estimate["completion_tokens"] == pytest.approx(facts["tokens"]["completion"], rel=0.25)
    assert estimate["usd"] == pytest.approx(estimate["prompt_tokens"] / 1e6 + 2 * estimate["completion_tokens"] / 1e6)
    assert estimate["seconds"] > 0


def test_a_second_preview_asks_nothing_and_knows_no_time(tmp_path: Path) -> None:
    with ScriptedServer(chunked.RULES) as server:
        wanted = recipe(server)
        one = shown(wanted, tmp_path, 12)
        asked = server.stats()["requests"]
        two = shown(wanted, tmp_path, 12)
        assert server.stats()["requests"] == asked
    assert two["items"] == one["items"]
    assert two["made_now"] == 0
    assert two["estimate"] == one["estimate"] | {"seconds": None}


def test_there_may_be_fewer_items_than_wanted(tmp_path: Path) -> None:
    found = shown(chunked.recipe(), tmp_path, 500, MADE[:10])
    assert len(found["items"]) == 10  # all that can be made: the rule's second question is the same again
    assert found["conservation"]["chunks"]["in"] == 10


def test_a_citation_has_what_there_is() -> None:
    assert citation(Span("a/b.txt", 1000, 2345)) == "a/b.txt, characters 1,000 to 2,345"
    assert citation(Span("क.pdf", 0, 5, 7, ("अध्याय", "भाग"))) == "क.pdf, page 7 › अध्याय › भाग, characters 0 to 5"
