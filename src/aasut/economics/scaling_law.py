"""Loss against a model's parameters and the tokens it learned from: L = E + A / N^alpha + B / D^beta.

The form is that of Hoffmann et al. (2022, "Training Compute-Optimal Large Language Models", arXiv:2203.15556,
equation 2), E, A, B >= 0. It is fitted by variable projection (see power_law.py) to the least sum of squares of
(fitted - L) / L, so that losses count by their relative error. Intervals come from a bootstrap of the residuals
(Davison & Hinkley 1997, Bootstrap Methods, 6.2.3), which are widened by sqrt(n / (n - 5)) for the five unknowns; they
are as many of its deviations wide as Student's t with n - 5 degrees of freedom says, since its percentiles cover too
little with so few runs.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from aasut.economics import power_law
from aasut.economics.power_law import Floats, PowerLaw
from aasut.errors import DataError

SIZES = 3  # distinct numbers of parameters, and of tokens: fewer do not tell an exponent from a constant
UNKNOWNS = 5
RUNS = UNKNOWNS + 1
APART = 2.0  # the largest over the smallest of them, at least
DRAWS = 200
COLUMNS = ("parameters", "tokens", "loss")


@dataclass(frozen=True, slots=True)
class Run:
    """One trained model: parameters and tokens (or examples) it learned from, and its loss (or error), all above 0."""

    parameters: float
    tokens: float
    loss: float

    @property
    def work(self) -> float:
        """What training took, up to a constant."""
        return self.parameters * self.tokens


@dataclass(frozen=True)
class ScalingLaw:
    """The fit to all runs, `drawn` refits to resampled ones, and what came of leaving out the largest run.

    held_out: that run, and its loss by a fit to the others; None where the others are too few.
    """

    law: PowerLaw
    drawn: tuple[PowerLaw, ...]
    runs: tuple[Run, ...]
    confidence: float
    held_out: tuple[Run, float] | None

    def loss(self, parameters: float, tokens: float) -> tuple[float, float, float]:
        """(expected loss, low, high): the interval is that of the fit."""
        value = self.law.at(parameters, tokens)
        return value, *self._interval(value, [law.at(parameters, tokens) for law in self.drawn])

    def tokens(self, parameters: float, loss: float) -> float:
        """Tokens from which a model of that size reaches the loss; infinite where none are enough."""
        (a, b), (alpha, beta) = self.law.scales, self.law.exponents
        room = loss - self.law.constant - a * parameters**-alpha
        return float((b / room) ** (1 / beta)) if room > 0 else math.inf

    def beyond(self, parameters: float, tokens: float) -> bool:
        """Is that outside what was run?"""
        return not (
            min(r.parameters for r in self.runs) <= parameters <= max(r.parameters for r in self.runs)
            and min(r.tokens for r in self.runs) <= tokens <= max(r.tokens for r in self.runs)
        )

    def as_dict(self) -> dict[str, Any]:
        values, drawn = _unknowns(self.law), [_unknowns(law) for law in self.drawn]
        intervals = {name: list(self._interval(values[name], [one[name] for one in drawn])) for name in values}
        held = self.held_out
        return {
            "runs": len(self.runs),
            **values,
            "intervals": intervals,
            "confidence": self.confidence,
            "held_out": None
            if held is None
            else {
                "parameters": held[0].parameters,
                "tokens": held[0].tokens,
                "loss": held[0].loss,
                "predicted": held[1],
                "relative_error": held[1] / held[0].loss - 1,
            },
            "sentence": sentence(self),
        }

    def _interval(self, value: float, drawn: Sequence[float]) -> tuple[float, float]:
        """value -+ t_{n-5} bootstrap deviations, of the logarithm where all are above 0; never below 0."""
        from scipy.stats import t

        far = float(t.ppf(1 - (1 - self.confidence) / 2, len(self.runs) - UNKNOWNS))
        if value > 0 and min(drawn) > 0:
            times = math.exp(far * float(np.log(drawn).std()))
            return value / times, value * times
        half = far * float(np.std(drawn))
        return max(0.0, value - half), value + half


def _unknowns(law: PowerLaw) -> dict[str, float]:
    (a, b), (alpha, beta) = law.scales, law.exponents
    return {"E": law.constant, "A": a, "B": b, "alpha": alpha, "beta": beta}


def fit(runs: Sequence[Run], confidence: float = 0.95, draws: int = DRAWS, seed: int = 0) -> ScalingLaw:
    """Fit the law, bootstrap it, and predict the largest run from the others.

    Raises DataError where runs are too few, or vary parameters or tokens too little, to tell the unknowns apart.
    """
    missing = lacking(runs)
    if missing:
        raise DataError(f"No scaling law can be fitted to {len(runs)} runs: {missing}.", "Add such runs.")
    law = _fit(runs)
    fitted = np.array([law.at(run.parameters, run.tokens) for run in runs])
    apart = np.array([run.loss for run in runs]) / fitted - 1
    apart = (apart - apart.mean()) * math.sqrt(len(runs) / (len(runs) - UNKNOWNS))
    random = np.random.default_rng(seed)
    losses = fitted * (1 + random.choice(apart, (draws, len(runs))))
    drawn = tuple(_fit(_with(runs, row), law.exponents) for row in losses)
    largest = max(runs, key=lambda run: run.work)
    others = [run for run in runs if run is not largest]
    held = None if lacking(others) else (largest, _fit(others).at(largest.parameters, largest.tokens))
    return ScalingLaw(law, drawn, tuple(runs), confidence, held)


def lacking(runs: Sequence[Run]) -> str:
    """Why these runs do not determine the law, in words; "" where they do."""
    for name in ("parameters", "tokens"):
        values = {getattr(run, name) for run in runs}
        if len(values) < SIZES:
            return f"{SIZES} different numbers of {name} are needed, and there are {len(values)}"
        if max(values) < APART * min(values):
            return f"the most {name} must be at least {APART:g} times the fewest"
    if len(runs) < RUNS:
        return f"{RUNS} are needed for five unknowns"
    if len({(run.parameters, run.tokens) for run in runs}) < RUNS:
        return f"{RUNS} different pairs of parameters and tokens are needed"
    of = [len({run.tokens for run in runs if run.parameters == size}) for size in {run.parameters for run in runs}]
    if max(of) < 2:
        return "models of one size must have learned from different numbers of tokens, to part the two effects"
    return ""


def _fit(runs: Sequence[Run], near: Sequence[float] = ()) -> PowerLaw:
    loss = np.array([run.loss for run in runs])
    sizes = [np.array([getattr(run, name) for run in runs], dtype=np.float64) for name in ("parameters", "tokens")]
    return power_law.fit(sizes, loss, 1 / loss, near)


def _with(runs: Sequence[Run], losses: Floats) -> list[Run]:
    return [replace(run, loss=float(loss)) for run, loss in zip(runs, losses, strict=True)]


def read(path: Path) -> list[Run]:
    """Runs from a CSV file with the columns parameters, tokens and loss. Raises DataError."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.", "Give a CSV file."
        ) from None
    found = []
    for number, row in enumerate(rows, 2):
        try:
            values = [float(row[name]) for name in COLUMNS]
        except (KeyError, TypeError, ValueError):
            raise DataError(
                f"{path}: line {number} has no numbers under {', '.join(COLUMNS)}.", "These columns are needed."
            ) from None
        if not all(math.isfinite(value) and value > 0 for value in values):
            raise DataError(f"{path}: line {number} has a number that is not above 0.", "Mend or remove the line.")
        found.append(Run(*values))
    return found


def sentence(found: ScalingLaw) -> str:
    """The law in words."""
    law = found.law
    said = (
        f"L = {law.constant:.3g} + {law.scales[0]:.3g}/N^{law.exponents[0]:.3f} + "
        f"{law.scales[1]:.3g}/D^{law.exponents[1]:.3f} from {len(found.runs)} runs."
    )
    if found.held_out is None:
        return f"{said} The runs are too few to hold the largest out: how well it predicts is not known."
    run, predicted = found.held_out
    return (
        f"{said} Without the largest run it says {predicted:.4g} of that one, which has {run.loss:.4g}: "
        f"{100 * (predicted / run.loss - 1):+.1f} %."
    )
