"""The comparison of likelihoods on images: densities as codes, digits that no fit saw, runs that go on."""

from __future__ import annotations

import gzip
import json
import math
import struct
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from benchmarks.likelihoods import page
from benchmarks.likelihoods.__main__ import main
from benchmarks.likelihoods.kinds import BERNOULLI, GAUSSIAN, Kind
from benchmarks.likelihoods.measure import as_code, family, left_out
from benchmarks.likelihoods.page import Fitted
from service.calibrated import ScoreKind
from training import checkpoint
from training.data import load

SIDE = 6


def images(rows: int, seed: int, bright: bool) -> NDArray[np.uint8]:
    """Noise of low or of high levels."""
    low, high = (150, 256) if bright else (0, 100)
    return np.random.default_rng(seed).integers(low, high, (rows, SIDE, SIDE), dtype=np.uint8)


def write_set(folder: Path, x: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    """A set as MNIST's four files: the last 100 rows are its test images."""
    folder.mkdir(parents=True)
    for part, rows in (("train", slice(0, -100)), ("t10k", slice(-100, None))):
        for array, name in ((x[rows], "images-idx3"), (labels[rows], "labels-idx1")):
            header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            (folder / f"{part}-{name}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two tiny sets, dark and bright; the last of the three classes of the dark one is bright."""
    labels = (np.arange(700) % 3).astype(np.uint8)
    dark = np.where((labels == 2)[:, None, None], images(700, 0, bright=True), images(700, 1, bright=False))
    write_set(tmp_path / "mnist", dark, labels)
    write_set(tmp_path / "fashion_mnist", images(700, 2, bright=True), labels)
    return tmp_path


def test_a_spread_level_of_a_normal_codes_it_with_no_more_than_its_probability() -> None:
    """Jensen's inequality: what is printed as bits a pixel is never better than the code that the model stands for."""
    spread, shift = as_code("gaussian", np.full((20000, 1, 1), 7, np.uint8))
    normal = stats.norm(7.4, 0.6)
    code, level = normal.logpdf(spread).mean() + shift, math.log(normal.cdf(7.5) - normal.cdf(6.5))
    assert level - 0.2 < code < level


def test_the_levels_of_an_interval_share_it() -> None:
    """A uniform density from 0 to 255 gives each of 256 levels a probability of 1/256; no value leaves the range."""
    x = np.array([0, 255], np.uint8).reshape(2, 1, 1)
    spread, shift = as_code("continuous-bernoulli", x)
    assert 0 <= spread[0, 0, 0] < 1
    assert 254 < spread[1, 0, 0] <= 255
    assert math.log(1 / 255) + shift == pytest.approx(math.log(1 / 256))


def test_binary_images_have_no_bits_among_those_of_grey_levels(data: Path, tmp_path: Path) -> None:
    """A Bernoulli's log p(x) is of other images: it has no place beside the codes of 256 levels."""
    dark, bright = load(str(data / "mnist")), load(str(data / "fashion_mnist"))
    kind = BERNOULLI._replace(latent_dim=2)
    figures = family(kind, dark, bright, tmp_path / "a.npz", epochs=1, draws=4, images=50)
    assert figures["log_px"]["mean"] >= figures["elbo"]["mean"]
    row = page.bounds([Fitted(kind, "dark", "bright", SIDE**2, figures)], 4).splitlines()[-1]
    assert row.endswith(f"|  | {figures['active_units']} of 2 |")


def test_a_digit_that_is_left_out_is_not_learned(data: Path, tmp_path: Path) -> None:
    """A third of the images are of the bright class: none of them is dealt out, and all are found anomalous."""
    kind, file = GAUSSIAN._replace(latent_dim=2), tmp_path / "a.npz"
    found = left_out(kind, load(str(data / "mnist")), 2, file, epochs=1)
    rows = checkpoint.load(file).data.rows
    assert rows["train"] + rows["validation"] + rows["calibration"] == 400
    assert found["auroc"]["nll"] > 0.99


def test_a_run_that_was_ended_goes_on_with_what_is_there(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Figures are taken from their files; where only the checkpoint is there, nothing is fitted again."""
    kind: Kind = GAUSSIAN._replace(latent_dim=2)
    output = tmp_path / "output"
    output.mkdir()
    dark, bright = (output / f"{name}-{kind.slug}-1.json" for name in ("mnist", "fashion_mnist"))
    bound = {"mean": -123.0, "standard_error": 1.0}
    kept = {**dict.fromkeys(("elbo", "log_px", "code"), bound), "active_units": 99}
    bright.write_text(json.dumps({**kept, "auroc": dict.fromkeys(get_args(ScoreKind), 0.5)}))
    arguments = ["--data", str(data), "--output", str(output), "--epochs", "1", "--draws", "4", "--only"]
    assert main([*arguments, "families"], (kind,), ()) == 0
    first = capsys.readouterr().out
    assert "| 99 of 2 |\n\n" in first
    fitted, figures = dark.with_suffix(".npz"), dark.read_text()
    assert json.loads(figures)["log_px"]["mean"] > -1e6
    before = fitted.stat().st_mtime_ns
    dark.unlink()
    assert main([*arguments, "families"], (kind,), ()) == 0
    assert capsys.readouterr().out == first
    assert dark.read_text() == figures
    assert fitted.stat().st_mtime_ns == before
    assert not bright.with_suffix(".npz").exists()
    dark.unlink()
    assert main([*arguments, "nothing"], (kind,), ()) == 0
    only = capsys.readouterr().out
    assert "| MNIST | density" not in only
    assert "| Fashion-MNIST | density" in only


def test_without_the_images_nothing_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The benchmark says what it lacks, and is no failure."""
    assert main(["--data", str(tmp_path), "--output", str(tmp_path / "output")]) == 0
    assert "mnist is not there" in capsys.readouterr().out
    assert not (tmp_path / "output").exists()
