"""What a fit takes where nobody says: one configuration for all tables, lengths in steps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.bundle import open_bundle
from service.inputs import Column, Inputs, Windows
from tests.training.commanded import PLAIN, ByCommand
from tests.training.small import table
from tests.training.unexported import fit_alone
from training import checkpoint
from training.__main__ import main
from training.data import image_inputs, table_inputs
from training.defaults import default_config, default_latent_dim, default_options


@pytest.mark.parametrize("rows", [60, 1000, 5000, 40_000, 1_000_000])
def test_a_fit_is_about_as_many_steps_whatever_the_rows(rows: int) -> None:
    """3,000 of them, but for tables so large that an epoch is much of that."""
    options = default_options(table_inputs(["speed"]), rows)
    steps = math.ceil(rows / options.batch_size)
    assert options.epochs == 20 or 3000 <= options.epochs * steps < 3000 + steps
    assert options.warmup_epochs * steps == pytest.approx(300)
    assert options.patience == 10 or 800 <= options.patience * steps < 800 + steps


def test_tables_have_a_mixture_and_heavy_tails_and_images_have_neither() -> None:
    """By what a row is, and by nothing else."""
    table = default_config(table_inputs(["speed", "flow", "pressure"]))
    assert (table.prior, table.likelihood, table.sigma_floor, table.latent_dim) == ("mixture", "student-t", 0.1, 3)
    image: Inputs = image_inputs("x", np.zeros((5, 28, 28), np.uint8))
    assert (default_config(image).prior, default_config(image).likelihood) == ("standard-normal", "gaussian")


def test_windows_of_a_series_have_a_lower_floor() -> None:
    """A reading is known from its neighbours better than a column from the others."""
    cut = Windows(length=2, stride=1, differences=False, sensors=(Column(name="flow"),))
    one = Inputs(kind="table", shape=(2,), dtype="float64", columns=cut.columns, clamp=1e3, windows=cut)
    assert default_config(one).sigma_floor == 0.01


@pytest.mark.parametrize(
    ("rows", "more", "several"),
    [
        (1170, (), True),
        (1180, (), False),
        (990, ("--test", "0"), True),
        (1170, ("--folds", "1"), False),
        (1170, ("--calibration", "0.2"), False),
        (1170, ("--start", "c.npz"), False),
        (1170, ("--groups", "x0"), False),
    ],
)
def test_a_table_of_few_rows_gets_an_ensemble_unless_something_else_is_asked_for(
    rows: int, more: tuple[str, ...], several: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of fewer than 1,000 rows beside those of the test; it is told before the fit, which is refused here."""
    np.savez(tmp_path / "rows.npz", X=table(rows))
    given = ("fit", "--data", str(tmp_path / "rows.npz"), "--output", str(tmp_path / "m"), "--likelihood", "bernoulli")
    assert main([*given, *more]) == 2
    told = "are fewer than 1,000: an ensemble of 5 models, without thresholds (--folds 1: one model, with them)"
    assert (told in capsys.readouterr().out) == several


@pytest.mark.parametrize(("features", "latents"), [(1, 1), (2, 2), (9, 6), (100, 20), (784, 56), (5000, 64)])
def test_there_are_latents_as_the_root_of_the_features(features: int, latents: int) -> None:
    """Twice that, between 2 and 64, and never more than the features."""
    assert default_latent_dim(features) == latents


QUICK = ("--epochs", "2", "--hidden", "8", "--latent-dim", "2", "--draws", "8", "--threads", "1")


def test_a_table_is_fitted_by_the_defaults(tmp_path: Path) -> None:
    """The manifest says what was taken."""
    np.savez(tmp_path / "rows.npz", X=table(120))
    given = ("fit", "--data", str(tmp_path / "rows.npz"), "--output", str(tmp_path / "pumps"), *QUICK, "--folds", "1")
    assert main([*given, "--quiet"]) == 0
    first = open_bundle(tmp_path / "pumps").manifest
    assert (first.latent.prior, first.capabilities.kl) == ("graph", "monte-carlo")
    assert {part.family for part in first.likelihood} == {"student-t"}


def test_a_table_is_fitted_by_what_is_asked_for(by_command: ByCommand, tmp_path: Path) -> None:
    """The manifest says what was taken; and so does the checkpoint, which it has its configuration from."""
    asked = open_bundle(by_command.model).manifest
    assert (asked.latent.prior, asked.capabilities.kl) == ("standard-normal", "analytic")
    assert {part.family for part in asked.likelihood} == {"gaussian"}
    more = ("--sigma-floor", "0.01", "--importance-samples", "3")
    fit_alone("--data", str(by_command.data), "--output", str(tmp_path / "m"), *PLAIN, *QUICK, *more)
    found = checkpoint.load(tmp_path / "m" / "checkpoint-1.npz")
    assert (found.config.prior, found.config.likelihood) == ("standard-normal", "gaussian")
    assert found.config.sigma_floor == 0.01
    taken: Any = found.training
    assert taken["model"]["sigma_floor"] == 0.01
    assert taken["options"]["importance_samples"] == 3


@pytest.mark.parametrize("floor", ["0", "0.0001", "1.5", "nan"])
def test_a_floor_that_is_none_is_refused_with_its_limits(floor: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Argparse names the option, the value and what it may be."""
    with pytest.raises(SystemExit):
        main(["fit", "--data", "x.npz", "--output", "m", "--sigma-floor", floor])
    assert f"--sigma-floor: {floor} is not between 0.001 and 1" in capsys.readouterr().err
