"""
Ensembles of folds: how many rows have a cross-conformal p-value of alpha or less, on small tables dealt out anew.

In each split half of the rows are for five fits, each of which ranks the fifth that it has not seen, and the other half
for the test. There is no law of their number as with calibration rows set apart (`tally`); what is known of its mean is
`calibration.cross_p_values`. So the spread over splits is told, and the law of as many rows set apart beside it. The
networks are run by PyTorch, not exported.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.false_alarms.pools import DRAWS, Counted
from benchmarks.false_alarms.refits import scores_of
from benchmarks.false_alarms.tally import ALPHAS
from benchmarks.missing import Table, read
from service import calibration
from service.inputs import Column, Inputs
from service.reference import Reference
from service.scores import SCORE_OUTPUTS
from training.by_modules import scorer
from training.data import CLAMP
from training.defaults import default_latent_dim
from training.fit import FitOptions, fit
from training.models.mlp import VAE, VAEConfig
from training.noise import noise_table
from training.reference import reference_of
from training.split import Fractions, Split, seed_of_fold, split_folds

Floats = NDArray[np.float64]

FOLDS = 5
TABLES = ("14_glass", "43_WDBC", "4_breastw")
"""Of the tables in decision 24 those that are quickly fitted: 205, 357 and 444 normal rows."""


def tables(data: Path) -> Iterator[Table]:
    """Those of TABLES that are in *data*."""
    for name in TABLES:
        if (file := data / "adbench" / f"{name}.npz").is_file():
            yield read(file)


def crossed(table: Table, split: int, epochs: int) -> Counted:
    """One split of the normal rows: n rows of all folds, m to test, and how many have p <= alpha."""
    x = table.normal
    features = x.shape[1]
    inputs = Inputs(
        kind="table",
        shape=(features,),
        dtype="float64",
        columns=tuple(Column(name=f"x{c}") for c in range(features)),
        clamp=CLAMP,
    )
    dealt = split_folds(len(x), Fractions(0.1, 0.0, 0.5), FOLDS, split)
    ranked = [_ranked(inputs, x, own, seed_of_fold(split, m), epochs) for m, own in enumerate(dealt)]
    n, m = sum(len(own.calibration) for own in dealt), len(dealt[0].test)
    counted: Counted = {}
    for kind in SCORE_OUTPUTS:
        inside = [np.sort(one[kind]) for one, _ in ranked]
        p = calibration.cross_p_values(inside, np.stack([other[kind] for _, other in ranked]))
        for alpha in ALPHAS:
            if n >= calibration.rows_needed(alpha):
                counted[f"{kind}|nothing|0|{alpha}"] = [n, m, int((p <= alpha).sum())]
    return counted


def _ranked(
    inputs: Inputs, x: Floats, own: Split, seed: int, epochs: int
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """What one member makes of the fold that it has not seen, and of the test rows: scores by kind."""
    latent = default_latent_dim(inputs.features)
    vae = VAE(inputs, VAEConfig(latent, (128, 128), "gaussian"), seed)
    fit(vae, x[own.train], x[own.validation], FitOptions(epochs=epochs, seed=seed, threads=1))
    engine, eps = scorer(vae), noise_table(latent, seed)[:DRAWS]
    known = Reference.of(reference_of(engine, inputs, eps, x[own.validation], (DRAWS,), (), seed), DRAWS, 0)
    inside, outside = (scores_of(engine, inputs, x[rows], eps, known) for rows in (own.calibration, own.test))
    return inside, outside
