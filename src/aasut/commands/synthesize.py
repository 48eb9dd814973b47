"""`aasut synthesize`: documents to training data. Parses, calls, prints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from aasut.progress import Progress

NAMES = {"user": "question", "assistant": "answer"}


def synthesize(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="A recipe.yaml of a field; docs/field.md lists its fields.")
    ],
    preview: Annotated[
        int, typer.Option(min=0, metavar="N", help="Make N items only, show them, and say what the whole would take.")
    ] = 0,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Override a field, e.g. synthesize.chunks=50."),
    ] = None,
    scale: Annotated[str, typer.Option(help="full, or ci for small slices of everything.")] = "full",
    root: Annotated[Path, typer.Option("--root", help="Folder that holds the runs.")] = Path("runs"),
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Turn documents into training data and an evaluation that it has not seen."""
    from aasut import field
    from aasut.recipe import field as recipes

    loaded, progress = recipes.load(recipe, overrides or []), Progress(quiet=quiet)
    if preview:
        found = field.preview(loaded, recipe.parent, root, progress, preview, scale)
        print(json.dumps(found, ensure_ascii=False) if as_json else render_preview(found))
        return
    made = field.synthesize(loaded, recipe.parent, root, progress, scale)
    if as_json:
        plain = {"folder": str(made.folder), "calls_made_now": made.calls_made, **made.facts}
        print(json.dumps(plain, ensure_ascii=False))
        return
    from aasut.report import synthesis

    print("\n".join(synthesis.lines(made.facts["synthesis"])))
    print(f"\n{made.folder}/ {', '.join(shown(made.folder))}")
    print(f"Calls made of the teacher just now: {made.calls_made:,}")


def shown(folder: Path) -> list[str]:
    """What of a run's folder a reader looks for."""
    from aasut.report import synthesis
    from aasut.synthesize import handover

    names = (synthesis.PAGE, handover.TRAIN, handover.HELD_OUT, handover.TEXTS, handover.CHAT, handover.TASK,
             handover.TASK_CALLS)  # fmt: skip
    return [name for name in names if (folder / name).exists()]


def accounted(facts: Mapping[str, Any]) -> str:
    """Row accounting, a line a step, with what was lost by reason."""
    lines = []
    for name, rows in facts["conservation"].items():
        lost = {**rows["dropped"], **rows["failed"]}
        lines.append(f"{name:<24}{rows['in']:>8,} in {rows['kept']:>8,} kept")
        lines += [f"    {count:>8,} {reason}" for reason, count in lost.items() if count]
    return "\n".join(lines)


def render_preview(found: Mapping[str, Any]) -> str:
    """The items, and what the whole would take, for a terminal."""
    lines: list[str] = []
    for number, item in enumerate(found["items"], 1):
        lines.append(f"{number}. {item['kind']}, {item['split']}")
        if len(item["turns"]) == 1:
            lines.append(f"   text      {_indented(item['turns'][0]['content'])}")
        else:
            lines += [f"   {NAMES[turn['role']]:<9} {_indented(turn['content'])}" for turn in item["turns"]]
        lines += [f"   evidence  {_indented(quote)}" for quote in item["evidence"]]
        lines += [f"   from      {place}" for place in item["citations"]]
        lines.append("")
    lines += [accounted(found), "", estimated(found["estimate"])]
    return "\n".join(lines)


def estimated(estimate: Mapping[str, Any]) -> str:
    """What a whole run would take, in a sentence."""
    tokens = f"{estimate['prompt_tokens']:,} tokens of prompts and {estimate['completion_tokens']:,} of answers"
    took = "" if estimate["seconds"] is None else f", about {_time(estimate['seconds'])}"
    return f"By this measure a whole run asks {estimate['requests']:,} times: {tokens}, ${estimate['usd']:,.2f}{took}."


def _time(seconds: float) -> str:
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {name}"
    return f"{seconds:,.0f} seconds"


def _indented(text: str) -> str:
    return text.replace("\n", "\n" + " " * 13)
