"""
The false-discovery rate, by simulation: requests of known scores, flagged together by their conformal p-values.

Every request has calibration rows of its own, which its rows share. `bins`: rows are judged in one of three bins, as
rows with missing values are; their calibration scores are of the same calibration rows, differently noisy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service import calibration
from service.discoveries import discover

Floats = NDArray[np.float64]

SHIFT = 4.0
"""Standard deviations that an anomaly scores above normal rows."""


@dataclass(frozen=True)
class Case:
    """Requests of *rows*, so many of them anomalies, given *kept* calibration rows, at *fdr*."""

    kept: int
    rows: int
    anomalies: int
    fdr: float
    bins: int = 1


CASES = tuple(
    Case(kept, rows, int(rows * share), fdr, bins)
    for kept, rows in ((270, 20), (2000, 20), (2000, 200), (2000, 1000))
    for share in (0.0, 0.05, 0.2)
    for fdr in (0.1,)
    for bins in (1, 3)
)


@dataclass(frozen=True)
class Found:
    """The mean share of normal rows among the flagged, its standard error, and the share of anomalies found."""

    rate: float
    error: float
    power: float | None


def simulate(case: Case, requests: int, seed: int = 0) -> Found:
    """What comes of *requests* requests."""
    generator = np.random.default_rng([seed, case.kept, case.rows, case.anomalies, case.bins])
    strange = np.arange(case.rows) < case.anomalies
    smallest = np.full(case.rows, 1 / (case.kept + 1))
    rates, found = np.empty(requests), np.empty(requests)
    for request in range(requests):
        p = _p_values(case, strange, generator)
        flagged = discover(p, smallest, case.fdr).flagged
        rates[request] = (flagged & ~strange).sum() / max(1, flagged.sum())
        found[request] = flagged[strange].mean() if case.anomalies else math.nan
    power = float(found.mean()) if case.anomalies else None
    return Found(float(rates.mean()), float(rates.std(ddof=1) / math.sqrt(requests)), power)


def _p_values(case: Case, strange: NDArray[np.bool_], generator: np.random.Generator) -> Floats:
    kept, rows = generator.normal(size=case.kept), generator.normal(size=case.rows) + SHIFT * strange
    if case.bins == 1:
        return calibration.p_values(np.sort(kept), rows)
    bins, p = generator.integers(case.bins, size=case.rows), np.empty(case.rows)
    for bin_ in range(case.bins):
        noise = 0.5 * bin_  # what is hidden makes scores noisier
        here = bins == bin_
        ordered = np.sort(kept + noise * generator.normal(size=case.kept))
        p[here] = calibration.p_values(ordered, rows[here] + noise * generator.normal(size=int(here.sum())))
    return p


def lines(requests: int) -> Iterator[str]:
    """A table of every case."""
    yield "| calibration rows | rows | anomalies | bins | fdr | normal among the flagged | at most | anomalies found |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for case in CASES:
        found = simulate(case, requests)
        limit = case.fdr * (case.rows - case.anomalies) / case.rows
        power = "" if found.power is None else f"{found.power:.2f}"
        yield (
            f"| {case.kept} | {case.rows} | {case.anomalies} | {case.bins} | {case.fdr:g} "
            f"| {found.rate:.4f} +- {found.error:.4f} | {limit:.3f} | {power} |"
        )
    yield f"\n{requests:,} requests each, every one with calibration rows of its own."
