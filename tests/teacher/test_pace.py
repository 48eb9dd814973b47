from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from typing import Any

import pytest

from aasut.teacher.pace import Limit, Pace, wait_of


def grown(most: int = 64, answers: int = 200) -> Limit:
    limit = Limit(most)
    for i in range(answers):
        limit.answered(i, i + 0.1, int(limit.now))
    return limit


def test_the_limit_starts_low_and_grows_to_the_most() -> None:
    limit = Limit(64)
    assert limit.now == 4
    for i in range(4):
        limit.answered(i, i + 0.1, 4)
    assert limit.now == 8
    assert grown().now == 64
    assert Limit(2).now == 2
    assert grown(2).now == 2


def test_the_limit_stays_where_it_is_not_used() -> None:
    limit = grown(answers=28)
    before = limit.now
    for i in range(100):
        limit.answered(i, i + 0.1, 3)
    assert limit.now == before == 32


def test_the_limit_halves_once_a_round_trip() -> None:
    limit = grown()
    for started in (300.0, 300.1, 300.2):
        limit.overloaded(started, 301.0)
    assert limit.now == 32
    limit.overloaded(301.0, 302.0)
    assert limit.now == 16
    for later in range(310, 330):
        limit.overloaded(later, later + 0.5)
    assert limit.now == 1


def test_after_a_refusal_the_limit_grows_by_one_a_round_trip() -> None:
    limit = grown()
    limit.overloaded(300, 301)
    for i in range(32):
        limit.answered(302 + i, 303 + i, 32)
    assert limit.now == pytest.approx(33, abs=0.05)


def test_the_limit_holds_while_answers_only_queue() -> None:
    """A server that answers 20 a second, however many wait: latency is what is in flight over 20."""
    limit, now = Limit(1000), 0.0
    for _ in range(3000):
        now += 0.05
        limit.answered(now, now + max(limit.now / 20, 0.1), int(limit.now))
    assert limit.now < 100
    steady = Limit(1000)
    for _ in range(3000):
        steady.answered(now, now + 0.2, int(steady.now))
    assert steady.now == 1000


def test_latencies_are_forgotten_where_calls_of_another_kind_follow() -> None:
    for forget in (False, True):
        limit = grown(64, 12)
        before = limit.now
        if forget:
            limit.begin()
        for i in range(64):
            limit.answered(i, i + 2.0, int(limit.now))
        assert (limit.now > before + 16) == forget


def test_small_differences_of_latency_are_noise() -> None:
    limit = Limit(64)
    for i in range(200):
        limit.answered(i, i + (0.001 if i < 8 else 0.1), int(limit.now))
    assert limit.now == 64


def at_once(most: int, calls: int, serve: Callable[[int], Coroutine[Any, Any, bool]], **more: Any) -> tuple[Pace, int]:
    """Run calls through a pace until each was served; the pace, and the most that `serve` saw at once."""
    pace = Pace(most, **more)
    seen = open_now = 0

    async def call() -> None:
        nonlocal seen, open_now
        done, attempt = False, 0
        while not done:
            if attempt:
                await asyncio.sleep(pace.pause(attempt))
            started = await pace.enter(again=attempt > 0)
            open_now += 1
            seen = max(seen, open_now)
            done = await serve(open_now)
            open_now -= 1
            pace.leave(started, "answered" if done else "overloaded")
            attempt += 1

    async def main() -> None:
        await asyncio.gather(*(call() for _ in range(calls)))

    asyncio.run(main())
    return pace, seen


def test_calls_are_let_through_up_to_the_limit() -> None:
    async def serve(_: int) -> bool:
        await asyncio.sleep(0.001)
        return True

    pace, seen = at_once(10, 200, serve)
    assert (seen, pace.in_flight, pace.answers) == (10, 0, 200)


def test_an_answer_keeps_its_place_until_it_is_entered() -> None:
    async def trial() -> None:
        pace = Pace(2, pause_s=0.0, patience_s=1.0)
        first, second = await pace.enter(), await pace.enter()
        third = asyncio.create_task(pace.enter())
        pace.hold()
        pace.leave(first, "answered")
        await asyncio.sleep(0)
        assert not third.done()
        pace.leave(second, "overloaded")  # its place is free
        await asyncio.sleep(0)
        fourth = asyncio.create_task(pace.enter())
        await asyncio.sleep(0)
        assert third.done()
        assert not fourth.done()
        pace.entered(1)
        pace.leave(third.result(), "broken")
        assert await asyncio.wait_for(fourth, 1) >= first

    asyncio.run(trial())


def test_what_a_server_bears_is_found() -> None:
    """It takes 6 calls at once and refuses others: all are served, with few refusals, and the limit stays near 6."""
    refused = 0

    async def serve(open_now: int) -> bool:
        nonlocal refused
        await asyncio.sleep(0.001)
        refused += open_now > 6
        return open_now <= 6

    draw = random.Random(1)
    pace, _ = at_once(64, 600, serve, pause_s=0.002, draw=draw.uniform)
    assert pace.answers == 600
    assert refused < 150
    assert pace.limit.now < 20
    assert pace.retries == refused


def test_a_pause_holds_all_calls() -> None:
    async def main() -> None:
        pace = Pace(8)
        started = [await pace.enter() for _ in range(4)]
        waiting = [asyncio.create_task(pace.enter()) for _ in range(3)]
        begun = time.monotonic()
        pace.leave(started[0], "overloaded", 0.15)
        pace.leave(started[1], "answered")
        pace.leave(started[2], "overloaded", 0.05)  # a shorter wait takes nothing back
        await asyncio.sleep(0.02)
        assert not any(task.done() for task in waiting)
        first, *_ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert time.monotonic() - begun >= 0.149
        assert len(first) >= 1
        for task in waiting:
            task.cancel()

    asyncio.run(main())


def test_further_attempts_come_before_first_ones_and_cancelled_ones_leave_their_place() -> None:
    async def main() -> None:
        pace = Pace(1)
        order: list[str] = []

        async def call(name: str, again: bool) -> None:
            started = await pace.enter(again=again)
            order.append(name)
            pace.leave(started, "answered")

        started = await pace.enter()
        tasks = [asyncio.create_task(call(n, a)) for n, a in (("a", False), ("b", False), ("c", True), ("d", False))]
        await asyncio.sleep(0)
        tasks[0].cancel()
        pace.leave(started, "answered")
        tasks[2].cancel()  # its place is promised by now
        await asyncio.gather(*tasks, return_exceptions=True)
        assert order == ["b", "d"]
        assert pace.in_flight == 0

    asyncio.run(main())


def test_pauses_are_drawn_between_zero_and_a_doubling_most() -> None:
    mosts: list[tuple[float, float]] = []

    def draw(least: float, most: float) -> float:
        mosts.append((least, most))
        return most

    pace = Pace(4, pause_s=1.0, draw=draw)
    assert [pace.pause(attempt) for attempt in (1, 2, 3, 4, 5, 60)] == [2, 4, 8, 16, 30, 30]
    assert {least for least, _ in mosts} == {0.0}
    assert pace.retries == 6


def test_patience_ends() -> None:
    now = 1000.0

    async def main() -> None:
        nonlocal now
        pace = Pace(4, patience_s=60, clock=lambda: now)

        async def call(outcome: Any) -> None:
            pace.leave(await pace.enter(), outcome)

        await call("broken")
        now += 59
        await call("overloaded")
        assert pace.gives_up() == ""
        now += 1
        assert pace.gives_up() == "nothing was answered for 60 s"
        await call("answered")
        assert pace.gives_up() == ""
        now += 3600  # nothing was asked for an hour
        await call("broken")
        assert pace.gives_up() == ""
        now += 3600
        pace.begin()
        await call("broken")
        assert pace.gives_up() == ""
        assert pace.gives_up(60) == ""
        assert pace.gives_up(61) == "it asks to wait 61 s, and 60 s are allowed"

    asyncio.run(main())


def test_an_endpoint_that_is_down_is_asked_less_and_less() -> None:
    """The longest waits are drawn: a handful of calls in two minutes, whatever waits for its turn."""
    now, asked = 0.0, 0
    pace = Pace(4, pause_s=1.0, clock=lambda: now, draw=max)

    async def main() -> None:
        nonlocal now, asked
        for _ in range(8):
            pace.leave(await pace.enter(), "broken")
        turns = [asyncio.create_task(pace.enter()) for _ in range(4)]
        while now < 120:
            asked += sum(turn.done() for turn in turns)
            for turn in [turn for turn in turns if turn.done()]:
                pace.leave(turn.result(), "broken")
                turns.remove(turn)
                turns.append(asyncio.create_task(pace.enter()))
            now += 0.5
            pace._reopen()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        for turn in turns:
            turn.cancel()

    asyncio.run(main())
    assert 5 <= asked <= 10


NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None), ("", None), ("soon", None), ("nan", None), ("inf", None), ("1e999", None),
        ("0", 0), ("12", 12), (" 0.25 ", 0.25), ("-5", 0),
        (formatdate(NOW + 90, usegmt=True), 90), (formatdate(NOW - 90, usegmt=True), 0),
        ("Tue, 14 Nov 2023 23:14:20 +0100", 60), ("Tue, 14 Nov 2023 22:14:20 -0000", 60), ("Tue, 99 Nov 2023", None),
    ],
)  # fmt: skip
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert wait_of(header, NOW) == seconds
