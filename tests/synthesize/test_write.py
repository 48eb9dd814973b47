from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import chunked
from aasut import tools
from aasut.errors import TeacherError
from aasut.synthesize import write
from aasut.teacher.faults import Fault, Plan
from aasut.teacher.server import ScriptedServer
from aasut.types import Message

MADE = [*chunked.chunks(40), *chunked.chunks(40, "hi")]
PARTS = chunked.parts(MADE)
ALL = {"kinds": ["questions", "relations", "reading", "conversations", "calls"], "tools": chunked.TOOLS, "turns": 2}


def endpoint(server: ScriptedServer, **more: Any) -> dict[str, Any]:
    return {"endpoint": {"base_url": server.url, "model": "m", "api_key_env": "", "concurrency": 8} | more}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[Any], bytes]:
    folder = tmp_path_factory.mktemp("local")
    facts, items = chunked.build(chunked.recipe(synthesize=ALL), MADE, folder, chunked.SharedWords(MADE))
    return facts, items, (folder / write.FILE).read_bytes()


def test_every_kind_is_made_in_both_languages_and_of_what_is_held_out_questions(local: Any) -> None:
    facts, items, _ = local
    made = {(item.split, item.kind, item.language) for item in items}
    expected = {("train", kind, language) for kind in ALL["kinds"] for language in ("en", "hi")}
    assert made == expected | {
        (split, "questions", language) for split in ("tune", "test") for language in ("en", "hi")
    }
    assert len({item.id for item in items}) == len(items) == facts["conservation"]["items"].kept
    counted = {split: sum(kinds.values()) for split, kinds in facts["items"].items()}
    assert counted == {split: sum(item.split == split for item in items) for split in ("train", "tune", "test")}
    assert all(rows.balanced for rows in facts["conservation"].values())
    assert facts["conservation"]["chunks"].rows_in == len(MADE)


def test_every_item_is_grounded_in_chunks_of_its_own_split(local: Any) -> None:
    _, items, _ = local
    two = 0
    for item in items:
        assert {PARTS[span.document] for span in item.spans} == {item.split}
        two += len(item.spans) == 2
        if item.kind in ("questions", "conversations"):
            assert len(item.evidence) == len(item.answers)
        if item.is_text:
            assert len(item.turns) == 1
        if item.kind == "calls" and not item.evidence:
            assert tools.canonical(item.answers[0], json.dumps(chunked.TOOLS)) == item.answers[0]
    assert two > 5


def test_the_order_in_which_answers_arrive_changes_nothing(tmp_path: Path) -> None:
    slow = Fault(fault="slow", share=0.1, seconds=0.05)
    written, wholes = [], []
    for plan in (Plan(), Plan(latency_s=0.001, faults=(slow,)), Plan(seed=1, faults=(slow,))):
        with ScriptedServer(chunked.RULES, plan) as server:
            recipe = chunked.recipe(synthesize=ALL, teacher=endpoint(server))
            folder = tmp_path / str(len(written))
            wholes.append(chunked.build(recipe, MADE, folder, chunked.SharedWords(MADE))[0])
            written.append((folder / write.FILE).read_text(encoding="utf-8").replace(server.url, "URL"))
            asked = server.stats()["requests"]
            wholes.append(chunked.build(recipe, MADE, folder, chunked.SharedWords(MADE))[0])
            assert server.stats()["requests"] == asked
    assert written[0] == written[1] == written[2]
    assert all(facts == wholes[0] for facts in wholes)


def test_the_recipes_language_is_written_in(tmp_path: Path) -> None:
    with ScriptedServer(chunked.RULES) as server:
        recipe = chunked.recipe(synthesize={"language": "hi", "held_out": 0}, teacher=endpoint(server))
        _, items = chunked.build(recipe, chunked.chunks(20), tmp_path)
    assert {item.language for item in items} == {"hi"}


def test_answers_that_an_api_cuts_short_still_give_their_whole_elements(tmp_path: Path) -> None:
    with ScriptedServer(chunked.RULES) as server:
        recipe = chunked.recipe(synthesize={"max_tokens": 90, "held_out": 0}, teacher=endpoint(server))
        facts, items = chunked.build(recipe, chunked.chunks(20), tmp_path)
    assert facts["repairs"] == {"cut: whole elements kept": 12}
    assert len(items) == 12
    assert {item.turns[0] for item in items} >= {Message("user", "What of humidifier?")}


def test_failed_answers_are_counted_by_reason_and_too_many_stop_the_run(tmp_path: Path) -> None:
    made = chunked.chunks(200)
    for first, stops in ((190, False), (100, True)):
        with ScriptedServer(chunked.RULES, Plan(faults=(Fault(fault="content_filter", first=first),))) as server:
            teacher = endpoint(server) | {"max_failed": 0.1}
            recipe = chunked.recipe(teacher=teacher, synthesize={"questions": 2})
            if stops:
                with pytest.raises(TeacherError, match="withheld by the endpoint's content filter"):
                    chunked.build(recipe, made, tmp_path / "stopped")
                assert server.stats()["requests"] < 200
            else:
                facts, items = chunked.build(recipe, made, tmp_path / "whole")
                rows = facts["conservation"]["answers"]
                assert rows.failed == {"withheld by the endpoint's content filter": 10}
                assert (rows.rows_in, rows.kept, len(items)) == (200, 190, 380)


def test_an_api_that_keeps_to_no_json_stops_the_run(tmp_path: Path) -> None:
    with ScriptedServer({"": "मैं यह नहीं कर सकता।"}) as server:
        recipe = chunked.recipe(teacher=endpoint(server))
        with pytest.raises(TeacherError, match=r"not to be read \(\d+ × the answer holds no JSON\)"):
            chunked.build(recipe, chunked.chunks(400), tmp_path)
        assert server.stats()["requests"] < 350


def test_the_cap_stops_the_run_and_what_was_paid_is_kept(tmp_path: Path) -> None:
    with ScriptedServer(chunked.RULES) as server:
        priced = endpoint(server, usd_per_million_input_tokens=10, usd_per_million_output_tokens=10)
        small, large = ({"teacher": priced | {"max_usd": usd}} for usd in (0.4, 100))
        with pytest.raises(TeacherError, match="could pass the cap"):
            chunked.build(chunked.recipe(**small), MADE, tmp_path)
        before = server.stats()["answered"]
        assert 0 < before < len(MADE)
        chunked.build(chunked.recipe(**large), MADE, tmp_path)
        assert server.stats()["answered_again"] == 0
        assert server.stats()["answered"] == len(MADE)
