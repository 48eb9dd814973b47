"""`aasut plan`: what more answers, another size of student, or more devices would bring; for a mixture, what else could
serve its fields. Parses, calls, prints."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from aasut.progress import Progress

Plain = dict[str, Any]


def plan(
    run: Annotated[str, typer.Argument(metavar="[RUN]", help="Name of a finished run, or its folder.")] = "",
    target: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="An accuracy to reach, e.g. 0.9: with what, at what cost.")
    ] = None,
    linear: Annotated[
        bool, typer.Option("--linear", help="Learn the curve from linear models: quick, and a lower bound at best.")
    ] = False,
    processes: Annotated[
        bool, typer.Option("--processes", help="Time the training with one process and with two.")
    ] = False,
    dense: Annotated[
        bool, typer.Option("--dense", help="Of a mixture: train dense models as well, which takes as long as it took.")
    ] = False,
    runs: Annotated[
        Path | None,
        typer.Option(metavar="TABLE", help="CSV of your own training runs (parameters,tokens,loss): a scaling law."),
    ] = None,
    screen: Annotated[
        bool, typer.Option("--screen", help="Ask a first meeting's questions: is a model the right thing at all?")
    ] = False,
    answers: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --screen: YAML with the answers, so that none is asked.")
    ] = None,
    root: Annotated[Path, typer.Option("--root", help="Folder that holds the runs.")] = Path("runs"),
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Say what more answers are worth, what reaches a target at what cost, and whether a model is worth it at all."""
    if answers is not None and not screen:
        raise typer.BadParameter("--answers goes with --screen.")
    if screen:
        if run or runs is not None or target is not None or linear or processes or dense:
            raise typer.BadParameter("--screen goes alone: leave RUN and the rest out.")
        _screen(answers, as_json)
        return
    if not run and runs is None:
        raise typer.BadParameter("give a RUN, --runs TABLE, or --screen.")
    if not run and (target is not None or linear or processes or dense):
        raise typer.BadParameter("--target, --linear, --processes and --dense need a RUN.")
    found = gather(
        run, root, Progress(quiet=quiet), target=target, linear=linear, processes=processes, dense=dense, table=runs
    )
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        from rich.console import Console

        Console(width=None if sys.stdout.isatty() else 100, highlight=False).print(render(found))


def _screen(answers: Path | None, as_json: bool) -> None:
    from aasut.economics import screen

    told = sys.stderr if as_json else sys.stdout  # JSON stays clean of questions
    found = screen.run(sys.stdin, told, None if answers is None else screen.read(answers))
    print(json.dumps(found, ensure_ascii=False) if as_json else "\n".join(screen.describe(found)))


def gather(
    run: str,
    root: Path,
    progress: Progress,
    *,
    target: float | None = None,
    linear: bool = False,
    processes: bool = False,
    dense: bool = False,
    table: Path | None = None,
) -> Plain:
    """Everything that was asked for, as plain data. Raises AasutError."""
    found: Plain = {}
    if table is not None:
        from aasut.economics import scaling_law

        found["runs_table"] = scaling_law.fit(scaling_law.read(table)).as_dict()
    if run and (mixture := _mixture(run, root, target=target, linear=linear, processes=processes, dense=dense)):
        from aasut.mixture import alternatives

        found |= alternatives.compare(mixture, progress, dense=dense)
    elif run:
        from aasut.commands import planning

        found |= planning.learning_curve(root, run, progress, proxy=linear, target=target, timed=processes)
        _show(found["run"], root, progress)
    return found


def _mixture(run: str, root: Path, *, dense: bool, **of_tasks: Any) -> Path | None:
    """The folder of a mixture, None for another run. Raises RecipeError for an option that goes with the other kind."""
    from aasut.errors import RecipeError
    from aasut.mixture import alternatives

    folder = alternatives.folder_of(run, root)
    given = next((name for name, value in of_tasks.items() if value not in (None, False)), None)
    if folder is None and dense:
        raise RecipeError(f"--dense goes with a mixture, and {run} is none.", "Leave it out, or make one: aasut mix.")
    if folder is not None and given is not None:
        raise RecipeError(f"--{given} goes with the run of a task, and {run} is a mixture.", "Leave it out.")
    return folder


def _show(run: str, root: Path, progress: Progress) -> None:
    """The run's report again, with the curve; it stays as it is where the run is no longer as it was made."""
    from aasut import finished
    from aasut.errors import StoreError

    try:
        with finished.taken_up(run, root, Progress(quiet=True), makes=()) as taken:
            taken.finish()
    except StoreError as error:
        progress.say(f"The report does not show the curve: {error}")


def render(found: Plain) -> Any:
    """For a terminal."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = []
    if "arms" in found:
        from aasut.commands import serving

        parts += serving.tables(found)
    if "learning_curve" in found:
        parts += [*_curve(found), Text(""), *_sizes(found)]
        if found["learning_curve"]["student"] != "linear":  # which takes no device long
            parts += [Text(""), *_devices(found["devices"])]
    if "runs_table" in found:
        parts.append(Text(found["runs_table"]["sentence"]))
        for name, (low, high) in found["runs_table"]["intervals"].items():
            parts.append(Text(f"  {name:<6}{found['runs_table'][name]:.4g}  ({low:.4g} to {high:.4g})"))
    return Group(*parts)


def _curve(found: Plain) -> list[Any]:
    from rich.text import Text

    from aasut.economics.cost import usd
    from aasut.report import table as words

    curve = found["learning_curve"]
    whose = "linear students" if curve["student"] == "linear" else "students as the recipe has them"
    shown = words.columns(found["run"], "accuracy", "95 % interval".replace("95", f"{100 * curve['confidence']:g}"))
    for point in curve["points"]:
        shown.add_row(
            f"{point['examples']:,} answers",
            words.percent(point["accuracy"]),
            words.interval([point["low"], point["high"]]),
        )
    last = {name: values[-1] for name, values in curve["curve"].items()}
    shown.add_row(
        f"{last['examples']:,} answers, extrapolated",
        words.percent(last["accuracy"]),
        words.interval([last["low"], last["high"]]),
    )
    said = [f"{gain['sentence']}, for {usd(gain['usd'])}" for gain in found["gains"]]
    return [
        shown,
        Text(f"Measured with {whose}, on {curve['measured_on']}."),
        *map(Text, said),
        *([Text(found["target"]["sentence"])] if "target" in found else []),
    ]


def _sizes(found: Plain) -> list[Any]:
    from rich.text import Text

    from aasut.economics.cost import usd
    from aasut.report import table as words

    shown = words.columns("student of", "parameters", "answers", "on tune", "interval", "$/million", "labels, training")
    for one in found["students"]:
        size, money = words.parameters(one["parameters"]), (one["usd_per_million_requests"], one["one_off_usd"])
        right = (words.percent(one["accuracy"]), words.interval(one["ci"]))
        shown.add_row(Text(one["run"]), size, f"{one['answers']:,}", *right, *map(usd, money))
    law = found["scaling_law"]
    return [
        shown,
        *([Text(found["size"]["sentence"])] if "size" in found else []),
        Text(law["missing"] if "missing" in law else f"Error on tune, N parameters, D answers: {law['sentence']}"),
    ]


def _devices(found: Plain) -> list[Any]:
    from rich.text import Text

    from aasut.report import table as words

    names = [name for name in ("measured", "literal", "last_decade") if name in found["curves"]]
    heads = {"measured": "measured here", "literal": "published, literally", "last_decade": "published, last decade"}
    shown = words.columns("devices are worth", *(heads[name] for name in names))
    for place, point in enumerate(found["curves"]["literal"]["points"]):
        cells = []
        for name in names:
            one = found["curves"][name]["points"][place]
            cells.append(f"{one['worth']:,.3g}" if one["worth"] < 1000 else f"{one['worth']:,.0f}")
            cells[-1] += " *" if one["extrapolated"] else ""
        shown.add_row(f"{point['devices']:,}", *cells)
    return [shown, Text(found["sentence"])]
