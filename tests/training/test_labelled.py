"""The alphas that labelled anomalies ask for: right by brute force, and measured on rows that did not choose them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import f1_score, precision_score, recall_score

from service.anomaly import Anomaly
from service.engine import Engine
from tests.training.small import Fitted
from training.__main__ import main
from training.evaluate import evaluate
from training.labelled import choices, rates
from training.output import write
from training.scorer import p_values_of, ranked_of, run_scorer
from training.table import lines

Floats = NDArray[np.float64]

p_values = st.lists(st.integers(1, 50).map(lambda r: r / 50), min_size=1, max_size=40).map(np.array)


@given(normal=p_values, anomalies=p_values, alpha=st.integers(0, 50).map(lambda r: r / 50))
def test_precision_recall_and_f1_are_those_of_scikit_learn(normal: Floats, anomalies: Floats, alpha: float) -> None:
    """Where anomalies are as frequent as in the data."""
    truth = np.repeat([0, 1], [len(normal), len(anomalies)])
    flagged = np.concatenate([normal, anomalies]) <= alpha
    found, share = rates(normal, anomalies, np.array([alpha])), len(anomalies) / len(truth)
    assert found.recall[0] == pytest.approx(recall_score(truth, flagged))
    assert found.precision(share)[0] == pytest.approx(precision_score(truth, flagged, zero_division=0))
    assert found.f1(share)[0] == pytest.approx(f1_score(truth, flagged, zero_division=0))
    assert found.false_alarms[0] == pytest.approx((normal <= alpha).mean())


@given(normal=p_values, anomalies=p_values, times=st.integers(1, 30), alpha=st.integers(0, 50).map(lambda r: r / 50))
def test_another_share_of_anomalies_is_as_if_normal_rows_were_there_more_often(
    normal: Floats, anomalies: Floats, times: int, alpha: float
) -> None:
    """F1 and cost of the data with every normal row repeated; the cost counts each miss and each false alarm."""
    many = np.repeat(normal, times)
    share = len(anomalies) / (len(many) + len(anomalies))
    once, repeated = (rates(rows, anomalies, np.array([alpha])) for rows in (normal, many))
    assert once.f1(share)[0] == pytest.approx(repeated.f1(share)[0])
    paid = (many <= alpha).sum() + 7 * (anomalies > alpha).sum()
    assert once.cost(share, 7)[0] == pytest.approx(paid / (len(many) + len(anomalies)))


def separable(seed: int = 0, n: int = 2000, m: int = 400) -> tuple[Floats, Floats]:
    """P-values of normal rows, uniform, and of anomalies, mostly small; multiples of 1/1000."""
    generator = np.random.default_rng(seed)
    ranks = np.ceil(1000 * generator.random(n)), np.ceil(1000 * generator.random(m) ** 6)
    return ranks[0] / 1000, ranks[1] / 1000


@pytest.mark.parametrize(("share", "miss_cost"), [(None, None), (0.01, 5.0), (0.3, 50.0)])
def test_the_alpha_told_is_the_best_of_all_up_to_the_luck_of_the_halves(
    share: float | None, miss_cost: float | None
) -> None:
    """No alpha does better on all rows by more than a little."""
    normal, anomalies = separable()
    found: dict[str, Any] = choices(normal, anomalies, share, miss_cost)
    share = 400 / 2400 if share is None else share
    assert found["anomaly_share"] == share
    every = rates(normal, anomalies, np.arange(1000) / 1000)
    one = rates(normal, anomalies, np.array([found["f1"]["alpha"]]))
    assert one.f1(share)[0] > every.f1(share).max() - 0.02
    assert ("cost" in found) == (miss_cost is not None)
    if miss_cost is not None:
        dear = rates(normal, anomalies, np.array([found["cost"]["alpha"] or 0]))
        assert dear.cost(share, miss_cost)[0] < 1.05 * every.cost(share, miss_cost).min()


def test_what_is_told_of_an_alpha_was_measured_on_rows_that_did_not_choose_it() -> None:
    """Where p-values tell nothing, the best F1 of the half that chooses is luck; the other half has none of it."""
    told, lucky = [], []
    for seed in range(200):
        normal, anomalies = np.random.default_rng(seed).random((2, 12))
        found: dict[str, Any] = choices(normal, anomalies, seed=seed)
        told.append(found["f1"]["precision"] or 0.5)
        every = rates(normal, anomalies, np.unique(anomalies))
        lucky.append(every.precision(0.5)[every.f1(0.5).argmax()])
        assert (found["normal"], found["anomalies"]) == (6, 6)
    assert np.mean(told) < np.mean(lucky) - 0.03
    assert np.mean(told) == pytest.approx(0.5, abs=0.05)


def test_a_dearer_miss_asks_for_a_larger_alpha_and_a_free_one_for_none() -> None:
    """Flagging nothing is an answer: its alpha is null, for no request can ask for 0."""
    normal, anomalies = separable()
    alphas = []
    for miss_cost in (1.0, 10.0, 100.0, 1e9):
        found: dict[str, Any] = choices(normal, anomalies, 0.01, miss_cost)
        alphas.append(found["cost"]["alpha"] or 0)
    assert alphas == sorted(alphas)
    assert 0 < alphas[0] < 0.01
    assert alphas[-1] > 0.5
    alike = np.arange(1, 51) / 50
    none: Any = choices(np.repeat(alike, 2), np.repeat(alike, 2), 0.01, 0.5)["cost"]
    assert (none["alpha"], none["recall"], none["precision"], none["f1"]) == (None, 0, None, 0)
    assert none["cost"] == pytest.approx(0.01 * 0.5)


def test_an_alpha_as_it_is_printed_flags_what_it_was_chosen_to_flag() -> None:
    """1/271 is 0.00369003...; 0.00369 would flag nothing."""
    normal, anomalies = np.full(20, 1.0), np.full(20, 1 / 271)
    found: dict[str, Any] = choices(normal, anomalies)
    assert f"{found['f1']['alpha']:g}" == "0.003691"
    assert found["f1"]["recall"] == 1


@pytest.mark.parametrize(("n", "m"), [(1, 10), (10, 1)])
def test_too_few_rows_have_no_halves(n: int, m: int) -> None:
    """It says so."""
    found = choices(np.ones(n), np.ones(m))
    assert found == {"missing": f"{n} normal rows and {m} anomalies; 2 of each are needed"}


def test_the_p_values_are_those_of_the_service_with_and_without_missing_values(fitted: Fitted, gappy: Fitted) -> None:
    """So that an alpha chosen by them is the service's alpha."""
    for one in (fitted, gappy):
        bundle, engine = one.bundle, Engine(one.bundle.graphs, threads=1)
        anomaly = Anomaly(bundle)
        for kind in ("nll", "kl"):
            plan = anomaly.plan(kind=kind, samples=None, alpha=0.1)
            outputs = run_scorer(
                engine, bundle.manifest.inputs, one.test, bundle.eps[: plan.entry.samples], plan.outputs
            )
            want = anomaly.judge(plan, one.test, outputs).p_values
            got = p_values_of(bundle, one.test, ranked_of(bundle, engine, one.test)[kind], kind)
            np.testing.assert_array_equal(got, want)


def test_an_evaluation_tells_the_alphas_of_labelled_anomalies(fitted: Fitted, engine: Engine) -> None:
    """As text too, with what they were measured on; none where none are labelled."""
    strange = fitted.test + 20 * fitted.test.std(axis=0)
    found = evaluate(fitted.bundle, engine, fitted.test, strange, draws=2, anomaly_share=0.1, miss_cost=20)
    told: Any = found["alphas"]
    assert told["f1"]["recall"] == told["cost"]["recall"] == 1
    text = "\n".join(lines(found))
    assert "best alpha by F1" in text
    assert "best alpha by cost" in text
    assert "measured on 75 normal ones and 75 anomalies; anomalies are 0.1 of all rows; a miss costs 20 false" in text
    plain = evaluate(fitted.bundle, engine, fitted.test, draws=2)
    assert "alphas" not in plain
    assert "best alpha" not in "\n".join(lines(plain))


def test_the_command_takes_the_cost_of_a_miss_and_the_share_of_anomalies(
    fitted: Fitted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where anomalies are labelled; elsewhere the two are refused, and so is a share that is none."""
    bundle = str(write(tmp_path / "table", fitted.bundle))
    strange = fitted.test + 20 * fitted.test.std(axis=0)
    x, y = np.concatenate([fitted.test, strange]), np.repeat([0, 1], len(strange))
    np.savez(tmp_path / "labelled.npz", X=x, y=y)
    np.savez(tmp_path / "normal.npz", X=fitted.test)
    asked = ["--miss-cost", "20", "--anomaly-share", "0.1", "--draws", "2", "--threads", "1"]
    command = ["evaluate", "--bundle", bundle, *asked, "--data"]
    assert main([*command, str(tmp_path / "labelled.npz")]) == 0
    assert "anomalies are 0.1 of all rows; a miss costs 20 false alarms" in capsys.readouterr().out
    assert main([*command, str(tmp_path / "normal.npz")]) == 2
    assert "--miss-cost and --anomaly-share need labelled anomalies; there are none" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["evaluate", "--bundle", bundle, "--anomaly-share", "1", "--data", "x.npz"])
    assert "1 is not between 0 and 1" in capsys.readouterr().err
