"""
A fit for every split: what the fit, the calibration and the test see is dealt out anew each time.

`fresh`: rows drawn from a known distribution, some with missing values; fit, calibration, and the service's own
judgement of test rows. Every split is independent of every other by construction. `dealt`: the tables of
benchmarks/missing.md dealt out again and again, complete rows. The network is run by PyTorch, not exported.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.false_alarms.pools import DRAWS, Counted, at_random
from benchmarks.false_alarms.tally import ALPHAS, count
from benchmarks.missing import Table, deal, own_tables, read
from service import calibration
from service.anomaly import Anomaly
from service.bundle import Bundle
from service.engine import Engine
from service.inputs import Column, Inputs
from service.manifest import Data
from service.reference import Reference
from service.scored import Scored
from service.scores import SCORE_OUTPUTS
from training.assemble import HeldOut, build_bundle
from training.by_modules import scorer
from training.calibrate import calibrate
from training.data import CLAMP
from training.defaults import default_latent_dim
from training.fit import FitOptions, fit
from training.masks import bins_of, by_bin
from training.models.mlp import VAE, VAEConfig
from training.noise import noise_table
from training.reference import reference_of
from training.scorer import outputs_of, run_scorer

Array = NDArray[np.generic]
Floats = NDArray[np.float64]

COLUMNS = 8
INPUTS = Inputs(
    kind="table",
    shape=(COLUMNS,),
    dtype="float64",
    columns=tuple(Column(name=f"x{c}", missing=True) for c in range(COLUMNS)),
    clamp=CLAMP,
)
CONFIG = VAEConfig(3, (16,), "gaussian")
ROWS = 1000
LACKING = (0.0, 0.1, 0.4)
"""Shares of missing values, of a third of the rows each."""


def draw(rows: int, generator: np.random.Generator) -> Floats:
    """Rows of a curved surface with noise, in units that differ by six orders of magnitude: (rows, 8)."""
    weights = np.random.default_rng(0).normal(size=(3, COLUMNS))
    surface = np.tanh(generator.normal(size=(rows, 3)) @ weights)
    noisy = surface + 0.3 * generator.normal(size=surface.shape)
    return noisy * np.logspace(-3, 3, COLUMNS)


def lacking(x: Floats, generator: np.random.Generator) -> Floats:
    """*x* as it comes: a third of the rows complete, a third without one value in ten, a third without four in ten."""
    parts = [at_random(part, rate, generator) for part, rate in zip(np.array_split(x, 3), LACKING, strict=True)]
    return np.concatenate(parts)


def fresh(split: int, epochs: int) -> Counted:
    """One split: everything is drawn, fitted, calibrated and judged anew."""
    generator = np.random.default_rng([split, 20])
    train, validation, kept, test = (lacking(draw(rows, generator), generator) for rows in (400, 100, ROWS, ROWS))
    complete = draw(ROWS, generator)
    vae = VAE(INPUTS, CONFIG, split)
    fit(vae, train, validation, FitOptions(epochs=epochs, seed=split, threads=1))
    engine, made, eps = scorer(vae), template(), noise_table(CONFIG.latent_dim, split)[:DRAWS]
    ends = made.manifest.mask_bins
    reference = reference_of(engine, INPUTS, eps, validation, (DRAWS,), ends, split)
    found = calibrate(engine, INPUTS, eps, kept, DRAWS, (DRAWS,), mask_bins=ends, reference=reference, seed=split)
    manifest = made.manifest.model_copy(update={"calibrated": found.entries})
    bundle = replace(made, manifest=manifest, calibration=found.arrays, eps=eps)
    counted: Counted = {}
    for what, x in (("nothing", complete), ("as it comes", test)):
        counted |= _judged(bundle, engine, x, what)
    for _, hidden in by_bin(test, INPUTS, bundle.manifest.mask_bins, (split, 21)):
        counted |= _judged(bundle, engine, np.asarray(hidden, np.float64), "as calibrated")
    return counted


@functools.cache
def template() -> Bundle:
    """A bundle of this network, for its manifest."""
    x = draw(200, np.random.default_rng(0))
    vae = VAE(INPUTS, CONFIG, 0)
    vae.adapt(x)
    data = Data(hash="0" * 64, rows={})
    return build_bundle(vae, "fresh", 1, data, {}, HeldOut(x, x[:0]), samples=(DRAWS,), threads=1, trained=False)


def _judged(bundle: Bundle, engine: Engine, x: Floats, what: str) -> Counted:
    """What the service says of rows, by their bins."""
    manifest, anomaly, found = bundle.manifest, Anomaly(bundle), Counted()
    own = bins_of(x, manifest.inputs, manifest.mask_bins)
    for kind, wanted in SCORE_OUTPUTS.items():
        outputs = _run(engine, manifest.inputs, x, bundle.eps, wanted)
        for alpha in ALPHAS:
            plan = anomaly.plan(kind=kind, samples=DRAWS, alpha=alpha)
            scored: Scored = anomaly.judge(plan, x, outputs)
            if scored.is_anomaly is None:
                raise AssertionError(f"{plan.entry.rows} calibration rows are too few for {alpha}")
            for bin_ in np.unique(own):
                rows = own == bin_
                flagged = int(np.ma.filled(scored.is_anomaly, False)[rows].sum())
                found[f"{kind}|{what}|{bin_}|{alpha}"] = [plan.entries[bin_].rows, int(rows.sum()), flagged]
    return found


def tables(data: Path | None) -> Iterator[Table]:
    """Those of benchmarks/missing.md."""
    yield from own_tables()
    if data is not None and (file := data / "adbench" / "6_cardio.npz").is_file():
        yield read(file)


def dealt(table: Table, split: int, epochs: int) -> Counted:
    """One split of the rows of a table: half to learn from, a quarter to calibrate on, a quarter to test with."""
    parts = deal(table, split)
    columns = tuple(Column(name=f"x{c}", missing=True) for c in range(parts.train.shape[1]))
    inputs = Inputs(kind="table", shape=(len(columns),), dtype="float64", columns=columns, clamp=CLAMP)
    inside, outside = ranked(inputs, parts.train, parts.validation, (parts.calibration, parts.test), split, epochs)
    n, m = len(parts.calibration), len(parts.test)
    return {
        f"{kind}|nothing|0|{alpha}": [n, m, count(inside[kind], outside[kind], alpha)]
        for kind in SCORE_OUTPUTS
        for alpha in ALPHAS
        if n >= calibration.rows_needed(alpha)
    }


def ranked(
    inputs: Inputs,
    train: Floats,
    validation: Floats,
    asked: Sequence[Floats],
    seed: int,
    epochs: int,
    encoded: Floats | None = None,
) -> list[dict[str, Floats]]:
    """
    What a model of its own makes of each of *asked*, complete rows that it has not seen: scores by kind.

    *encoded*: as `reference_of` has it.
    """
    latent = default_latent_dim(inputs.features)
    vae = VAE(inputs, VAEConfig(latent, (128, 128), "gaussian"), seed)
    fit(vae, train, validation, FitOptions(epochs=epochs, seed=seed, threads=1))
    engine, eps = scorer(vae), noise_table(latent, seed)[:DRAWS]
    known = Reference.of(reference_of(engine, inputs, eps, validation, (DRAWS,), (), seed, encoded), DRAWS, 0)
    return [_scores(engine, inputs, x, eps, known) for x in asked]


def _scores(engine: Engine, inputs: Inputs, x: Floats, eps: Array, known: Reference) -> dict[str, Floats]:
    """The scores of complete rows by kind: (n, C) -> (n,) each."""
    outputs = _run(engine, inputs, x, eps, outputs_of(SCORE_OUTPUTS))
    return {kind: known.score(kind, outputs, None)[0] for kind in SCORE_OUTPUTS}


def _run(engine: Engine, inputs: Inputs, x: Floats, eps: Array, outputs: Sequence[str]) -> dict[str, Array]:
    return run_scorer(engine, inputs, x, eps.astype(np.float32), outputs)
