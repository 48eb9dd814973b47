"""`aasut runs compare`: what differs between two runs, in what they were told and in what came out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from aasut.errors import AasutError, StoreError
from aasut.recipe import AnyTask
from aasut.records import FinishedRun
from aasut.report import table
from aasut.runs.catalogue import PREFIX, Catalogue, open_at, times, when

Plain = dict[str, Any]


def _points(value: float | None) -> str:
    from aasut.evaluate.paired import points

    return table.NONE if value is None else points(value, signed=True)


NOT_COMPARED = ("name",)
FIGURES: dict[str, tuple[tuple[str, ...], Callable[[Any], str]]] = {
    "teacher: accuracy": (("teacher", "accuracy"), table.percent),
    "student: accuracy": (("student", "accuracy"), table.percent),
    "student: similarity": (("student", "similarity"), table.percent),
    "linear: accuracy": (("baselines", "linear", "accuracy"), table.percent),
    "student minus teacher, lower bound": (("verdict", "lower_bound"), _points),
    "margin": (("verdict", "margin"), table.percent),
    "parameters of the student": (("student", "parameters_total"), table.parameters),
    "teacher: requests/s": (("teacher", "requests_per_s"), table.number),
    "student: requests/s": (("student", "requests_per_s"), table.number),
    "student: tokens a request": (("student", "tokens_per_request"), table.number),
    "teacher: $ a million requests": (("teacher", "usd_per_million_requests"), table.money),
    "student: $ a million requests": (("student", "usd_per_million_requests"), table.money),
    "cheaper than the teacher": (("economics", "cheaper_than_teacher"), times),
    "labelling, $": (("economics", "labelling_usd"), table.money),
    "training, $": (("economics", "training_usd"), table.money),
    "calls made of the teacher": (("ledger", "calls_made"), table.number),
}


def gather(root: Path, first: str, second: str) -> Plain:
    """Settings, verdicts, figures, paired differences and lineage of runs a and b of one store."""
    store, root, first = open_at(root, first)
    _, other_root, second = open_at(root, second)
    if other_root.absolute() != root.absolute():
        raise StoreError(f"{root} and {other_root} are two stores.", "Compare runs of one folder of runs.")
    with store:
        catalogue = Catalogue(root, store)
        runs = [catalogue.find(first), catalogue.find(second)]
        facts = [catalogue.facts(run) for run in runs]
        recipes = [catalogue.recipe(run) for run in runs]
        return {
            "runs": [{"name": catalogue.label(r), "fingerprint": r.report, "at": r.at} for r in runs],
            "scales": [_at(f, ("scale",)) for f in facts],
            "settings": _different(*recipes),
            "verdicts": [_at(f, ("verdict", "result")) for f in facts],
            "figures": {name: [_at(f, place) for f in facts] for name, (place, _) in FIGURES.items()},
            **_paired(catalogue, runs),
            "parts": _parts(catalogue, runs),
        }


def _at(plain: Any, place: tuple[str, ...]) -> Any:
    for key in place:
        plain = plain.get(key) if isinstance(plain, Mapping) else None
    return plain


def _different(a: Plain, b: Plain) -> list[Plain]:
    """Fields of the recipe that differ, by their path; a field that one recipe lacks is None there."""
    one, other = dict(_flat(a)), dict(_flat(b))
    fields = [*one, *(field for field in other if field not in one)]
    return [
        {"field": field, "values": [one.get(field), other.get(field)]}
        for field in fields
        if one.get(field) != other.get(field) and field not in NOT_COMPARED
    ]


def _flat(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list) and any(isinstance(inner, Mapping) for inner in value):
        for number, inner in enumerate(value):
            yield from _flat(inner, f"{place}[{number}]")
    else:
        yield place, value


def _paired(catalogue: Catalogue, runs: list[FinishedRun]) -> Plain:
    """Accuracy of b minus accuracy of a on the same examples, model by model; or why it cannot be had."""
    splits = [_split(catalogue, run) for run in runs]
    if splits[0] != splits[1] or splits[0] is None:
        named = " and ".join(str(split)[:PREFIX] if split else "unknown" for split in splits)
        why = (
            f"They were not evaluated on the same test split ({named}): "
            "their accuracies are of other examples, and no interval can be given for the difference."
        )
        return {"test_splits": splits, "paired": None, "why_not_paired": why}
    try:
        return {"test_splits": splits, "paired": _differences(catalogue, runs), "why_not_paired": ""}
    except (AasutError, OSError, ValueError, LookupError, TypeError) as error:
        reason = error.message if isinstance(error, AasutError) else "a prediction file cannot be read"
        return {
            "test_splits": splits,
            "paired": None,
            "why_not_paired": f"They cannot be compared by example: {reason}",
        }


def _split(catalogue: Catalogue, run: FinishedRun) -> str | None:
    """Content hash of the test split that a run was evaluated on."""
    try:
        found = _at(catalogue.artefact_facts(catalogue.part(run, "data")), ("split_hash", "test"))
    except StoreError:
        return None
    return None if found is None else str(found)


def _differences(catalogue: Catalogue, runs: list[FinishedRun]) -> Plain:
    from aasut.evaluate.paired import compare

    a, b = (_right(catalogue, run) for run in runs)
    confidence = float(_at(catalogue.recipe(runs[0]), ("evaluate", "confidence")) or 0.95)
    found: Plain = {}
    for model in a["right"]:
        if model in b["right"]:
            one, other = a["right"][model], b["right"][model]
            both = [name for name in one if name in other]
            groups = [a["groups"][name] for name in both]
            pair = compare([other[n] for n in both], [one[n] for n in both], groups, confidence)
            found[model] = pair.as_dict() | {"left_out": len(one.keys() | other.keys()) - len(both)}
    return found


def _right(catalogue: Catalogue, run: FinishedRun) -> Plain:
    """{"right": {model: {example: was it right?}}, "groups": {example: group}} of the test examples answered."""
    from aasut.data import split
    from aasut.evaluate.verdict import Answers

    # The task alone: a recipe with all its defaults written out contradicts itself.
    plain = catalogue.recipe(run)["task"]
    task = TypeAdapter[Any](AnyTask).validate_python(plain, by_alias=True, by_name=True).build()
    test = split.load(catalogue.path(catalogue.part(run, "data").fingerprint), "test")
    evaluated = catalogue.path(catalogue.part(run, "evaluate").fingerprint)
    predictions = json.loads((evaluated / "predictions.json").read_text(encoding="utf-8"))
    answers = Answers.of(task, test, predictions)
    names = [example.id for example in answers.examples]
    models = [model for model in answers.predicted if model != "majority"]
    return {
        "right": {model: dict(zip(names, answers.correct(model), strict=True)) for model in models},
        "groups": dict(zip(names, answers.groups, strict=True)),
    }


def _parts(catalogue: Catalogue, runs: list[FinishedRun]) -> list[Plain]:
    """Stage by stage: did both runs use the same part? Parts of both first come first."""
    made = [{entry.stage: entry for entry in catalogue.lineage(run)} for run in runs]
    stages = [*made[0], *(stage for stage in made[1] if stage not in made[0])]
    rows = []
    for stage in stages:
        pair = [side.get(stage) for side in made]
        names = [entry.fingerprint if entry else None for entry in pair]
        contents = [entry.content if entry else None for entry in pair]
        rows.append(
            {
                "stage": stage,
                "shared": names[0] == names[1],
                "same_content": contents[0] == contents[1],
                "fingerprints": names,
                "versions": [entry.version if entry else None for entry in pair],
                "seconds": [entry.seconds if entry else None for entry in pair],
            }
        )
    return rows


def render(found: Plain) -> Group:
    """The comparison for a terminal."""
    names = [run["name"] for run in found["runs"]]
    parts: list[RenderableType] = [_settings(found, names), _figures(found, names), *_said(found)]
    shared = [part["stage"] for part in found["parts"] if part["shared"]]
    differ = [
        part["stage"] + (" (same content)" if part["same_content"] else "")
        for part in found["parts"]
        if not part["shared"]
    ]
    parts.append(Text(f"\nShared: {', '.join(shared) or 'nothing'}. Differ: {', '.join(differ) or 'nothing'}."))
    return Group(*parts)


def _settings(found: Plain, names: list[str]) -> RenderableType:
    if not found["settings"]:
        return Text("No setting of the recipes differs but the name.")
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    shown.add_column("setting", no_wrap=True)
    for name in names:
        shown.add_column(name, overflow="fold")
    for row in found["settings"]:
        shown.add_row(row["field"], *(Text(_short(value)) for value in row["values"]))
    return shown


def _figures(found: Plain, names: list[str]) -> Table:
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    shown.add_column("result", no_wrap=True)
    for name in names:
        shown.add_column(name, justify="right", overflow="fold")
    shown.add_row("finished", *(when(run["at"]) for run in found["runs"]))
    shown.add_row("scale", *(Text(str(scale)) for scale in found["scales"]))
    shown.add_row("verdict", *(table.RESULTS.get(str(v), table.NONE) for v in found["verdicts"]))
    for name, values in found["figures"].items():
        if any(value is not None for value in values):
            shown.add_row(name, *(FIGURES[name][1](value) for value in values))
    for part in found["parts"]:
        if not part["shared"] and max(seconds or 0.0 for seconds in part["seconds"]) >= 1:
            shown.add_row(
                f"{part['stage']}, seconds",
                *(table.NONE if seconds is None else f"{seconds:,.0f}" for seconds in part["seconds"]),
            )
    return shown


def _said(found: Plain) -> list[Text]:
    """The paired differences in words."""
    if found["paired"] is None:
        return [Text(found["why_not_paired"])]
    first, second = (run["name"] for run in found["runs"])
    lines = []
    for model, pair in found["paired"].items():
        low, high = (_points(bound) for bound in pair["ci"])
        clear = "a difference" if pair["ci"][0] > 0 or pair["ci"][1] < 0 else "no difference can be told"
        left = (
            f" {pair['left_out']} examples that one of them has no answer to are left out." if pair["left_out"] else ""
        )
        seen = f"{_points(pair['difference'])} on the same {pair['n']:,} examples"
        bounds = f"{pair['confidence'] * 100:g} % interval {low} to {high}"
        lines.append(Text(f"{model}: {second} minus {first} is {seen}, {bounds}: {clear}.{left}"))
    return lines


def _short(value: Any, most: int = 200) -> str:
    if value is None:
        return table.NONE
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"
