"""The student in front of the upstream: which requests it answers, and whether it still may.

A student answers where its score passes the threshold of its certificate, with the answer that was certified: the
greedy one, whatever temperature is asked for. In mode `shadow` the upstream answers everything and the student is
asked beside it; in mode `canary` the student answers a random share of what it could. Of the student's own answers a
random share is asked upstream too; a monitor watches how often the two differ, and once it raises its alarm the student
answers nothing more under this certificate, also after a restart.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aasut import tools
from aasut.gateway import deployed, matching, settings
from aasut.gateway.deployed import Deployed
from aasut.gateway.exchange import Decision
from aasut.gateway.matching import Matched
from aasut.gateway.student_process import Event, Kind, StudentProcess, Unanswered
from aasut.serve.reply import Reply
from aasut.serve.student import Answer
from aasut.tasks import Task
from aasut.types import Usage

Audited = Callable[[Path, str], Sequence[bool]]  # (gateway's folder, certificate) -> of its audits, did they differ?


@dataclass
class Offer:
    """What the cascade says to one request: the student answers where `decision.reason` is "".

    `audit`: the upstream shall be asked too, after the answer; `compares`: `Cascade.heard` wants what the upstream
    says, for an audit or in mode shadow. `usage` counts the student's own tokens.
    """

    decision: Decision
    audit: bool = False
    compares: bool = False
    usage: Usage = field(default_factory=Usage)
    reply: Reply | None = None
    told: Mapping[str, Any] = field(default_factory=dict)
    asking: asyncio.Task[None] | None = None

    def whole(self) -> dict[str, Any]:
        """The answer as one chat.completion."""
        assert self.reply is not None
        if self.told["logprobs"] is None:
            return self.reply.text(self.told["text"], self.told["finish"], self.usage)
        return self.reply.label(self._label(), self.told["text"])

    def events(self) -> Iterator[str]:
        """The answer as server-sent events."""
        assert self.reply is not None
        if self.told["logprobs"] is None:
            stream = self.reply.stream()
            yield from stream.piece(self.told["text"])
            yield from stream.end(self.told["finish"])
            yield from self.reply.done(self.usage)
        else:
            yield from self.reply.label_events(self._label(), self.told["text"])

    def _label(self) -> Answer:
        return Answer(self.told["text"], self.told["logprobs"], self.usage)


class Cascade:
    """Open it with `open`. For one event loop."""

    def __init__(self, wanted: settings.Cascade, student: Deployed, event: Event) -> None:
        self.wanted, self.student, self.event = wanted, student, event
        self.certificate = student.certificate
        self.monitor = self.certificate.monitor if self.certificate is not None else None
        self.process: StudentProcess | None = None
        self.answered, self.accepted = 0, 0
        self.escalated: Counter[str] = Counter()
        self.audits: Counter[str] = Counter()
        self._beside: set[asyncio.Task[None]] = set()
        self._draw = random.SystemRandom().random  # clients cannot foresee it

    @classmethod
    async def open(cls, wanted: settings.Cascade, root: Path, folder: Path, event: Event, audited: Audited) -> Cascade:
        """The student of a run below `root`, its process ready; `folder` is the gateway's own.

        `audited` gives the audits that were recorded under a certificate, oldest first. `event(kind, text)` is told
        of `alarm`, `student_down` and `student_up`. Raises AasutError where the student cannot be loaded or its
        certificate is refused. Under an alarm no process is started.
        """
        found = cls(wanted, deployed.read(wanted, root), event)
        if found.monitor is not None and found.certificate is not None:
            found.monitor = found.monitor.saw(audited(folder, found.certificate.sha256))
        if found.alarm:
            found._tell()
        if not found.off:
            student = found.student
            engine = found.certificate.engine if found.certificate is not None else ""
            kind = Kind(student.folder, student.card.sha256, engine, student.scorer)
            found.process = await StudentProcess.open(
                kind, waiting=wanted.waiting, timeout_s=wanted.timeout_s, event=event
            )
        return found

    @property
    def alarm(self) -> bool:
        """Did audits show that the certificate no longer holds?"""
        return self.monitor is not None and self.monitor.alarm

    @property
    def off(self) -> bool:
        """Is the student turned off by the alarm? In mode shadow it has nothing that could be taken from it."""
        return self.alarm and self.wanted.mode != "shadow"

    async def offer(self, chat: Mapping[str, Any]) -> Offer:
        """What the student says to a request's body, or why the upstream has to answer. Raises nothing of its own.

        In mode shadow this does not wait for the student.
        """
        sha256 = self.certificate.sha256 if self.certificate is not None else ""
        found = Offer(Decision(self.student.card.name, sha256, self.wanted.mode))
        reason = await self._consider(chat, found)
        found.decision.reason = reason
        if reason:
            self.escalated[reason] += 1
        else:
            self.answered += 1
            found.audit = found.compares = self._draw() < self.wanted.audit_share
        return found

    async def heard(self, offer: Offer, upstream: Mapping[str, Any] | None) -> None:
        """Compare the student's answer with the upstream's chat.completion, None where that failed.

        Sets the decision's `audit`, and in mode shadow its score and answer, so the exchange is to be recorded after
        it. Answers that the certificate does not accept are compared, but are no audits of it. May turn the student
        off.
        """
        if offer.asking is not None:
            await offer.asking
        decision = offer.decision
        if not offer.compares or not decision.answer:
            return
        said = None if upstream is None else answer_of(upstream, self.student.task)
        if said is None:
            result = "failed"
        else:
            (same,) = self.student.task.correct([decision.answer], [said])
            result = "agreed" if same else "differed"
        self.audits[result] += 1
        if self.monitor is not None and not decision.accepted:
            return
        decision.audit = result  # type: ignore[assignment]
        if self.monitor is not None and said is not None:
            before = self.alarm
            self.monitor = self.monitor.saw([not same])
            if self.alarm and not before:
                self._tell()
        if self.off and self.process is not None:
            process, self.process = self.process, None
            await process.close()

    def audit(self, chat: Mapping[str, Any]) -> dict[str, Any]:
        """The body to ask the upstream with for an audit: whole and greedy, as the teacher was asked.

        A temperature is set where the upstream is known to take one: the client or the recipe's endpoint sent it.
        """
        body = {name: value for name, value in chat.items() if name not in ("stream", "stream_options")}
        return body | ({"temperature": 0} if self.student.model or chat.get("temperature") is not None else {})

    def state(self) -> dict[str, Any]:
        """What /health, metrics and the screen show, counted since `open`.

        `answered` by the student; `accepted` is what it might have answered too, in mode shadow; `escalated` by
        reason; `audits` counts all comparisons with the upstream.
        """
        return {
            "run": self.student.card.name,
            "mode": self.wanted.mode,
            "on": not self.off,
            "process": "off" if self.process is None else "up" if self.process.up else "down",
            "certificate": self.certificate.sha256 if self.certificate is not None else None,
            "threshold": self.certificate.threshold if self.certificate is not None else None,
            "alarm": self.alarm,
            "monitor": self.monitor.as_dict() if self.monitor is not None else None,
            "answered": self.answered,
            "accepted": self.accepted,
            "escalated": dict(self.escalated),
            "audits": {name: self.audits[name] for name in ("agreed", "differed", "failed")},
        }

    async def close(self) -> None:
        """Let the student answer what it was asked, then end its process."""
        if self.process is not None:
            await self.process.close()

    async def _consider(self, chat: Mapping[str, Any], offer: Offer) -> str:
        """Ask the student; why the upstream has to answer, or ""."""
        if self.off:
            return "alarm"
        matched = matching.match(chat, self.student)
        if isinstance(matched, str):
            return matched
        if self.wanted.mode == "canary" and self._draw() >= self.wanted.canary_share:
            return "not_in_canary"
        offer.reply = Reply(matched.request, matched.request.model, f"fp_{self.student.card.sha256[:12]}")
        if self.wanted.mode == "shadow":
            offer.compares = True
            offer.asking = asyncio.create_task(self._ask_beside(matched, offer))
            self._beside.add(offer.asking)  # the loop itself would forget it
            offer.asking.add_done_callback(self._beside.discard)
            return "shadow"
        reason = await self._ask(matched, offer)
        return "alarm" if self.off else reason

    async def _ask_beside(self, matched: Matched, offer: Offer) -> None:
        await self._ask(matched, offer)

    async def _ask(self, matched: Matched, offer: Offer) -> str:
        """Put the student's answer into the offer; why it must not go out, or ""."""
        if self.process is None:
            return "student_down"
        try:
            told = await self.process.ask(matched.prompt)
        except Unanswered as error:
            return error.reason
        decision = offer.decision
        offer.told, offer.usage = told, Usage(*told["usage"])
        decision.answer, decision.score = told["text"], told["score"]
        threshold = self.certificate.threshold if self.certificate is not None else None
        reason = ""
        if threshold is None or told["score"] < threshold:
            reason = "unsure"
        elif not told["text"]:
            reason = "no_answer"
        elif field := matching.cut(matched, self.student, told):
            reason = f"cannot_honour:{field}"
        decision.accepted = not reason
        self.accepted += decision.accepted
        return reason

    def _tell(self) -> None:
        assert self.monitor is not None
        what = "Student asked beside the upstream" if self.wanted.mode == "shadow" else "Student turned off"
        self.event("alarm", f"{what}, run {self.student.card.name}: {self.monitor.sentence()}")


def answer_of(upstream: Mapping[str, Any], task: Task) -> str | None:
    """The answer to the task in a chat.completion, None where there is none or a text was cut."""
    try:
        choice = upstream["choices"][0]
        message = choice["message"]
        text = tools.written(message["tool_calls"]) if task.tools and message.get("tool_calls") else message["content"]
    except (KeyError, IndexError, TypeError, AttributeError, ValueError):
        return None
    if not isinstance(text, str) or (not task.answers and choice.get("finish_reason") == "length"):
        return None
    return task.parse(text)
