"""
What a fit takes where nobody says: by what a row is, and how many rows there are.

The one place for it: `vae-train fit` and the benchmarks ask here. Chosen by measurement on tables of many kinds
(docs/decisions/0020-defaults.md), and the same for all of them. Knows no data.
"""

from __future__ import annotations

import math
from typing import Final

from service.inputs import Inputs
from training.fit import FitOptions
from training.models.mlp import VAEConfig
from training.moments import SIGMA_MIN

BATCH_SIZE: Final = 128
FEW_ROWS: Final = 1000
"""Of fewer rows none can be spared for calibration alone."""

_FOLDS: Final = 5

_STEPS: Final = {"table": 3000, "image": 6000, "array": 6000}
_WARMUP_STEPS: Final = 300
_PATIENCE_STEPS: Final = 800
_EPOCHS: Final = (20, 3000)


def default_config(inputs: Inputs) -> VAEConfig:
    """
    The model of rows like *inputs*.

    Tables: Student-t for numeric columns, so that a few bad rows and heavy tails do not widen what is expected of the
    others, no sigma below a tenth of a column's spread, so that one that hardly varies does not own the score, and a
    learned mixture prior, because rows of a table come in clusters. Windows of a series: the same with a lower floor,
    for a reading is known from its neighbours far better. Images and arrays: a Gaussian and N(0, I).
    """
    table = inputs.kind == "table"
    floor = 0.1 if inputs.windows is None else 0.01
    return VAEConfig(
        latent_dim=default_latent_dim(inputs.features),
        hidden=(128, 128) if inputs.features <= 256 else (256, 256),
        likelihood="student-t" if table else "gaussian",
        prior="mixture" if table else "standard-normal",
        sigma_floor=floor if table else SIGMA_MIN,
    )


def default_latent_dim(features: int) -> int:
    """2 sqrt(C), rounded up, between 2 and 64, and never more than the features."""
    return min(features, max(2, min(64, math.ceil(2 * math.sqrt(features)))))


def default_folds(inputs: Inputs, rows: int) -> int:
    """
    How many models are fitted to *rows* that are not test rows: an ensemble of folds to tables of few rows, else one.

    One fit to a hundred rows is a matter of chance, and 15 % of them are too few calibration rows for an alpha of 0.01.
    """
    return _FOLDS if inputs.kind == "table" and rows < FEW_ROWS else 1


def default_options(inputs: Inputs, rows: int, batch_size: int = BATCH_SIZE) -> FitOptions:
    """
    How long to fit to so many training *rows*: about 3,000 steps, of images 6,000, between 20 and 3,000 epochs.

    The KL comes in over the first 300 steps, and the fit ends after 800 without a better ELBO: a table of 80 rows has
    one step an epoch, and one of a million 7,800.
    """
    steps = math.ceil(rows / batch_size)
    least, most = _EPOCHS
    return FitOptions(
        epochs=min(most, max(least, math.ceil(_STEPS[inputs.kind] / steps))),
        batch_size=batch_size,
        warmup_epochs=_WARMUP_STEPS / steps,
        patience=max(10, math.ceil(_PATIENCE_STEPS / steps)),
    )
