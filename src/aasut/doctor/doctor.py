"""`aasut doctor`: what this machine has, and one line for each thing that will not work and how to mend it."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from aasut.doctor import cache, environment, machine, software, storage
from aasut.doctor.finding import Examination, Finding, Probe

SECONDS = 90.0  # for everything; the examinations run side by side


def examine(root: Path, *, network: bool) -> dict[str, list[Finding]]:
    """Findings by the title of their section; never raises, and ends within SECONDS."""
    probes: dict[str, Probe] = {
        "Machine": machine.examine,
        "Versions": software.versions,
        "Libraries": software.libraries,
        "Disk": partial(storage.examine, root),
        "Cache": cache.examine,
        "Environment": environment.examine,
    }
    if network:
        probes["Network"] = environment.network
    until = time.monotonic() + SECONDS
    running = [Examination(title, probe) for title, probe in probes.items()]
    return {one.title: one.result(until - time.monotonic()) for one in running}


def plain(found: dict[str, list[Finding]]) -> dict[str, Any]:
    """The findings as plain data; `works` is false where there is a fault."""
    every = [finding for section in found.values() for finding in section]
    return {
        "works": not any(finding.level == "fault" for finding in every),
        "faults": [finding.problem for finding in every if finding.level == "fault"],
        "notes": [finding.problem for finding in every if finding.level == "note"],
        "sections": {title: [finding.as_dict() for finding in section] for title, section in found.items()},
    }


def render(found: dict[str, list[Finding]], well: str = "Everything that aasut needs works.") -> Group:
    """The findings for a terminal, what will not work at the end, or that all is well."""
    shown = Table(box=None, pad_edge=False, padding=(0, 1), show_header=False)
    shown.add_column(no_wrap=True)
    shown.add_column(overflow="fold")
    styles = {"ok": "", "note": "yellow", "fault": "red"}
    for title, section in found.items():
        shown.add_row(Text(title, style="bold"))
        for finding in section:
            shown.add_row(Text(f"  {finding.name}"), Text(finding.value, style=styles[finding.level]))
    said = plain(found)
    parts: list[RenderableType] = [shown, Text("")]
    parts += [Text(f"note: {problem}", style="yellow") for problem in said["notes"]]
    parts += [Text(f"will not work: {problem}", style="red") for problem in said["faults"]]
    if said["works"]:
        parts.append(Text(well, style="green"))
    return Group(*parts)
