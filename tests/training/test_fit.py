"""The fit: what it reaches, what it keeps, and that it repeats itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from training.data import from_arrays
from training.errors import DataError, FitError
from training.fit import FitOptions, fit
from training.likelihoods.gaussian import Gaussian
from training.models.mlp import VAE, VAEConfig
from training.moments import log_sigma_floor, moments
from training.validation import Record, Validation

SMALL = VAEConfig(latent_dim=2, hidden=(8,), likelihood="gaussian")


def rows(count: int, seed: int = 0) -> NDArray[np.float64]:
    """Two directions of variance in five columns, and noise."""
    generator = np.random.default_rng(seed)
    w = np.array([[2.0, 0.5], [1.0, -1.0], [0.0, 1.5], [-1.0, 0.3], [0.4, 0.9]])
    signal, noise = generator.standard_normal((count, 2)) @ w.T, generator.standard_normal((count, 5))
    x: NDArray[np.float64] = signal + 0.6 * noise + 10.0
    return x


def model(x: NDArray[np.generic], config: VAEConfig = SMALL, seed: int = 0) -> VAE:
    """A model of *x*, not yet fitted."""
    return VAE(from_arrays("rows", {"X": x}).inputs, config, seed)


def test_a_linear_vae_reaches_probabilistic_pca() -> None:
    """
    With linear networks and one sigma the best ELBO is the pPCA log-likelihood in closed form.

    Tipping & Bishop 1999, eq. 8, for standardised columns; Lucas et al. 2019. Within 0.03 nats a row and 3 % of sigma.
    """
    x, latent = rows(1000), 2
    vae = model(x, VAEConfig(latent_dim=latent, hidden=(), likelihood="gaussian", sigma="shared"))
    fit(vae, x, x, FitOptions(epochs=150, batch_size=100, learning_rate=2e-2, patience=150))
    bounds = [Validation(vae, x, seed)()["validation_elbo"] for seed in range(20)]
    values = np.linalg.eigvalsh(np.corrcoef(x.T))[::-1]
    noise = values[latent:].mean()
    log_det = np.log(values[:latent]).sum() + (5 - latent) * math.log(noise)
    optimum = -0.5 * (5 * math.log(2 * math.pi) + log_det + 5) - np.log(x.std(axis=0)).sum()
    assert float(np.mean(bounds)) == pytest.approx(optimum, abs=0.03)
    assert isinstance(vae.likelihood, Gaussian)
    sigma = float(vae.likelihood.log_sigma()[0].detach().exp())
    assert sigma == pytest.approx(math.sqrt(noise), rel=0.03)


def test_the_same_seed_gives_the_same_weights() -> None:
    """Two runs agree to the bit, whatever the global generator did between them; another seed differs."""
    x = rows(200)
    weights: list[torch.Tensor] = []
    for seed in (4, 4, 5):
        torch.manual_seed(len(weights))
        vae = model(x, seed=seed)
        fit(vae, x[:150], x[150:], FitOptions(epochs=3, batch_size=32, seed=seed))
        weights.append(torch.cat([p.detach().flatten() for p in vae.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_early_stopping_keeps_the_best_epoch() -> None:
    """A fit that memorises 30 rows stops by patience, with the weights of its best validation ELBO."""
    train, validation = rows(30), rows(200, seed=1)
    vae = model(train, VAEConfig(latent_dim=2, hidden=(64, 64), likelihood="gaussian"))
    records: list[Record] = []
    options = FitOptions(epochs=400, batch_size=10, learning_rate=5e-3, warmup_epochs=2, patience=15)
    result = fit(vae, train, validation, options, log=records.append)
    bounds = [record["validation_elbo"] for record in records]
    assert result.stopped == "patience"
    assert result.best_epoch == 1 + int(np.argmax(bounds)) < result.epochs == len(records)
    assert Validation(vae, validation, options.seed)()["validation_elbo"] == result.validation_elbo == max(bounds)
    assert records[-1]["train_elbo"] > records[-1]["validation_elbo"]


def test_the_log_says_what_the_loss_weighed_and_what_the_elbo_is() -> None:
    """Beta rises to 1 and never enters the validation ELBO, which is reconstruction minus KL."""
    x, records = rows(100), list[Record]()
    fit(model(x), x, x, FitOptions(epochs=4, warmup_epochs=2, batch_size=25), log=records.append)
    betas = [record["beta"] for record in records]
    assert betas == sorted(betas)
    assert betas[-1] == 1
    for record in records:
        assert record["validation_elbo"] == pytest.approx(record["reconstruction"] - record["kl"])
        assert set(record) == {
            *("epoch", "train_elbo", "validation_elbo", "reconstruction", "kl"),
            *("beta", "learning_rate", "active_units", "seconds"),
        }


def test_the_time_limit_ends_the_fit() -> None:
    """After the first epoch past the limit, with a model that can be used."""
    x = rows(100)
    result = fit(model(x), x, x, FitOptions(epochs=1000, minutes=1e-9))
    assert (result.epochs, result.stopped) == (1, "time")


def test_a_fit_that_diverges_says_what_to_do() -> None:
    """Steps without a finite gradient are skipped; too many in a row end the fit."""
    x = rows(400)
    with pytest.raises(FitError, match="lower --learning-rate"):
        fit(model(x), x, x, FitOptions(epochs=50, batch_size=10, learning_rate=1e30))


def test_constant_columns_have_a_scale_and_a_finite_score() -> None:
    """A column that never changes fits; another value in it is far away, in units of its own size."""
    x = np.column_stack([rows(200)[:, 0], np.full(200, 1e-6), np.zeros(200)])
    vae = model(x)
    fit(vae, x, x, FitOptions(epochs=3))
    np.testing.assert_allclose(vae.scaling.scale[1:], [1e-6, 1.0])
    usual, changed = torch.from_numpy(x[:1].copy()), torch.from_numpy(x[:1] * [1, 2, 1])
    with torch.no_grad():
        theta = vae.decode(torch.zeros(1, 2))
        nll = [-float(vae.likelihood.log_prob(theta, vae.scaling(v)).sum()) for v in (usual, changed)]
    assert nll[1] > nll[0] + 100


def test_large_offsets_keep_their_digits() -> None:
    """Epoch times around 1.7e9 that differ by minutes are standardised in float64: float32 would lose two minutes."""
    x = 1.7e9 + 60 * np.arange(500.0)[:, None] * [1.0, 1.0]
    vae = model(x)
    vae.adapt(x)
    np.testing.assert_allclose(vae.scaling(torch.from_numpy(x)).std(dim=0, correction=0), 1, rtol=1e-5)
    np.testing.assert_allclose(vae.scaling.restore(vae.scaling(torch.from_numpy(x))), x, atol=0.1, rtol=0)


def test_the_floor_of_sigma_is_the_resolution_of_the_data() -> None:
    """Whole numbers are uncertain by 1 / sqrt 12; finely recorded ones by a thousandth of their spread."""
    x = np.column_stack([np.tile([0.0, 1, 2, 3], 50), np.random.default_rng(0).standard_normal(200)])
    inputs = from_arrays("rows", {"X": x}).inputs
    _, scale = moments(x, inputs)
    floor = np.exp(log_sigma_floor(x, inputs, scale)) * scale
    np.testing.assert_allclose(floor, [1 / math.sqrt(12), 1e-3 * scale[1]])


def test_an_image_has_one_scale() -> None:
    """A pixel that is always 0 stays comparable to its neighbours."""
    x = np.zeros((50, 4, 4), np.uint8)
    x[:, 1:3, 1:3] = np.random.default_rng(0).integers(0, 256, (50, 2, 2))
    center, scale = moments(x, from_arrays("images", {"X": x}).inputs)
    np.testing.assert_allclose(center, x.mean())
    np.testing.assert_allclose(scale, x.std())


def test_values_too_close_to_standardise_are_named() -> None:
    """Their squares would be 0, and the column taken for a constant; a column that is one stays one."""
    x = np.random.default_rng(0).normal(size=(50, 2)) * [1.0, 1e-200]
    with pytest.raises(DataError, match="x1: its values differ by less than 1e-150"):
        moments(x, from_arrays("tiny", {"X": x}).inputs)
    x[:, 1] = 1e-200
    assert moments(x, from_arrays("constant", {"X": x}).inputs)[1][1] > 0
    x[:, 1] = np.linspace(-1, 1, 50) * 1e-100
    assert moments(x, from_arrays("small", {"X": x}).inputs)[1][1] == pytest.approx(5.9e-101, rel=0.01)


def test_values_too_large_to_standardise_are_named() -> None:
    """A standard deviation beyond the largest float64 is no scale."""
    x = rows(30)
    x[::2, 2], x[1::2, 2] = -1.5e308, 1.5e308
    with pytest.raises(DataError, match="x2: its values are too large"):
        fit(model(x), x, x, FitOptions(epochs=1))


@pytest.mark.parametrize(("warmup", "told"), [(8, True), (4, False), (3, False)])
def test_a_fit_that_ends_within_the_warm_up_says_so(warmup: int, told: bool) -> None:
    """Its loss never had all of the KL in it."""
    x, warnings = rows(60), list[str]()
    fit(model(x), x, x, FitOptions(epochs=4, warmup_epochs=warmup), warn=warnings.append)
    expected = (
        "a fit of 4 epochs ends within the KL warm-up of 8 epochs, at 50%: "
        "give it more --epochs or fewer --warmup-epochs"
    )
    assert warnings == [expected] * told


@pytest.mark.parametrize(("warmup", "told"), [(8, True), (1, False)])
def test_minutes_that_are_over_within_the_warm_up_are_told(warmup: int, told: bool) -> None:
    """How many epochs there are time for is not known before."""
    x, warnings = rows(60), list[str]()
    fit(model(x), x, x, FitOptions(epochs=1000, warmup_epochs=warmup, minutes=1e-9), warn=warnings.append)
    expected = (
        "the minutes were over after epoch 1, within the KL warm-up of 8 epochs, at 12%: "
        "give it more --minutes or fewer --warmup-epochs"
    )
    assert warnings == [expected] * told


def test_a_step_that_is_not_finite_is_skipped_and_its_cause_named() -> None:
    """Column, epoch and step; the log counts it, the weights stay finite, and the other steps are made."""
    x, warnings, records = rows(60), list[str](), list[Record]()
    calls = 0

    def draw(batch: NDArray[np.generic], generator: np.random.Generator) -> NDArray[np.generic]:
        """The second epoch's third batch holds a value that no file could."""
        nonlocal calls
        calls += 1
        found = batch.astype(np.float64)
        if calls == 3:  # after the adaptation and the first epoch
            found[25, 3] = np.nan
        return found

    vae = model(x)
    fit(vae, x, x, FitOptions(epochs=3, batch_size=10, warmup_epochs=3), draw, log=records.append, warn=warnings.append)
    cause = "step 3: the value of x3 is not finite"
    assert warnings == [f"epoch 2: 1 of 6 steps skipped: {cause}"]
    assert [record.get("skipped", 0) for record in records] == [0, 1, 0]
    assert records[1]["skipped_because"] == [cause]
    assert all(math.isfinite(record["train_elbo"]) for record in records)
    assert all(value.isfinite().all() for value in vae.state_dict().values())


def test_the_column_whose_likelihood_overflows_is_named() -> None:
    """A decoder that has run away in one column: its square is past float32's largest."""
    x, warnings = rows(60), list[str]()
    vae = model(x)

    def draw(batch: NDArray[np.generic], generator: np.random.Generator) -> NDArray[np.generic]:
        """Called once an epoch here."""
        with torch.no_grad():
            vae.theta.bias[2] = 1e30
        return batch

    with pytest.raises(
        FitError, match=r"epoch 2, step 5: 10 steps in a row .* the likelihood of x2 is not finite: low"
    ):
        fit(vae, x, x, FitOptions(epochs=9, batch_size=10, warmup_epochs=3), draw, warn=warnings.append)
    causes = [f"step {step}: the likelihood of x2 is not finite" for step in (1, 2, 3)]
    assert warnings == [f"epoch 1: 6 of 6 steps skipped: {'; '.join(causes)}"]


def test_the_bound_that_is_measured_is_of_as_many_draws_as_the_one_that_is_ascended() -> None:
    """Of few rows the ELBO is taken by eight draws; the bound of two of them is lower than that of all."""
    x = rows(300)
    vae = model(x)
    two, eight = (Validation(vae, x, 0, draws=draws)() for draws in (2, 8))
    assert two["validation_elbo"] == eight["validation_elbo"] < two["validation_bound"] < eight["validation_bound"]
