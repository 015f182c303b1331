"""
Calibration: the scores of normal rows that nothing else saw, by score kind, draws and the share of missing values.

Runs the exported scorer, as the service does, so that both rank the same numbers. Knows no torch. n rows, C features.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray

from service import calibration
from service.bundle import Arrays
from service.calibrated import ALPHAS, Calibrated, Groups, ScoreKind, Threshold
from service.engine import Engine
from service.ensemble import Ensemble, members_of, together
from service.groups import groups_of
from service.inputs import Inputs
from service.reference import MEAN, PARTS, fusion_keys, named
from service.scores import FEATURE_OUTPUTS, PLAIN
from training import masks
from training.scorer import outputs_of, run_scorer

Array = NDArray[np.generic]
Floats = NDArray[np.float64]

KINDS: Final[tuple[ScoreKind, ...]] = get_args(ScoreKind)
SAMPLES: Final = (1, 16, 64)
FEATURE_BYTES: Final = 192 * 1024
"""What the per-feature scores of one bundle may weigh. They are thinned before they are heavier than that."""

TIED: Final = 1e-5
"""Relative, and nats: the score of a row in another batch, or by PyTorch, differs by less: sums in another order."""

MEMBER_NATS: Final = 0.1
"""Each member of an ensemble learns its own sigma, so that a feature's part changes with who has the most weight: less
than that is no surprise, or the same value of a column that never changes would be rare in some rows. Nats."""

_STREAM = 11  # of the seed: the values that are hidden


@dataclass(frozen=True)
class Calibration:
    """What a manifest lists, the arrays of calibration.npz that it lists, and the groups with their rows."""

    entries: tuple[Calibrated, ...]
    arrays: Arrays
    groups: Groups | None = None


@dataclass(frozen=True)
class Fold:
    """
    Rows that a scorer ranks, because what it is of has not seen them: (n, *shape).

    *engine*: runs that scorer. *members*: of the ensemble that it is. *reference*: what there is of rows that are none
    of *rows*, as `reference_of` has it or the bundle that is calibrated again; without it, the kinds that need none,
    and nothing is added for missing features.
    """

    engine: Engine
    rows: Array
    reference: Mapping[str, Array]
    members: int = 1


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
    members: int = 1,
    groups: Groups | None = None,
    seed: int = 0,
) -> Calibration:
    """
    Score *rows*, (n, *shape), with every kind and the first K draws of *eps* for each K of *samples*.

    Where values may be missing, once for each of *mask_bins*, with the rows of `masks.by_bin`; a bin that has none,
    because all rows lack more, has the calibration of the next one that has. *reference*, *members*: see `Fold`.
    *groups*: each of them, in each bin, has the scores of its own rows besides, be they few; who judges by them says
    what is enough.

    Per-feature scores are kept for all K where they are together lighter than *feature_bytes*; else for
    *default_samples* only, thinned until they are, but never to fewer than 20 values.
    """
    one = [Fold(engine, rows, reference or {}, members)]
    known = dict(reference or {})
    return _calibrated(one, known, inputs, eps, default_samples, samples, feature_bytes, mask_bins, groups, seed)


def cross_calibrate(
    folds: Sequence[Fold],
    inputs: Inputs,
    eps: NDArray[np.float32],
    default_samples: int,
    samples: Sequence[int] = SAMPLES,
    *,
    mask_bins: Sequence[float] = (),
    seed: int = 0,
) -> Calibration:
    """
    The same of the rows of all *folds*, each by the member of the ensemble that has not seen them (Vovk 2015).

    There are no thresholds: each member ranks a row by its own score, see `calibration.cross_p_values`.
    """
    arrays: Arrays = {}
    for m, fold in enumerate(folds):
        arrays |= {named(key, len(folds), m): array for key, array in fold.reference.items()}
    return _calibrated(folds, arrays, inputs, eps, default_samples, samples, FEATURE_BYTES, mask_bins, None, seed)


def _calibrated(
    folds: Sequence[Fold],
    arrays: Arrays,
    inputs: Inputs,
    eps: NDArray[np.float32],
    default_samples: int,
    samples: Sequence[int],
    feature_bytes: int,
    mask_bins: Sequence[float],
    groups: Groups | None,
    seed: int,
) -> Calibration:
    """What `calibrate` and `cross_calibrate` have in common. *arrays*: the statistics of reference rows."""
    entries: list[Calibrated] = []
    kinds = [kind for kind in KINDS if any(key.startswith(MEAN) for key in arrays) or kind in PLAIN]
    streams = [(seed, _STREAM, m) if len(folds) > 1 else (seed, _STREAM) for m in range(len(folds))]
    dealt = [
        dict(masks.by_bin(fold.rows, inputs, mask_bins, stream)) for fold, stream in zip(folds, streams, strict=True)
    ]
    bins = sorted(set().union(*dealt))
    rows = sum(len(fold.rows) for fold in folds)
    size = 4 * inputs.features * len(FEATURE_OUTPUTS) * len(bins)
    everywhere = len(samples) * size * min(rows, 1000) <= feature_bytes
    most = 1000 if everywhere else min(1000, max(20, feature_bytes // size))
    for bin_ in bins:
        some = [part.get(bin_, fold.rows[:0]) for part, fold in zip(dealt, folds, strict=True)]
        masked = [~np.isnan(part) for part in some] if inputs.masked else [None for _ in some]
        counts = tuple(map(len, some))
        own_rows = {} if groups is None else _rows_of(some[0], inputs, groups)
        for k in samples:
            features = FEATURE_OUTPUTS if everywhere or k == default_samples else {}
            wanted = tuple(dict.fromkeys((*outputs_of(kinds), *features.values())))
            outputs = [
                run_scorer(fold.engine, inputs, part, eps[:k], wanted) if len(part) else {}
                for fold, part in zip(folds, some, strict=True)
            ]
            known = [Ensemble.of(fold.reference, fold.members, k, bin_) for fold in folds]
            scores = {
                kind: [
                    _ranked(kind, own, found, mask) if found else np.zeros(0)
                    for own, found, mask in zip(known, outputs, masked, strict=True)
                ]
                for kind in kinds
            }
            for kind in kinds:
                entry = Calibrated(
                    kind=kind,
                    samples=k,
                    mask_bin=bin_,
                    rows=sum(counts),
                    folds=counts if len(folds) > 1 else (),
                )
                rounded = scores["nll" if kind == "typicality" else kind]  # what the score was made of
                ranked = [raised(own, of) for own, of in zip(scores[kind], rounded, strict=True)]
                arrays[entry.key] = np.concatenate([np.sort(own) for own in ranked])
                if len(folds) == 1:
                    entry = entry.model_copy(update={"thresholds": thresholds(arrays[entry.key])})
                entries.append(entry)
                for name, of in own_rows.items():
                    own = entry.model_copy(update={"group": name, "rows": len(of), "thresholds": ()})
                    arrays[own.key] = np.sort(ranked[0][of])
                    entries.append(own)
                if kind in features:
                    nats = np.concatenate([found[features[kind]] for found in outputs if found])
                    seen = np.concatenate([mask for mask in masked if mask is not None]) if inputs.masked else None
                    more = MEMBER_NATS if max(len(folds), folds[0].members) > 1 else 0.0
                    grid, ranks = observed_grid(nats, seen, most, more)
                    arrays[entry.features_key], arrays[f"{entry.features_key}/ranks"] = grid, ranks
    every = range(len(mask_bins) + 1) if bins else range(0)
    if groups is not None:
        whole = _rows_of(folds[0].rows, inputs, groups)
        groups = groups.model_copy(update={"rows": tuple(len(whole.get(name, ())) for name in groups.names)})
    return _filled(Calibration(tuple(entries), arrays, groups), every, max(len(folds), folds[0].members))


def _rows_of(x: Array, inputs: Inputs, groups: Groups) -> dict[str, NDArray[np.int64]]:
    """Which rows of *x* each group has, by index; groups without any are left out, and so are rows of no group."""
    of = groups_of(x, inputs, groups)
    found = ((name, np.flatnonzero(of == index)) for index, name in enumerate(groups.names))
    return {name: rows for name, rows in found if len(rows)}


def _filled(found: Calibration, bins: Sequence[int], members: int) -> Calibration:
    """*found* with an entry for each of *bins*, in their order."""
    there = {entry.mask_bin for entry in found.entries}
    entries, arrays = list[Calibrated](), dict(found.arrays)
    for bin_ in bins:
        source = min(there, key=lambda other: (other < bin_, abs(other - bin_)))
        for entry in (entry for entry in found.entries if entry.mask_bin == source):
            copied = entry.model_copy(update={"mask_bin": bin_})
            entries.append(copied)
            for old, new in zip(_names(entry, members), _names(copied, members), strict=True):
                if old in arrays:
                    arrays[new] = arrays[old]
    return replace(found, entries=tuple(entries), arrays=arrays)


def _names(entry: Calibrated, members: int) -> tuple[str, ...]:
    """The arrays that *entry* may have: its scores, and what they were measured by."""
    measures = entry.absent_key, entry.reference_key, *fusion_keys(entry)
    by_member = (named(key, members, m) for m in range(members) for key in measures)
    return entry.key, entry.features_key, f"{entry.features_key}/ranks", *by_member


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


def raised(scores: Floats, of: NDArray[np.floating]) -> Floats:
    """
    *scores* of calibration rows as they are kept: higher by what rounding leaves open of what they are made *of*.

    Rows that are equal are to be ranked as equal: without it, one of many that share the highest score would be rarer
    than all of them where its own came out a rounding higher. p-values become larger, if at all: (n,), (n,) -> (n,).
    """
    kept: Floats = scores + TIED * np.maximum(1.0, np.abs(of))
    return kept


def _ranked(kind: str, known: Ensemble, outputs: Mapping[str, Array], mask: NDArray[np.bool_] | None) -> Floats:
    """What calibration rows are ranked by, before it is `raised`: (n,)."""
    if kind == "fused":
        return fused_at_most(known, outputs, mask)
    return together(kind, known.score(kind, outputs, mask)[1])


def fused_at_most(known: Ensemble, outputs: Mapping[str, Array], mask: NDArray[np.bool_] | None) -> Floats:
    """
    What the score `fused` comes to at most where each of its parts is off by a rounding: (n,).

    A part whose scores hardly differ has ranks that a rounding moves far. The score is convex in the ranks, and these
    rise with the parts: so at most what it is at a corner.
    """
    found = []
    for reference, own in zip(known.references, members_of(outputs, len(known.references)), strict=True):
        assert reference.fusion is not None
        parts = np.stack([reference.score(part, own, mask)[1] for part in PARTS["fused"]], axis=1)
        off = TIED * np.maximum(1.0, np.abs(parts))
        corners = itertools.product((-1.0, 1.0), repeat=parts.shape[1])
        found.append(np.max([reference.fusion.distance(parts + np.array(signs) * off) for signs in corners], axis=0))
    return together("fused", np.stack(found))


def observed_grid(
    nats: Array, mask: NDArray[np.bool_] | None, most: int, more: float = 0.0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """
    `calibration.feature_grid` of the observed values alone: (n, C), (n, C) -> (M, C), (M,).

    Columns share their ranks, so one of m < n observed values is stretched to n: where g of them are as high as a
    value, so many of the n are that p = (1 + g) / (m + 1), or the next larger p that n has. No value exceeds the
    highest of the n where the least p is more than 1 / (n + 1), nor any that was never observed: UNKNOWN stands there.
    What is kept is `raised`, and by *more* nats.
    """
    grid, ranks = calibration.feature_grid(nats if mask is None or mask.all() else _stretched(nats, mask), most)
    kept = raised(grid.astype(np.float64), grid) + more  # in the order of the grid: as if all had been, before
    return np.minimum(kept, calibration.UNKNOWN).astype(np.float32), ranks


def _stretched(nats: Array, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The observed values of each column as so many as there are rows, ascending: (n, C), (n, C) -> (n, C)."""
    n = len(nats)
    stretched = np.empty(nats.shape, np.float32)
    for c in range(nats.shape[1]):
        descending = np.append(calibration.UNKNOWN, np.sort(nats[mask[:, c], c])[::-1])
        as_high = -(-np.arange(1, len(descending) + 1) * (n + 1) // len(descending)) - 1
        stretched[:, c] = np.repeat(descending, np.diff(as_high, prepend=0))[::-1]
    return stretched
