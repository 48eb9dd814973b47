"""Several hypotheses at once: Holm's (1979, Scandinavian Journal of Statistics 6, 65-70) step-down procedure."""

from __future__ import annotations

from collections.abc import Sequence


def adjusted(p_values: Sequence[float]) -> list[float]:
    """Each p-value as one may hold it against a level for all of them together, in the order given.

    The i-th smallest of m is multiplied by m - i + 1, then raised to the largest before it, and 1 at
    most. The chance of any false rejection stays under the level, however the tests hang together.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    found = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        found[i] = largest
    return found
