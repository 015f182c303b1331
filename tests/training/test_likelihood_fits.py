"""Every family the whole way: fitted, exported, held against PyTorch, calibrated, scored in the service's engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.bundle import open_bundle
from service.engine import Engine
from tests.training.small import table
from training.__main__ import main
from training.scorer import scores_of

QUICK = ("--epochs", "3", "--hidden", "8", "--latent-dim", "2", "--draws", "8", "--threads", "1", "--quiet")


@pytest.mark.parametrize(
    ("options", "support"),
    [
        (("--likelihood", "continuous-bernoulli"), ("interval", 0, 16)),
        (("--likelihood", "discretised-logistic", "--sigma", "row"), ("interval", 0, 16)),
        (("--likelihood", "student-t"), ("real", None, None)),
        (("--likelihood", "gaussian", "--sigma", "fixed", "--sigma-value", "0.5"), ("real", None, None)),
    ],
    ids=["continuous-bernoulli", "discretised-logistic", "student-t", "fixed"],
)
def test_pixels_are_fitted_with_the_family_that_is_asked_for(
    options: tuple[str, ...], support: tuple[str, float | None, float | None], tmp_path: Path
) -> None:
    """The bundle names it, and rows at both ends of its support have a score."""
    assert main(["fit", "--data", "sklearn:digits", "--output", str(tmp_path / "digits"), *options, *QUICK]) == 0
    bundle = open_bundle(tmp_path / "digits")
    (entry,) = bundle.manifest.likelihood
    assert entry.family == options[1]
    assert (entry.support, entry.low, entry.high) == support
    digits = np.random.default_rng(0).choice([0.0, 16.0], (20, 8, 8))
    assert np.isfinite(scores_of(bundle, Engine.open(bundle, threads=1), digits)["nll"]).all()


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
