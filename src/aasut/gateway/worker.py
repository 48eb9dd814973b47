"""The student's own process: loads a run's student and answers what the gateway asks, over a socket that it inherits.

    python -m aasut.gateway.worker RUN_FOLDER SOCKET SCORER

SOCKET is the number of an open file, SCORER what makes scores (evaluate/confidence.py) as JSON. The process says
`{"ready": …}` or `{"refused": [message, remedy]}`, then answers [id, prompt, deadline] with [id, {…}]. What waits
while the engine is busy goes into its next call together. It ends when the other end of the socket closes, so that
no student outlives its gateway, however that ends.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from aasut.engine.base import Piece
from aasut.errors import AasutError
from aasut.evaluate.candidates import Answered, fits
from aasut.evaluate.confidence import Scorer, quantiles
from aasut.gateway.frames import Frames, pack
from aasut.serve.student import Answer, ServedStudent

LARGEST = 32  # prompts in one call of the engine

Asked = tuple[int, str, float]  # id, prompt, time.monotonic() after which nobody waits for the answer
Told = dict[str, Any]


class Answering:
    """A student's certified answers: greedy, with the task's own settings, each with its score.

    An answer is {"text", "logprobs", "score", "finish", "usage"}: the label, with every label's log-probability,
    or the text in the task's written form, "" where it is no answer. {"fault"} stands for one that there is not.
    """

    def __init__(self, student: ServedStudent, scorer: Scorer) -> None:
        self.student, self.scorer = student, scorer

    def answer(self, batch: Sequence[Asked]) -> Iterator[tuple[int, Told]]:
        """The answers by id, as they come."""
        student = self.student
        rows = []
        for asked in batch:
            if fits(student.engine, student.task, asked[1]):
                rows.append(asked)
            else:
                yield asked[0], {"fault": "too_long"}
        prompts = [prompt for _, prompt, _ in rows]
        for row, told in self._labels(prompts) if student.task.answers else self._texts(prompts):
            if isinstance(told, Exception):
                traceback.print_exception(told, file=sys.stderr)
                told = {"fault": "student_failed"}
            yield rows[row][0], told

    def _labels(self, prompts: Sequence[str]) -> Iterator[tuple[int, Told | Exception]]:
        for row, answer in enumerate(self.student.score(prompts)):
            yield row, answer if isinstance(answer, Exception) else self._label(answer)

    def _label(self, answer: Answer) -> Told:
        found = Answered([np.exp(list(answer.logprobs.values())).tolist()])
        used = [answer.usage.prompt_tokens, answer.usage.completion_tokens]
        told = {"text": answer.label, "logprobs": dict(answer.logprobs), "finish": "stop", "usage": used}
        return told | {"score": self._score(found)}

    def _texts(self, prompts: Sequence[str]) -> Iterator[tuple[int, Told | Exception]]:
        student = self.student
        texts = [""] * len(prompts)
        asked = [replace(student.prompt_of(prompt), logprobs=True) for prompt in prompts]
        for row, piece in student.write(asked):
            if isinstance(piece, Exception):
                yield row, piece
                continue
            texts[row] += piece.text
            if piece.finish:
                yield row, self._text(prompts[row], texts[row], piece)

    def _text(self, prompt: str, text: str, last: Piece) -> Told:
        used = [self.student.engine.count_tokens(prompt), last.tokens]
        told = {"text": self.student.task.parse(text) or "", "logprobs": None, "finish": last.finish, "usage": used}
        return told | {"score": self._score(Answered(quantiles=[quantiles(last.logprobs)]))}

    def _score(self, answered: Answered) -> float:
        return float(self.scorer.scores(answered.features)[0])


def serve(folder: Path, link: socket.socket, scorer: Scorer) -> None:
    """Load the student and answer until the process ends."""
    asked: queue.SimpleQueue[Asked] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(link, asked), daemon=True).start()
    try:
        student = ServedStudent.load(folder)
    except AasutError as error:
        link.sendall(pack({"refused": [error.message, error.remedy]}))
        return
    answering = Answering(student, scorer)
    link.sendall(pack({"ready": {"engine": student.engine.name, "sha256": student.file_sha256}}))
    while True:
        batch = _waiting(asked)
        if not batch:
            continue
        told = map(pack, answering.answer(batch))
        for part in [b"".join(told)] if student.task.answers else told:  # labels are there at the same time
            link.sendall(part)


def _waiting(asked: queue.SimpleQueue[Asked]) -> list[Asked]:
    """What waits and is still waited for, LARGEST at most; waits for the first."""
    batch = [asked.get()]
    while len(batch) < LARGEST:
        try:
            batch.append(asked.get_nowait())
        except queue.Empty:
            break
    now = time.monotonic()
    return [one for one in batch if now < one[2]]


def _listen(link: socket.socket, asked: queue.SimpleQueue[Asked]) -> None:
    frames = Frames()
    try:
        while part := link.recv(1 << 16):
            for one in frames.add(part):
                asked.put(one)
    finally:
        os._exit(0)  # from any thread, whatever the engine is at


def main() -> None:
    """See the module's text."""
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the gateway, which ends this when it is done
        signal.signal(number, signal.SIG_IGN)
    folder, link, scorer = sys.argv[1:]
    serve(Path(folder), socket.socket(fileno=int(link)), Scorer(**json.loads(scorer)))


if __name__ == "__main__":
    main()
