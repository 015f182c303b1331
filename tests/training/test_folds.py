"""An ensemble of folds: a density of its own, calibrated on every row by the model that has not seen it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.bundle import Bundle, open_bundle
from service.calibration import cross_p_values, p_values
from service.engine import Engine
from service.ensemble import Ensemble, folds_of, members_of, together
from service.errors import BundleError
from service.inputs import Column, Inputs
from service.manifest import Manifest
from service.reference import MEAN, named
from service.scores import FEATURE_OUTPUTS, PLAIN, score
from tests.server import Server
from tests.training.report_page import Page
from tests.training.unexported import fit_alone
from training import checkpoint
from training.__main__ import main
from training.by_modules import scorer
from training.calibrate import KINDS, raised
from training.errors import DataError
from training.export import export_graphs
from training.models.mlp import VAE, VAEConfig, alone, ensemble
from training.output import write
from training.parity import check_parity
from training.report.material import Material
from training.scorer import run_scorer
from training.split import Fractions, split_folds, split_rows

Floats = NDArray[np.float64]

FOLDS = 3
FIT = ["--likelihood", "gaussian", "--prior", "standard-normal", "--hidden", "8", "--latent-dim", "2"]
LENGTH = ["--epochs", "30", "--minutes", "3e8", "--folds", str(FOLDS), "--threads", "1", "--quiet"]


@dataclass(frozen=True)
class Fit:
    """A bundle of three folds, what it was fitted by, and the members that its checkpoints have."""

    bundle: Bundle
    data: Path
    arguments: list[str]
    members: list[VAE]


def rows(n: int, seed: int = 0) -> Floats:
    """Three columns, two of which go together."""
    a, b = np.random.default_rng(seed).standard_normal((2, n))
    return np.stack([a, 100 + 5 * (a + 0.3 * b), b * a], axis=1)


def numbers(array: NDArray[np.generic]) -> Floats:
    """As float64."""
    return np.asarray(array, np.float64)


@pytest.fixture(scope="module")
def fit(tmp_path_factory: pytest.TempPathFactory) -> Fit:
    """By the command, as a user would."""
    path = tmp_path_factory.mktemp("folds")
    data, output = path / "rows.npz", path / "machine"
    x = np.concatenate([rows(100), rows(10, 1) + np.array([8.0, 0, 0])])
    np.savez(data, X=x, y=np.repeat([0, 1], [100, 10]))
    arguments = ["fit", "--data", str(data), "--output", str(output), *FIT, *LENGTH]
    assert main(arguments) == 0
    members = [checkpoint.load(output / f"checkpoint-1-fold-{m + 1}.npz").vae for m in range(FOLDS)]
    return Fit(open_bundle(output), data, arguments, members)


@pytest.fixture(scope="module")
def engine(fit: Fit) -> Engine:
    """What the service runs."""
    return Engine(fit.bundle.graphs, threads=1)


@pytest.fixture(scope="module")
def server(fit: Fit) -> Iterator[Server]:
    """The service on that bundle."""
    with Server(fit.bundle.path, device="cpu") as running:
        yield running


def test_the_score_is_that_of_the_mixture_of_its_members(fit: Fit, engine: Engine) -> None:
    """p(x) = 1/M sum_m p_m(x), computed from the members by themselves; the other kinds are means over them."""
    x, eps = rows(7, 3), fit.bundle.eps[:16]
    together_ = engine.run("scorer", {"x": x, "eps": eps})
    alone_ = [run_scorer(scorer(member), member.inputs, x, eps, ("log_w", "log_px_z", "kl")) for member in fit.members]
    density = np.mean([np.exp(-score("nll", one)) for one in alone_], axis=0)
    np.testing.assert_allclose(score("nll", together_), -np.log(density), rtol=1e-4)
    for kind in PLAIN[1:]:
        np.testing.assert_allclose(
            score(kind, together_), np.mean([score(kind, one) for one in alone_], axis=0), rtol=1e-4, atol=1e-4
        )


def test_the_parts_of_all_features_and_the_latent_one_add_to_the_score(engine: Engine, fit: Fit) -> None:
    """As those of one VAE do."""
    outputs = engine.run("scorer", {"x": rows(9, 4), "eps": fit.bundle.eps[:16]})
    nll = outputs["feature_nll_iw"].astype(np.float64).sum(axis=1) + outputs["latent_term"]
    np.testing.assert_allclose(nll, score("nll", outputs), rtol=1e-4, atol=1e-4)
    mean = outputs["feature_nll_mean"].astype(np.float64).sum(axis=1)
    np.testing.assert_allclose(mean, score("reconstruction", outputs), rtol=1e-4, atol=1e-4)


def test_every_member_is_found_again_in_the_outputs(engine: Engine, fit: Fit) -> None:
    """Its own draws, kl and mu, as its own scorer has them."""
    x, eps = rows(5, 5), fit.bundle.eps[:4]
    names = ("log_w", "log_px_z", "kl", "mu")
    for part, member in zip(members_of(engine.run("scorer", {"x": x, "eps": eps}), FOLDS), fit.members, strict=True):
        own = run_scorer(scorer(member), member.inputs, x, eps, names)
        for name in names:
            np.testing.assert_allclose(numbers(part[name]), numbers(own[name]), rtol=1e-4, atol=1e-4)


def test_each_row_calibrates_the_member_that_has_not_seen_it(fit: Fit) -> None:
    """All rows but the test rows, once each, for every kind; the score is that member's."""
    normal = rows(100)
    splits = split_folds(100, Fractions(0.1, 0.0, 0.15), FOLDS, 0)
    for entry in fit.bundle.manifest.calibrated:
        assert entry.rows == 85
        assert entry.folds == (29, 28, 28)
        assert not entry.thresholds
        if entry.kind not in PLAIN:
            continue
        for fold, split, member in zip(folds_of(fit.bundle.calibration, entry), splits, fit.members, strict=True):
            outputs = ("log_w", "log_px_z", "kl")
            x = normal[split.calibration]
            own = run_scorer(scorer(member), member.inputs, x, fit.bundle.eps[: entry.samples], outputs)
            scores = score(entry.kind, own)
            np.testing.assert_allclose(fold, np.sort(raised(scores, scores)), rtol=1e-6)
    assert fit.bundle.manifest.members == FOLDS
    assert {entry.kind for entry in fit.bundle.manifest.calibrated} == set(KINDS)


def test_minutes_are_those_of_all_folds_together(fit: Fit) -> None:
    """Each fit has its part."""
    for m in range(FOLDS):
        training: Any = checkpoint.load(fit.bundle.path.parent / f"checkpoint-1-fold-{m + 1}.npz").training
        assert training["options"]["minutes"] == 1e8


def test_rows_are_encoded_beside_all_that_their_member_has_seen(fit: Fit) -> None:
    """Its validation rows alone are ten: too few for a covariance."""
    splits = split_folds(100, Fractions(0.1, 0.0, 0.15), FOLDS, 0)
    for m, (split, member) in enumerate(zip(splits, fit.members, strict=True)):
        seen = rows(100)[np.concatenate([split.train, split.validation])]
        mu = run_scorer(scorer(member), member.inputs, seen, fit.bundle.eps[:1], ("mu",))["mu"]
        found = numbers(fit.bundle.calibration[named(MEAN, FOLDS, m)])
        np.testing.assert_allclose(found, numbers(mu).mean(axis=0), rtol=1e-4, atol=1e-5)


def test_the_service_answers_with_cross_conformal_p_values(fit: Fit, engine: Engine, server: Server) -> None:
    """For each kind: what the definition gives, counted row by row; the p-value decides, and no threshold is told."""
    x = np.concatenate([rows(6, 6), rows(3, 7) + 9])
    for kind in KINDS:
        asked = {"inputs": x.tolist(), "kind": kind, "alpha": 0.05}
        reply = server.client.post("/v1/anomaly-score", json=asked).raise_for_status().json()
        entry = next(e for e in fit.bundle.manifest.calibrated if (e.kind, e.samples) == (kind, 16))
        outputs = engine.run("scorer", {"x": x, "eps": fit.bundle.eps[:16]})
        known = Ensemble.of(fit.bundle.calibration, FOLDS, 16, 0)
        told, ranked = known.score(kind, outputs, None)
        folds = folds_of(fit.bundle.calibration, entry)
        above = [sum((fold >= ranked[m, i]).sum() for m, fold in enumerate(folds)) for i in range(len(x))]
        np.testing.assert_allclose(reply["p_values"], (1 + np.array(above)) / 86, rtol=1e-6)
        np.testing.assert_allclose(reply["scores"], told, rtol=1e-4, atol=1e-4)
        assert reply["is_anomaly"] == [p <= 0.05 for p in reply["p_values"]]
        assert reply["threshold"] is None
        assert reply["false_alarm_rate"] is None
        assert reply["reason"].startswith("cross-conformal calibration")
    assert any(reply["is_anomaly"])


def test_explanations_and_discoveries_work_as_with_one_model(server: Server) -> None:
    """The parts of the features and the latent one sum to the score."""
    x = rows(3, 8) + np.array([0, 0, 9.0])
    asked = {"inputs": x.tolist(), "explain": 3, "components": True, "fdr": 0.2}
    reply = server.client.post("/v1/anomaly-score", json=asked).raise_for_status().json()
    for row, total in enumerate(reply["scores"]):
        parts = sum(part["nats"] for part in reply["explanations"][row])
        assert parts + reply["components"]["latent"][row] == pytest.approx(total, rel=1e-3, abs=1e-3)
    assert all(q >= p - 1e-6 for p, q in zip(reply["p_values"], reply["adjusted_p_values"], strict=True))
    assert all(1 <= n <= 16 * FOLDS for n in reply["components"]["effective_samples"])


def test_an_alpha_that_the_rows_are_too_few_for_is_refused(server: Server) -> None:
    """As with rows that were set apart."""
    asked = {"inputs": rows(1).tolist(), "alpha": 0.01}
    reply = server.client.post("/v1/anomaly-score", json=asked)
    assert reply.status_code == 422
    assert "alpha 0.01 needs 99 calibration rows; the bundle has 85" in reply.text


def test_calibrating_on_new_rows_ranks_them_by_the_whole_ensemble(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    """No member has seen them: there are thresholds again."""
    fresh = fit.data.with_name("fresh.npz")
    np.savez(fresh, X=rows(60, 9))
    assert main(["calibrate", "--bundle", str(fit.bundle.path), "--data", str(fresh), "--quiet"]) == 0
    made = open_bundle(fit.bundle.path.parent / "2")
    entry = made.manifest.calibrated[0]
    assert (entry.rows, entry.folds, made.manifest.members) == (60, (), FOLDS)
    assert entry.thresholds
    outputs = Engine(made.graphs, threads=1).run("scorer", {"x": rows(60, 9), "eps": made.eps[: entry.samples]})
    scores = score(entry.kind, outputs)
    np.testing.assert_allclose(numbers(made.calibration[entry.key]), np.sort(raised(scores, scores)), rtol=5e-6)


def test_evaluate_measures_the_test_rows_that_no_member_has_seen(
    fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The evaluation of the bundle comes again from the data; L_K is the mixture's."""
    told = tmp_path / "told.json"
    assert main(["evaluate", "--bundle", str(fit.bundle.path), "--data", str(fit.data), "--json", str(told)]) == 0
    said = capsys.readouterr().out
    assert "(An ensemble of 3 models: active units and KL per latent are those of the first.)" in said
    assert "(Its p-values are cross-conformal" in said
    found: dict[str, Any] = json.loads(told.read_text())
    assert found["rows"] == 15
    assert found["log_px"] == pytest.approx(fit.bundle.manifest.evaluation["log_px"])
    assert {row["alpha"] for row in found["false_alarms"]} == {0.1, 0.05}
    assert found["auroc"]["nll"] > 0.9


def test_a_fit_that_is_there_fold_by_fold_goes_on_with_the_bundle(fit: Fit) -> None:
    """Finished folds are not fitted again: the next version is made of the same weights."""
    folder = fit.bundle.path.parent
    files = [folder / f"checkpoint-1-fold-{m + 1}.npz" for m in range(FOLDS)]
    before = [file.read_bytes() for file in files]
    words = [word for word in fit.arguments[1:] if word != "--quiet"]
    said = fit_alone(*words, "--resume", "--checkpoint", str(folder / "checkpoint-1.npz")).out
    told = [f"{file} is a finished fit: going on with the bundle" for file in files]
    assert said.splitlines()[-FOLDS - 1 :] == [*told, "making the ONNX graphs"]
    assert [file.read_bytes() for file in files] == before


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--calibration", "0.2"], "--folds 3 calibrates on all rows but the test rows: leave --calibration away"),
        (["--groups", "x0"], "--folds 3: with --groups calibration rows must be set apart: leave one of them away"),
        (["--start", "c.npz"], "--folds 3: --start c.npz may have seen the rows of any fold: leave it away"),
        (["--folds", "80"], "--folds 80: 85 rows that are not test rows make at most 42 folds of two"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    fit: Fit, tmp_path: Path, more: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By their names."""
    assert main([*fit.arguments, "--output", str(tmp_path / "other"), *more]) == 2
    assert told in capsys.readouterr().err


def test_the_report_ranks_rows_as_the_service_does(fit: Fit, engine: Engine, server: Server) -> None:
    """Each model its own fold; the page tells of no threshold."""
    x, strange = rows(20, 11), rows(5, 12) + 9
    found = Material(fit.bundle, engine, x, None, strange, "some rows")
    for part, p in zip((x, strange), found.p_values, strict=True):
        reply = server.client.post("/v1/anomaly-score", json={"inputs": part.tolist()}).raise_for_status().json()
        np.testing.assert_allclose(p, reply["p_values"], rtol=1e-6)
    page = Page(fit.bundle.report["report.html"])
    assert "An ensemble of 3 variational autoencoders of 3 columns" in page.text
    assert "learning curves, latents, draws and ways through the latent space are those of the first" in page.text
    assert "to the right of the threshold" not in page.text
    assert "Cross-conformal calibration has no threshold" in page.text
    assert "threshold at alpha" not in page.text


def test_a_scored_row_counts_once_a_draw_however_many_models_there_are(fit: Fit) -> None:
    """As all limits say: 12 rows with 16 draws fit into a batch of 256."""
    with Server(fit.bundle.path, device="cpu") as one:
        one.client.post("/v1/anomaly-score", json={"inputs": rows(12, 4).tolist(), "samples": 16}).raise_for_status()
        name = "vae_batch_rows"
        assert one.metric(f"{name}_sum", op="anomaly-score") == 12
        assert one.metric(f"{name}_count", op="anomaly-score") == 1


def test_one_fold_alone_is_no_bundle(fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its calibration rows would be those of one fold."""
    one = fit.bundle.path.parent / "checkpoint-1-fold-2.npz"
    assert main(["export", "--checkpoint", str(one), "--output", str(tmp_path / "one")]) == 2
    told = (
        f"is one of the 3 folds of an ensemble: fit --resume --checkpoint {fit.bundle.path.parent / 'checkpoint-1.npz'}"
    )
    assert told in capsys.readouterr().err


def test_folds_that_are_not_those_of_the_members_are_refused(fit: Fit) -> None:
    """What the manifest says must fit the scorer."""
    whole = json.loads(fit.bundle.manifest.model_dump_json())
    with pytest.raises(ValueError, match=r"kl is .* of 2 members with 2 latents each"):
        Manifest.model_validate({**whole, "members": 2})
    whole["calibrated"][0]["folds"] = [40, 45]
    with pytest.raises(ValueError, match=r"folds of \(40, 45\) rows, for 3 members and 85 rows"):
        Manifest.model_validate(whole)


def test_a_fold_that_does_not_ascend_is_refused(fit: Fit, tmp_path: Path) -> None:
    """The scores ascend within each fold, and in nothing else."""
    manifest, entry = fit.bundle.manifest.model_copy(update={"version": 9}), fit.bundle.manifest.calibrated[0]
    broken = {**fit.bundle.calibration, entry.key: fit.bundle.calibration[entry.key][::-1]}
    with pytest.raises(BundleError, match="not finite and ascending"):
        write(tmp_path, replace(fit.bundle, manifest=manifest, calibration=broken))


def test_columns_of_all_kinds_with_gaps_export_as_an_ensemble() -> None:
    """Onnxruntime computes what PyTorch does; a category is expected as the member with the most weight has it."""
    named = [
        Column(name="a", missing=True),
        Column(name="b"),
        Column(name="k", kind="categorical", vocabulary=("u", "v")),
    ]
    inputs = Inputs(kind="table", shape=(3,), dtype="float64", columns=tuple(named), clamp=100.0)
    generator, members = np.random.default_rng(0), []
    for seed in range(2):
        config = VAEConfig(latent_dim=2, hidden=(8,), likelihood="gaussian")
        members.append(VAE(inputs, config, seed))
        members[-1].adapt(np.stack([*generator.standard_normal((2, 80)), generator.integers(0, 2, 80)], axis=1))
    whole = ensemble(members)
    check_parity(whole, export_graphs(whole))
    x, eps = generator.standard_normal((20, 3)), generator.standard_normal((4, 2)).astype(np.float32)
    x[:, 2] = generator.integers(0, 2, 20)
    own = [run_scorer(scorer(alone(member)), inputs, x, eps, ("log_w", "expected")) for member in members]
    heaviest = np.argmin([score("nll", one) for one in own], axis=0)
    found = run_scorer(scorer(whole), inputs, x, eps, ("expected",))["expected"]
    np.testing.assert_array_equal(found[:, 2], np.stack([one["expected"][:, 2] for one in own])[heaviest, range(20)])


@given(
    n=st.integers(30, 300),
    folds=st.integers(2, 8),
    validation=st.sampled_from([0.05, 0.1, 0.2]),
    test=st.sampled_from([0.0, 0.15, 0.3]),
    seed=st.integers(0, 50),
)
def test_every_row_is_a_test_row_or_calibrates_one_member(
    n: int, folds: int, validation: float, test: float, seed: int
) -> None:
    """And no member trains on, or stops by, what it calibrates on."""
    try:
        splits = split_folds(n, Fractions(validation, 0.0, test), folds, seed)
    except DataError:
        return
    apart = splits[0].test
    np.testing.assert_array_equal(apart, split_rows(n, Fractions(validation, 0.0, test), seed).test)
    dealt = np.concatenate([apart, *(split.calibration for split in splits)])
    np.testing.assert_array_equal(np.sort(dealt), np.arange(n))
    for split in splits:
        own = np.concatenate([split.train, split.validation, split.calibration, split.test])
        np.testing.assert_array_equal(np.sort(own), np.arange(n))
        assert len(split.train)
        assert len(split.validation)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=30), st.lists(st.integers(0, 12), min_size=1, max_size=5))
def test_with_one_fold_a_cross_conformal_p_value_is_the_usual_one(calibration: list[int], scores: list[int]) -> None:
    """Ties are counted against the row in both."""
    ordered, asked = np.sort(np.array(calibration, np.float64)), np.array(scores, np.float64)
    np.testing.assert_array_equal(cross_p_values([ordered], asked[None]), p_values(ordered, asked))


def test_cross_conformal_p_values_hold_on_average() -> None:
    """
    400 data sets of 40 rows; a member scores by the distance from the mean of the rows that it has seen.

    Normal rows have p <= alpha about as often as alpha.
    """
    generator, found = np.random.default_rng(3), []
    for _ in range(400):
        x, fresh = generator.standard_normal(40), generator.standard_normal(200)
        folds = np.array_split(generator.permutation(40), 5)
        centers = [np.delete(x, fold).mean() for fold in folds]
        own = [np.sort(np.abs(x[fold] - center)) for fold, center in zip(folds, centers, strict=True)]
        found.append(cross_p_values(own, np.abs(fresh - np.array(centers)[:, None])))
    p = np.concatenate(found)
    for alpha in (0.05, 0.1, 0.3):
        exact = np.floor(41 * alpha) / 41  # of p-values with 41 steps
        assert (p <= alpha).mean() == pytest.approx(exact, rel=0.12)


def test_the_score_of_one_model_is_its_own() -> None:
    """An ensemble of one is none."""
    scores = np.random.default_rng(0).standard_normal((1, 6))
    for kind in (*FEATURE_OUTPUTS, "kl", "fused"):
        np.testing.assert_array_equal(together(kind, scores), scores[0])
