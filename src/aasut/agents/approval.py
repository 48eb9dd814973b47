"""Who decides on dangerous calls.

A model can be led astray by what it reads. So where the file allows dangerous calls, it does so until output was read
that somebody else may have written; from then on a person decides, and nobody where there is no person to ask.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

Ask = Callable[[str, str, str], Awaitable[bool]]  # (tool, its arguments as JSON, why it is asked) -> was it approved?


@dataclass(frozen=True)
class Decision:
    """`how`, for the trace; `told`: what the model is told of a call that is not made."""

    made: bool
    how: str
    told: str = ""


class Approval:
    """Decides by the file's rule. `read` says that output which is not trusted was read."""

    def __init__(self, rule: Literal["ask", "allow", "refuse"], ask: Ask | None) -> None:
        self.rule, self._ask = rule, ask
        self.tainted = False

    def read(self) -> None:
        """Output was read that somebody else may have written."""
        self.tainted = True

    async def decide(self, tool: str, arguments: str, *, dangerous: bool) -> Decision:
        """May this call be made?"""
        if not dangerous:
            return Decision(True, "not dangerous")
        if self.rule == "refuse":
            return Decision(False, "refused by the file", f"This call was not made: {tool} may not be called here.")
        if self.rule == "allow" and not self.tainted:
            return Decision(True, "allowed by the file")
        why = "after output was read that is not trusted" if self.rule == "allow" else "dangerous"
        if self._ask is None:
            told = f"This call was denied: a person has to approve {tool}, and there is none here to ask."
            return Decision(False, f"denied: nobody to ask ({why})", told)
        if await self._ask(tool, arguments, why):
            return Decision(True, f"approved by a person ({why})")
        told = f"This call was denied by a person. Do not make it again unless the user asks for {tool} anew."
        return Decision(False, f"denied by a person ({why})", told)
