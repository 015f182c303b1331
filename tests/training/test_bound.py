"""The bound that a fit ascends: the ELBO of one draw, the importance-weighted bound of several."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from service.scores import score
from training.data import from_arrays
from training.fit import FitOptions, fit
from training.graphs import MaskedScorerGraph, ScorerGraph, specs
from training.models.mlp import VAE, VAEConfig
from training.rounding import run_module
from training.step import Bound
from training.validation import Record

CONFIGS = (
    VAEConfig(2, (8,), "gaussian"),
    VAEConfig(2, (8,), "student-t", prior="mixture", components=3),
)


def rows(count: int, seed: int = 0) -> NDArray[np.float64]:
    """A ring with noise: no normal posterior fits it well."""
    generator = np.random.default_rng(seed)
    angle = generator.uniform(0, 2 * np.pi, count)
    ring = np.stack([np.cos(angle), np.sin(angle), np.cos(2 * angle)], axis=1)
    x: NDArray[np.float64] = 5 * ring + 0.3 * generator.standard_normal((count, 3))
    return x


def adapted(x: NDArray[np.float64], config: VAEConfig) -> VAE:
    """A model that has the scale of *x*, not yet fitted."""
    vae = VAE(from_arrays("rows", {"X": x}).inputs, config, seed=1)
    vae.adapt(x)
    return vae


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("draws", [2, 7])
def test_the_bound_of_several_draws_is_the_score_of_the_same_draws(
    config: VAEConfig, missing: bool, draws: int
) -> None:
    """What training ascends is what the exported scorer calls -nll, with values missing too."""
    x = rows(40)
    if missing:
        x[::3, 1] = np.nan
    vae = adapted(x, config)
    eps = np.random.default_rng(0).standard_normal((draws, 2)).astype(np.float32)
    feeds = {"x": np.where(np.isnan(x), 0, x), "mask": ~np.isnan(x), "eps": eps}
    module = MaskedScorerGraph(vae) if missing else ScorerGraph(vae)
    served = -score("nll", run_module(module, specs(vae)["scorer"], feeds)).sum()
    with torch.no_grad():
        v = vae.scaling(torch.from_numpy(x))
        weighted, bound = Bound(vae)(v, torch.from_numpy(eps).expand(len(x), draws, 2), 1.0)
    assert float(bound) == pytest.approx(served, rel=1e-5)
    assert float(weighted) == pytest.approx(served, rel=1e-5)


@pytest.mark.parametrize("config", CONFIGS)
def test_the_bound_of_one_draw_is_the_elbo(config: VAEConfig) -> None:
    """Reconstruction less KL, and beta weighs the KL alone."""
    x = rows(40)
    vae = adapted(x, config)
    eps = torch.randn(40, 1, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        v = vae.scaling(torch.from_numpy(x))
        whole, half, none = (Bound(vae)(v, eps, beta) for beta in (1.0, 0.5, 0.0))
    assert float(whole[0]) == pytest.approx(float(whole[1]))
    assert float(half[0]) == pytest.approx((float(whole[0]) + float(none[0])) / 2)
    assert float(none[1]) == pytest.approx(float(whole[1]))


@pytest.mark.parametrize("config", CONFIGS)
def test_more_draws_reach_a_higher_bound(config: VAEConfig) -> None:
    """The fit that ascends the bound of 20 draws ends with a higher one than the ELBO of the fit that ascends that."""
    x, options = rows(600), FitOptions(epochs=60, batch_size=50, learning_rate=5e-3, warmup_epochs=5)
    found = {}
    for draws in (1, 20):
        records: list[Record] = []
        result = fit(
            adapted(x, config), x[:500], x[500:], replace(options, importance_samples=draws), log=records.append
        )
        found[draws] = result.validation_elbo
        if draws > 1:
            assert result.validation_elbo == max(record["validation_bound"] for record in records)
            assert all(record["validation_bound"] > record["validation_elbo"] for record in records)
            assert all("train_bound" in record and "train_elbo" not in record for record in records)
    assert found[20] > found[1]
