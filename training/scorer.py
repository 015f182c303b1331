"""
The exported scorer, run over many rows: what calibration and evaluation have in common with the service.

Arrays in, arrays out; no torch, so that a bundle can be calibrated and evaluated where there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from service.bundle import Arrays, Bundle
from service.calibrated import ALL, Calibrated
from service.engine import Engine
from service.ensemble import Ensemble, p_values, together
from service.groups import Grouping
from service.inputs import Inputs
from service.manifest import Manifest
from service.scores import PLAIN, SCORE_OUTPUTS
from training.masks import bins_of
from training.support import levels_of_column

Array = NDArray[np.generic]
Floats = NDArray[np.float64]

_CHUNK_VALUES = 2**22  # numbers in the largest tensor of a run: 16 MiB
_LEAST_WIDTH = 256  # of one row and draw: hidden layers, and the mixture of the prior, are wider than a narrow table


def run_scorer(
    engine: Engine, inputs: Inputs, x: Array, eps: NDArray[np.float32], outputs: Sequence[str]
) -> dict[str, Array]:
    """The scorer's *outputs* for all rows, a chunk at a time: (n, *shape), (K, L) -> (n, ...) each."""
    parts = [
        engine.run("scorer", {**rows, "eps": eps}, outputs)
        for rows in chunks(x, inputs, max(1, _CHUNK_VALUES // (len(eps) * max(_LEAST_WIDTH, width(inputs)))))
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in outputs}


def width(inputs: Inputs) -> int:
    """Numbers of one row and draw in the largest tensor of a run: one a level of a category, else one a feature."""
    if inputs.columns is None:
        return inputs.features
    return sum(levels_of_column(column) if column.kind == "categorical" else 1 for column in inputs.columns)


def kinds_of(bundle: Bundle) -> tuple[str, ...]:
    """The kinds that *bundle* is calibrated for with the default K; those that need no other rows where it is not."""
    default = bundle.manifest.scoring.samples
    return tuple(dict.fromkeys(e.kind for e in bundle.manifest.calibrated if e.samples == default)) or PLAIN


def scores_of(bundle: Bundle, engine: Engine, x: Array, seed: int = 0) -> dict[str, Floats]:
    """
    The scores of each of `kinds_of` with the default K and the draws of the bundle: (n,) each.

    Where values are missing, with what those add to the score of a normal row, see `calibration.completed`. A bundle
    without calibration has no draws: then they are drawn by *seed*.
    """
    return {kind: together(kind, ranked) for kind, ranked in ranked_of(bundle, engine, x, seed).items()}


def ranked_of(bundle: Bundle, engine: Engine, x: Array, seed: int = 0) -> dict[str, Floats]:
    """The same, of each member of the ensemble by itself: (M, n) each, M = 1 where there is none."""
    manifest, kinds = bundle.manifest, kinds_of(bundle)
    outputs = run_scorer(engine, manifest.inputs, x, draws_of(bundle, seed), outputs_of(kinds))
    bins, mask = bins_of(x, manifest.inputs, manifest.mask_bins), ~np.isnan(x) if manifest.inputs.masked else None
    found = {kind: np.empty((manifest.members, len(x))) for kind in kinds}
    for bin_ in np.unique(bins):
        rows = bins == bin_
        known = Ensemble.of(bundle.calibration, manifest.members, manifest.scoring.samples, int(bin_))
        part = {name: array[rows] for name, array in outputs.items()}
        for kind in kinds:
            found[kind][:, rows] = known.score(kind, part, None if mask is None else mask[rows])[1]
    return found


def p_values_of(bundle: Bundle, x: Array, ranked: Floats, kind: str) -> Floats:
    """
    The p-values of rows by what *ranked*, (M, n), has of them, see `ranked_of`, as the service has them: (n,).

    With groups: as it has them at the default alpha. NaN where a row lacks more than any calibration row could.
    """
    manifest, p = bundle.manifest, np.full(len(x), np.nan)
    grouping = Grouping(manifest)
    bins, groups = bins_of(x, manifest.inputs, manifest.mask_bins), grouping.of(x)
    for entry in entries_of(manifest, kind):
        for group in np.unique(groups).tolist():
            rows = (bins == entry.mask_bin) & (groups == group)
            judge, _ = grouping.judge(entry, group, manifest.scoring.alpha)
            p[rows] = p_values(bundle.calibration, judge, ranked[:, rows])
    return p


def entries_of(manifest: Manifest, kind: str) -> list[Calibrated]:
    """What *kind* is calibrated with for the default K, one a mask bin: of all groups together."""
    fitting = (entry for entry in manifest.calibrated if entry.group == ALL)
    return [entry for entry in fitting if (entry.kind, entry.samples) == (kind, manifest.scoring.samples)]


def draws_of(bundle: Bundle, seed: int) -> NDArray[np.float32]:
    """The draws of the default score: (K, L)."""
    samples = bundle.manifest.scoring.samples
    if len(bundle.eps):
        return bundle.eps[:samples]
    generator = np.random.default_rng([seed, 6])
    return generator.standard_normal((samples, bundle.manifest.latent.dim), np.float32)


def chunks(x: Array, inputs: Inputs, most: int) -> Iterator[Arrays]:
    """
    The rows as the graphs take them, at most *most* at a time: x and, where values may be missing, mask.

    NaN is a missing value.
    """
    for start in range(0, len(x), most):
        rows = np.ascontiguousarray(x[start : start + most], inputs.dtype)
        if inputs.masked:
            missing = np.isnan(rows)
            yield {"x": np.where(missing, 0, rows), "mask": ~missing}
        else:
            yield {"x": rows}


def outputs_of(kinds: Iterable[str], table: Mapping[str, tuple[str, ...]] = SCORE_OUTPUTS) -> tuple[str, ...]:
    """The scorer's outputs that *kinds* need, each once."""
    return tuple(dict.fromkeys(output for kind in kinds for output in table[kind]))
