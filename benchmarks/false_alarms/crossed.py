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

from benchmarks.false_alarms.pools import Counted
from benchmarks.false_alarms.refits import ranked
from benchmarks.false_alarms.tally import ALPHAS
from benchmarks.missing import Table, read
from service import calibration
from service.scores import SCORE_OUTPUTS
from training.data import table_inputs
from training.split import Fractions, seed_of_fold, split_folds

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
    inputs = table_inputs([f"x{c}" for c in range(x.shape[1])])
    dealt = split_folds(len(x), Fractions(0.1, 0.0, 0.5), FOLDS, split)
    members = [
        ranked(
            inputs,
            x[own.train],
            x[own.validation],
            (x[own.calibration], x[own.test]),
            seed_of_fold(split, m),
            epochs,
            np.concatenate([x[own.train], x[own.validation]]),
        )
        for m, own in enumerate(dealt)
    ]
    n, m = sum(len(own.calibration) for own in dealt), len(dealt[0].test)
    counted: Counted = {}
    for kind in SCORE_OUTPUTS:
        inside = [np.sort(one[kind]) for one, _ in members]
        p = calibration.cross_p_values(inside, np.stack([other[kind] for _, other in members]))
        for alpha in ALPHAS:
            if n >= calibration.rows_needed(alpha):
                counted[f"{kind}|nothing|0|{alpha}"] = [n, m, int((p <= alpha).sum())]
    return counted
