"""Does a certificate keep its promise? Outputs of real models are the population, calibration sets are drawn from it.

Each draw takes rows for `tune`, unlabelled scores and a calibration set with replacement, and certifies a risk of 5 %
at 95 % confidence. The true risk is that of the whole population. Beside it the naive threshold: the loosest at which
the calibration set itself has at most 5 % wrong. The last line is one JSON object; --full draws 2,000 times.
"""

from __future__ import annotations

import argparse
import json
from functools import cache

import numpy as np
from numpy.typing import NDArray
from populations import Population, outputs
from scipy.special import bdtr
from scipy.stats import binom

from aasut.evaluate import certify

TARGET = certify.Target("selective", 0.05, 0.95)
POPULATIONS = (
    ("amazon", "gemma"),
    ("tweets", "gemma"),
    ("amazon", "smollm2"),
    ("tweets", "smollm2"),
    ("tweets", "linear"),
    ("commands", "linear"),
)
SIZES = (300, 1000)
TUNE, UNLABELLED = 200, 600

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def truth(population: Population, threshold: float) -> tuple[float, float]:
    """(coverage, risk) of the whole population at a threshold."""
    accept = population.score >= threshold
    return float(accept.mean()), float(population.wrong[accept].mean()) if accept.any() else 0.0


def oracle(population: Population) -> float:
    """The largest share that can be accepted at a true risk of at most the target."""
    scores = np.sort(np.unique(population.score))[::-1]
    return max((c for c, r in (truth(population, t) for t in scores.tolist()) if r <= TARGET.risk), default=0.0)


def attainable(population: Population, size: int) -> float:
    """The most coverage to be expected of a single threshold that is chosen knowing the population, and tested."""
    found = 0.0
    for threshold in np.quantile(population.score, 1 - np.arange(1, 101) / 100).tolist():
        share, risk = truth(population, threshold)
        if risk <= TARGET.risk:
            trials = np.arange(size + 1)
            most = most_bad(size)
            passes = np.where(most >= 0, bdtr(np.maximum(most, 0), np.maximum(trials, 1), risk), 0.0)
            found = max(found, share * float(binom.pmf(trials, size, share) @ passes))
    return found


@cache
def most_bad(size: int) -> NDArray[np.int64]:
    """The most wrong ones of 0, 1 … size accepted with which a test passes; -1 where none do."""
    trials = np.arange(size + 1)
    found = binom.ppf(TARGET.level, trials, TARGET.risk).astype(np.int64)
    return np.asarray(found - (binom.cdf(found, trials, TARGET.risk) > TARGET.level))


def naive(scores: Floats, wrong: Bools) -> float:
    """The loosest threshold at which at most the target's share of the accepted calibration rows is wrong."""
    order = np.argsort(-scores, kind="stable")
    risk = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
    inside = np.flatnonzero(risk <= TARGET.risk)
    return float(scores[order[inside[-1]]]) if len(inside) else np.inf


def study(population: Population, size: int, draws: int, rng: np.random.Generator) -> dict[str, float]:
    """Shares over all draws: promises broken, none given, coverage of the oracle's; the same of the naive threshold."""
    score, wrong, best = population.score, population.wrong, oracle(population)
    broken = none = naive_broken = 0
    coverage = 0.0
    for _ in range(draws):
        tune, pool, calibrate = (rng.integers(0, len(score), n) for n in (TUNE, UNLABELLED, size))
        thresholds = certify.ladder(score[pool])
        begin = certify.start(thresholds, score[pool], score[tune], wrong[tune], TARGET, size)
        passed = certify.walk(score[calibrate], wrong[calibrate], thresholds[begin:], TARGET).passed
        if passed is None:
            none += 1
        else:
            share, risk = truth(population, passed.threshold)
            coverage += share
            broken += risk > TARGET.risk
        naive_broken += truth(population, naive(score[calibrate], wrong[calibrate]))[1] > TARGET.risk
    return {
        "violations": broken / draws,
        "naive_violations": naive_broken / draws,
        "none": none / draws,
        "oracle_coverage": best,
        "attainable_coverage": attainable(population, size),
        "coverage": coverage / draws,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", action="store_true")
    draws = 2000 if parser.parse_args().full else 500
    rng = np.random.default_rng(7)
    cells = {}
    for table, model in POPULATIONS:
        population = outputs(table, model)
        for size in SIZES:
            found = study(population, size, draws, rng)
            cells[f"{population.name}, {size}"] = found
            print(
                f"{population.name:<20} n {len(population.score):>5}  wrong {population.wrong.mean():.3f}  calibration "
                + f"{size:>5}  "
                + "  ".join(f"{name} {value:.3f}" for name, value in found.items()),
                flush=True,
            )
    reachable = [cell for cell in cells.values() if cell["oracle_coverage"] > 0]
    large = [cell for name, cell in cells.items() if name.endswith(f", {SIZES[-1]}") and cell["oracle_coverage"] > 0]
    print(
        json.dumps(
            {
                "violation_rate": max(cell["violations"] for cell in cells.values()),
                "violation_rate_mean": float(np.mean([cell["violations"] for cell in cells.values()])),
                "naive_violation_rate": float(np.mean([cell["naive_violations"] for cell in reachable])),
                "coverage_share_of_oracle": float(np.mean([c["coverage"] / c["oracle_coverage"] for c in large])),
                "coverage_share_of_attainable": float(
                    np.sum([c["coverage"] for c in large]) / np.sum([c["attainable_coverage"] for c in large])
                ),
                "draws": draws,
                "risk": TARGET.risk,
                "confidence": TARGET.confidence,
                "cells": cells,
            }
        )
    )


if __name__ == "__main__":
    main()
