"""
Every family fitted, and one the whole way: exported, held against PyTorch, calibrated, scored in the service's engine.

What a family exports is in test_likelihoods_exported.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.bundle import open_bundle
from service.engine import Engine
from tests.training.small import table
from tests.training.unexported import fit_alone, unexported
from training import checkpoint
from training.__main__ import main
from training.scorer import scores_of

QUICK = ("--epochs", "3", "--hidden", "8", "--latent-dim", "2", "--draws", "8", "--threads", "1")
FAMILIES: dict[str, tuple[tuple[str, ...], tuple[str, float | None, float | None]]] = {
    "continuous-bernoulli": ((), ("interval", 0, 16)),
    "discretised-logistic": (("--sigma", "row"), ("interval", 0, 16)),
    "student-t": ((), ("real", None, None)),
    "gaussian": (("--sigma", "fixed", "--sigma-value", "0.5"), ("real", None, None)),
}
ENDS = np.random.default_rng(0).choice([0.0, 16.0], (20, 8, 8))


@pytest.mark.parametrize("family", FAMILIES)
def test_pixels_are_fitted_with_the_family_that_is_asked_for(family: str, tmp_path: Path) -> None:
    """It names what it is, and rows at both ends of its support have a score."""
    more, support = FAMILIES[family]
    fit_alone("--data", "sklearn:digits", "--output", str(tmp_path / "m"), "--likelihood", family, *more, *QUICK)
    bundle, engine = unexported(checkpoint.load(tmp_path / "m" / "checkpoint-1.npz").vae)
    (entry,) = bundle.manifest.likelihood
    assert entry.family == family
    assert (entry.support, entry.low, entry.high) == support
    assert np.isfinite(scores_of(bundle, engine, ENDS)["nll"]).all()


def test_pixels_go_the_whole_way_to_the_engine_of_the_service(tmp_path: Path) -> None:
    """The bundle names the family, and rows at both ends of its support have a score there."""
    words = ("--likelihood", "continuous-bernoulli", *QUICK, "--quiet")
    assert main(["fit", "--data", "sklearn:digits", "--output", str(tmp_path / "digits"), *words]) == 0
    bundle = open_bundle(tmp_path / "digits")
    (entry,) = bundle.manifest.likelihood
    assert (entry.family, entry.support, entry.low, entry.high) == ("continuous-bernoulli", "interval", 0, 16)
    assert np.isfinite(scores_of(bundle, Engine.open(bundle, threads=1), ENDS)["nll"]).all()


def test_what_a_family_is_not_defined_for_is_refused_before_the_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line, and nothing is written."""
    data, model = tmp_path / "rows.csv", tmp_path / "pumps"
    np.savetxt(data, table(50), delimiter=",", header="time,current,count,constant,product", comments="")
    for family, message in (
        ("continuous-bernoulli", "needs values from 0 to 1; column 'time' has 1700000"),
        ("discretised-logistic", "is for images: numeric columns have no ends"),
    ):
        assert main(["fit", "--data", str(data), "--output", str(model), "--likelihood", family, *QUICK]) == 2
        assert message in capsys.readouterr().err
    levels = ("--likelihood", "discretised-logistic", "--levels", "4")
    assert main(["fit", "--data", "sklearn:digits", "--output", str(model), *levels, *QUICK]) == 2
    assert "needs multiples of 5.33333 from 0 to 16; feature" in capsys.readouterr().err
    assert not model.exists()
