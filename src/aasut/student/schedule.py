"""What each step of a training learns from, and how fast."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from aasut.files import digest
from aasut.recipe import OnPolicy, Student

WINDOW = 32  # batches whose examples are sorted by length together: little padding, still mixed


def steps(lengths: Sequence[int], epochs: int, batch: int, seed: int, *, mixed: bool = False) -> list[list[int]]:
    """The examples of every step. Each epoch has each example once; steps hold examples of like length, unless `mixed`.

    Where nothing is padded, mixing costs nothing, and a step's mean over tokens weighs every token of an epoch alike.
    """
    shuffle = random.Random(seed)
    window = 1 if mixed else WINDOW
    result: list[list[int]] = []
    for _ in range(epochs):
        order = list(range(len(lengths)))
        shuffle.shuffle(order)
        epoch: list[list[int]] = []
        for start in range(0, len(order), batch * window):
            part = sorted(order[start : start + batch * window], key=lambda i: (lengths[i], i))
            epoch += [part[i : i + batch] for i in range(0, len(part), batch)]
        shuffle.shuffle(epoch)
        result += epoch
    return result


def rate(step: int, count: int, settings: Student) -> float:
    """The learning rate of a step, counted from 0, of `count`.

    A linear rise over the share `warmup`. Then `cosine`: half a cosine down to zero; `wsd`: the peak, and over the
    last share `decay` one minus the square root of the share of them that is done (Hägele et al. 2024, 1-sqrt).
    """
    peak = settings.learning_rate
    rise = max(1, round(count * settings.warmup))
    if step < rise:
        return peak * (step + 1) / rise
    if settings.schedule == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(count - rise, 1)))
    fall = min(max(1, round(count * settings.decay)), count - rise)
    done = step - (count - fall)
    return peak if done < 0 else peak * (1 - math.sqrt(done / fall))


def own_share(step: int, count: int, settings: OnPolicy) -> float:
    """The share of the student's own answers in a step, counted from 0, of `count`.

    None over the share `start` of the steps; then it rises linearly over the share `rise`, to `share`.
    """
    start, rise = int(count * settings.start), int(count * settings.rise)
    return 0.0 if step < start else settings.share * min(1.0, (step - start + 1) / (rise + 1))


def is_own(step: int, key: str, seed: int, share: float) -> bool:
    """Does the student answer itself what `key` names, in this step? By a draw that hangs on nothing else."""
    return int(digest(["own", seed, step, key])[:13], 16) < share * 16**13
