"""`aasut certify`: a promise on the risk of a finished run's student, and the watch over it in use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from aasut.progress import Progress

NOT_PROVEN = 3


def certify(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name of a finished run, or its folder.")],
    risk: Annotated[float, typer.Option(help="The most that is promised: a share of answers, 0 to 1.")] = 0.05,
    confidence: Annotated[float, typer.Option(help="Confidence of the promise.")] = 0.95,
    kind: Annotated[
        Literal["selective", "system"],
        typer.Option(
            help="selective: wrong answers among those that the student gives itself. system: requests that it answers "
            "wrongly where the teacher would have been right, among all requests."
        ),
    ] = "selective",
    against: Annotated[
        Literal["human", "teacher"],
        typer.Option(help="Whose answers count as right. Agreement with the teacher is not correctness."),
    ] = "human",
    audits: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help='JSON lines {"wrong": true or false}, in order, of answers drawn at random from those that the '
            "student gave itself: do they still bear the certificate out? Certifies nothing.",
        ),
    ] = None,
    root: Annotated[Path, typer.Option("--root", help="Folder that holds the runs.")] = Path("runs"),
    require: Annotated[bool, typer.Option("--require", help="Exit with 3 unless it is certified.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Certify which answers of a student may go out unseen; `calibrate` is opened for this alone."""
    if audits is not None:
        _watch(run, root, audits, require=require, as_json=as_json)
        return
    from aasut import finished
    from aasut.evaluate.certificate import Wish
    from aasut.evaluate.certify import Target

    wish = Wish(Target(kind, risk, confidence), against)
    with finished.taken_up(run, root, Progress(), makes=("certify",)) as taken:
        made = taken.stages.certify(taken.done, wish)
        done = taken.finish(certify=made)
    found = {name: value for name, value in made.facts.items() if name not in ("steps", "calls", "conservation")}
    if as_json:
        print(json.dumps({"folder": str(done.folder), "calls_made_now": done.calls_made, **found}, ensure_ascii=False))
    else:
        print(found["sentence"])
        print(f"{done.folder}/certificate.json · report.html")
    if require and not found["certified"]:
        raise typer.Exit(NOT_PROVEN)


def _watch(run: str, root: Path, audits: Path, *, require: bool, as_json: bool) -> None:
    from aasut import finished
    from aasut.evaluate import monitor

    folder = finished.place(run, root).parent
    state = monitor.over(folder / "certificate.json", audits)
    found: dict[str, Any] = state.as_dict()
    print(json.dumps(found) if as_json else found["sentence"])
    if require and state.alarm:
        raise typer.Exit(NOT_PROVEN)
