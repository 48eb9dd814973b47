"""The student's model card, `card.md`: what it is, what it came from, how to use it."""

from __future__ import annotations

import json
from typing import Any

from aasut.recipe import Recipe
from aasut.tasks import Task


def render(recipe: Recipe, facts: dict[str, Any], licences: list[dict[str, Any]], licence: str) -> str:
    """Markdown with the front matter that model hubs read."""
    prompt = "".join(m.content for m in recipe.student_template().messages)
    lines = [
        "---",
        f"license: {licence or 'unknown'}",
        "library_name: transformers" if recipe.student.initialise != "linear" else "library_name: sklearn",
        f"tags: [distillation, aasut, text-{'classification' if recipe.task.kind == 'classify' else 'generation'}]",
        "---",
        f"# {recipe.name}",
        "",
        _what(recipe.task.build()),
        "",
        "## Prompt",
        "",
        "The student was trained on this prompt, and on no other; its chat template passes text through as it is.",
        "",
        "```text",
        prompt,
        "```",
        "",
        "Text given for a slot is data: names of control tokens in it stay plain text.",
        "",
        "## Files",
        "",
        *[f"- `{name}`: SHA-256 `{value}`" for name, value in facts["files"].items()],
        "",
        "## Descent and licences",
        "",
        *[f"- {entry['what']} ({entry['licence']}). {entry['note']}" for entry in licences],
        "",
        "How it was made and how it did is told in `report.json` and `report.html` beside this file.",
        "",
        "## Round trip",
        "",
        "```json",
        json.dumps(facts.get("round_trip", {}), indent=1),
        "```",
        "",
    ]
    return "\n".join(lines)


def _what(task: Task) -> str:
    if task.answers:
        return f"A student that answers one of: {', '.join(task.answers)}."
    if task.tools:
        return f"A student that calls these functions, or answers with text where none is needed: `{task.tools}`."
    if task.schema:
        return f"A student that answers with JSON of this schema: `{task.schema}`."
    return f"A student that answers with text of up to {task.max_tokens} tokens."
