from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import small_run
from aasut.errors import AasutError
from aasut.export.manifest import StudentCard
from aasut.gateway import settings
from aasut.gateway.cascade import Cascade, Offer, answer_of
from aasut.prompts import PromptTemplate
from aasut.store import digest, file_hash
from aasut.tasks import Classify, Generate
from aasut.types import Message

Until = Callable[..., Awaitable[None]]
Events = list[tuple[str, str]]


@asynccontextmanager
async def opened(
    root: Path, events: Events | None = None, audits: Sequence[bool] = (), **wanted: Any
) -> AsyncIterator[Cascade]:
    """A cascade over `words`; `audits` were recorded under its certificate."""
    certificate = root / "words" / "certificate.json"

    def audited(folder: Path, sha256: str) -> Sequence[bool]:
        assert folder == root
        return audits if sha256 == file_hash(certificate) else ()

    given = {"run": "words", "timeout_s": 30, "audit_share": 0} | wanted
    told = [] if events is None else events
    found = await Cascade.open(settings.Cascade(**given), root, root, lambda *one: told.append(one), audited)
    try:
        yield found
    finally:
        await found.close()


def chat(text: str = "a great phone", **more: Any) -> dict[str, Any]:
    return {"model": "large", "messages": [{"role": "user", "content": f"Text: {text}"}]} | more


def completion(text: str | None, finish: str = "stop") -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}]}


def change(root: Path, **changes: Any) -> None:
    path = root / "words" / "certificate.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def test_the_student_answers_as_the_upstream_would(root: Path) -> None:
    async def main() -> None:
        async with opened(root) as cascade:
            offer = await cascade.offer(chat(temperature=1.5, stream=True, stream_options={"include_usage": True}))
            decision = offer.decision
            assert (decision.run, decision.mode, decision.reason) == ("words", "certified", "")
            assert (decision.accepted, decision.answer, decision.audit) == (True, "positive", "")
            assert decision.certificate == file_hash(root / "words" / "certificate.json")
            assert decision.score is not None
            assert 0.5 < decision.score <= 1
            assert not offer.audit
            whole = offer.whole()
            assert (whole["model"], whole["object"]) == ("large", "chat.completion")
            assert whole["system_fingerprint"] == "fp_" + StudentCard.read(root / "words").sha256[:12]
            assert whole["choices"][0]["message"]["content"] == "positive"
            assert whole["usage"]["total_tokens"] == offer.usage.prompt_tokens + offer.usage.completion_tokens == 4
            events = [event.removeprefix("data: ").strip() for event in offer.events()]
            assert events.pop() == "[DONE]"
            chunks = [json.loads(event) for event in events]
            said = "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks if one["choices"])
            assert (said, chunks[-1]["usage"]) == ("positive", whole["usage"])
            again = [await cascade.offer(chat(temperature=1.5)) for _ in range(20)]  # greedy, whatever is asked for
            assert {one.decision.answer for one in again} == {"positive"}
            logprobs = (await cascade.offer(chat(logprobs=True, top_logprobs=2))).whole()["choices"][0]["logprobs"]
            assert [one["token"] for one in logprobs["content"][0]["top_logprobs"]] == ["positive", "negative"]

    asyncio.run(main())


def test_what_the_student_does_not_answer_is_counted_by_reason(root: Path) -> None:
    async def main() -> None:
        async with opened(root) as cascade:
            offers = [await cascade.offer(body) for body in (chat(), chat(n=2), {"messages": 3}, chat(n=2))]
            assert [one.decision.reason for one in offers] == [
                "", "cannot_honour:n", "cannot_honour:model", "cannot_honour:n",
            ]  # fmt: skip
            state = json.loads(json.dumps(cascade.state(), allow_nan=False))
            assert (state["answered"], state["accepted"]) == (1, 1)
            assert state["escalated"] == {"cannot_honour:n": 2, "cannot_honour:model": 1}
            assert (state["on"], state["process"], state["alarm"]) == (True, "up", False)
            assert state["monitor"]["audits"] == 0

    asyncio.run(main())


def test_an_answer_under_the_threshold_goes_upstream(root: Path) -> None:
    async def main() -> None:
        async with opened(root) as cascade:
            sure = (await cascade.offer(chat("a great lovely solid phone"))).decision.score
            unsure = (await cascade.offer(chat("a phone"))).decision.score
            assert sure is not None
            assert unsure is not None
            assert unsure < sure
        change(root, threshold=sure)
        async with opened(root) as cascade:
            assert (await cascade.offer(chat("a great lovely solid phone"))).decision.reason == ""  # at least it
            decision = (await cascade.offer(chat("a phone"))).decision
            assert (decision.reason, decision.accepted, decision.score) == ("unsure", False, unsure)

    asyncio.run(main())


def test_a_canary_answers_a_share(root: Path) -> None:
    async def main() -> None:
        async with opened(root, mode="canary", canary_share=0.3) as cascade:
            for _ in range(300):
                await cascade.offer(chat())
            await cascade.offer(chat(n=2))
            assert set(cascade.escalated) == {"not_in_canary", "cannot_honour:n"}  # what it cannot read counts as such
            assert cascade.answered + cascade.escalated["not_in_canary"] == 300
            assert 40 < cascade.answered < 140

    asyncio.run(main())


def test_in_shadow_the_upstream_answers_and_the_two_are_compared(root: Path) -> None:
    async def main() -> None:
        async with opened(root, mode="shadow") as cascade:
            offers = [await cascade.offer(chat()) for _ in range(3)]
            assert all(one.decision.reason == "shadow" and one.compares and not one.audit for one in offers)
            assert cascade.answered == 0
            for offer, said in zip(offers, ("Positive.", "negative", "who knows"), strict=True):
                await cascade.heard(offer, completion(said))
            assert [one.decision.audit for one in offers] == ["agreed", "differed", "failed"]
            assert all(one.decision.accepted and one.decision.answer == "positive" for one in offers)
            assert cascade.monitor is not None
            assert (cascade.monitor.audits, cascade.monitor.errors) == (2, 1)
        change(root, threshold=2.0)
        async with opened(root, mode="shadow") as cascade:
            offer = await cascade.offer(chat())
            await cascade.heard(offer, completion("negative"))
            assert (offer.decision.audit, offer.decision.accepted) == ("", False)  # no audit of the certificate
            assert cascade.state()["audits"] == {"agreed": 0, "differed": 1, "failed": 0}
            assert cascade.state()["monitor"]["audits"] == 0
        (root / "words" / "certificate.json").unlink()
        async with opened(root, mode="shadow") as cascade:
            offer = await cascade.offer(chat())
            await cascade.heard(offer, completion("positive"))
            assert (offer.decision.audit, offer.decision.certificate, offer.decision.accepted) == ("agreed", "", False)
            assert cascade.state()["monitor"] is None

    asyncio.run(main())


def test_audits_turn_the_student_off_and_it_stays_off(root: Path, until: Until) -> None:
    async def ask(cascade: Cascade, said: str | None) -> Offer:
        offer = await cascade.offer(chat())
        if offer.audit:
            await cascade.heard(offer, None if said is None else completion(said))
        return offer

    async def main() -> None:
        async with opened(root, events, audit_share=1) as cascade:
            assert cascade.process is not None
            pid = cascade.process.pid
            assert (await ask(cascade, None)).decision.audit == "failed"
            assert (await ask(cascade, "positive")).decision.audit == "agreed"
            while not cascade.alarm:
                offer = await ask(cascade, "negative")
                assert (offer.decision.reason, offer.decision.audit) == ("", "differed")
                recorded.append(True)
            assert 1 < len(recorded) < 10
            assert (await ask(cascade, "negative")).decision.reason == "alarm"
            assert (cascade.state()["on"], cascade.state()["process"]) == (False, "off")
            await until(lambda: not Path(f"/proc/{pid}").exists())
        recorded.insert(0, False)
        again: Events = []
        async with opened(root, again, recorded, mode="canary") as cascade:
            assert [kind for kind, _ in again] == ["alarm"]
            assert cascade.process is None
            assert (await cascade.offer(chat())).decision.reason == "alarm"
        async with opened(root, [], recorded[:2]) as cascade:
            assert (await cascade.offer(chat())).decision.reason == ""
        async with opened(root, [], recorded, mode="shadow") as cascade:
            offer = await cascade.offer(chat())
            await cascade.heard(offer, completion("positive"))
            assert (offer.decision.audit, cascade.alarm, cascade.off) == ("agreed", True, False)
        change(root, sentence="another certificate")
        async with opened(root, [], ()) as cascade:
            assert (await cascade.offer(chat())).decision.reason == ""

    events: Events = []
    recorded: list[bool] = []
    asyncio.run(main())
    ((kind, text),) = events
    assert kind == "alarm"
    assert text.startswith("Student turned off, run words: Alarm: ")
    assert "differed from the upstream's" in text


def test_only_a_share_is_audited(root: Path) -> None:
    async def main() -> None:
        async with opened(root, audit_share=0.3) as cascade:
            offers = [await cascade.offer(chat()) for _ in range(300)]
            assert 40 < sum(one.audit for one in offers) < 140
            assert all(one.audit == one.compares for one in offers)
            assert not (await cascade.offer(chat(n=2))).audit

    asyncio.run(main())


def test_an_audit_asks_as_the_teacher_was_asked(root: Path) -> None:
    async def main() -> None:
        async with opened(root) as cascade:
            asked = chat(stream=True, stream_options={"include_usage": True}, temperature=0.9, user="u")
            assert cascade.audit(asked) == chat(temperature=0, user="u")
            assert cascade.audit(chat()) == chat()  # an upstream that is not known to take a temperature

    asyncio.run(main())


def test_a_killed_student_does_not_take_the_gateway_along(root: Path, until: Until) -> None:
    async def main() -> None:
        async with opened(root, events) as cascade:
            process = cascade.process
            assert process is not None
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            await until(lambda: not process.up)
            assert (await cascade.offer(chat())).decision.reason == "student_down"
            assert (cascade.state()["on"], cascade.state()["process"]) == (True, "down")
            await until(lambda: process.up)
            assert (await cascade.offer(chat())).decision.reason == ""

    events: Events = []
    asyncio.run(main())
    assert [kind for kind, _ in events] == ["student_down", "student_up"]


def test_a_certificate_of_another_engine_is_refused(root: Path) -> None:
    plain = json.loads((root / "words" / "certificate.json").read_text(encoding="utf-8"))
    change(root, hashes=plain["hashes"] | {"engine": "torch-bfloat16"})

    async def main() -> None:
        async with opened(root):
            pass

    with pytest.raises(AasutError, match=r"certificate\.json is of the student on the engine torch-bfloat16"):
        asyncio.run(main())


RULES = {"great": "They like it.", "awful": "It broke\nat once.", "long": "on and on " * 30}


def write_text_run(root: Path, kind: Any = "generate", rules: dict[str, str] = RULES, tools: str = "") -> None:
    """A run whose student writes by rules, on the scripted engine, with a certificate that accepts what it knows."""
    folder = root / "words"
    folder.mkdir(parents=True)
    small_run.write_recipe(folder, small_run.recipe(task={"kind": "generate", "prompt": "Text: {text}"},
                           student={"model": {"address": "file:m"}, "prompt": "T: {text} ="}))  # fmt: skip
    (folder / "student.gguf").write_text(json.dumps(rules), encoding="utf-8")
    task, student = PromptTemplate.of("Text: {text}"), PromptTemplate.of("T: {text} =")
    sha256 = file_hash(folder / "student.gguf")
    StudentCard("words", kind, (), tuple(task.messages), tuple(student.messages), "student.gguf", "scripted", "auto",
                sha256, max_tokens=16, tools=tools).write(folder)  # fmt: skip
    hashes = {"file": "student.gguf", "file_sha256": sha256, "engine": "scripted",
              "template": digest([task.plain(), student.plain()])}  # fmt: skip
    certificate = {"certified": True, "threshold": -1.0, "scorer": {"kind": "least_token", "quantiles": [0.0]},
                   "hashes": hashes, "sentence": "s", "audit": {"risk": 0.05, "confidence": 0.95}}  # fmt: skip
    (folder / "certificate.json").write_text(json.dumps(certificate), encoding="utf-8")


def test_a_student_that_writes_text(tmp_path: Path) -> None:
    write_text_run(tmp_path)

    async def main() -> None:
        async with opened(tmp_path, audit_share=1) as cascade:
            offer = await cascade.offer(chat("great"))
            assert (offer.decision.reason, offer.decision.answer, offer.decision.score) == ("", "They like it.", 0.0)
            choice = offer.whole()["choices"][0]
            assert (choice["message"]["content"], choice["finish_reason"]) == ("They like it.", "stop")
            assert "They like it." in "".join(offer.events())
            await cascade.heard(offer, completion(" They like it.\n"))
            assert offer.decision.audit == "agreed"
            reasons = [
                (await cascade.offer(body)).decision.reason
                for body in (chat("nothing"), chat("long"), chat("great", stop="like"), chat("great", max_tokens=2))
            ]
            assert reasons == ["unsure", *(f"cannot_honour:{name}" for name in ("max_tokens", "stop", "max_tokens"))]
            assert (await cascade.offer(chat("x " * 5000))).decision.reason == "too_long"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("upstream", "answer"),
    [
        (completion("They like it. "), "They like it."),
        (completion("They like", "length"), None),
        (completion(None), None),
        (completion(" "), None),
        ({"choices": []}, None),
        ({"error": {"message": "no"}}, None),
        ({"choices": [{"message": "x"}]}, None),
        ({"choices": [7]}, None),
    ],
)
def test_what_the_upstream_answered(upstream: dict[str, Any], answer: str | None) -> None:
    assert answer_of(upstream, Generate(PromptTemplate.of("{text}"), 8)) == answer


def test_a_student_that_calls_tools(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "switch", "parameters": {"type": "object"}}}]
    written = '[{"name": "switch", "arguments": {"on": true}}]'
    write_text_run(tmp_path, "tools", {"great": written}, tools=json.dumps(tools))

    async def main() -> None:
        async with opened(tmp_path, audit_share=1) as cascade:
            offer = await cascade.offer(chat("great", tools=tools))
            assert (offer.decision.reason, offer.decision.answer) == ("", written)
            choice = offer.whole()["choices"][0]
            call = choice["message"]["tool_calls"][0]["function"]
            assert (choice["finish_reason"], call["name"], json.loads(call["arguments"])) == (
                "tool_calls", "switch", {"on": True},
            )  # fmt: skip
            assert '"tool_calls"' in "".join(offer.events())
            said = {"content": None, "tool_calls": [{"function": {"name": "switch", "arguments": '{"on":true}'}}]}
            await cascade.heard(offer, {"choices": [{"message": said, "finish_reason": "tool_calls"}]})
            assert offer.decision.audit == "agreed"
            other = await cascade.offer(chat("great", tools=tools))
            await cascade.heard(other, completion("I will."))
            assert other.decision.audit == "differed"
            assert (await cascade.offer(chat("great"))).decision.reason == "other_tools"

    asyncio.run(main())


def test_a_label_may_be_cut_by_the_clients_own_limit() -> None:
    task = Classify(("yes", "no"), PromptTemplate([Message("user", "{text}")]))
    assert answer_of(completion("Yes", "length"), task) == "yes"
