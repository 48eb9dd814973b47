"""The file of an agent: what it refuses, and that all of it is read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import aasut
from aasut import recipe
from aasut.errors import RecipeError
from aasut.recipe import agent
from refusals import untested

ENDPOINT: dict[str, Any] = {"base_url": "http://127.0.0.1:1/v1", "model": "m"}
SMALL: dict[str, Any] = {"name": "post", "model": {"endpoint": ENDPOINT}, "tools": [{"python": "post.py"}]}
RUN = {"model": {"run": "home"}}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"name": "../x"}, "name: "),
    ({"model": {}}, "give one of endpoint and run"),
    ({"model": {"endpoint": ENDPOINT, "run": "home"}}, "give one of endpoint and run"),
    ({"model": {"endpoint": ENDPOINT | {"logprobs": True}}}, "endpoint.logprobs is not for an agent: leave it out"),
    ({"model": {"endpoint": ENDPOINT, "temperature": 3}}, "model.temperature"),
    ({"tools": []}, "tools: "),
    ({"tools": [{}]}, "give one of python and mcp"),
    ({"tools": [{"python": "a.py", "mcp": {"url": "http://x/mcp"}}]}, "give one of python and mcp"),
    ({"tools": [{"mcp": {}}]}, "give one of command and url"),
    ({"tools": [{"mcp": {"command": []}}]}, "tools.0.mcp.command"),
    ({"tools": [{"mcp": {"url": "ftp://x"}}]}, "tools.0.mcp.url"),
    ({"tools": [{"mcp": {"url": "http://x/mcp", "env": ["A"]}}]}, "env goes with command"),
    ({"tools": [{"mcp": {"command": ["x"], "token_env": "A"}}]}, "token_env goes with url"),
    ({"tools": [{"mcp": {"command": ["x"], "pinned": "xyz"}}]}, "tools.0.mcp.pinned"),
    ({"tools": [{"python": "a.py", "prefix": "a b"}]}, "tools.0.prefix"),
    ({"dangerous": ["un lock"]}, "'un lock' is no name of a tool"),
    ({"approval": "never"}, "approval: "),
    ({"limits": {"steps": 0}}, "limits.steps"),
    ({"limits": {"output": 1}}, "limits.output"),
    ({"limits": {"usd": 1}}, "limits.usd needs prices: give model.endpoint.usd_per_million_input_tokens"),
    (RUN, "a student reads no results of tools: set answer: tools"),
    (RUN | {"answer": "tools", "instructions": "Be kind."}, "a student has its own prompt: leave instructions out"),
    ({"colour": "red"}, "colour: there is no such field"),
]


def load(folder: Path, **more: Any) -> agent.AgentRecipe:
    path = folder / "agent.yaml"
    path.write_text(yaml.safe_dump(SMALL | more), encoding="utf-8")
    return agent.load(path)


def test_little_is_required(tmp_path: Path) -> None:
    found = load(tmp_path)
    assert (found.approval, found.answer, found.limits.steps) == ("ask", "model", 20)
    assert not found.tools[0].trusted
    assert load(tmp_path, **RUN, answer="tools").model.run == "home"


def test_flags_go_over_the_file(tmp_path: Path) -> None:
    load(tmp_path)
    assert agent.load(tmp_path / "agent.yaml", ["limits.steps=3"]).limits.steps == 3


@pytest.mark.parametrize(("settings", "words"), REFUSED)
def test_what_cannot_be_is_refused(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, **settings)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy == "docs/agent.md lists every field."


def test_the_file_in_the_documentation_is_one() -> None:
    head = Path(__file__).parents[2] / "docs" / "agent.head.md"
    (block,) = re.findall(r"```yaml\n(.*?)```", head.read_text(encoding="utf-8"), re.DOTALL)
    assert agent.AgentRecipe.model_validate(yaml.safe_load(block)).name == "house"


def test_every_validator_is_tested_above() -> None:
    assert untested([Path(agent.__file__)], [says for _, says in REFUSED]) == []


def test_every_field_has_a_docstring_and_is_read() -> None:
    root = Path(aasut.__file__).parent
    source = "".join(path.read_text("utf-8") for path in root.rglob("*.py") if path.parent.name != "recipe")
    models = [
        one
        for one in vars(agent).values()
        if isinstance(one, type) and issubclass(one, recipe.Section) and one.__module__ == agent.__name__
    ]
    assert len(models) == 5
    fields = [(model.__name__, name, info) for model in models for name, info in model.model_fields.items()]
    assert [f"{model}.{name}" for model, name, info in fields if not info.description] == []
    assert [f"{model}.{name}" for model, name, _ in fields if not re.search(rf"\.{name}\b", source)] == []


def test_every_setting_of_an_endpoint_is_for_an_agent_or_refused() -> None:
    wire = (Path(aasut.__file__).parent / "agents").rglob("*.py")
    source = "".join(path.read_text("utf-8") for path in wire)
    unread = [name for name in recipe.Endpoint.model_fields if not re.search(rf"endpoint\.{name}\b", source)]
    assert set(unread) == set(agent.UNUSED)
