"""
Missing values: do false-alarm rates hold when 0, 10 or 50 % of the values are missing, and what is still found?

    python -m benchmarks.missing [--data FILE.npz ...]

One-class: normal rows of a table are dealt out into training, validation, calibration and test, ten times; values go
missing completely at random in test rows, normal and anomalous. Three ways to score what is left, on the same rows:

- mask: the model marginalises; a row is compared with calibration rows that lack as large a share.
- mask, as it stands: the same scores, without what missing columns add on average (see `training/absent.py`).
- mean: the same network without a mask, missing values imputed by the column's mean, one calibration for all: on rows
  of which a third lacks nothing, a third 10 % and a third 50 %, as in the test.

Prints Markdown. --data takes .npz files with X and y, 1 for an anomaly, as ADBench has them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import datasets

from service import calibration
from service.engine import Engine
from service.inputs import Column, Inputs
from service.scores import score
from training.calibrate import calibrate
from training.data import CLAMP
from training.defaults import default_latent_dim, default_options
from training.export import export_graphs
from training.fit import FitOptions, fit
from training.masks import bins_of, default_bins
from training.models.mlp import VAE, VAEConfig
from training.noise import noise_table
from training.ranking import auroc
from training.reference import reference_of
from training.scorer import run_scorer

Floats = NDArray[np.float64]

RATES = (0.0, 0.1, 0.5)
ALPHAS = (0.05, 0.1)
WAYS = ("mask", "mask, as it stands", "mean")
DRAWS = 16
MOST_ROWS = 4000


@dataclass(frozen=True)
class Table:
    """Normal rows and anomalies: (n, C) each."""

    name: str
    normal: Floats
    anomalies: Floats


@dataclass
class Found:
    """What one way measured at one rate, an entry a split: false alarms and power by alpha, AUROC, rows."""

    alarms: dict[float, list[float]] = field(default_factory=lambda: {alpha: [] for alpha in ALPHAS})
    power: dict[float, list[float]] = field(default_factory=lambda: {alpha: [] for alpha in ALPHAS})
    auroc: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Parts:
    """The rows of one split."""

    train: Floats
    validation: Floats
    calibration: Floats
    test: Floats
    anomalies: Floats


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit, score, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.missing", description=__doc__)
    parser.add_argument("--data", nargs="*", type=Path, default=[], metavar="FILE", help=".npz with X and y")
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=0, help="default: as `vae-train fit`")
    parser.add_argument("--mask-rate", type=float, default=0.5, help="of the fit")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    start = time.perf_counter()
    print("| table | missing | way | false alarms at 0.05 | at 0.1 | found at 0.05 | at 0.1 | AUROC |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for table in (*own_tables(), *(read(file) for file in options.data)):
        found = {(rate, way): Found() for rate in RATES for way in WAYS}
        sizes = (0, 0)
        for split in range(options.splits):
            parts = deal(table, split)
            sizes = len(parts.calibration), len(parts.test)
            measure(parts, found, split, FitOptions(epochs=options.epochs, mask_rate=options.mask_rate, seed=split))
        print(*lines(table, found, sizes, options.splits), sep="\n", flush=True)
    print(f"\n{time.perf_counter() - start:.0f} s; K = {DRAWS}, torch {torch.__version__}.")
    return 0


def own_tables() -> Iterator[Table]:
    """Three tables that come with scikit-learn."""
    x, y = datasets.load_breast_cancer(return_X_y=True)
    yield Table("breast cancer: benign, malignant", x[y == 1], x[y == 0])
    x, y = datasets.load_wine(return_X_y=True)
    yield Table("wine: two growers, the third", x[y < 2], x[y == 2])
    x, y = datasets.load_digits(return_X_y=True)
    yield Table("digits: 1 to 9, 0", x[y > 0], x[y == 0])


def read(file: Path) -> Table:
    """A table from a file; of very many rows some thousand."""
    with np.load(file) as arrays:
        x, y = arrays["X"].astype(np.float64), arrays["y"].astype(bool)
    generator = np.random.default_rng(0)
    normal, anomalies = (generator.permutation(x[which])[:MOST_ROWS] for which in (~y, y))
    return Table(file.stem.split("_", 1)[-1], normal, anomalies)


def deal(table: Table, seed: int) -> Parts:
    """Half of the normal rows to learn from, a quarter to calibrate on, a quarter to test with."""
    order = np.random.default_rng([seed, 0]).permutation(len(table.normal))
    ends = (np.array([0.45, 0.5, 0.75]) * len(order)).astype(int)
    train, validation, kept, test = (table.normal[rows] for rows in np.split(order, ends))
    return Parts(train, validation, kept, test, table.anomalies)


def measure(parts: Parts, found: dict[tuple[float, str], Found], seed: int, options: FitOptions) -> None:
    """Fit the two models, and score the same rows by each way."""
    generator = np.random.default_rng([seed, 1])
    test = {rate: gaps(parts.test, rate, generator) for rate in RATES}
    anomalies = {rate: gaps(parts.anomalies, rate, generator) for rate in RATES}
    mixed = np.concatenate(
        [gaps(rows, rate, generator) for rate, rows in zip(RATES, np.array_split(parts.calibration, 3), strict=True)]
    )
    masked, plain = (Model(parts, may, options) for may in (True, False))
    ways: dict[str, Bins | Imputed] = {
        "mask": Bins(masked, parts, seed, completed=True),
        "mask, as it stands": Bins(masked, parts, seed, completed=False),
        "mean": Imputed(plain, parts.train, mixed),
    }
    for name, way in ways.items():
        for rate in RATES:
            into, (inside, p), (outside, q) = found[rate, name], way(test[rate]), way(anomalies[rate])
            into.auroc.append(auroc(inside, outside))
            for alpha in ALPHAS:
                into.alarms[alpha].append(float((p <= alpha).mean()))
                into.power[alpha].append(float((q <= alpha).mean()))


class Model:
    """A network fitted to complete rows; with *masked* values may be missing, and some are hidden in training."""

    def __init__(self, parts: Parts, masked: bool, options: FitOptions) -> None:
        features = parts.train.shape[1]
        columns = tuple(Column(name=f"x{c}", missing=masked) for c in range(features))
        self.inputs = Inputs(kind="table", shape=(features,), dtype="float64", columns=columns, clamp=CLAMP)
        latent = default_latent_dim(features)
        vae = VAE(self.inputs, VAEConfig(latent, (128, 128), "gaussian"), options.seed)
        length = default_options(self.inputs, len(parts.train))
        options = replace(
            options,
            epochs=options.epochs or length.epochs,
            warmup_epochs=length.warmup_epochs,
            patience=length.patience,
        )
        fit(vae, parts.train, parts.validation, options)
        self.engine = Engine({"scorer": export_graphs(vae, ("scorer",))["scorer"]}, threads=1)
        self.eps = noise_table(latent, options.seed)[:DRAWS]

    def scores(self, x: Floats) -> Floats:
        """The nll of each row: (n, C) -> (n,)."""
        return score("nll", run_scorer(self.engine, self.inputs, x, self.eps, ("log_w",)))


class Bins:
    """Scores of what was observed, and p-values among calibration rows that lack as large a share."""

    def __init__(self, model: Model, parts: Parts, seed: int, completed: bool) -> None:
        self._model, self._completed = model, completed
        ends, like = default_bins(model.inputs), parts.validation
        reference = reference_of(model.engine, model.inputs, model.eps, like, (DRAWS,), ends, seed)
        found = calibrate(
            model.engine,
            model.inputs,
            model.eps,
            parts.calibration,
            DRAWS,
            (DRAWS,),
            mask_bins=ends,
            reference=reference if completed else {},
            seed=seed,
        )
        self._arrays = found.arrays

    def __call__(self, x: Floats) -> tuple[Floats, Floats]:
        """Scores and p-values: (n, C) -> (n,) each."""
        scores, mask, p = self._model.scores(x), ~np.isnan(x), np.ones(len(x))
        bins = bins_of(x, self._model.inputs, default_bins(self._model.inputs))
        for bin_ in np.unique(bins):
            rows = bins == bin_
            if self._completed and bin_:
                absent = np.asarray(self._arrays[f"absent/nll/{DRAWS}/all/{bin_}"], np.float64)
                scores[rows] = calibration.completed(scores[rows], mask[rows], absent)
            reference = np.asarray(self._arrays[f"scores/nll/{DRAWS}/all/{bin_}"], np.float64)
            p[rows] = calibration.p_values(reference, scores[rows])
        return scores, p


class Imputed:
    """Scores of rows whose missing values are the training rows' means, and p-values among all calibration rows."""

    def __init__(self, model: Model, train: Floats, rows: Floats) -> None:
        self._model, self._mean = model, train.mean(axis=0)
        self._reference = np.sort(self(rows, ranked=False)[0])

    def __call__(self, x: Floats, ranked: bool = True) -> tuple[Floats, Floats]:
        """Scores and p-values: (n, C) -> (n,) each."""
        scores = self._model.scores(np.where(np.isnan(x), self._mean, x))
        return scores, calibration.p_values(self._reference, scores) if ranked else scores


def gaps(x: Floats, rate: float, generator: np.random.Generator) -> Floats:
    """*x* with a share of *rate* of its values missing, one at least left in each row."""
    hidden = generator.random(x.shape) < rate
    hidden[np.arange(len(x)), generator.integers(x.shape[1], size=len(x))] = False
    return np.where(hidden, np.nan, x)


def lines(table: Table, found: dict[tuple[float, str], Found], sizes: tuple[int, int], splits: int) -> Iterator[str]:
    """One line a rate and way: means over the splits; false alarms with the interval that they should be in."""
    limits = {alpha: interval(sizes, alpha, splits) for alpha in ALPHAS}
    for (rate, way), values in found.items():
        alarms = [
            f"{np.mean(values.alarms[alpha]):.3f} ({low:.3f} to {high:.3f})"
            + ("" if low <= np.mean(values.alarms[alpha]) <= high else " **outside**")
            for alpha, (low, high) in limits.items()
        ]
        power = [f"{np.mean(values.power[alpha]):.3f}" for alpha in ALPHAS]
        yield (
            "| " + " | ".join([table.name, f"{rate:.0%}", way, *alarms, *power, f"{np.mean(values.auroc):.4f}"]) + " |"
        )


def interval(sizes: tuple[int, int], alpha: float, splits: int) -> tuple[float, float]:
    """The central 90 % interval of the mean over *splits* of beta-binomial shares, by 20,000 draws."""
    n, m = sizes
    k = calibration.rank(n, alpha)
    generator = np.random.default_rng(0)
    rate = generator.beta(n + 1 - k, k, (20000, splits))
    means = (generator.binomial(m, rate) / m).mean(axis=1)
    low, high = np.quantile(means, [0.05, 0.95])
    return float(low), float(high)


if __name__ == "__main__":
    sys.exit(main())
