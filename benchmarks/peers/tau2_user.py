"""Who talks to the agent in tau2's tasks: a model that plays the customer, a script, or nobody."""

from __future__ import annotations

import os
from typing import Protocol

from aasut.agents.limits import Meter
from aasut.agents.wire import Message, Model
from aasut.recipe import Endpoint
from aasut.recipe.agent import Limits

# With one of these, tau2's user ends the conversation.
ENDS = ("###STOP###", "###TRANSFER###", "###OUT-OF-SCOPE###")
OPENING = "Work on the ticket."  # where the agent works alone; tau2's conversation begins with the agent then
LONGEST = 512  # tokens of what a user says
ASKED = 100  # times that a user is asked at most: more than there are turns


class User(Protocol):
    """`alone`: there is no user, but a ticket."""

    alone: bool

    @property
    def usd(self) -> float:
        """Dollars that it has cost."""

    async def answer(self, heard: str, *, spent: float) -> str:
        """What the user says to what the agent said, which has cost `spent` dollars.

        Raises Stop at a limit, and TeacherError where a model gives no answer.
        """

    async def close(self) -> None: ...


def stops(said: str) -> bool:
    """Does the user end the conversation with this?"""
    return any(word in said for word in ENDS)


class Scripted:
    """Says its wish, and then that it is all."""

    usd, alone = 0.0, False

    def __init__(self, wish: str) -> None:
        self._says = [wish, ENDS[0]]

    async def answer(self, heard: str, *, spent: float) -> str:
        return self._says.pop(0)

    async def close(self) -> None:
        """Nothing is held."""


class Ticket:
    """Nobody: the agent has a ticket in its instructions."""

    usd, alone = 0.0, True

    async def answer(self, heard: str, *, spent: float) -> str:
        return OPENING

    async def close(self) -> None:
        """Nothing is held."""


class Simulated:
    """A model with the prompt of tau2's user simulator. `most`: dollars that it and the agent may spend together."""

    alone = False

    def __init__(self, endpoint: Endpoint, prompt: str, most: float | None) -> None:
        key = os.environ.get(endpoint.api_key_env, "") if endpoint.api_key_env else ""
        self._model = Model(endpoint, key, 0.0, LONGEST)
        self._limits = Limits(steps=ASKED, answer_tokens=LONGEST)
        self._meter = Meter(self._limits, endpoint)
        self._most = most
        self._messages: list[Message] = [{"role": "system", "content": prompt}]

    @property
    def usd(self) -> float:
        return self._meter.usd

    async def answer(self, heard: str, *, spent: float) -> str:
        self._messages.append({"role": "user", "content": heard})
        if self._most is not None:
            self._meter.limits = self._limits.model_copy(update={"usd": self._most - spent})
        worst = self._meter.before_step(self._messages, [])
        said = await self._model.ask(self._messages, [], {})
        self._messages.append(said.message)
        self._meter.after_step(said.input_tokens, said.output_tokens, len(self._messages), worst)
        return str(said.message["content"] or "")

    async def close(self) -> None:
        await self._model.close()
