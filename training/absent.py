"""
What a feature adds to the score of a normal row when it is there: what rows that lack it are short of.

A score is a sum over what was observed, in nats of the original units: a column of millionths takes 14 nats off it, one
of millions adds 14. Rows that lack different columns can be compared when each gets what its missing ones would have
added on average. Runs the exported scorer. n rows, C features.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.bundle import Arrays
from service.calibrated import Calibrated
from service.engine import Engine
from service.inputs import Inputs
from service.reference import Encodings, Reference
from service.scores import FEATURE_OUTPUTS, PLAIN
from training import masks
from training.scorer import outputs_of, run_scorer

Array = NDArray[np.generic]
Floats = NDArray[np.float64]

SUMMED = (*PLAIN, "latent")
"""The kinds that missing features add to; the others are made of them."""

_STREAM: Final = 12  # of the seed: the values that are hidden
_USUAL: Final = 10.0  # nats from the median; a narrow spread is not what makes a value rare
_PRIOR: Final = 1.0  # nats: a standard deviation of what a feature adds from its own part in the score


def absent_nats(
    engine: Engine,
    inputs: Inputs,
    eps: NDArray[np.float32],
    rows: Array,
    encodings: Encodings,
    samples: Sequence[int],
    bins: Iterable[int],
    ends: Sequence[float],
    seed: int = 0,
) -> Arrays:
    """
    By `Calibrated.absent_key`, for every kind of SUMMED, K of *samples* and bin that rows with gaps can be in: (C,).

    Of *rows* values are hidden; the difference that makes to the score is regressed on what was hidden, in each bin by
    itself: the more is missing, the less the others tell of a feature. *encodings*: of *rows*.
    """
    found: Arrays = {}
    wanted = {bin_: may for bin_ in bins if bin_ and len(may := masks.counts(inputs, ends, bin_))}
    raw = Reference({}, encodings)
    outputs = tuple(dict.fromkeys((*outputs_of(SUMMED), *FEATURE_OUTPUTS.values())))
    for k in samples:
        whole = run_scorer(engine, inputs, rows, eps[:k], outputs)
        parts = {kind: _observed(whole[name], ~np.isnan(rows)) for kind, name in FEATURE_OUTPUTS.items()}
        for bin_, may in wanted.items():
            generator = np.random.default_rng([seed, _STREAM, bin_])
            fit = np.isnan(rows[:, list(inputs.may_be_missing)]).sum(axis=1) < may[0]
            short = masks.hide(rows[fit], inputs, may, generator)
            lacking = np.isnan(short) & ~np.isnan(rows[fit])
            left = run_scorer(engine, inputs, short, eps[:k], outputs_of(SUMMED)) if len(short) else {}
            for kind in SUMMED:
                prior = parts.get(kind, np.zeros(inputs.features))
                entry = Calibrated.model_validate({"kind": kind, "samples": k, "mask_bin": bin_, "rows": 1})
                lost = np.zeros(0)
                if left:
                    lost = raw.score(kind, whole, None)[0][fit] - raw.score(kind, left, None)[0]
                found[entry.absent_key] = _regression(lacking, lost, prior)
    return found


def usual(nats: Floats) -> Floats:
    """
    *nats* of n rows as far as they are usual: what is far from the median is brought to where it begins to be: (n,).

    That is 3 standard deviations, told by the median absolute deviation (Huber 1981, section 5.1), or 10 nats if these
    are more. The mean of what comes out does not hang on a few rows.
    """
    middle = np.median(nats)
    far = max(_USUAL, 3 * 1.4826 * float(np.median(np.abs(nats - middle))))
    return np.clip(nats, middle - far, middle + far)


def _observed(nats: Array, observed: NDArray[np.bool_]) -> Floats:
    """The mean of each feature's part over the rows that have it, surprises aside: (n, C), (n, C) -> (C,)."""
    columns = zip(nats.T.astype(np.float64), observed.T, strict=True)
    return np.array([usual(column[there]).mean() if there.any() else 0.0 for column, there in columns])


def _regression(lacking: NDArray[np.bool_], lost: Floats, prior: Floats) -> Floats:
    """
    The nats that each feature adds: ridge regression of what rows *lost*, (n,), on what they lack, (n, C), to *prior*.

    The penalty is the variance of what is left over that of `_PRIOR`, so that few rows leave the prior as it is. What
    *prior* leaves unexplained counts as far as it is usual.
    """
    if not len(lost):
        return prior
    lacks = lacking.astype(np.float64)
    rest = usual(lost - lacks @ prior)
    penalty = max(1e-6, float(rest.var())) / _PRIOR**2
    added: Floats = prior + np.linalg.solve(lacks.T @ lacks + penalty * np.eye(len(prior)), lacks.T @ rest)
    return added
