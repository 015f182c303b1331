"""
Real held-out normals: one model, and many random partitions of a pool of rows that its fit did not see.

The pool is scored once: complete, and with values hidden as for the calibration of each mask-rate bin. Then rows are
dealt out to calibration and test, again and again. Where values are missing in another way than in calibration, they
are hidden, and rows are scored, anew for each split.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.false_alarms.tally import ALPHAS, Tally, count, partitions
from service import calibration
from service.engine import Engine
from service.inputs import Column, Inputs
from service.reference import Reference
from service.scores import SCORE_OUTPUTS
from training.binarize import binarize, binary_inputs
from training.calibrate import calibrate
from training.data import CLAMP, load
from training.defaults import default_latent_dim, default_options
from training.fit import fit
from training.masks import bins_of, by_bin, default_bins
from training.models.mlp import VAE, VAEConfig
from training.noise import noise_table
from training.reference import reference_of
from training.scorer import outputs_of, run_scorer

Array = NDArray[np.generic]
Floats = NDArray[np.float64]
Counted = dict[str, list[int]]
"""Of one split, by "kind|what is missing|bin|alpha": n, m, flagged."""

TABLES = (
    "2_annthyroid",
    "23_mammography",
    "24_mnist",
    "28_pendigits",
    "32_shuttle",
    "4_breastw",
    "6_cardio",
)
IMAGES = "mnist"
AT_RANDOM = ("6_cardio", "28_pendigits", "2_annthyroid", "24_mnist")
"""Tables of 21, 16, 6 and 100 columns, of which values are missing at random."""

RATES = (0.02, 0.1, 0.3, 0.5)
DRAWS = 16
LEARN = 3000
POOL = 4000
HALF = 500
LEAST = 100
"""Test rows of a bin below which it is not counted: the law is too coarse."""


@dataclass(frozen=True)
class Pool:
    """Rows to learn from, (n, *shape), validation rows, and a pool that neither saw."""

    inputs: Inputs
    config: VAEConfig
    train: Array
    validation: Array
    rows: Array


def names(data: Path) -> tuple[str, ...]:
    """The pools that can be made of what is in *data*."""
    tables = tuple(name for name in TABLES if (data / "adbench" / f"{name}.npz").is_file())
    return (*tables, IMAGES) if (data / "mnist").is_dir() else tables


def pool(data: Path, name: str, seed: int = 0) -> Pool:
    """Of *name*: up to 3,000 rows to learn from, or half of them, and up to 4,000 others."""
    generator = np.random.default_rng([seed, 0])
    if name == IMAGES:
        dataset = load(str(data / "mnist"))
        inputs = binary_inputs(dataset.inputs)
        x = dataset.x[generator.permutation(len(dataset.x))[: LEARN + POOL]]
        x = binarize(x, dataset.inputs, "threshold", generator)
        config = VAEConfig(20, (128,), "bernoulli", standardise=False)
    else:
        with np.load(data / "adbench" / f"{name}.npz") as arrays:
            x = arrays["X"][arrays["y"] == 0].astype(np.float64)
        x = generator.permutation(x)[: LEARN + POOL]
        features = x.shape[1]
        columns = tuple(Column(name=f"x{c}", missing=True) for c in range(features))
        inputs = Inputs(kind="table", shape=(features,), dtype="float64", columns=columns, clamp=CLAMP)
        config = VAEConfig(default_latent_dim(features), (128, 128), "gaussian")
    learn = min(LEARN, len(x) // 2)
    train, validation, rows = np.split(x, [learn * 9 // 10, learn])
    return Pool(inputs, config, train, validation, rows)


def fitted(pool: Pool, epochs: int = 0, seed: int = 0) -> VAE:
    """The network, fitted to what there is to learn from; *epochs* 0: as `vae-train fit` does."""
    vae = VAE(pool.inputs, pool.config, seed)
    options = default_options(pool.inputs, len(pool.train))
    options = replace(options, epochs=epochs or options.epochs, seed=seed, threads=1)
    fit(vae, pool.train, pool.validation, options)
    return vae


def measure(pool: Pool, engine: Engine, splits: int, seed: int = 0) -> dict[str, Tally]:
    """By "kind|what is missing|bin|alpha", over *splits* partitions in halves; *engine* runs the scorer."""
    inputs, rows = pool.inputs, pool.rows
    eps = noise_table(pool.config.latent_dim, seed)[:DRAWS]
    half = len(rows) // 2
    found: dict[str, Tally] = {}
    ends = default_bins(inputs)
    arrays = reference_of(engine, inputs, eps, pool.validation, (DRAWS,), ends, seed)

    def ranked(x: Array, bin_: int) -> dict[str, Floats]:
        """Scores as they are ranked in a bin."""
        outputs, known = _outputs(engine, inputs, x, eps), Reference.of(arrays, DRAWS, bin_)
        return {kind: known.score(kind, outputs, ~np.isnan(x) if bin_ else None)[1] for kind in SCORE_OUTPUTS}

    def keep(kind: str, what: str, bin_: int, tallies: dict[float, Tally]) -> None:
        found.update({f"{kind}|{what}|{bin_}|{alpha}": tally for alpha, tally in tallies.items() if tally.splits})

    for kind, whole in ranked(rows, 0).items():
        keep(kind, "nothing", 0, partitions(whole, whole, half, half, splits, np.random.default_rng([seed, 1])))
    if not inputs.masked:
        return found
    for bin_, x in by_bin(rows, inputs, ends, (seed, 2)):
        if bin_:
            half = len(x) // 2  # of many rows a bin has some
            for kind, values in ranked(x, bin_).items():
                drawn = partitions(values, values, half, half, splits, np.random.default_rng([seed, 3, bin_]))
                keep(kind, "as calibrated", bin_, drawn)
    return found


class AtRandom:
    """
    Values missing completely at random in the test rows of a *pool*, anew in each split, as in its calibration rows.

    Were they hidden once, and rows dealt out again and again, all splits would share the luck of that: test rows have
    other values hidden than calibration rows, so the law of partitions does not hold.
    """

    def __init__(self, pool: Pool, engine: Engine, seed: int = 0) -> None:
        self._pool, self._engine, self._seed = pool, engine, seed
        self._eps = noise_table(pool.config.latent_dim, seed)[:DRAWS]
        self._ends = default_bins(pool.inputs)
        self._reference = reference_of(engine, pool.inputs, self._eps, pool.validation, (DRAWS,), self._ends, seed)

    def split(self, split: int) -> Counted:
        """Up to 500 rows for calibration and as many to test, by "kind|what is missing|bin|alpha": n, m, flagged."""
        inputs, half = self._pool.inputs, min(HALF, len(self._pool.rows) // 2)
        generator = np.random.default_rng([self._seed, 6, split])
        inside, outside = np.split(generator.permutation(self._pool.rows)[: 2 * half], 2)
        found = calibrate(
            self._engine,
            inputs,
            self._eps,
            inside,
            DRAWS,
            (DRAWS,),
            mask_bins=self._ends,
            reference=self._reference,
            seed=split,
        )
        counted: Counted = {}
        for rate in RATES:
            x = at_random(outside, rate, generator)
            own, outputs = bins_of(x, inputs, self._ends), _outputs(self._engine, inputs, x, self._eps)
            for entry in found.entries:
                rows = own == entry.mask_bin
                if rows.sum() < LEAST:
                    continue
                part = {name: array[rows] for name, array in outputs.items()}
                known = Reference.of(found.arrays, DRAWS, entry.mask_bin)
                values = known.score(entry.kind, part, ~np.isnan(x[rows]))[1]
                ordered = np.asarray(found.arrays[entry.key], np.float64)
                for alpha in ALPHAS:
                    if entry.rows >= calibration.rows_needed(alpha):
                        key = f"{entry.kind}|{rate:.0%} at random|{entry.mask_bin}|{alpha}"
                        counted[key] = [entry.rows, len(values), count(ordered, values, alpha)]
        return counted


def at_random(x: Array, rate: float, generator: np.random.Generator) -> Floats:
    """*x* with each value missing with the probability *rate*, one at least left in each row."""
    hidden = generator.random(x.shape) < rate
    hidden[np.arange(len(x)), generator.integers(x.shape[1], size=len(x))] = False
    return np.where(hidden, np.nan, x)


def _outputs(engine: Engine, inputs: Inputs, x: Array, eps: NDArray[np.float32]) -> dict[str, Array]:
    return run_scorer(engine, inputs, x, eps, outputs_of(SCORE_OUTPUTS))
