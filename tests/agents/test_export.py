"""Traces as training data: what is written is what a recipe of a `tools` task learns from."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from aasut import recipe as recipes
from aasut import tools
from aasut.agents import untrusted
from aasut.agents.export import UNFINISHED, WRONG, export
from aasut.agents.start import opened
from aasut.data import recorded
from aasut.errors import DataError
from aasut.recipe import Recipe
from agent_server import calling, post_office, said, speaking

READ = ("read", {"box": "1"})


def traced(folder: Path, *replies: Any, tasks: tuple[str, ...] = ("What is in 1?",), **more: Any) -> str:
    """Do tasks, each a conversation; the model's address."""

    async def main(url: str) -> None:
        async with opened(post_office(folder, url, **more), folder, folder / "runs") as ready:
            for task in tasks:
                await ready.session(None, lambda _: None).run(*ready.task(task))

    with speaking(*replies) as server:
        asyncio.run(main(server.url))
    return server.url


def lines(folder: Path, **wishes: Any) -> list[dict[str, Any]]:
    export(folder / "runs", folder / "log.jsonl", **wishes)
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def test_each_answer_is_an_example(tmp_path: Path) -> None:
    traced(tmp_path, calling(READ), said("At nine."))
    first, second = lines(tmp_path)
    system = {"role": "system", "content": "You keep the post.\n\n" + untrusted.RULE}
    assert first["request"]["messages"] == [system, {"role": "user", "content": "What is in 1?"}]
    assert [tool["function"]["name"] for tool in first["request"]["tools"]] == ["read", "pay"]
    assert tools.written(first["response"]["choices"][0]["message"]["tool_calls"]) == (
        '[{"name": "read", "arguments": {"box": "1"}}]'
    )
    assert second["request"]["messages"] == [
        system,
        {
            "role": "user",
            "content": 'user: What is in 1?\ncalled: [{"name": "read", "arguments": {"box": "1"}}]\n'
            'returned: {"output": "Dear all, come at nine."}',
        },
    ]
    assert second["response"]["choices"][0]["message"]["content"] == "At nine."
    assert first["id"] != second["id"]


def test_other_trainers_get_the_messages_as_they_were(tmp_path: Path) -> None:
    traced(tmp_path, calling(READ), said("At nine."))
    assert [[m["role"] for m in line["request"]["messages"]] for line in lines(tmp_path, chat=True)] == [
        ["system", "user"],
        ["system", "user", "assistant", "tool"],
    ]


def test_what_went_wrong_is_left_out_and_counted(tmp_path: Path) -> None:
    traced(tmp_path, calling(("read", {"box": "7"})), calling(READ), said("At nine."))
    traced(tmp_path, calling(READ), limits={"steps": 2})
    counted = export(tmp_path / "runs", tmp_path / "log.jsonl")
    assert counted.balanced
    assert (counted.rows_in, counted.kept, counted.dropped) == (5, 2, {WRONG: 1, UNFINISHED: 2})
    assert len(lines(tmp_path, everything=True)) == 5
    with pytest.raises(DataError, match="Of 0 answers in the traces of"):
        export(tmp_path / "runs", tmp_path / "log.jsonl", agent="nobody")


def recipe_of(folder: Path, url: str) -> Recipe:
    """A recipe that learns what the log has, without asking."""
    line = json.loads((folder / "log.jsonl").read_text(encoding="utf-8").splitlines()[0])
    prompt = [line["request"]["messages"][0], {"role": "user", "content": "{text}"}]
    prompt[0]["content"] = prompt[0]["content"].replace("{", "{{").replace("}", "}}")
    plain = {
        "name": "post",
        "task": {"kind": "tools", "tools": line["request"]["tools"], "prompt": prompt, "max_tokens": 60},
        "data": {"tables": [{"source": "log.jsonl", "format": "chat", "recorded": True, "role": "pool"}]},
        "teacher": {"endpoint": {"base_url": url, "model": "m", "api_key_env": ""}},
        "student": {"model": {"address": "file:nowhere"}},
    }
    return recipes.parse(plain, "recipe.yaml")


def test_a_recipe_learns_every_step_without_asking_again(tmp_path: Path) -> None:
    url = traced(tmp_path, calling(READ), said("At nine."))
    assert len(lines(tmp_path)) == 2
    wanted = recipe_of(tmp_path, url)
    found = recorded.read(wanted, tmp_path)
    assert (found.conservation.rows_in, found.conservation.kept) == (2, 2)
    task = wanted.task.build()
    assert [task.parse(answer.completion.text) for answer in found.answers] == [
        '[{"name": "read", "arguments": {"box": "1"}}]',
        "At nine.",
    ]


def test_a_log_of_other_tools_is_not_learned(tmp_path: Path) -> None:
    url = traced(tmp_path, calling(READ), said("At nine."))
    lines(tmp_path)
    wanted = recipe_of(tmp_path, url)
    text = (tmp_path / "log.jsonl").read_text(encoding="utf-8").replace("Read a letter.", "Read another's letter.")
    (tmp_path / "log.jsonl").write_text(text, encoding="utf-8")
    assert recorded.read(wanted, tmp_path).conservation.failed == {"other tools": 2}
