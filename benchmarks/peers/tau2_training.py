"""Traces of tau2's tasks as training data: exported, and read by a recipe of kind `tools`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from aasut import recipe as recipes
from aasut.agents.export import export
from aasut.data import recorded

# What differs from task to task in the instructions of an agent that works alone.
TICKET = re.compile(r"(<ticket>\n).*(\n</ticket>)", re.DOTALL)
ANSWER_TOKENS = 1024


def read(root: Path, agent: str) -> dict[str, Any]:
    """How many answers of an agent's runs are exported, and how many of these a recipe takes as its teacher's."""
    path = root / f"{agent}.jsonl"
    told = export(root, path, agent=agent)
    found = recorded.read(recipes.Recipe.model_validate(recipe(path)), root)
    conservation = found.conservation
    return {
        "exported": told.as_dict(),
        "read": conservation.as_dict(),
        "calls": sum(one.completion.text.lstrip().startswith("[") for one in found.answers),
    }


def recipe(path: Path) -> dict[str, Any]:
    """A recipe whose teacher's answers are those of an export: its prompt and tools are what the first line has."""
    with path.open(encoding="utf-8") as lines:
        asked = json.loads(next(lines))["request"]
    system = asked["messages"][0]["content"].replace("{", "{{").replace("}", "}}")
    prompt = [
        {"role": "system", "content": TICKET.sub(r"\1{ticket}\2", system)},
        {"role": "user", "content": "{said}"},
    ]
    task = {"kind": "tools", "prompt": prompt, "max_tokens": ANSWER_TOKENS, "tools": asked["tools"]}
    endpoint = {"base_url": "http://localhost/v1", "model": asked["model"], "api_key_env": ""}
    return {
        "name": path.stem,
        "task": task,
        "data": {"tables": [{"source": path.name, "format": "chat", "recorded": True, "role": "pool"}]},
        "teacher": {"endpoint": endpoint, "temperature": 0.0},
        "student": {"model": {"address": "file:none"}},
    }
