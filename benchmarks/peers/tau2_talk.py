"""One task of tau2 from the first word to the last: the user and the agent in turns, the agent's calls over MCP."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aasut.agents.limits import Stop
from aasut.agents.loop import ANSWERED, MODEL, Session
from aasut.agents.start import opened
from aasut.errors import TeacherError
from aasut.recipe import file
from aasut.recipe.agent import AgentRecipe
from peers import tau2_trajectory
from peers.tau2_desk import Done
from peers.tau2_user import User, stops

AGENT = Path(__file__).parents[2] / "examples" / "tau2" / "agent.yaml"
TURNS = 30  # of the user
START_S = 120  # for a server to start on a machine that is busy
# Why a task ended without an answer, in tau2's words; another reason is the agent's error.
ENDED = dict.fromkeys(("steps", "tool_calls", "tokens", "usd", "seconds"), "max_steps")


Serving = Callable[[Path], list[str]]  # a file for the databases' hashes -> the command of a task's MCP server


def recipe(
    name: str, task: Mapping[str, Any], endpoint: Mapping[str, Any], usd: float | None, command: list[str]
) -> AgentRecipe:
    """The example's agent with a task's tools, policy and model."""
    plain = file.read(AGENT)
    plain |= {"name": name, "instructions": task["instructions"]}
    plain["model"] |= {"endpoint": dict(endpoint)}
    plain["limits"] |= {"usd": usd}
    plain["tools"][0]["mcp"] = {"command": command, "start_seconds": START_S}
    return file.validated(AgentRecipe, plain, str(AGENT), "")


async def attend(
    name: str,
    greeting: str,
    task: Mapping[str, Any],
    serving: Serving,
    endpoint: Mapping[str, Any],
    user: User,
    usd: float | None,
    root: Path,
) -> Done:
    """Do a task as the agent `name`. `usd`: dollars that both sides may spend; traces are kept below `root`."""
    done = Done(task["id"], root)
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state.json"
        made = recipe(name, task, endpoint, usd, serving(state))
        async with opened(made, AGENT.parent, root) as ready:
            session = ready.session(None, _unsaid)
            done.trace = session.trace.id
            try:
                if greeting:
                    session.hear({"role": "assistant", "content": greeting})
                await _talk(session, greeting, user, usd, done)
            except Stop as stop:  # at the user's side
                done.ended, done.reason = ENDED.get(stop.reason, "user_error"), stop.text
            except TeacherError as error:
                done.fault = str(error)
            finally:
                done.usd = session.meter.usd + user.usd
                session.trace.close()
                await user.close()
            with contextlib.suppress(OSError, ValueError):
                done.state = json.loads(state.read_text(encoding="utf-8"))
    return done


async def _talk(session: Session, heard: str, user: User, usd: float | None, done: Done) -> None:
    """Turn after turn until either side ends it; `done` is told how it ended."""
    for _ in range(TURNS):
        said = await user.answer(heard, spent=session.meter.usd)
        if stops(said):  # the agent does not see it
            done.ended = "user_stop"
            return
        if usd is not None:
            session.meter.limits = session.recipe.limits.model_copy(update={"usd": usd - user.usd})
        outcome = await session.run({"role": "user", "content": said})
        done.steps += outcome.steps
        done.calls += len(outcome.calls)
        if outcome.reason == MODEL:
            raise TeacherError(outcome.text)
        if outcome.reason != ANSWERED:
            done.ended, done.reason = ENDED.get(outcome.reason, "agent_error"), outcome.text
            return
        heard = outcome.answer
        if user.alone:
            if any(call.tool == tau2_trajectory.DONE for call in outcome.calls):
                done.ended = "agent_stop"
            else:
                done.ended, done.reason = "agent_error", "It did not call done."
            return
    done.ended, done.reason = "max_steps", f"There were {TURNS} turns."


def _unsaid(_: str) -> None:
    """Calls are not shown: they are in the trace."""
