"""The bound that a fit ascends: the ELBO of one draw, the importance-weighted bound of several."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from service.scores import score
from training.data import from_arrays
from training.errors import FitError
from training.fit import FitOptions, fit
from training.graphs import specs
from training.models.mlp import VAE, VAEConfig
from training.rounding import run_module
from training.scorer_graph import MaskedScorerGraph, ScorerGraph
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
@pytest.mark.parametrize("missing", [False, True])
def test_the_gradient_of_a_few_draws_is_on_average_that_of_all(config: VAEConfig, missing: bool) -> None:
    """
    Values are those of all draws; over many choices the gradient is theirs too, within its error.

    A row is repeated, with one set of draws, so that one call makes 20,000 choices of 2.
    """
    x = rows(3)
    if missing:
        x[:, 1] = np.nan
    vae, draws, choices = adapted(rows(40), config), 6, 20000
    if missing:
        vae = VAE(from_arrays("rows", {"X": x}).inputs, config, seed=1)
        vae.adapt(rows(40))
    eps = torch.randn(3, draws, 2, generator=torch.Generator().manual_seed(0))
    v, u = vae.scaling(torch.from_numpy(x)), torch.rand(choices, 2, generator=torch.Generator().manual_seed(1))
    for row, beta in enumerate((1.0, 0.5, 1.0)):
        one, its = v[row : row + 1], eps[row : row + 1]
        whole, bound = Bound(vae)(one, its, beta)
        many, bounds = Bound(vae)(one.expand(choices, -1), its.expand(choices, -1, -1), beta, u)
        assert float(many.detach()) == pytest.approx(choices * float(whole.detach()), rel=1e-4)
        assert float(bounds) == pytest.approx(choices * float(bound), rel=1e-4)
        exact, found = (torch.cat([g.flatten() for g in gradients(vae, value)]) for value in (whole, many / choices))
        scale = float(exact.norm())
        assert float((found - exact).norm()) < 0.03 * scale
        single, _ = Bound(vae)(one, its[:, :1], beta)  # what no weighting would give
        assert float((torch.cat([g.flatten() for g in gradients(vae, single)]) - exact).norm()) > 0.1 * scale


def gradients(vae: VAE, value: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Of *value* by every parameter that it depends on."""
    found = torch.autograd.grad(value, list(vae.parameters()), allow_unused=True)
    return tuple(torch.zeros_like(p) if g is None else g for p, g in zip(vae.parameters(), found, strict=True))


def test_draws_are_chosen_of_several_only() -> None:
    """With one draw there is nothing to choose: refused by name."""
    x = rows(40)
    with pytest.raises(FitError, match="--gradient-draws 1: chosen of --importance-samples, which is 1"):
        fit(adapted(x, CONFIGS[0]), x, x, FitOptions(gradient_draws=1))


@pytest.mark.parametrize("config", CONFIGS)
def test_more_draws_reach_a_higher_bound(config: VAEConfig) -> None:
    """The fit that ascends the bound of 20 draws ends with a higher one than the ELBO of the fit that ascends that."""
    x, options = rows(600), FitOptions(epochs=60, batch_size=50, learning_rate=5e-3, warmup_epochs=5)
    found = {}
    for draws, of in ((1, 0), (20, 0), (20, 2)):
        records: list[Record] = []
        how = replace(options, importance_samples=draws, gradient_draws=of)
        result = fit(adapted(x, config), x[:500], x[500:], how, log=records.append)
        found[draws, of] = result.validation_elbo
        if draws > 1:
            assert result.validation_elbo == max(record["validation_bound"] for record in records)
            assert all(record["validation_bound"] > record["validation_elbo"] for record in records)
            assert all("train_bound" in record and "train_elbo" not in record for record in records)
    assert found[20, 0] > found[1, 0]
    assert found[20, 2] > found[1, 0]
