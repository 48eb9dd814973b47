from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aasut.progress import Progress
from aasut.synthesize import overlap
from aasut.synthesize.overlap import contaminated, duplicates
from written import HINDI, MANUAL, asked, chunks, conversation

CHUNK, HINDI_CHUNK = chunks("a.md", MANUAL)[0], chunks("b.md", HINDI, "hi")[0]
QUIET = Progress(quiet=True)
LONG = "Which fuse protects the fuel pump of the car, and where is it found?"


class Angles:
    """Embeds a text at the angle, in degrees, that it names after @."""

    def embed(self, texts: Sequence[str]) -> Any:
        angles = np.radians([float(text.rsplit("@", 1)[1]) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_whole_conversations_are_compared_and_test_stays_before_train() -> None:
    items = [
        asked("train", LONG, "Fuse F12, in the box under the bonnet.", CHUNK),
        asked("test", LONG, "FUSE F12, in the box  under the bonnet.", CHUNK, split="test"),
        asked("tune", LONG, "Fuse F12, in the box under the bonnet!!", CHUNK, split="tune"),
        asked("other", LONG, "Ask the garage, which has a list of all fuses and where they stand.", CHUNK),
        conversation(
            "longer",
            [
                (LONG, "Fuse F12, in the box under the bonnet."),
                ("Why does it burn out?", "Heat, most of the time, or a worn cable."),
            ],
            CHUNK,
        ),
        asked("hindi", "कौन-सा फ़्यूज़ है?", "F12", HINDI_CHUNK),
        asked("again", "कौन-सा फ\u093c्यूज\u093c है?", "F12", HINDI_CHUNK),
    ]
    assert duplicates(items, 0.8, 0.9, None, 7, QUIET) == {
        "tune": (overlap.NEAR, "test"),
        "train": (overlap.EXACT, "test"),
        "again": (overlap.EXACT, "hindi"),
    }
    assert set(duplicates(items, 1.0, 0.9, None, 7, QUIET)) == {"train", "again"}


def test_meanings_are_compared_after_words() -> None:
    items = [
        asked(name, "Which one?", f"{name} @{angle}", CHUNK, split=split)
        for name, angle, split in [("a", 0, "train"), ("b", 10, "train"), ("c", 80, "train"), ("d", 5, "test")]
    ]
    found = duplicates(items, 0.99, float(np.cos(np.radians(6))), Angles(), 7, QUIET)
    assert found == {"a": (overlap.ALIKE, "d"), "b": (overlap.ALIKE, "d")}
    assert duplicates([], 0.9, 0.9, Angles(), 7, QUIET) == {}


class Listed:
    """Finds what stands in a list."""

    def find(self, texts: Sequence[str]) -> list[str]:
        return ["exam.csv: exact" if text in ("Who?", "Who?\nAnn.") else "" for text in texts]


def test_an_item_is_held_against_what_is_held_out_whole_and_by_question() -> None:
    items = [
        asked("whole", "Who?", "Ann.", CHUNK),
        conversation("second", [("Why?", "So."), ("Who?", "Bob.")], CHUNK),
        asked("answer", "What is asked?", "Who?", CHUNK),
    ]
    assert contaminated(items, Listed()) == {
        "whole": (overlap.CONTAMINATED, "exam.csv: exact"), "second": (overlap.CONTAMINATED, "exam.csv: exact"),
    }  # fmt: skip
