"""The bet that rows are unlike the calibration's: it wins where they are, and nowhere else."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from service import calibration
from service.bundle import Bundle, open_bundle
from service.calibrated import Calibrated, Groups
from service.drift import MOST_ROWS, Drift
from service.inputs import Windows
from tests.bundles import TABLE, publish, table_rows
from tests.mixed import masked, mixed_rows
from tests.server import Server

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]


def normal(rng: np.random.Generator, n: int) -> Floats:
    """Scores, no two alike."""
    return rng.normal(size=n)


def counts(rng: np.random.Generator, n: int) -> Floats:
    """Scores of which many are alike."""
    return rng.poisson(1.5, n).astype(np.float64)


def few(rng: np.random.Generator, n: int) -> Floats:
    """Scores that are one of two."""
    return (rng.random(n) < 0.1).astype(np.float64)


class Watched:
    """A `Drift` by *n* calibration rows, and the scores that it sees."""

    def __init__(self, n: int, draw: Draw, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.calibration = np.sort(draw(self.rng, n)) + 1e-5  # kept a little higher, as they are in a bundle
        self.drift = Drift(Calibrated(kind="nll", samples=16, rows=n), self.calibration, seed)

    def p_values(self, scores: Floats) -> Floats:
        """Of rows with these scores."""
        return calibration.p_values(self.calibration, scores)

    def most(self, scores: Floats, at_once: int = 50) -> float:
        """The most that is told while rows with these scores come, so many at once."""
        told = []
        for start in range(0, len(scores), at_once):
            self.drift.saw(self.p_values(scores[start : start + at_once]))
            told.append(self.drift.log_martingale())
        return max(told)


def bets(p_values: Floats) -> float:
    """Ln of the most that the Simple Jumper wins on *p_values* as they are (Vovk et al. 2021, algorithm 1)."""
    capital, logs = np.full(3, 1 / 3), [0.0]
    for p in p_values.tolist():
        capital = 0.99 * capital + 0.01 * capital.sum() / 3
        capital *= 1 + np.array([-1, 0, 1]) * (p - 0.5)
        logs.append(logs[-1] + math.log(capital.sum()))
        capital /= capital.sum()
    return max(logs)


@pytest.mark.parametrize("draw", [normal, counts, few])
@pytest.mark.parametrize("n", [9, 30, 270])
def test_no_bet_wins_against_rows_like_the_calibrations(n: int, draw: Draw) -> None:
    """
    However few these are, and with equal scores: ln c within m rows in at most m / c of all streams.

    That is Doob's inequality for the Shiryaev-Roberts statistic, which is never less. 100 streams of 1,000 rows and
    c = 1e5: one is expected at most, and more than five would be one time in 1,700.
    """
    streams = [Watched(n, draw, seed) for seed in range(100)]
    assert sum(one.most(draw(one.rng, 1000)) >= math.log(1e5) for one in streams) <= 5


@pytest.mark.parametrize(
    ("draw", "n", "most"),
    [*((normal, n, 0.006) for n in (1, 9, 100)), *((draw, n, 0.02) for draw in (counts, few) for n in (9, 100))],
)
def test_ranks_of_rows_like_the_calibrations_are_uniform(n: int, draw: Draw, most: float) -> None:
    """
    From the first one on, in 5,000 streams of eight rows: their mean, and the share below a quarter.

    Four standard deviations are 0.0058 and 0.0087; a calibration row that is tied with those below it alone would make
    the mean 0.375 for n = 1. Scores of which some are equal are nearly uniform: whether one that is alone has equals
    among rows to come, nobody knows.
    """
    streams = (Watched(n, draw, seed) for seed in range(5000))
    ranks = np.concatenate([one.drift.ranks(one.p_values(draw(one.rng, 8))) for one in streams])
    assert 0 < ranks.min() <= ranks.max() <= 1
    assert abs(ranks.mean() - 0.5) < most
    assert abs((ranks < 0.25).mean() - 0.25) < 1.5 * most


def test_cells_that_are_merged_are_as_exact() -> None:
    """Of more calibration rows than there are cells."""
    streams = (Watched(5000, normal, seed) for seed in range(300))
    ranks = np.concatenate([one.drift.ranks(one.p_values(normal(one.rng, 40))) for one in streams])
    assert stats.kstest(ranks, "uniform").pvalue > 1e-3


def test_ranked_among_the_calibration_rows_alone_a_bet_would_win() -> None:
    """They fell as they fell: with 30 of them many a stream of 5,000 rows is surely not uniform."""
    streams = [Watched(30, normal, seed) for seed in range(20)]
    alone = [bets(one.p_values(normal(one.rng, 5000)) - one.rng.random(5000) / 31) for one in streams]
    assert sum(won > 25 for won in alone) >= 5
    assert sum(one.most(normal(one.rng, 5000)) > 12 for one in streams) == 0


@pytest.mark.parametrize(("shift", "rows"), [(1.0, 300), (-1.0, 300), (0.5, 1000), (0.25, 5000)])
def test_a_shift_of_the_scores_is_found(shift: float, rows: int) -> None:
    """Up and down, a quarter of a standard deviation too; after 1,000 rows that were like the calibration's."""
    watched = Watched(1000, normal, 0)
    assert watched.most(normal(watched.rng, 1000)) < 10
    assert watched.most(normal(watched.rng, rows) + shift) > 25


def test_a_spread_that_grew_on_both_sides_is_found_by_what_is_rare() -> None:
    """A bet on large ranks and one on small ones, with the capital dealt out anew: either tail wins in its turn."""
    watched = Watched(1000, normal, 0)
    tails = np.where(np.arange(4000) // 100 % 2 == 0, 1.0, -1.0)
    assert watched.most(normal(watched.rng, 4000) + tails) > 25


def test_rows_that_stay_as_they_are_become_what_is_ranked_among() -> None:
    """So it stops growing: it tells of change."""
    watched = Watched(270, normal, 0)
    once = watched.most(normal(watched.rng, 2000) + 1)
    watched.most(normal(watched.rng, 20000) + 1)
    last = watched.drift.log_martingale()
    assert once > 25
    assert watched.most(normal(watched.rng, 5000) + 1) < last + 10


def test_of_more_rows_than_are_looked_at_some_are() -> None:
    """A large request costs what a small one does; none is no news."""
    watched = Watched(270, normal, 0)
    assert watched.drift.log_martingale() == 0
    assert watched.most(normal(watched.rng, 20 * MOST_ROWS) + 3, 10 * MOST_ROWS) > 25
    watched.drift.saw(np.zeros(0))
    assert watched.drift.log_martingale() > 25


@pytest.fixture(scope="module")
def bundle(table_bundle: Path) -> Bundle:
    """The table bundle, opened."""
    return open_bundle(table_bundle)


@pytest.mark.parametrize(
    "update",
    [
        {"groups": Groups(column="flow", names=("flow=0",))},
        {"inputs": TABLE.model_copy(update={"windows": Windows(sensors=TABLE.columns or (), length=2, stride=1)})},
        {"calibrated": ()},
    ],
)
def test_rows_that_are_not_exchangeable_with_one_set_of_calibration_rows_are_not_bet_on(
    bundle: Bundle, update: dict[str, Any]
) -> None:
    """Groups have their own, windows overlap, and without calibration there is nothing to compare with."""
    assert Drift.of(bundle) is not None
    assert Drift.of(dataclasses.replace(bundle, manifest=bundle.manifest.model_copy(update=update))) is None


def test_members_of_an_ensemble_that_rank_their_own_folds_are_not_bet_on(bundle: Bundle) -> None:
    """A row has no one rank among the calibration rows of all."""
    folds = tuple(entry.model_copy(update={"folds": (entry.rows,)}) for entry in bundle.manifest.calibrated)
    manifest = bundle.manifest.model_copy(update={"calibrated": folds})
    assert Drift.of(dataclasses.replace(bundle, manifest=manifest)) is None


def test_a_service_tells_of_rows_that_moved_and_begins_anew_with_a_new_version(
    table_bundle: Path, tmp_path: Path
) -> None:
    """Of the default score alone; rows like the calibration's leave it low."""
    models = tmp_path / "pumps"
    models.mkdir()
    publish(table_bundle, models, 1)
    with Server(models, reload_interval_s=0) as server:

        def scored(x: Floats, **options: str) -> float:
            for part in np.array_split(x, 10):
                body = {"inputs": part.tolist(), **options}
                server.client.post("/v1/anomaly-score", json=body).raise_for_status()
            return server.metric("vae_drift_log_martingale")

        assert scored(table_rows(500, seed=5)) < 10
        moved = table_rows(500, seed=6) + np.array([600, 3, 0.06])
        assert scored(moved, kind="neg_elbo") < 10
        assert scored(moved) > 25
        publish(table_bundle, models, 2)
        assert server.client.post("/v1/admin/reload").json()["result"] == "swapped"
        assert server.metric("vae_drift_log_martingale") == 0


def test_rows_with_missing_values_are_not_looked_at(mixed_bundle: Path) -> None:
    """They are ranked among calibration rows of their own."""
    x = mixed_rows(300, seed=5)
    x[:, 0] += 2000
    with Server(mixed_bundle) as server:
        for rows, told in ((masked(x, 2), False), (x, True)):
            inputs = [[None if math.isnan(value) else value for value in row] for row in rows.tolist()]
            server.client.post("/v1/anomaly-score", json={"inputs": inputs}).raise_for_status()
            assert (server.metric("vae_drift_log_martingale") > 0) == told
