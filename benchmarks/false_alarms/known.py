"""Scores drawn from known distributions: what the quantile, its rounding and equal scores do, without any model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.false_alarms.tally import ALPHAS, Tally, count

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]

SIZES = ((2000, 2000), (270, 270))


def _normal(generator: np.random.Generator, rows: int) -> Floats:
    return generator.normal(size=rows)


def _heavy(generator: np.random.Generator, rows: int) -> Floats:
    return generator.standard_t(1, size=rows)


def _mixed(generator: np.random.Generator, rows: int) -> Floats:
    return np.where(generator.random(rows) < 0.03, 50.0, 0.0) + generator.normal(size=rows)


def _copies(generator: np.random.Generator, rows: int) -> Floats:
    """Three rows in ten are those of 100 that come again and again."""
    again = np.random.default_rng(0).normal(size=100)
    return np.where(generator.random(rows) < 0.3, generator.choice(again, rows), generator.normal(size=rows))


def _rounded(generator: np.random.Generator, rows: int) -> Floats:
    return generator.normal(size=rows).round(1)


DISTRIBUTIONS: dict[str, Draw] = {
    "normal": _normal,
    "Cauchy": _heavy,
    "3 % of the rows far out": _mixed,
    "30 % copies of 100 rows": _copies,
    "rounded to 0.1 standard deviations": _rounded,
}


def measure(splits: int, seed: int = 0) -> dict[str, Tally]:
    """By "distribution|n|m|alpha"."""
    found: dict[str, Tally] = {}
    for name, draw in DISTRIBUTIONS.items():
        for n, m in SIZES:
            generator = np.random.default_rng([seed, n])
            tallies = {alpha: Tally() for alpha in ALPHAS}
            for _ in range(splits):
                rows = draw(generator, n + m)
                for alpha, tally in tallies.items():
                    tally.add(count(rows[:n], rows[n:], alpha), n, m, alpha)
            found |= {f"{name}|{n}|{m}|{alpha}": tally for alpha, tally in tallies.items()}
    return found
