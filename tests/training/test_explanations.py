"""Explanations of a fitted model: the column in which something was planted stands first, whatever its kind."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from service.anomaly import Anomaly
from service.bundle import Bundle
from service.engine import Engine
from service.explanations import FeaturePart
from service.inputs import Column, Inputs
from service.scores import FEATURE_OUTPUTS
from tests.training.unexported import unexported
from training.data import CLAMP
from training.fit import FitOptions, fit
from training.models.mlp import VAE, VAEConfig

Floats = NDArray[np.float64]

MODES = ("idle", "half", "full")
COLUMNS = (
    Column(name="speed", unit="rpm"),
    Column(name="power", unit="kW"),
    Column(name="mode", kind="categorical", vocabulary=MODES),
    Column(name="inlet", unit="bar"),
    Column(name="outlet", unit="bar"),
    Column(name="hum", unit="dB"),
)
NAMES = tuple(column.name for column in COLUMNS)
INPUTS = Inputs(kind="table", shape=(len(COLUMNS),), dtype="float64", columns=COLUMNS, clamp=CLAMP)


def rows(count: int, seed: int) -> Floats:
    """Pumps: speed, power and mode follow one load; inlet and outlet another by themselves; hum nothing."""
    generator = np.random.default_rng(seed)
    load, level, hum = generator.standard_normal((3, count))
    noise = generator.standard_normal((4, count))
    columns = (
        1500 + 200 * (load + 0.1 * noise[0]),
        40 + 8 * (load + 0.1 * noise[1]),
        np.digitize(load, (-0.7, 0.7)),
        3 + 0.5 * (level + 0.1 * noise[2]),
        9 + 2 * (level + 0.1 * noise[3]),
        60 + 5 * hum,
    )
    return np.stack(columns, axis=1).astype(np.float64)


Model = tuple[Bundle, Engine]


@pytest.fixture(scope="module")
def pumps() -> Model:
    """Fitted until it knows how its columns hang together."""
    vae = VAE(INPUTS, VAEConfig(latent_dim=3, hidden=(32, 32), likelihood="gaussian"), seed=0)
    options = FitOptions(epochs=60, warmup_epochs=5, batch_size=64, learning_rate=5e-3, threads=1)
    fit(vae, rows(2000, 0), rows(200, 1), options)
    return unexported(vae, rows(400, 2), samples=(16,))


def explained(model: Model, x: Floats, kind: str = "nll") -> tuple[list[list[FeaturePart]], Floats, Floats]:
    """All columns of each row, the scores, and the latent parts of these, as the service has them."""
    bundle, engine = model
    anomaly = Anomaly(bundle)
    plan = anomaly.plan(kind=kind, samples=16, alpha=None, explain=len(COLUMNS), components=True)
    scored = anomaly.judge(plan, x, engine.run("scorer", {"x": x, "eps": bundle.eps[:16]}, plan.outputs))
    assert scored.explanations is not None
    assert scored.components is not None
    return scored.explanations, scored.scores, scored.components.latent


def share_first(model: Model, x: Floats, *names: str) -> float:
    """In how many rows one of *names* stands first."""
    found, _, _ = explained(model, x)
    return float(np.mean([parts[0].feature in names for parts in found]))


@pytest.mark.parametrize("name", ["speed", "power", "hum"])
def test_a_number_far_from_all_others_of_its_column_stands_first(pumps: Model, name: str) -> None:
    """Ten standard deviations off, where the other columns do not follow: with an interval that it is not in."""
    c = NAMES.index(name)
    x = rows(200, 4)
    x[:, c] += 10 * rows(1000, 5)[:, c].std()
    assert share_first(pumps, x, name) > 0.95
    for row, (first, *_) in zip(x, explained(pumps, x)[0], strict=True):
        if first.feature == name:
            assert first.observed == row[c]
            assert first.interval is not None
            assert first.interval[1] < first.observed
            assert first.p_value is not None
            assert first.p_value < 0.05


def test_a_level_that_contradicts_the_other_columns_stands_first(pumps: Model) -> None:
    """Idle at full load, full at none: no level is rare by itself. What was expected is the level that was there."""
    x = rows(400, 6)
    x = x[np.abs(x[:, 0] - 1500) > 250]  # idle or full beyond doubt
    true = x[:, 2].copy()
    x[:, 2] = 2 - true
    assert share_first(pumps, x, "mode") > 0.95
    found, _, _ = explained(pumps, x)
    expected = np.array([next(part.expected for part in parts if part.feature == "mode") for parts in found])
    assert (expected == true).mean() > 0.95
    assert all(part.interval is None for parts in found for part in parts if part.feature == "mode")


def test_of_a_pair_that_cannot_be_together_one_stands_first(pumps: Model) -> None:
    """Each value is usual by itself, and no third column says which of the two is wrong."""
    x = rows(400, 7)
    x = x[np.abs(x[:, 3] - 3) > 0.4]
    x[:, 4] = 9 - (x[:, 4] - 9)
    usual = rows(2000, 0)
    for c in (3, 4):
        assert (np.abs(x[:, c] - usual[:, c].mean()) < 4 * usual[:, c].std()).all()
    assert share_first(pumps, x, "inlet", "outlet") > 0.95
    assert share_first(pumps, rows(400, 8), "inlet", "outlet") < 0.6


@pytest.mark.parametrize("kind", FEATURE_OUTPUTS)
def test_the_parts_of_a_fitted_table_and_the_latent_part_sum_to_the_score(pumps: Model, kind: str) -> None:
    """Completeness with columns of several kinds, for usual rows and for planted ones."""
    x = np.concatenate([rows(50, 9), rows(50, 10)])
    x[50:, 0] += 2000
    found, scores, latent = explained(pumps, x, kind)
    parts = np.array([sum(part.nats for part in row) for row in found]) + latent
    np.testing.assert_allclose(parts, scores, rtol=1e-4, atol=1e-4 * len(COLUMNS) ** 0.5)
