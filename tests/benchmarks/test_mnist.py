"""MNIST by Burda's protocol: the bound against quadrature, runs that go on, and the page."""

from __future__ import annotations

import gzip
import itertools
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp
from torch.nn import functional

from benchmarks.mnist import bound
from benchmarks.mnist.__main__ import main
from benchmarks.mnist.images import test_images as images_of
from benchmarks.mnist.images import to_fit
from benchmarks.mnist.runs import EPOCHS, RUNS, stages
from training import checkpoint
from training.data import from_arrays
from training.models.mlp import VAE, VAEConfig
from training.schedule import rung
from training.validation import Validation

PIXELS = 6


def patterns() -> NDArray[np.uint8]:
    """Every binary image of 2 x 3 pixels: (64, 2, 3)."""
    return np.array(list(itertools.product((0, 1), repeat=PIXELS)), np.uint8).reshape(-1, 2, 3)


@pytest.fixture(scope="module")
def vae() -> VAE:
    """A model of two latents, not fitted, whose q(z|x) is wider than the prior, so that weights are bounded."""
    config = VAEConfig(2, (8,), "bernoulli", activation="tanh", standardise=False)
    model = VAE(from_arrays("images", {"X": patterns()}).inputs, config, seed=1)
    with torch.no_grad():
        model.theta.weight *= 2
        model.mu.weight *= 0.3
        model.logvar.weight *= 0.1
        model.logvar.bias.add_(0.7)
    return model


def log_px(vae: VAE, x: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Log of the integral of p(x|z) N(z; 0, I) over a fine grid of z, which ends where the density does: (n,)."""
    axis = torch.linspace(-8, 8, 321, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    log_prior = -0.5 * z.square().sum(dim=1) - np.log(2 * np.pi) + 2 * np.log(float(axis[1] - axis[0]))
    v = torch.from_numpy(x.reshape(len(x), -1)).double()
    with torch.no_grad():
        theta = vae.decode(z.float()).double()
        log_px_z = v @ theta.T - functional.softplus(theta).sum(dim=1)
    found: NDArray[np.float64] = (log_px_z + log_prior).logsumexp(dim=1).numpy()
    return found


def test_the_bound_of_many_draws_is_log_p_by_quadrature(vae: VAE) -> None:
    """
    Of every image there is, with 20,000 draws each in 20 pieces; and their p(x) add to one.

    The weights of an image have a relative spread of about one, so that its L_K is off by about 1 / sqrt(K) = 0.007.
    """
    x = patterns()
    exact, found = log_px(vae, x), bound.bounds(vae, x, 20000, 0, 2)
    assert np.exp(exact).sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(found.log_px, exact, atol=0.04, rtol=0)
    assert float((found.log_px - exact).mean()) == pytest.approx(0, abs=3e-3)
    assert np.exp(found.log_px).sum() == pytest.approx(1, abs=3e-3)


def test_few_draws_bound_log_p_from_below_by_their_number(vae: VAE) -> None:
    """ELBO < L_5 < L_50 < log p(x) on average (Burda et al. 2016, theorem 1), and L_1's mean is the ELBO."""
    x = np.repeat(patterns(), 12, axis=0)
    one, five, fifty = (bound.bounds(vae, x, draws, 1, 2) for draws in (1, 5, 50))
    means = [one.log_px.mean(), five.log_px.mean(), fifty.log_px.mean(), log_px(vae, x).mean()]
    assert means == sorted(means)
    elbo = Validation(vae, x, 0)()["validation_elbo"]
    for found in (one, five, fifty):
        assert found.elbo.mean() == pytest.approx(elbo, abs=0.15)
    assert means[0] == pytest.approx(fifty.elbo.mean(), abs=0.15)


def test_an_image_has_its_figures_alone_and_among_others_with_any_threads(vae: VAE) -> None:
    """Draws are those of the seed and the row; 1,200 draws are 1,000 and 200."""
    x = patterns()
    whole, few = bound.bounds(vae, x, 1200, 3, 2), bound.bounds(vae, x[:5], 1200, 3, 1)
    np.testing.assert_allclose(few.log_px, whole.log_px[:5], rtol=1e-6)
    np.testing.assert_allclose(few.elbo, whole.elbo[:5], rtol=1e-6)
    other = bound.bounds(vae, x[:5], 1200, 4, 1)
    assert not np.allclose(other.log_px, few.log_px, rtol=1e-6)


def test_a_running_mean_in_the_log_is_that_of_all_at_once() -> None:
    """Wherever the greatest is, and where exp would overflow or vanish."""
    generator = torch.Generator().manual_seed(0)
    w = 3 * torch.randn(1000, generator=generator, dtype=torch.float64)
    for shift in (0.0, -900.0, 900.0):
        for order in (w, w.sort().values, w.sort(descending=True).values):
            mean = bound.LogMean()
            for piece in torch.split(order + shift, 70):
                mean.add(piece)
            assert mean.value() == pytest.approx(logsumexp(w.numpy()) - np.log(1000) + shift, abs=1e-10)


def test_products_of_factors_are_the_sum_of_softplus() -> None:
    """784 pixels, logits from 0 to far beyond where exp overflows: against float64, to the roundings of float32."""
    generator = torch.Generator().manual_seed(0)
    for spread in (0.0, 1.0, 30.0, 1000.0):
        theta = spread * torch.randn(20, 784, generator=generator)
        v = (torch.rand(784, generator=generator) < 0.3).float()
        exact = (v.double() * theta.double() - functional.softplus(theta.double())).sum(dim=1)
        torch.testing.assert_close(bound.log_bernoulli(theta.clone(), v).double(), exact, rtol=2e-6, atol=1e-3)


def test_the_stages_of_a_run_share_its_minutes_and_the_whole_one_has_none(tmp_path: Path) -> None:
    """Each goes on from the one before, the last has the objective of the run; the whole ladder is eight rungs."""
    for run in RUNS:
        timed = [stage.options for stage in stages(run, 8, tmp_path)]
        assert sum(float(words[words.index("--minutes") + 1]) for words in timed) == pytest.approx(8)
        (full,) = (stage.options for stage in stages(run, None, tmp_path))
        assert "--minutes" not in full
        draws = [words[words.index("--importance-samples") + 1] for words in (timed[-1], full)]
        assert draws == (["50", "50"] if run.objective == "iwae" else ["1", "1"])
        starts = [words[words.index("--start") + 1] for words in timed[1:]]
        assert starts == [str(stage.checkpoint(tmp_path)) for stage in stages(run, 8, tmp_path)[:-1]]
        assert "--start" not in (*timed[0], *full)
    assert (rung(EPOCHS - 1), rung(EPOCHS)) == (7, 8)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MNIST's files and the static images, of 100 training and 40 test images of noise."""
    folder, generator = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    (folder / "mnist").mkdir()
    for part, rows in (("train", 100), ("t10k", 40)):
        for name, shape in (("images-idx3", (rows, 28, 28)), ("labels-idx1", (rows,))):
            array = generator.integers(0, 10 if name == "labels-idx1" else 256, shape, dtype=np.uint8)
            header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            (folder / "mnist" / f"{part}-{name}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))
    (folder / "binarized_mnist").mkdir()
    parts = {
        name: generator.integers(0, 2, (rows, 784), dtype=np.uint8)
        for name, rows in (("train", 80), ("valid", 20), ("test", 40))
    }
    train, valid, test = parts.values()
    np.savez(folder / "binarized_mnist" / "binarized_mnist.npz", train=train, valid=valid, test=test)
    return folder


def test_static_images_are_those_of_the_file_and_dynamic_ones_are_drawn_once(data: Path, tmp_path: Path) -> None:
    """Training and validation images together are fitted to; fewer test images are some of all."""
    with np.load(data / "binarized_mnist" / "binarized_mnist.npz") as there:
        both = np.concatenate([there["train"], there["valid"]]).reshape(-1, 28, 28)
        test = there["test"].reshape(-1, 28, 28)
    with np.load(to_fit(data, "static", tmp_path)) as made:
        np.testing.assert_array_equal(made["X"], both)
    np.testing.assert_array_equal(images_of(data, "static", 40, 0), test)
    dynamic = images_of(data, "dynamic", 40, 0)
    assert set(np.unique(dynamic)) == {0, 1}
    np.testing.assert_array_equal(dynamic, images_of(data, "dynamic", 40, 0))
    assert not np.array_equal(dynamic, images_of(data, "dynamic", 40, 1))
    few = images_of(data, "dynamic", 7, 0)
    assert len(few) == 7
    assert all((dynamic == image).all(axis=(1, 2)).any() for image in few)


def test_one_command_fits_measures_and_goes_on(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    An IWAE in its two stages; what is there is not made again, and the page has a row for every run.

    Without its figures a run whose fits are over is measured again, and to the same figures.
    """
    output, page = tmp_path / "output", tmp_path / "page.md"
    words = ["--data", str(data), "--output", str(output), "--page", str(page), "--threads", "1", "--minutes", "0.004"]
    words += ["--draws", "20", "--test-images", "30", "--only", "iwae-static"]
    assert main(words) == 0
    figures: dict[str, Any] = json.loads((output / "iwae-static.json").read_text())
    assert (figures["images"], figures["draws"], len(figures["fits"])) == (30, 20, 2)
    assert figures["log_px"]["mean"] > figures["elbo"]["mean"]
    assert figures["log_px"]["standard_error"] > 0
    training: Any = checkpoint.load(output / "iwae-static.npz").training
    assert training["options"]["importance_samples"] == 50
    text = page.read_text()
    assert text.count("not run yet") == 3
    assert f"{figures['log_px']['mean']:.2f} +- {figures['log_px']['standard_error']:.2f}" in text
    assert "--start" in text

    fitted = (output / "iwae-static.npz").stat().st_mtime_ns
    (output / "iwae-static.json").unlink()
    assert main(words) == 0
    again = json.loads((output / "iwae-static.json").read_text())
    assert {key: again[key] for key in ("log_px", "elbo", "fits")} == {
        key: figures[key] for key in ("log_px", "elbo", "fits")
    }
    assert (output / "iwae-static.npz").stat().st_mtime_ns == fitted
    capsys.readouterr()
    assert main(words) == 0
    assert "not measured again" in capsys.readouterr().out


def test_without_the_images_nothing_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The benchmark says what it lacks, and is no failure."""
    assert main(["--data", str(tmp_path), "--output", str(tmp_path / "output")]) == 0
    assert "is not there: nothing is measured" in capsys.readouterr().out
    assert not (tmp_path / "output").exists()
