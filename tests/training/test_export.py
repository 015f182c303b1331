"""The exported graphs are the model: same numbers, same densities, finite for every finite input."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from service import onnx_file
from service.bundle import open_bundle
from service.engine import Engine, deviation
from service.manifest import Data, GraphName
from service.scores import score
from tests.bundles import IMAGE, image_rows, untrained
from tests.training.small import Fitted
from training.assemble import HeldOut, build_bundle
from training.data import from_arrays
from training.errors import ParityError
from training.export import export_graphs
from training.graphs import specs
from training.likelihoods.gaussian import Gaussian
from training.models.mlp import VAE, VAEConfig
from training.noise import noise_table
from training.output import write
from training.parity import check_parity

NOTHING = np.zeros((0, 5))


def test_graphs_are_plain_onnx_without_traces_of_this_machine(fitted: Fitted) -> None:
    """Standard operators, weights inside, no path in the file."""
    for model in fitted.graphs.values():
        assert onnx_file.refusal(model) is None
        assert str(Path(__file__).parents[2]).encode() not in model
        assert b".py" not in model


def test_onnxruntime_agrees_with_pytorch(fitted: Fitted) -> None:
    """On random and extreme inputs, in batches of 1 to 64, with 1 to 16 draws."""
    check_parity(fitted.vae, fitted.graphs)


def test_what_float32_does_not_settle_is_no_fault_of_the_graphs() -> None:
    """
    A residual that cancels, 100 - 100 give or take a rounding, over a sigma of 0.001: two right engines differ.

    Rows of five equal values pass through this linear VAE unchanged, so that their likelihood is little but rounding.
    """
    inputs = from_arrays("table", {"X": np.zeros((1, 5))}).inputs
    vae = VAE(inputs, VAEConfig(latent_dim=1, hidden=(), likelihood="gaussian"), seed=0)
    with torch.no_grad():
        vae.mu.weight.copy_(torch.tensor([[0.13, 0.37, 0.11, 0.22, 0.17]]))
        vae.logvar.weight.zero_()
        vae.logvar.bias.fill_(-30.0)
        vae.theta.weight.fill_(1.0)
        assert isinstance(vae.likelihood, Gaussian)
        vae.likelihood.raw_log_sigma.fill_(-20.0)
    check_parity(vae, export_graphs(vae))


def test_every_finite_input_has_finite_answers(fitted: Fitted, engine: Engine) -> None:
    """Up to the largest float64, in one column or in all, of either sign."""
    big = np.finfo(np.float64).max
    rows = [np.full(5, sign * size) for sign in (1, -1) for size in (1e300, big, 1e-300, 0.0)]
    rows += [fitted.test[0] * 0 + np.eye(5)[c] * big for c in range(5)]
    x = np.array(rows)
    answers = engine.run("scorer", {"x": x, "eps": fitted.bundle.eps[:16]}) | engine.run("encoder", {"x": x})
    for name, value in answers.items():
        assert np.isfinite(value).all(), name


def test_the_explanation_adds_up_to_the_score(fitted: Fitted, engine: Engine) -> None:
    """Sum of the features and the latent term is the score: for ordinary rows and for absurd ones, for any K."""
    x = np.concatenate([fitted.test, fitted.test * 3, np.full((1, 5), 1e9)])
    for draws in (1, 2, 64):
        got = engine.run("scorer", {"x": x, "eps": fitted.bundle.eps[:draws]})
        nll = got["feature_nll_iw"].astype(np.float64).sum(axis=1) + got["latent_term"]
        np.testing.assert_allclose(nll, score("nll", got), rtol=1e-5, atol=1e-3)
        mean = got["feature_nll_mean"].astype(np.float64).sum(axis=1)
        np.testing.assert_allclose(mean, score("reconstruction", got), rtol=1e-5, atol=1e-3)


def test_a_row_scores_the_same_in_any_company(fitted: Fitted, engine: Engine) -> None:
    """Alone or among others, within the tolerance."""
    eps = fitted.bundle.eps[:16]
    together = engine.run("scorer", {"x": fitted.test, "eps": eps})
    for i in (0, 7, 149):
        alone = engine.run("scorer", {"x": fitted.test[i : i + 1], "eps": eps})
        for name, value in alone.items():
            assert deviation(value[0], together[name][i], 5) <= 1, name


def test_expected_values_are_in_original_units(fitted: Fitted, engine: Engine) -> None:
    """An epoch time is expected to the second range of the data, a constant column at its constant."""
    answers = engine.run("scorer", {"x": fitted.test, "eps": fitted.bundle.eps[:16]})
    got = {name: value.astype(np.float64) for name, value in answers.items()}
    covered = ((fitted.test > got["lower"]) & (fitted.test < got["upper"])).mean(axis=0)
    assert (covered > 0.85).all()
    np.testing.assert_allclose(got["expected"][:, 3], 7.0)
    np.testing.assert_allclose(got["expected"][:, 0], 1.7e9, atol=5 * 3600, rtol=0)


def one_feature(likelihood: str, x: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[VAE, Engine]:
    """A model of one feature whose z does not depend on x, so that p(x|z) can be summed over x."""
    inputs = from_arrays("one", {"X": x}).inputs
    if likelihood == "bernoulli":
        config = VAEConfig(1, (4,), "bernoulli", standardise=False)
        vae = VAE(inputs.model_copy(update={"clamp": 1.0}), config, seed=2)
    else:
        vae = VAE(inputs, VAEConfig(1, (4,), "gaussian"), seed=2)
    vae.adapt(x)
    with torch.no_grad():
        for head in (vae.mu, vae.logvar):
            head.weight.zero_()
        vae.theta.weight.mul_(5)
    graphs = export_graphs(vae)
    return vae, Engine({"scorer": graphs["scorer"]}, threads=1)


def test_the_exported_gaussian_integrates_to_one() -> None:
    """Quadrature of exp(log_px_z) over raw values, for each of eight draws, in onnxruntime: 1 to 1e-3."""
    x = 3000 + 250 * np.random.default_rng(0).standard_normal((100, 1))
    _, engine = one_feature("gaussian", x)
    grid = np.linspace(3000 - 99 * 250, 3000 + 99 * 250, 40_001)[:, None]
    got = engine.run("scorer", {"x": grid, "eps": noise_table(1, 0)[:8]}, ["log_px_z"])["log_px_z"]
    total = np.trapezoid(np.exp(got.astype(np.float64)), grid, axis=0)
    np.testing.assert_allclose(total, 1, atol=1e-3)


def test_the_exported_bernoulli_sums_to_one() -> None:
    """p(0) + p(1) = 1 for each draw, in onnxruntime, also where the logit is extreme."""
    x = (np.arange(100.0) % 10 == 0).astype(np.float64)[:, None]
    _, engine = one_feature("bernoulli", x)
    eps = np.linspace(-300, 300, 41, dtype=np.float32)[:, None]
    got = engine.run("scorer", {"x": np.array([[0.0], [1.0]]), "eps": eps}, ["log_px_z"])["log_px_z"].astype(np.float64)
    np.testing.assert_allclose(np.exp(got).sum(axis=0), 1, atol=1e-6)
    assert np.isfinite(got).all()
    assert (got <= 0).all()
    assert got.min() < -100


def test_a_graph_of_another_model_is_refused_and_nothing_is_written(
    fitted: Fitted, gappy: Fitted, tmp_path: Path
) -> None:
    """The error names the graph, the output, the input and the difference."""

    def wrong(vae: VAE) -> Mapping[GraphName, bytes]:
        return {**fitted.graphs, "decoder": gappy.graphs["decoder"]}

    data = Data(hash="0" * 64, rows={})
    with pytest.raises(ParityError, match=r"decoder.onnx: mean for 1 random rows differs from PyTorch by \d"):
        write(tmp_path / "m", build_bundle(fitted.vae, "m", 1, data, {}, HeldOut(NOTHING, NOTHING), export=wrong))
    assert not (tmp_path / "m").exists()


def test_an_image_bundle_opens_and_proves_itself(image_bundle: Path, tmp_path: Path) -> None:
    """Bernoulli pixels, without data: every operation but anomaly-score; the engine replays the golden vectors."""
    vae = untrained(IMAGE, "bernoulli", image_rows(100))
    nothing, data = np.zeros((0, *IMAGE.shape), np.float32), Data(hash="0" * 64, rows={})
    exported = open_bundle(image_bundle).graphs  # of the same model: parity says so

    def there(vae: VAE) -> Mapping[GraphName, bytes]:
        return {name: exported[name] for name in specs(vae)}

    bundle = build_bundle(vae, "dots", 1, data, {}, HeldOut(nothing, nothing), threads=1, export=there)
    assert "anomaly-score" not in bundle.manifest.capabilities.operations
    write(tmp_path / "dots", bundle)
    decoded = Engine.open(bundle, threads=1).run("decoder", {"z": np.zeros((5, 4), np.float32)})
    assert decoded["mean"].shape == (5, 2, 3)
    assert specs(vae) == bundle.manifest.graphs


def test_the_draws_are_normal_finite_and_fixed() -> None:
    """eps.npy: mean 0 and variance 1 to a few percent, the same for the same seed."""
    eps = noise_table(20, 7)
    np.testing.assert_array_equal(eps, noise_table(20, 7))
    assert (eps != noise_table(20, 8)).any()
    assert eps.shape == (64, 20)
    assert eps.dtype == np.float32
    assert np.isfinite(eps).all()
    np.testing.assert_allclose(eps.mean(axis=0), 0, atol=0.06)
    np.testing.assert_allclose(eps.var(axis=0), 1, atol=0.15)
