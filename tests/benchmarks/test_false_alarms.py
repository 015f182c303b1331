"""The check of false-alarm rates: its law is right, and it sees what is wrong."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import betabinom

from benchmarks.false_alarms import crossed, grouped, known, page, pools, refits, together
from benchmarks.false_alarms.__main__ import main
from benchmarks.false_alarms.tally import ALPHAS, Tally, count, law, partitions
from benchmarks.missing import Table
from service import calibration
from service.inputs import Column, Inputs
from service.scores import SCORE_OUTPUTS
from training.by_modules import scorer
from training.models.mlp import VAEConfig

Floats = NDArray[np.float64]


@pytest.mark.parametrize(("n", "m", "alpha"), [(4, 3, 0.2), (5, 4, 0.34), (3, 5, 0.5)])
def test_partitions_of_one_pool_have_the_law_whatever_the_pool(n: int, m: int, alpha: float) -> None:
    """
    Every partition of n + m different scores, counted: beta-binomial exactly.

    So splits that deal the same rows, each by a draw of its own, are independent: none tells of the pool.
    """
    for scores in (np.arange(n + m, dtype=np.float64), np.exp(np.arange(n + m) ** 2 / 3.0)):
        counts = Counter[int]()
        for chosen in itertools.combinations(range(n + m), n):
            inside = np.isin(np.arange(n + m), chosen)
            counts[count(scores[inside], scores[~inside], alpha)] += 1
        k = calibration.rank(n, alpha)
        expected = betabinom(m, n + 1 - k, k)
        total = sum(counts.values())
        np.testing.assert_allclose([counts[j] / total for j in range(m + 1)], expected.pmf(range(m + 1)), atol=1e-12)


@pytest.mark.parametrize(("n", "m", "alpha"), [(2000, 2000, 0.01), (270, 270, 0.05), (33, 32, 0.05)])
def test_the_chance_to_be_inside_is_counted_and_not_taken_for_nine_in_ten(n: int, m: int, alpha: float) -> None:
    """The interval is of whole numbers: with few rows it holds more than 90 %."""
    expected = law(n, m, alpha)
    generator, k = np.random.default_rng(0), calibration.rank(n, alpha)
    flagged = generator.binomial(m, generator.beta(n + 1 - k, k, 100_000))
    assert expected.chance == pytest.approx(((flagged >= expected.low) & (flagged <= expected.high)).mean(), abs=0.004)
    assert expected.mean == pytest.approx(flagged.mean(), rel=0.02)
    assert expected.variance == pytest.approx(flagged.var(), rel=0.03)
    assert expected.chance >= 0.9


@pytest.mark.parametrize(("off", "held"), [(0, True), (6, False), (-6, False)])
def test_a_threshold_a_few_ranks_off_is_seen(off: int, held: bool) -> None:
    """Of 1,000 calibration rows at 5 %, the rank 951 is right; 945 and 957 are not, by many standard errors."""
    generator, tally = np.random.default_rng(1), Tally()
    for _ in range(1000):
        ordered, test = np.sort(generator.normal(size=1000)), generator.normal(size=1000)
        limit = ordered[calibration.rank(1000, 0.05) - 1 + off]
        tally.add(int((test > limit).sum()), 1000, 1000, 0.05)
    assert (abs(tally.deviation) < 4) == held
    assert Tally.of(tally.as_json()) == tally


def test_rows_that_differ_from_the_calibration_rows_are_seen() -> None:
    """Test scores a tenth of a standard deviation higher: too many alarms, and too few splits inside."""
    pool = np.random.default_rng(2).normal(size=2000)
    same = partitions(pool, pool, 1000, 1000, 200, np.random.default_rng(3))
    higher = partitions(pool, pool + 0.1, 1000, 1000, 200, np.random.default_rng(3))
    for alpha in ALPHAS:
        assert same[alpha].held
        assert abs(same[alpha].deviation) < 4
    assert not higher[0.05].held
    assert higher[0.05].deviation > 6


def test_known_scores_hold_where_they_are_continuous_and_fall_short_where_many_are_equal() -> None:
    """A row must exceed the threshold: of rows that equal it none is flagged."""
    found = known.measure(200)
    for name in ("normal", "Cauchy", "3 % of the rows far out"):
        for alpha in ALPHAS:
            assert abs(found[f"{name}|2000|2000|{alpha}"].deviation) < 4
    assert found["rounded to 0.1 standard deviations|2000|2000|0.05"].deviation < -6


@pytest.mark.parametrize("bins", [1, 3])
def test_rows_flagged_together_are_normal_at_most_as_often_as_asked(bins: int) -> None:
    """And most anomalies are among them."""
    found = together.simulate(together.Case(500, 50, 10, 0.1, bins), 500)
    assert found.rate < 0.08 + 4 * found.error
    assert found.power is not None
    assert found.power > 0.6


def test_a_pool_is_measured_complete_with_values_hidden_and_with_values_missing() -> None:
    """Every kind and alpha; where values are missing at random, in bins that enough rows are in, anew in each split."""
    columns = tuple(Column(name=f"x{c}", missing=True) for c in range(4))
    inputs = Inputs(kind="table", shape=(4,), dtype="float64", columns=columns, clamp=100.0)
    x = np.random.default_rng(4).normal(size=(1900, 4)) @ np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [0] * 4])
    x = x + 0.1 * np.random.default_rng(5).normal(size=x.shape)
    pool = pools.Pool(inputs, VAEConfig(2, (8,), "gaussian"), x[:250], x[250:300], x[300:])
    engine = scorer(pools.fitted(pool, epochs=2))
    found = pools.measure(pool, engine, 30)
    asked = set(itertools.product(SCORE_OUTPUTS, ("nothing", "as calibrated")))
    assert {tuple(key.split("|")[:2]) for key in found} == asked
    assert all(tally.splits == 30 and abs(tally.deviation) < 4 for tally in found.values())
    missing = pools.AtRandom(pool, engine)
    one = missing.split(0)
    assert one == missing.split(0) != missing.split(1)
    assert {tuple(key.split("|")[:2]) for key in one} >= set(itertools.product(SCORE_OUTPUTS, ("50% at random",)))
    assert all(n <= 800 and pools.LEAST <= m <= 800 and flagged < 0.2 * m for n, m, flagged in one.values())


def test_a_split_is_fitted_and_judged_anew_and_the_same_again(tmp_path: Path) -> None:
    """By the service's own code; counts are kept a line a split, and the page tells them."""
    one = refits.fresh(0, 1)
    assert one == refits.fresh(0, 1)
    assert one != refits.fresh(1, 1)
    whole = one["nll|nothing|0|0.05"]
    assert whole[1] == refits.ROWS
    assert sum(one[key][1] for key in one if key.startswith("nll|as it comes|") and key.endswith("|0.05")) == 1000
    (tmp_path / "fresh.jsonl").write_text(json.dumps(one) + "\n")
    told = page.page(tmp_path)
    assert f"| nothing, bin 0 | 1 | {refits.ROWS} | 0.05 | {whole[2] / refits.ROWS:.4f} |" in told


def test_a_table_too_small_for_an_alpha_is_not_counted_there() -> None:
    """33 calibration rows are enough for 5 %, not for 1 %."""
    rows = np.random.default_rng(6).normal(size=(132, 3))
    found = refits.dealt(Table("small", rows, rows), 0, 1)
    assert set(found) == {f"{kind}|nothing|0|0.05" for kind in SCORE_OUTPUTS}
    assert all((n, m) == (33, 33) for n, m, _ in found.values())


def test_an_ensemble_is_judged_by_rows_that_its_members_have_not_seen(tmp_path: Path) -> None:
    """Half of 260 rows are ranked by one member each, the other half by all; about alpha of these are flagged."""
    rows = np.random.default_rng(7).normal(size=(260, 3))
    found = crossed.crossed(Table("small", rows, rows), 0, 1)
    assert set(found) == {f"{kind}|nothing|0|{alpha}" for kind in SCORE_OUTPUTS for alpha in ALPHAS}
    assert all((n, m) == (130, 130) for n, m, _ in found.values())
    assert all(flagged < 25 for _, _, flagged in found.values())
    assert found["nll|nothing|0|0.05"][2] > 0
    (tmp_path / "crossed-small.jsonl").write_text(json.dumps(found) + "\n")
    flagged = found["kl|nothing|0|0.05"][2]
    assert f"| small | 1 | 130 | 0.05 | kl | {flagged / 130:.4f} | 0.0458 |" in page.page(tmp_path)


def test_groups_hold_by_their_own_rows_and_not_by_all(tmp_path: Path) -> None:
    """The noisy site has too many false alarms where it is judged by all; the page tells both."""
    found = grouped.measure(30, epochs=2)
    assert {tuple(key.split("|")[:3]) for key in found} == set(
        itertools.product(SCORE_OUTPUTS, grouped.SITES, (grouped.BY_ALL, grouped.BY_OWN))
    )
    own = [tally for key, tally in found.items() if f"|{grouped.BY_OWN}|" in key]
    assert all(abs(tally.deviation) < 4 for tally in own)
    assert found[f"nll|west|{grouped.BY_ALL}|0.05"].deviation > 6
    (tmp_path / "groups.json").write_text(json.dumps({key: tally.as_json() for key, tally in found.items()}))
    told = page.page(tmp_path)
    assert "| north | its own rows | 0.05 |" in told
    assert "By its own rows: " in told


def test_what_was_measured_is_kept_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A part, then the page."""
    assert main(["known", "--splits", "3", "--output", str(tmp_path)]) == 0
    assert main(["page", "--output", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "### Known distributions" in told
    assert "| normal | 2000 | 0.05 |" in told
    assert "### One model" not in told
