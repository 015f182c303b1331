"""
Calibration: the scores of normal rows that nothing else saw, by score kind and number of draws.

Runs the exported scorer, as the service does, so that both rank the same numbers. Knows no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray

from service import calibration
from service.bundle import Arrays
from service.engine import Engine
from service.manifest import Calibrated, Inputs, ScoreKind, Threshold
from service.scores import FEATURE_OUTPUTS, score
from training.scorer import outputs_of, run_scorer

KINDS: Final[tuple[ScoreKind, ...]] = get_args(ScoreKind)
SAMPLES: Final = (1, 16, 64)
ALPHAS: Final = (0.1, 0.05, 0.01, 0.005, 0.001)
FEATURE_BYTES: Final = 192 * 1024
"""What the per-feature scores of one bundle may weigh. They are thinned before they are heavier than that."""


@dataclass(frozen=True)
class Calibration:
    """What a manifest lists, and the arrays of calibration.npz that it lists."""

    entries: tuple[Calibrated, ...]
    arrays: Arrays


def calibrate(
    engine: Engine,
    inputs: Inputs,
    eps: NDArray[np.float32],
    rows: NDArray[np.generic],
    default_samples: int,
    samples: Sequence[int] = SAMPLES,
    feature_bytes: int = FEATURE_BYTES,
) -> Calibration:
    """
    Score *rows*, (n, *shape), with every kind and the first K draws of *eps* for each K of *samples*.

    Per-feature scores are kept for all K where they are together lighter than *feature_bytes*; else for
    *default_samples* only, thinned until they are, but never to fewer than 20 values.
    """
    entries: list[Calibrated] = []
    arrays: Arrays = {}
    thinned = feature_bytes // (4 * inputs.features * len(FEATURE_OUTPUTS))
    everywhere = len(samples) * len(FEATURE_OUTPUTS) * 4 * inputs.features * min(len(rows), 1000) <= feature_bytes
    most = 1000 if everywhere else min(1000, max(20, thinned))
    for k in samples:
        features = FEATURE_OUTPUTS if everywhere or k == default_samples else {}
        wanted = tuple(dict.fromkeys((*outputs_of(KINDS), *features.values())))
        outputs = run_scorer(engine, inputs, rows, eps[:k], wanted)
        for kind in KINDS:
            scores = np.sort(score(kind, outputs))
            entry = Calibrated(kind=kind, samples=k, rows=len(rows), thresholds=thresholds(scores))
            entries.append(entry)
            arrays[entry.key] = scores
            if kind in features:
                grid, ranks = calibration.feature_grid(outputs[features[kind]], most)
                arrays[entry.features_key], arrays[f"{entry.features_key}/ranks"] = grid, ranks
    return Calibration(tuple(entries), arrays)


def thresholds(scores: NDArray[np.float64]) -> tuple[Threshold, ...]:
    """The thresholds at the usual alphas that n ascending scores suffice for."""
    found = []
    for alpha in ALPHAS:
        threshold = calibration.threshold(scores, alpha)
        if threshold is not None:
            rate = calibration.false_alarm_rate(len(scores), alpha)
            found.append(Threshold(alpha=alpha, threshold=threshold, false_alarm_rate=rate))
    return tuple(found)
