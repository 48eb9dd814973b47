from __future__ import annotations

import threading
from collections.abc import Iterator

from aasut.doctor.finding import Examination, Finding


def test_no_examination_crashes_or_hangs() -> None:
    def breaks() -> Iterator[Finding]:
        yield Finding("first", "seen")
        raise ZeroDivisionError("what nobody thought of")

    def hangs() -> Iterator[Finding]:
        yield Finding("first", "seen")
        threading.Event().wait()

    broken, hung = Examination("Broken", breaks), Examination("Hung", hangs)
    first, second = broken.result(5)
    assert (first.value, second.level) == ("seen", "note")
    assert second.problem == "Broken was not examined: ZeroDivisionError: what nobody thought of"
    first, second = hung.result(0.2)
    assert (first.value, second.level) == ("seen", "fault")
