"""A table of machines, with a column of each kind and missing values, and a model fitted to it for a moment."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.bundle import Bundle
from service.inputs import Column, Inputs
from service.manifest import Data
from training.assemble import HeldOut, build_bundle
from training.data import CLAMP
from training.fit import FitOptions, fit
from training.models.mlp import VAE, VAEConfig

Floats = NDArray[np.float64]

SITES = 40
COLUMNS = (
    Column(name="speed", unit="rpm", missing=True),
    Column(name="mode", kind="categorical", vocabulary=("off", "low", "high"), missing=True),
    Column(name="site", kind="categorical", vocabulary=tuple(f"s{i}" for i in range(SITES)), unknown="other"),
    Column(name="grade", kind="ordinal", vocabulary=("a", "b", "c", "d"), missing=True),
    Column(name="valve", kind="binary"),
    Column(name="stops", kind="count", missing=True),
    Column(name="seen", unit="s"),
    Column(name="built", kind="integer"),
)
INPUTS = Inputs(kind="table", shape=(len(COLUMNS),), dtype="float64", columns=COLUMNS, clamp=CLAMP)


def rows(count: int, seed: int, missing: float = 0.1) -> Floats:
    """Machines: a load decides on all but site and time, which are by themselves."""
    generator = np.random.default_rng(seed)
    load = generator.standard_normal(count)
    x = np.stack(
        [
            1500 + 400 * load + 20 * generator.standard_normal(count),
            np.digitize(load + 0.1 * generator.standard_normal(count), [-0.5, 0.5]),
            generator.integers(SITES + 1, size=count),
            np.digitize(load + 0.3 * generator.standard_normal(count), [-1, 0, 1]),
            generator.random(count) < 1 / (1 + np.exp(-4 * load)),
            generator.poisson(np.exp(1 + 0.8 * load)),
            1.7e9 + 86400 * generator.standard_normal(count),
            np.round(2000 + 5 * load + 2 * generator.standard_normal(count)),
        ],
        axis=1,
    ).astype(np.float64)
    hidden = (generator.random(x.shape) < missing) & np.array(INPUTS.may_be_missing)
    gappy: Floats = np.where(hidden, np.nan, x)
    return gappy


def mixed_up(x: Floats) -> Floats:
    """The modes of machines that run the other way: off at the highest speed, high at the lowest."""
    strange = x.copy()
    strange[:, 1] = 2 - strange[:, 1]
    found: Floats = strange[(x[:, 1] != 1) & ~np.isnan(x[:, 1]) & ~np.isnan(x[:, 0])]
    return found


def fit_machines() -> Bundle:
    """Fitted for a moment, on 3,000 rows of which a tenth of what may be missing is."""
    vae = VAE(INPUTS, VAEConfig(latent_dim=3, hidden=(64, 64), likelihood="gaussian"), seed=0)
    train, validation = rows(3000, 0), rows(300, 1)
    fit(vae, train, validation, FitOptions(epochs=30, warmup_epochs=5))
    held_out = HeldOut(rows(400, 2), rows(300, 3), mixed_up(rows(300, 4)), (train, validation), validation)
    return build_bundle(vae, "mixed", 1, Data(hash="0" * 64, rows={}), {}, held_out, threads=1)
