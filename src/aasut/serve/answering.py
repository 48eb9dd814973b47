"""One request answered by a student: labels drawn, or texts written, as often as it asks for."""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from typing import Any

from aasut.engine.base import Piece, Prompt
from aasut.serve import reply as replies
from aasut.serve.batch import Waiter
from aasut.serve.protocol import ChatRequest
from aasut.serve.refusal import failed
from aasut.serve.reply import Choice, Reply
from aasut.serve.student import Answer, ServedStudent, draw
from aasut.serve.tokens import Opening
from aasut.types import Usage

Found = AsyncGenerator[tuple[int, Piece], None]


async def answer(
    request: ChatRequest, student: ServedStudent, batcher: Waiter, reply: Reply
) -> dict[str, Any] | AsyncIterator[str]:
    """A `chat.completion`, or the events of a stream.

    Raises Refusal, PromptMismatch and what the engine raises before a stream begins; one that breaks later ends with
    an error's event.
    """
    request.check(student.task, student.engine.alternatives)
    prompt = student.read(request.conversation())
    if student.task.answers:
        return await _labels(request, prompt, batcher, reply)
    return await _texts(request.prompts(student.task, prompt), student.engine.count_tokens(prompt), batcher, reply)


async def _labels(
    request: ChatRequest, prompt: str, batcher: Waiter, reply: Reply
) -> dict[str, Any] | AsyncIterator[str]:
    """The prompt is scored once, and labels are drawn `n` times."""
    (scored,) = [said async for said in batcher.ask(Prompt(prompt, 1))]
    assert isinstance(scored, Answer)
    labels = draws(request, prompt, scored)
    return _each(reply.label_events(scored, *labels)) if request.stream else reply.label(scored, *labels)


def draws(request: ChatRequest, prompt: str, scored: Answer) -> list[str]:
    """The labels to give: `n` of them. The same seed draws the same, the first whatever `n` is."""
    temperature, top_p = request.temperature or 0.0, 1.0 if request.top_p is None else request.top_p
    keys = [f"{request.seed} {prompt}" + (f" {number}" if number else "") for number in range(request.n or 1)]
    return [
        draw(scored, temperature=temperature, top_p=top_p, key=None if request.seed is None else key) for key in keys
    ]


async def _texts(
    prompts: Sequence[Prompt], asked: int, batcher: Waiter, reply: Reply
) -> dict[str, Any] | AsyncIterator[str]:
    found = _pieces(prompts, batcher)
    try:
        first = await anext(found)  # what is refused is refused before a stream begins
    except BaseException:
        await found.aclose()
        raise
    if reply.request.stream:
        return _events(reply, first, found, asked, len(prompts))
    async with aclosing(found):
        pieces = [first] + [one async for one in found]
    choices = []
    for row in range(len(prompts)):
        own = [piece for number, piece in pieces if number == row]
        text, said = Opening().shown("".join(p.text for p in own), [token for p in own for token in p.said])
        choices.append(Choice(text, own[-1].finish, said))
    return reply.texts(choices, Usage(asked, sum(piece.tokens for _, piece in pieces if piece.finish)))


async def _pieces(prompts: Sequence[Prompt], batcher: Waiter) -> Found:
    """(number of the prompt, a further piece of its answer), as they come; raises what the first that fails raises."""
    told: asyncio.Queue[tuple[int, Piece | Answer | Exception]] = asyncio.Queue()

    async def one(number: int, prompt: Prompt) -> None:
        try:
            async for said in batcher.ask(prompt):
                told.put_nowait((number, said))
        except Exception as error:
            told.put_nowait((number, error))

    tasks = [asyncio.create_task(one(number, prompt)) for number, prompt in enumerate(prompts)]
    try:
        left = len(prompts)
        while left:
            number, said = await told.get()
            if isinstance(said, Exception):
                raise said
            assert isinstance(said, Piece)
            left -= bool(said.finish)
            yield number, said
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _events(reply: Reply, first: tuple[int, Piece], rest: Found, asked: int, count: int) -> AsyncIterator[str]:
    streams = [(reply.stream(number), Opening()) for number in range(count)]
    made = 0

    def events(number: int, piece: Piece) -> Iterator[str]:
        stream, opening = streams[number]
        yield from stream.piece(*opening.shown(piece.text, piece.said))
        if piece.finish:
            yield from stream.end(piece.finish)

    async with aclosing(rest):
        try:
            for event in events(*first):
                yield event
            made += first[1].tokens if first[1].finish else 0
            async for number, piece in rest:
                for event in events(number, piece):
                    yield event
                made += piece.tokens if piece.finish else 0
        except Exception as error:
            traceback.print_exception(error, file=sys.stderr)
            yield replies.broken(failed())
            return
    for event in reply.done(Usage(asked, made)):
        yield event


async def _each(events: Iterator[str]) -> AsyncIterator[str]:
    for event in events:
        yield event
