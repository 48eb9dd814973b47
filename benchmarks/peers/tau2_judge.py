"""tau2's train tasks, told as JSON, and tau2's own verdict on what an agent did in them. Runs in tau2's environment.

    python tau2_judge.py tasks retail             the policy, and of each task what its user wants and what is right
    python tau2_judge.py judge retail < DONE      a line of JSON for each: {task, messages, ended, state}

The verdict is `evaluate_simulation`'s: it plays the calls again on a fresh database, where each must give what it gave
the agent, and compares the end with that of the golden actions; assertions, actions and what the user had to be told
count where a task's reward is built on them. `same_state` says whether the replay ended with the databases as the
server had them. No model judges anything: no train task's reward is built on assertions in natural language.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or litellm, which tau2 imports, looks for prices in the network

import tau2_domain
from tau2.agent.llm_agent import LLMAgent, LLMSoloAgent
from tau2.data_model.message import AssistantMessage, Message, ToolMessage, UserMessage
from tau2.data_model.simulation import SimulationRun
from tau2.data_model.tasks import Task
from tau2.environment.environment import Environment
from tau2.evaluator.evaluator import EvaluationType, evaluate_simulation
from tau2.orchestrator.orchestrator import DEFAULT_FIRST_AGENT_MESSAGE
from tau2.user.user_simulator import UserSimulator
from tau2.utils.utils import get_now

READ = {"assistant": AssistantMessage, "user": UserMessage, "tool": ToolMessage}


def told(domain: str) -> dict[str, Any]:
    """What a benchmark needs to know of a domain. Golden actions are for a scripted model, never for a real one."""
    found = tau2_domain.train(domain)
    environment = tau2_domain.begun(domain, next(iter(found.values())))  # the policy and the tools are the same for all
    kinds = {tool.name: kind.value for tool, kind in tau2_domain.tools(environment)}
    tasks = [_task(task, environment) for task in found.values()]
    greeting = "" if domain in tau2_domain.SOLO else DEFAULT_FIRST_AGENT_MESSAGE.content
    return {"domain": domain, "greeting": greeting, "tools": kinds, "tasks": tasks}


def _task(task: Task, environment: Environment) -> dict[str, Any]:
    wanted = task.evaluation_criteria
    assert wanted is not None
    return {
        "id": task.id,
        "instructions": _instructions(task, environment),
        "user": "" if environment.solo_mode else UserSimulator(instructions=str(task.user_scenario)).system_prompt,
        "reason": getattr(task.user_scenario.instructions, "reason_for_call", ""),
        "golden": [{"name": one.name, "arguments": one.arguments} for one in wanted.actions or []],
        "communicate": wanted.communicate_info or [],
        "basis": [kind.value for kind in wanted.reward_basis],
    }


def _instructions(task: Task, environment: Environment) -> str:
    """tau2's own system prompt, with the domain's policy, and with the ticket where the agent works alone."""
    if environment.solo_mode:
        return str(LLMSoloAgent([], environment.get_policy(), task).system_prompt)
    return str(LLMAgent([], environment.get_policy()).system_prompt)


def judged(domain: str, task: Task, done: dict[str, Any]) -> dict[str, Any]:
    """tau2's reward with its parts; `fault` where tau2 cannot judge."""
    messages: list[Message] = [READ[one["role"]].model_validate(one) for one in done["messages"]]
    run = SimulationRun(
        id=task.id,
        task_id=task.id,
        start_time=get_now(),
        end_time=get_now(),
        duration=0.0,
        termination_reason=done["ended"],
        messages=messages,
    )
    try:
        found = evaluate_simulation(run, task, EvaluationType.ALL, domain in tau2_domain.SOLO, domain)
    except ValueError as error:  # a call gave another answer when it was played again
        return {"task": task.id, "reward": None, "fault": " ".join(str(error).split())[:500]}
    parts = {kind.value: value for kind, value in (found.reward_breakdown or {}).items()}
    told = {"task": task.id, "reward": found.reward, "parts": parts, "actions": None, "note": _note(found.info)}
    if found.action_checks:
        told["actions"] = [sum(check.action_match for check in found.action_checks), len(found.action_checks)]
    if done.get("state") is not None:
        told["same_state"] = _ends(domain, task, messages) == done["state"]
    return told


def _ends(domain: str, task: Task, messages: list[Message]) -> list[str | None]:
    """The databases' hashes after all calls."""
    environment = tau2_domain.begun(domain, task)
    for message in messages:
        for call in getattr(message, "tool_calls", None) or []:
            environment.get_response(call)
    return tau2_domain.state(environment)


def _note(info: dict[str, Any] | None) -> str:
    return str((info or {}).get("note", ""))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("what", choices=["tasks", "judge"])
    options.add_argument("domain", choices=tau2_domain.DOMAINS)
    given = options.parse_args()
    if given.what == "tasks":
        json.dump(told(given.domain), sys.stdout)
        return
    tasks = tau2_domain.train(given.domain)
    for line in sys.stdin:
        done = json.loads(line)
        print(json.dumps(judged(given.domain, tasks[done["task"]], done)), flush=True)


if __name__ == "__main__":
    main()
