"""Many tasks at once over one ledger: each asks in rounds of its own, and none waits for another's.

What is asked next hangs on answers alone, so that the ledger is all that a killed run needs to go on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from aasut.recipe.field import Synthesize
from aasut.synthesize.plan import Task
from aasut.synthesize.writing import Made, Writing
from aasut.teacher.ledger import Ledger
from aasut.types import Completion, Message, Request

BATCH = 64  # requests that go to a local teacher together
AT_ONCE = 4 * BATCH  # tasks of a local teacher, whose requests with one beginning are put together
MOST = 1 << 14  # requests in one call of the ledger, which holds their answers until its end

Answered = Callable[[Task, Completion, bool], None]
Finished = Callable[[Task, Made], None]


def drive(
    tasks: Iterable[Task],
    wanted: Synthesize,
    teacher: Ledger,
    finished: Finished,
    answered: Answered = lambda _task, _completion, _resumed: None,
) -> None:
    """Work all tasks off. `finished` hears of them in their order, `answered` of answers as they come, and whether
    they were there before; what these raise stops the asking.
    """
    run = _Run(iter(tasks), wanted, finished, answered)
    if teacher.remote is not None:
        while run.begin_until_ready():
            teacher.complete(run.flowing(), heard=run.hear)
    else:
        while batch := run.batch():
            teacher.complete(batch, heard=run.hear)


@dataclass
class _Job:
    """A task under way: which answers of its round are there, and how many are not."""

    number: int
    task: Task
    writing: Writing
    answers: list[Completion | None] = field(default_factory=list)
    left: int = 0


class _Run:
    def __init__(self, tasks: Iterator[Task], wanted: Synthesize, finished: Finished, answered: Answered) -> None:
        self._tasks, self._wanted, self._finished, self._answered = tasks, wanted, finished, answered
        self._begun = self._told = 0
        self._waiting: dict[Request, list[tuple[_Job, int]]] = {}
        self._ready: dict[tuple[Message, ...], deque[Request]] = {}  # by their beginning
        self._done: dict[int, tuple[Task, Made]] = {}  # until those before it are done too

    def flowing(self) -> Iterator[Request]:
        """Requests for as long as there are any: those of tasks under way before those of others."""
        for _ in range(MOST):
            if not self.begin_until_ready():
                return
            yield self._take(next(iter(self._ready)))

    def batch(self) -> list[Request]:
        """Up to BATCH requests with one beginning, of which the most are ready; none at the end."""
        while self._begun - self._told - len(self._done) < AT_ONCE and self._begin():
            pass
        if not self._ready:
            return []
        beginning = max(self._ready, key=lambda one: len(self._ready[one]))
        return [self._take(beginning) for _ in range(min(BATCH, len(self._ready[beginning])))]

    def begin_until_ready(self) -> bool:
        """Begin tasks until there is something to ask; False at the end."""
        while not self._ready:
            if not self._begin():
                return False
        return True

    def hear(self, request: Request, completion: Completion, resumed: bool) -> None:
        """Hand an answer to those who wait for it, and go on with them."""
        for job, place in self._waiting.pop(request):
            job.answers[place] = completion
            job.left -= 1
            self._answered(job.task, completion, resumed)
            if not job.left:
                self._go_on(job)

    def _begin(self) -> bool:
        task = next(self._tasks, None)
        if task is None:
            return False
        job = _Job(self._begun, task, task.begin(self._wanted))
        self._begun += 1
        self._go_on(job)
        return True

    def _go_on(self, job: _Job) -> None:
        """Take a job to its next round, or to its end."""
        try:
            requests = (
                job.writing.send([one for one in job.answers if one is not None]) if job.answers else next(job.writing)
            )
        except StopIteration as end:
            self._done[job.number] = job.task, end.value
            while self._told in self._done:
                self._finished(*self._done.pop(self._told))
                self._told += 1
            return
        job.answers, job.left = [None] * len(requests), len(requests)
        for place, request in enumerate(requests):
            waiting = self._waiting.setdefault(request, [])
            waiting.append((job, place))
            if len(waiting) == 1:
                self._ready.setdefault(request.messages[:-1], deque()).append(request)

    def _take(self, beginning: tuple[Message, ...]) -> Request:
        requests = self._ready[beginning]
        request = requests.popleft()
        if not requests:
            del self._ready[beginning]
        return request
