from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from aasut.teacher.flow import Flow
from aasut.types import Completion, Message, Request

Pair = tuple[Request, Completion]


def requests(count: int) -> Iterator[Request]:
    return (Request((Message("user", f"{i}"),)) for i in range(count))


class Asked:
    """Answers with the question after a moment; notes how many are under way, and in which thread."""

    def __init__(self, fails_at: int = -1) -> None:
        self.fails_at = fails_at
        self.now = self.most = self.begun = 0
        self.rested = 0
        self.threads: set[int] = set()
        self.flow = Flow(self.ask, self.rest, ahead=8)

    async def ask(self, request: Request) -> Completion:
        self.threads.add(threading.get_ident())
        self.now, self.begun = self.now + 1, self.begun + 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(0.005)
            if request.messages[0].content == str(self.fails_at):
                raise ValueError("no")
            return Completion("re " + request.messages[0].content)
        finally:
            self.now -= 1

    def rest(self) -> None:
        self.rested += 1

    async def last(self) -> None:
        assert self.now == 0


def run(asked: Asked, count: int, keep: Callable[[Sequence[Pair]], None] | None = None) -> list[Completion]:
    try:
        return asked.flow.run(requests(count), keep)
    finally:
        asked.flow.close(asked.last())


def test_answers_come_in_order_and_are_kept_in_the_callers_thread() -> None:
    asked, kept, threads = Asked(), [], set()

    def keep(pairs: Sequence[Pair]) -> None:
        threads.add(threading.get_ident())
        kept.extend(pairs)

    found = run(asked, 50, keep)
    assert [answer.text for answer in found] == [f"re {i}" for i in range(50)]
    assert sorted(answer.text for _, answer in kept) == sorted(answer.text for answer in found)
    assert all(answer.text == "re " + request.messages[0].content for request, answer in kept)
    assert threads == {threading.get_ident()}
    assert asked.threads.isdisjoint(threads)
    assert 2 <= asked.most <= 8


def test_no_more_requests_are_taken_than_there_are_places() -> None:
    """A million would be there for the taking; after a fault only the first few were taken."""
    taken = 0

    def many() -> Iterator[Request]:
        nonlocal taken
        for request in requests(1_000_000):
            taken += 1
            yield request

    asked = Asked(fails_at=20)
    with pytest.raises(ValueError, match="no"):
        asked.flow.run(many(), None)
    asked.flow.close(asked.last())
    assert 20 < taken <= 20 + 2 * 8
    assert asked.rested == 1


def test_a_fault_waits_for_calls_under_way_and_keeps_them() -> None:
    asked, kept = Asked(fails_at=3), []
    with pytest.raises(ValueError, match="no"):
        run(asked, 100, kept.extend)
    assert asked.begun - 1 == len(kept) < 20


def test_an_interrupt_keeps_what_is_there_and_drops_the_rest() -> None:
    """Ctrl-C in the middle of keeping: those answers are kept by another attempt."""
    asked, kept = Asked(), []

    def keep(pairs: Sequence[Pair]) -> None:
        if not kept and len(pairs) < 50 and not interrupted:
            interrupted.append(list(pairs))
            raise KeyboardInterrupt
        kept.extend(pairs)

    interrupted: list[list[Pair]] = []
    with pytest.raises(KeyboardInterrupt):
        run(asked, 100, keep)
    assert interrupted[0]
    assert all(pair in kept for pair in interrupted[0])
    assert len(kept) < 20


def test_where_keeping_fails_it_is_not_tried_again() -> None:
    asked, tries = Asked(), []

    def keep(pairs: Sequence[Pair]) -> None:
        tries.append(len(pairs))
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        run(asked, 100, keep)
    assert len(tries) == 1


def test_a_source_that_fails_drops_the_calls() -> None:
    def source() -> Iterator[Request]:
        yield from requests(4)
        raise RuntimeError("no more")

    asked = Asked()
    with pytest.raises(RuntimeError, match="no more"):
        asked.flow.run(source(), None)
    asked.flow.close(asked.last())


def test_nothing_is_asked_for_nothing() -> None:
    assert run(Asked(), 0) == []
