"""The command line misused: unknown runs, bad flags, folders in the way, nowhere to print."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import small

from hostile_cases.case import ROWS, Case


def cases() -> list[Case]:
    """All of them."""
    words = {
        "unknown command": ["nonsense"],
        "unknown flag": ["run", "recipe.yaml", "--nonsense"],
        "no recipe": ["run"],
        "two recipes": ["run", "a.yaml", "b.yaml"],
        "empty recipe": ["run", ""],
        "NUL": ["run", "a\0b"],
        "control characters": ["run", "a\x1b[31m\nb\n"],
        "surrogate": ["run", "a\udcff.yaml"],
        "bad scale": ["run", "{recipe}", "--scale", "tiny"],
        "scale without a value": ["run", "{recipe}", "--scale"],
        "root is a file": ["run", "{recipe}", "--root", "{recipe}"],
        "root below a file": ["run", "{recipe}", "--root", "{recipe}/runs"],
        "root in /proc": ["run", "{recipe}", "--root", "/proc/runs"],
        "root is a device": ["run", "{recipe}", "--root", "/dev/null"],
        "root with a long name": ["run", "{recipe}", "--root", "x" * 300],
        "root with a NUL": ["run", "{recipe}", "--root", "a\0b"],
        "set nothing": ["run", "{recipe}", "--set", ""],
        "set without a value": ["run", "{recipe}", "--set", "student.epochs"],
        "set an unknown field": ["run", "{recipe}", "--set", "student.nonsense=1"],
        "set an unknown section": ["run", "{recipe}", "--set", "nonsense.a=1"],
        "set a field as a section": ["run", "{recipe}", "--set", "name.a=1"],
        "set into a list": ["run", "{recipe}", "--set", "data.tables.0.source=x"],
        "set dots": ["run", "{recipe}", "--set", "...=1"],
        "set no YAML": ["run", "{recipe}", "--set", "seed=[1"],
        "set a bad number": ["run", "{recipe}", "--set", "seed=many"],
        "set NaN": ["run", "{recipe}", "--set", "evaluate.margin=.nan"],
        "set infinity": ["run", "{recipe}", "--set", "economics.usd_per_machine_hour=.inf"],
        "set a surrogate": ["run", "{recipe}", "--set", "name=\udcff"],
        "set a bomb": ["run", "{recipe}", "--set", "seed=" + "[" * 30_000],
        "set an alias": ["run", "{recipe}", "--set", "seed=*a"],
        "set a tag": ["run", "{recipe}", "--set", "seed=!!python/name:os.system"],
        "serve nothing": ["serve"],
        "serve an unknown run": ["serve", "nothing", "--root", "{root}"],
        "serve a file": ["serve", "{recipe}"],
        "serve a folder that is no run": ["serve", "{folder}"],
        "serve an empty name": ["serve", "", "--root", "{root}"],
        "serve up": ["serve", "../..", "--root", "{root}"],
        "serve a NUL": ["serve", "a\0b", "--root", "{root}"],
        "serve at a bad port": ["serve", "nothing", "--port", "http"],
        "chat with nothing": ["chat", "nothing", "--root", "{root}"],
        "chat with a long name": ["chat", "x" * 5000, "--root", "{root}"],
    }
    found = [Case(f"command: {name}", _maker(listed), limit_s=30) for name, listed in words.items()]
    run = ["run", "{recipe}", "--root", "{root}"]
    found.append(Case("command: standard output is full", _maker(run), output="/dev/full", publishes=True))
    found.append(
        Case("command: standard output is full, JSON", _maker([*run, "--json"]), output="/dev/full", publishes=True)
    )
    return found + _stores()


def _maker(words: list[str]) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        recipe = small.write(folder, small.recipe(), ROWS)
        return [word.replace("{recipe}", str(recipe)).replace("{folder}", str(folder)) for word in words]

    return make


def _stores() -> list[Case]:
    """Folders of runs that hold something else."""

    def case(name: str, prepare: Callable[[Path], object], may: str = "refuse") -> Case:
        def make(folder: Path) -> list[str]:
            recipe = small.write(folder, small.recipe(), ROWS)
            (folder / "runs" / ".store").mkdir(parents=True)
            prepare(folder / "runs")
            return ["run", str(recipe), "--root", str(folder / "runs")]

        return Case(f"store: {name}", make, may=may)

    return [
        case("the database is a folder", lambda root: (root / ".store" / "store.db").mkdir()),
        case("the database is a text", lambda root: (root / ".store" / "store.db").write_text("hello " * 500)),
        case("the ledger is a folder", lambda root: (root / ".store" / "ledger.db").mkdir()),
        case("the ledger is a text", lambda root: (root / ".store" / "ledger.db").write_text("hello " * 500)),
        case("the lock is a folder", lambda root: (root / ".store" / "lock").mkdir()),
        case("artefacts is a file", lambda root: (root / ".store" / "artefacts").write_text("")),
        case("work is a file", lambda root: (root / ".store" / "work").write_text("")),
        case("the results' folder is a file", lambda root: (root / "small").write_text("")),
        case("a result is a folder", lambda root: (root / "small" / "report.html").mkdir(parents=True), "either"),
        case("the store loops", lambda root: ((root / ".store").rmdir(), (root / ".store").symlink_to(".store"))),
    ]
