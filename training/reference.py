"""
The statistics of reference rows: what `service.reference` measures by, fitted on rows that do not calibrate.

Of validation rows, which calibration rows and rows to come are alike to: fitted on the calibration rows themselves,
their scores would be smaller than those of rows to come, and false alarms more than promised. Runs the exported scorer.
n rows, K draws, L latents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf

from service.bundle import Arrays
from service.calibrated import Calibrated, ScoreKind
from service.engine import Engine
from service.inputs import Inputs
from service.latent import normal_quantile
from service.reference import COVARIANCE, LEVELS, MEAN, PARTS, Encodings, Reference, fusion_keys
from training import masks
from training.absent import absent_nats, usual
from training.ranking import placements
from training.scorer import outputs_of, run_scorer
from training.thinning import thinned

Array = NDArray[np.generic]
Floats = NDArray[np.float64]

MOST_ROWS: Final = 2000

FLOOR_LATENT: Final = 0.01
"""Standard deviations of the prior; latents that vary less do so by the rounding of float32, and are not told apart."""

FLOOR_NATS: Final = 0.01
"""The same of scores: as if each had this much noise, as a standard deviation."""

FLOOR_RANK: Final = 0.1
"""The same of normal ranks: two scores that always go together do not make every small difference an anomaly."""

_STREAM = 15  # of the seed: the values that are hidden


def reference_of(
    engine: Engine,
    inputs: Inputs,
    eps: NDArray[np.float32],
    rows: Array,
    samples: Sequence[int],
    ends: Sequence[float] = (),
    seed: int = 0,
    encoded: Array | None = None,
) -> Arrays:
    """
    All that calibration.npz has of reference *rows*, (n, *shape), at most 2,000 of them: see `Reference.of`.

    Encodings are those of the rows as they are, or of the rows *encoded* where that is said. What features add, the
    mean nll and the ranks are of each of *samples* draws and each bin of missing values with the upper *ends*, with
    values hidden as in calibration; a bin that all rows lack more than has those of the nearest one. Without rows
    there are none.
    """
    if not len(rows):
        return {}
    rows = thinned(rows, MOST_ROWS, seed)
    every = range(len(ends) + 1)
    encoded = rows if encoded is None else thinned(encoded, MOST_ROWS, seed)
    mu = run_scorer(engine, inputs, encoded, eps[:1], ("mu",))["mu"].astype(np.float64)
    encodings = Encodings(mu.mean(axis=0), _covariance(mu))
    arrays: Arrays = {MEAN: encodings.mean, COVARIANCE: encodings.covariance}
    if inputs.masked:
        arrays |= absent_nats(engine, inputs, eps, rows, encodings, samples, every, ends, seed)
    bins = dict(masks.by_bin(rows, inputs, ends, (seed, _STREAM)))
    parts = tuple(dict.fromkeys(part for kinds in PARTS.values() for part in kinds))
    for k in samples:
        found: dict[int, dict[str, Floats]] = {}
        for bin_, some in bins.items():
            mask = ~np.isnan(some) if inputs.masked else None
            outputs = run_scorer(engine, inputs, some, eps[:k], outputs_of(parts))
            known = Reference.of(arrays, k, bin_)
            found[bin_] = {part: known.score(part, outputs, mask)[1] for part in parts}
        for bin_ in every:
            arrays |= _measures(found[min(found, key=lambda other: abs(other - bin_))], k, bin_)
    return arrays


def _covariance(mu: Floats) -> Floats:
    """(n, L) -> (L, L), shrunk (Ledoit & Wolf 2004)."""
    shrunk, _ = ledoit_wolf(mu)
    return np.asarray(shrunk + FLOOR_LATENT**2 * np.eye(mu.shape[1]))


def _measures(scores: Mapping[str, Floats], samples: int, bin_: int) -> Arrays:
    """The mean nll, surprises aside; the quantiles of the parts of fused, and the covariance of their normal ranks."""

    def entry(kind: ScoreKind) -> Calibrated:
        return Calibrated(kind=kind, samples=samples, mask_bin=bin_, rows=1)

    parts = np.stack([scores[part] for part in PARTS["fused"]], axis=1)  # (n, P)
    knots = np.quantile(parts, LEVELS, axis=0) + FLOOR_NATS * normal_quantile(LEVELS)[:, None]
    t = np.stack([normal_quantile(placements(part, part)) for part in parts.T], axis=1)
    covariance = t.T @ t / len(t) + FLOOR_RANK**2 * np.eye(parts.shape[1])
    return {
        entry("typicality").reference_key: usual(scores["nll"]).mean(),
        **dict(zip(fusion_keys(entry("fused")), (knots, covariance), strict=True)),
    }
