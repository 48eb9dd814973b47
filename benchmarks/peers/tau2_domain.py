"""A domain of tau2 as one of its train tasks begins. Runs in tau2's environment (see benchmarks/tau2.py).

Test tasks are never opened: a task is looked up by its id in tau2's own train split, and no other is made into one.
"""

from __future__ import annotations

import importlib
from typing import Any

from loguru import logger

logger.remove()  # tau2 says much on import, nothing of it about a task

from tau2.data_model.tasks import Task  # noqa: E402
from tau2.environment.environment import Environment  # noqa: E402
from tau2.environment.toolkit import ToolKitBase, ToolType  # noqa: E402
from tau2.utils import DATA_DIR, load_file  # noqa: E402

DOMAINS = ("airline", "retail", "telecom")
SOLO = frozenset({"telecom"})  # where tau2 lets an agent work alone from a ticket, with the user's phone in its hands


def train(domain: str) -> dict[str, Task]:
    """The train tasks by id, in tau2's order."""
    folder = DATA_DIR / "tau2" / "domains" / domain
    wanted = set(load_file(folder / "split_tasks.json")["train"])
    return {one["id"]: Task.model_validate(one) for one in load_file(folder / "tasks.json") if one["id"] in wanted}


def begun(domain: str, task: Task) -> Environment:
    """A fresh copy of the domain's database, and of the user's phone where there is one, as the task finds them."""
    make = importlib.import_module(f"tau2.domains.{domain}.environment").get_environment
    environment: Environment = make(solo_mode=domain in SOLO)
    state = task.initial_state
    environment.set_state(
        initialization_data=state.initialization_data if state else None,
        initialization_actions=state.initialization_actions if state else None,
        message_history=(state.message_history if state else None) or [],
    )
    return environment


def tools(environment: Environment) -> list[tuple[Any, ToolType]]:
    """The agent's tools, each with what tau2 knows of it: does it read, write, think or neither?"""
    boxes: list[ToolKitBase] = [environment.tools]
    if environment.solo_mode and environment.user_tools is not None:
        boxes.append(environment.user_tools)
    return [(tool, box.tool_type(name)) for box in boxes for name, tool in box.get_tools().items()]


def state(environment: Environment) -> list[str | None]:
    """Hashes of the database and of the user's phone."""
    return [environment.get_db_hash(), environment.get_user_db_hash()]
