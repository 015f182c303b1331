"""A table of mixed columns with missing values, the whole way: fit, export, parity, calibration, evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.bundle import Bundle, open_bundle
from service.engine import Engine
from service.inputs import Column, Inputs
from service.manifest import Data
from training.assemble import HeldOut, build_bundle
from training.data import CLAMP
from training.fit import FitOptions, fit
from training.models.mlp import VAE, VAEConfig
from training.output import write
from training.ranking import auroc
from training.recalibrate import recalibrate
from training.scorer import scores_of

Floats = NDArray[np.float64]

SITES = 40
COLUMNS = (
    Column(name="speed", unit="rpm", missing=True),
    Column(name="mode", kind="categorical", vocabulary=("off", "low", "high"), missing=True),
    Column(name="site", kind="categorical", vocabulary=tuple(f"s{i}" for i in range(SITES)), unknown="other"),
    Column(name="grade", kind="ordinal", vocabulary=("a", "b", "c", "d"), missing=True),
    Column(name="valve", kind="binary"),
    Column(name="stops", kind="count", missing=True),
    Column(name="seen", unit="s"),
)
INPUTS = Inputs(kind="table", shape=(len(COLUMNS),), dtype="float64", columns=COLUMNS, clamp=CLAMP)


def rows(count: int, seed: int, missing: float = 0.1) -> Floats:
    """Machines: a load decides on speed, mode, grade, valve and stops; site and time are by themselves."""
    generator = np.random.default_rng(seed)
    load = generator.standard_normal(count)
    x = np.stack(
        [
            1500 + 400 * load + 20 * generator.standard_normal(count),
            np.digitize(load + 0.1 * generator.standard_normal(count), [-0.5, 0.5]),
            generator.integers(SITES + 1, size=count),
            np.digitize(load + 0.3 * generator.standard_normal(count), [-1, 0, 1]),
            generator.random(count) < 1 / (1 + np.exp(-4 * load)),
            generator.poisson(np.exp(1 + 0.8 * load)),
            1.7e9 + 86400 * generator.standard_normal(count),
        ],
        axis=1,
    ).astype(np.float64)
    hidden = (generator.random(x.shape) < missing) & np.array(INPUTS.may_be_missing)
    gappy: Floats = np.where(hidden, np.nan, x)
    return gappy


def mixed_up(x: Floats) -> Floats:
    """The modes of machines that run the other way: off at the highest speed, high at the lowest."""
    strange = x.copy()
    strange[:, 1] = 2 - strange[:, 1]
    found: Floats = strange[(x[:, 1] != 1) & ~np.isnan(x[:, 1]) & ~np.isnan(x[:, 0])]
    return found


def parts(bundle: Bundle, engine: Engine, x: Floats) -> Floats:
    """The part of each column in the score of complete rows: (n, C)."""
    feeds = {"x": x, "mask": np.ones(x.shape, bool), "eps": bundle.eps[:16]}
    nats: Floats = engine.run("scorer", feeds, ("feature_nll_iw",))["feature_nll_iw"].astype(np.float64)
    return nats


@pytest.fixture(scope="module")
def mixed() -> Bundle:
    """Fitted for a moment, on 3,000 rows of which a tenth of what may be missing is."""
    vae = VAE(INPUTS, VAEConfig(latent_dim=3, hidden=(64, 64), likelihood="gaussian"), seed=0)
    train, validation = rows(3000, 0), rows(300, 1)
    fit(vae, train, validation, FitOptions(epochs=30, warmup_epochs=5))
    held_out = HeldOut(rows(400, 2), rows(300, 3), mixed_up(rows(300, 4)), (train, validation))
    return build_bundle(vae, "mixed", 1, Data(hash="0" * 64, rows={}), {}, held_out, threads=1)


def test_a_mixed_table_becomes_a_bundle_that_proves_itself(mixed: Bundle, tmp_path: Any) -> None:
    """Graphs agree with PyTorch on valid rows with any mask, golden vectors replay, every family is in the manifest."""
    write(tmp_path / "mixed", mixed)
    Engine.open(open_bundle(tmp_path / "mixed"), threads=1)
    families = {part.family for part in mixed.manifest.likelihood}
    assert families == {"gaussian", "categorical", "ordinal", "bernoulli", "negative-binomial"}
    golden = mixed.golden["observe"]["x"].astype(np.float64)
    for c, column in enumerate(COLUMNS):
        if column.kind != "numeric":
            assert (golden[:, c] == np.round(golden[:, c])).all()
            assert golden[:, c].min() >= 0


def test_categories_that_do_not_fit_the_rest_are_found(mixed: Bundle) -> None:
    """Each value is usual by itself: only the joint density knows. The explanation names the column."""
    engine = Engine(mixed.graphs, threads=1)
    normal, strange = rows(300, 5), mixed_up(rows(300, 6))
    inside, outside = (scores_of(mixed, engine, x)["nll"] for x in (normal, strange))
    assert auroc(inside, outside) > 0.9
    complete = strange[~np.isnan(strange).any(axis=1)]
    usual = normal[~np.isnan(normal).any(axis=1)]
    nats = [parts(mixed, engine, x).mean(axis=0) for x in (complete, usual)]
    assert COLUMNS[int((nats[0] - nats[1]).argmax())].name == "mode"


def test_what_is_missing_is_expected_from_the_rest(mixed: Bundle) -> None:
    """A missing mode is the most probable one at that speed; a missing count is a whole interval of counts."""
    engine = Engine(mixed.graphs, threads=1)
    x = rows(500, 7, missing=0.0)
    x = x[np.abs((x[:, 0] - 1500) / 400) > 0.8]  # far enough from where the modes change
    mask = np.ones(x.shape, bool)
    mask[:, [1, 5]] = False
    got = engine.run("scorer", {"x": np.where(mask, x, 0), "mask": mask, "eps": mixed.eps[:16]})
    assert (got["expected"][:, 1] == x[:, 1]).mean() > 0.9
    lower, upper = (got[name].astype(np.float64)[:, 5] for name in ("lower", "upper"))
    inside = (x[:, 5] >= lower) & (x[:, 5] <= upper)
    assert inside.mean() > 0.85


def test_false_alarms_hold_and_a_new_calibration_keeps_the_bins(mixed: Bundle) -> None:
    """Four columns may be missing: bins up to 0.25, 0.5 and 1, each evaluated by itself."""
    found: Any = mixed.manifest.evaluation
    assert mixed.manifest.mask_bins == (0.25, 0.5, 1.0)
    assert {row["mask_bin"] for row in found["false_alarms"]} == {0, 1, 2, 3}
    assert np.mean([row["inside"] for row in found["false_alarms"]]) > 0.6
    again = recalibrate(mixed, 2, rows(200, 8), "1" * 64, threads=1)
    assert {e.key for e in again.manifest.calibrated} == {e.key for e in mixed.manifest.calibrated}
