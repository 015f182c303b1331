"""
Calibration: the scores of normal rows that nothing else saw, by score kind, draws and the share of missing values.

Runs the exported scorer, as the service does, so that both rank the same numbers. Knows no torch. n rows, C features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray

from service import calibration
from service.bundle import Arrays
from service.engine import Engine
from service.inputs import Inputs
from service.manifest import Calibrated, ScoreKind, Threshold
from service.reference import MEAN, Reference, fusion_keys
from service.scores import FEATURE_OUTPUTS, PLAIN
from training import masks
from training.scorer import outputs_of, run_scorer

Array = NDArray[np.generic]

KINDS: Final[tuple[ScoreKind, ...]] = get_args(ScoreKind)
SAMPLES: Final = (1, 16, 64)
ALPHAS: Final = (0.1, 0.05, 0.01, 0.005, 0.001)
FEATURE_BYTES: Final = 192 * 1024
"""What the per-feature scores of one bundle may weigh. They are thinned before they are heavier than that."""

_STREAM = 11  # of the seed: the values that are hidden


@dataclass(frozen=True)
class Calibration:
    """What a manifest lists, and the arrays of calibration.npz that it lists."""

    entries: tuple[Calibrated, ...]
    arrays: Arrays


def calibrate(
    engine: Engine,
    inputs: Inputs,
    eps: NDArray[np.float32],
    rows: Array,
    default_samples: int,
    samples: Sequence[int] = SAMPLES,
    feature_bytes: int = FEATURE_BYTES,
    *,
    mask_bins: Sequence[float] = (),
    reference: Mapping[str, Array] | None = None,
    seed: int = 0,
) -> Calibration:
    """
    Score *rows*, (n, *shape), with every kind and the first K draws of *eps* for each K of *samples*.

    Where values may be missing, once for each of *mask_bins*, with the rows of `masks.by_bin`; a bin that has none,
    because all rows lack more, has the calibration of the next one that has. *reference*: what there is of rows that
    are none of *rows*, as `reference_of` has it or the bundle that is calibrated again; without it, the kinds that
    need none, and nothing is added for missing features.

    Per-feature scores are kept for all K where they are together lighter than *feature_bytes*; else for
    *default_samples* only, thinned until they are, but never to fewer than 20 values.
    """
    entries: list[Calibrated] = []
    arrays: Arrays = dict(reference or {})
    kinds = [kind for kind in KINDS if MEAN in arrays or kind in PLAIN]
    bins = list(masks.by_bin(rows, inputs, mask_bins, (seed, _STREAM)))
    size = 4 * inputs.features * len(FEATURE_OUTPUTS) * len(bins)
    everywhere = len(samples) * size * min(len(rows), 1000) <= feature_bytes
    most = 1000 if everywhere else min(1000, max(20, feature_bytes // size))
    for bin_, some in bins:
        mask = ~np.isnan(some) if inputs.masked else None
        for k in samples:
            features = FEATURE_OUTPUTS if everywhere or k == default_samples else {}
            wanted = tuple(dict.fromkeys((*outputs_of(kinds), *features.values())))
            outputs = run_scorer(engine, inputs, some, eps[:k], wanted)
            known = Reference.of(arrays, k, bin_)
            for kind in kinds:
                entry = Calibrated(kind=kind, samples=k, mask_bin=bin_, rows=len(some))
                arrays[entry.key] = np.sort(known.score(kind, outputs, mask)[1])
                entries.append(entry.model_copy(update={"thresholds": thresholds(arrays[entry.key])}))
                if kind in features:
                    grid, ranks = _feature_grid(outputs[features[kind]], mask, most)
                    arrays[entry.features_key], arrays[f"{entry.features_key}/ranks"] = grid, ranks
    every = range(len(mask_bins) + 1) if bins else range(0)
    return _filled(Calibration(tuple(entries), arrays), every)


def _filled(found: Calibration, bins: Sequence[int]) -> Calibration:
    """*found* with an entry for each of *bins*, in their order."""
    there = {entry.mask_bin for entry in found.entries}
    entries, arrays = list[Calibrated](), dict(found.arrays)
    for bin_ in bins:
        source = min(there, key=lambda other: (other < bin_, abs(other - bin_)))
        for entry in (entry for entry in found.entries if entry.mask_bin == source):
            copied = entry.model_copy(update={"mask_bin": bin_})
            entries.append(copied)
            for old, new in zip(_names(entry), _names(copied), strict=True):
                if old in arrays:
                    arrays[new] = arrays[old]
    return Calibration(tuple(entries), arrays)


def _names(entry: Calibrated) -> tuple[str, ...]:
    """The arrays that *entry* may have: its scores, and what they were measured by."""
    features = entry.features_key, f"{entry.features_key}/ranks"
    return entry.key, *features, entry.absent_key, entry.reference_key, *fusion_keys(entry)


def thresholds(scores: NDArray[np.generic]) -> tuple[Threshold, ...]:
    """The thresholds at the usual alphas that n ascending scores suffice for."""
    ordered = np.asarray(scores, np.float64)
    found = []
    for alpha in ALPHAS:
        threshold = calibration.threshold(ordered, alpha)
        if threshold is not None:
            rate = calibration.false_alarm_rate(len(ordered), alpha)
            found.append(Threshold(alpha=alpha, threshold=threshold, false_alarm_rate=rate))
    return tuple(found)


def _feature_grid(
    nats: Array, mask: NDArray[np.bool_] | None, most: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """
    `calibration.feature_grid` of the observed values alone: (n, C), (n, C) -> (M, C), (M,).

    Each column is stretched to n values, whose ranks the columns share; of a column that was never observed no
    value is rare.
    """
    if mask is None or mask.all():
        return calibration.feature_grid(nats, most)
    n = len(nats)
    stretched = np.full(nats.shape, np.finfo(np.float32).max, np.float32)
    for c in range(nats.shape[1]):
        if count := int(mask[:, c].sum()):
            stretched[:, c] = np.sort(nats[mask[:, c], c])[np.arange(n) * count // n]
    return calibration.feature_grid(stretched, most)
