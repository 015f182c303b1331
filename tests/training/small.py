"""A small table and a model fitted to it, for several tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from service.bundle import Bundle
from service.inputs import Column, Inputs
from service.manifest import Data, GraphName
from training.assemble import HeldOut, build_bundle
from training.data import CLAMP, from_arrays
from training.export import export_graphs
from training.fit import FitOptions, fit
from training.models.mlp import VAE, VAEConfig

torch.set_num_threads(1)


@dataclass(frozen=True)
class Fitted:
    """A small fitted model, its graphs, its bundle, and the rows that it saw in each role."""

    vae: VAE
    graphs: dict[GraphName, bytes]
    bundle: Bundle
    train: NDArray[np.float64]
    calibration: NDArray[np.float64]
    test: NDArray[np.float64]


def table(rows: int, seed: int = 0) -> NDArray[np.float64]:
    """A table with what tables have: an offset in the billions, a tiny unit, whole numbers, a constant column."""
    generator = np.random.default_rng(seed)
    a, b = generator.standard_normal((2, rows))
    columns = (1.7e9 + 3600 * a, 1e-6 * (a + b), np.round(3 * b), np.full(rows, 7.0), a * b)
    return np.stack(columns, axis=1)


def fit_table() -> Fitted:
    """A Gaussian VAE of a table, fitted for a moment."""
    train, calibration, test = table(400), table(150, 1), table(150, 2)
    inputs = from_arrays("table", {"X": train}).inputs
    vae = VAE(inputs, VAEConfig(latent_dim=3, hidden=(16,), likelihood="gaussian"), seed=1)
    fit(vae, train, test, FitOptions(epochs=5))
    graphs = export_graphs(vae)
    held_out = HeldOut(calibration, test, anomalies=test + 1e3 * test.std(axis=0), reference=table(150, 4))
    data = Data(hash="0" * 64, rows={"train": len(train)})
    bundle = build_bundle(vae, "table", 1, data, {}, held_out, threads=1, export=lambda _: graphs)
    return Fitted(vae, graphs, bundle, train, calibration, test)


def gaps(x: NDArray[np.float64], rate: float, seed: int = 0) -> NDArray[np.float64]:
    """*x* with this share of its values missing, but for the last column, which always is there."""
    hidden = np.random.default_rng([seed, 99]).random(x.shape) < rate
    hidden[:, -1] = False
    return np.where(hidden, np.nan, x)


def gappy_inputs(columns: int) -> Inputs:
    """A table of numbers of which all but the last column may be missing."""
    named = tuple(Column(name=f"x{c}", missing=c < columns - 1) for c in range(columns))
    return Inputs(kind="table", shape=(columns,), dtype="float64", columns=named, clamp=CLAMP)


def fit_gappy() -> Fitted:
    """A Gaussian VAE of a table with missing values, fitted for a moment; every tenth value of its rows is missing."""
    train, calibration, test = (gaps(table(rows, seed), 0.1, seed) for rows, seed in ((400, 0), (300, 1), (150, 2)))
    vae = VAE(gappy_inputs(5), VAEConfig(latent_dim=3, hidden=(16,), likelihood="gaussian"), seed=1)
    fit(vae, train, test, FitOptions(epochs=5))
    graphs = export_graphs(vae)
    anomalies = gaps(table(150, 3) + 20 * table(400).std(axis=0), 0.1)
    held_out = HeldOut(calibration, test, anomalies, reference=gaps(table(300, 4), 0.1, 4))
    data = Data(hash="0" * 64, rows={"train": len(train)})
    bundle = build_bundle(vae, "gappy", 1, data, {}, held_out, threads=1, export=lambda _: graphs)
    return Fitted(vae, graphs, bundle, train, calibration, test)
