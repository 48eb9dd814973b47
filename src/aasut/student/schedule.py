"""What each step of a training learns from, and how fast."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from aasut.recipe import Student

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
