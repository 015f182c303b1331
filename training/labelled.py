"""
Where to put alpha when anomalies are labelled: by F1, or by what a missed anomaly costs.

The choice is an alpha, and no threshold in nats: a request can ask for it, and it holds for rows with missing values as
well, which are judged by p-values. It is made on one half of the rows and measured on the other. Unlike an alpha that
was fixed beforehand it promises no false-alarm rate, and it depends on what was labelled. Knows p-values; no models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

Floats = NDArray[np.float64]

LEAST: Final = 2
"""Normal rows, and anomalies, below which there are no halves."""

_DIGITS = 6  # of an alpha, rounded up: one that is written down still flags what it was chosen to flag
_STREAM = 14  # of the seed: the halves


@dataclass(frozen=True)
class Rates:
    """At each alpha, (M,): *false_alarms*, the share of normal rows flagged, and *recall*, that of anomalies."""

    alphas: Floats
    false_alarms: Floats
    recall: Floats

    def precision(self, share: float) -> Floats:
        """The share of anomalies among the flagged rows where *share* of all rows are; 0 where none is flagged."""
        found, flagged = share * self.recall, share * self.recall + (1 - share) * self.false_alarms
        return np.divide(found, flagged, out=np.zeros_like(found), where=flagged > 0)

    def f1(self, share: float) -> Floats:
        """The harmonic mean of precision and recall; 0 where nothing is found."""
        precision = self.precision(share)
        total = precision + self.recall
        return np.divide(2 * precision * self.recall, total, out=np.zeros_like(total), where=total > 0)

    def cost(self, share: float, miss_cost: float) -> Floats:
        """What a row costs on average, in false alarms, where a missed anomaly costs *miss_cost* of them."""
        return share * (1 - self.recall) * miss_cost + (1 - share) * self.false_alarms


def rates(normal: Floats, anomalies: Floats, alphas: Floats) -> Rates:
    """Of rows flagged where p <= alpha: p-values of normal rows (n,) and of anomalies (m,) at *alphas* (M,)."""
    flagged = [np.searchsorted(np.sort(p), alphas, side="right") / len(p) for p in (normal, anomalies)]
    return Rates(alphas, *flagged)


def choices(
    normal: Floats, anomalies: Floats, share: float | None = None, miss_cost: float | None = None, seed: int = 0
) -> dict[str, JsonValue]:
    """
    The alphas to choose by F1 and, where there is a *miss_cost*, by cost, each with what it does on the other rows.

    *normal*, *anomalies*: p-values, (n,) and (m,). *share*: of anomalies among the rows that will be judged; by default
    as here. Of equally good alphas the least. An alpha is null where it is best to flag nothing.
    """
    if min(len(normal), len(anomalies)) < LEAST:
        return {"missing": f"{len(normal)} normal rows and {len(anomalies)} anomalies; {LEAST} of each are needed"}
    share = len(anomalies) / (len(normal) + len(anomalies)) if share is None else share
    generator = np.random.default_rng([seed, _STREAM])
    (inside, outside), (seen, unseen) = (np.array_split(generator.permutation(p), 2) for p in (normal, anomalies))
    candidates = np.unique(np.ceil(np.concatenate([[0.0], inside, seen]) * 10**_DIGITS) / 10**_DIGITS)
    candidates = candidates[candidates < 1]
    chosen = rates(inside, seen, candidates)
    found: dict[str, JsonValue] = {"anomaly_share": share, "normal": len(outside), "anomalies": len(unseen)}
    best = {"f1": candidates[np.argmax(chosen.f1(share))]}
    if miss_cost is not None:
        found["miss_cost"] = miss_cost
        best["cost"] = candidates[np.argmin(chosen.cost(share, miss_cost))]
    for name, alpha in best.items():
        there = rates(outside, unseen, np.array([alpha]))
        figures: dict[str, JsonValue] = {
            "alpha": float(alpha) or None,
            "false_alarms": float(there.false_alarms[0]),
            "recall": float(there.recall[0]),
            "precision": float(there.precision(share)[0]) if alpha else None,
            "f1": float(there.f1(share)[0]),
        }
        if miss_cost is not None:
            figures["cost"] = float(there.cost(share, miss_cost)[0])
        found[name] = figures
    return found
