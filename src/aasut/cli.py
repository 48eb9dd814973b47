"""The command line: parses, calls one stage, prints. Heavy imports happen inside the commands."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from aasut import __version__
from aasut.commands import adapt, agent, certify, gateway, label, mix, plan, run, search, synthesize, teacher, traces
from aasut.errors import AasutError
from aasut.progress import Progress
from aasut.runs import commands as runs

USER_ERROR, USAGE_ERROR, INTERRUPTED = 1, 2, 130
LONGEST_LINE = 1200  # characters of a message, about

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="aasut: big model in, small model out, and the proof that it pays.",
)

app.add_typer(runs.app, name="runs")
app.add_typer(gateway.app, name="gateway")
app.add_typer(traces.app, name="traces")
app.command("run")(run.run)
app.command("agent")(agent.agent)
app.command("label")(label.label)
app.command("synthesize")(synthesize.synthesize)
app.command("adapt")(adapt.adapt)
app.command("mix")(mix.mix)
app.command("certify")(certify.certify)
app.command("plan")(plan.plan)
app.command("search")(search.search)
app.command("teacher")(teacher.teacher)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, or JSON lines, instead of text.")]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="Name of a finished run, or its folder.")]
Root = Annotated[Path, typer.Option("--root", help="Folder that holds the runs.")]


@app.callback(invoke_without_command=True)
def _main(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"aasut {__version__}")
        raise typer.Exit


@app.command()
def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A CSV, TSV, JSONL or Parquet file, or a log of chat.")],
    out: Annotated[Path, typer.Option("--out", metavar="RECIPE", help="Where to write the recipe.")] = Path(
        "recipe.yaml"
    ),
    force: Annotated[bool, typer.Option("--force", help="Write over a recipe that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look at a file of inputs or a log of chat requests, and write a commented recipe for it."""
    from aasut.init import start

    found = start.init(file, out, Progress(), force=force)
    print(json.dumps(found, ensure_ascii=False) if as_json else "\n".join(found["summary"]))


@app.command()
def chat(
    run: RunName,
    root: Root = Path("runs"),
    tools: Annotated[
        Path | None, typer.Option("--tools", metavar="FILE", help="A Python file with the tools that it calls.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Talk to a finished student in the terminal; with --tools, what it calls is done."""
    if tools is not None:
        from aasut.agents import chat as doing

        raise typer.Exit(doing.chat(_student(run, root), tools, as_json=as_json))
    from aasut.serve.chat import chat as talk

    raise typer.Exit(talk(_student(run, root), sys.stdin, sys.stdout, as_json=as_json))


@app.command()
def serve(
    run: RunName,
    root: Root = Path("runs"),
    host: Annotated[str, typer.Option(help="Address to listen on; this machine alone unless told otherwise.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
    as_json: AsJson = False,
) -> None:
    """Serve a finished student behind OpenAI's chat-completions API."""
    from aasut.serve import api

    progress = Progress()
    progress.terminal = progress.terminal and not as_json
    api.run(_student(run, root), host, port, progress)


@app.command()
def doctor(
    recipe: Annotated[
        Path | None, typer.Argument(metavar="[RECIPE]", help="Examine its training instead of the machine.")
    ] = None,
    root: Root = Path("runs"),
    network: Annotated[bool, typer.Option("--network", help="Ask the package index too, for at most 3 s.")] = False,
    as_json: AsJson = False,
) -> None:
    """Examine this machine, or a recipe's training: one line for each thing that will not work."""
    from aasut.doctor import doctor as doctors

    if recipe is not None:
        if network:
            raise typer.BadParameter("--network is for the machine: leave RECIPE out.")
        _doctor_training(recipe, root, as_json)
    found = doctors.examine(root, network=network)
    if as_json:
        print(json.dumps(doctors.plain(found)))
    else:
        _console().print(doctors.render(found))
    raise typer.Exit(0 if doctors.plain(found)["works"] else USER_ERROR)


def _doctor_training(recipe: Path, root: Path, as_json: bool) -> None:
    from aasut import recipe as recipes
    from aasut.doctor import training

    examined = training.examine(recipes.load(recipe), recipe.parent, root)
    plain = examined.as_dict()
    if as_json:
        print(json.dumps(plain))
    else:
        _console().print(training.render(examined))
    raise typer.Exit(0 if plain["works"] else USER_ERROR)


@app.command()
def gold(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe.yaml, or the name of a finished run.")],
    root: Root = Path("runs"),
    rater: Annotated[str, typer.Option(help="Who answers; your login name unless told otherwise.")] = "",
    count: Annotated[int | None, typer.Option(help="Ask this many rows, whatever the margin wants.")] = None,
    double: Annotated[float, typer.Option(help="Share of the rows that a second person is asked too.")] = 0.1,
    discordance: Annotated[
        float | None, typer.Option(help="Share of rows on which student and teacher are expected to differ.")
    ] = None,
    web: Annotated[bool, typer.Option("--web", help="Answer on a page in the browser.")] = False,
    port: Annotated[int, typer.Option(help="Port of the page; a free one unless told otherwise.")] = 0,
    adjudicate: Annotated[bool, typer.Option("--adjudicate", help="Decide the rows on which raters disagree.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Say how far it is and ask nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Answer rows by hand, blind to every model: the human answers that the proof needs."""
    from aasut.gold import gold as answering
    from aasut.gold.status import describe

    wishes = answering.Wishes(rater, count, double, discordance, adjudicate, web, port, status)
    screen = sys.stderr if as_json else sys.stdout  # JSON stays clean of questions
    state = answering.run(recipe, root, wishes, sys.stdin, screen, Progress())
    print(json.dumps(state, ensure_ascii=False) if as_json else "\n".join(describe(state)))


def _student(run: str, root: Path) -> Any:
    from aasut.serve.student import ServedStudent

    named = root / run
    return ServedStudent.load(named if named.is_dir() or "/" not in run else Path(run))


def _console() -> Any:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 100, highlight=False)


class _Interrupt(KeyboardInterrupt):
    """A signal's wish to stop. After a bare KeyboardInterrupt in some imports, Python gives no exit code."""


def _stop(number: int, _frame: object) -> None:
    if number != signal.SIGALRM:
        signal.signal(number, signal.SIG_DFL)  # a second one ends at once; what is committed is kept all the same
    raise _Interrupt


def _swallowed(found: Any) -> None:
    """Python throws away what is raised while it frees an object: raise the wish to stop again, a moment later."""
    if found.exc_type is _Interrupt:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
    else:
        sys.__unraisablehook__(found)


def main() -> None:
    """Entry point. A user's mistake is one line and exit code 1 or 2; SIGTERM stops as SIGINT does."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a character shows its number
            stream.reconfigure(errors="backslashreplace")
    before = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    sys.unraisablehook = _swallowed
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
        if code == INTERRUPTED:  # typer makes this of KeyboardInterrupt
            _say("interrupted; everything done so far is kept, run the same command to go on")
    except AasutError as error:
        _say(str(error))
        code = USER_ERROR
    except TyperException as error:
        if len(sys.argv) == 1:
            print(error.format_message(), file=sys.stderr)  # the help
        else:
            _say(f"{error.format_message().rstrip('.')}. Try --help.")
        code = USAGE_ERROR
    except OSError as error:
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EPIPE, errno.EIO):
            raise
        if error.filename is None:  # what is still to be printed is thrown away
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        _say(f"{error.filename or 'Standard output'} cannot be used: {error.strerror}. Check it, and run again.")
        code = USER_ERROR
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = sys.__unraisablehook__
        for number, handler in before.items():
            signal.signal(number, handler)
    sys.exit(code if isinstance(code, int) else 0)


def _say(text: str) -> None:
    line = " ".join(text.split())  # names in it may hold line breaks
    if len(line) > LONGEST_LINE:
        line = f"{line[: LONGEST_LINE // 2]} … {line[-LONGEST_LINE // 4 :]}"
    print("aasut:", line, file=sys.stderr)
