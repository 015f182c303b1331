"""Missing values: left out exactly, hidden in training, calibrated by how many there are."""

from __future__ import annotations

import math
import re
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.stats import multivariate_normal

from service import calibration
from service.engine import Engine
from service.manifest import Manifest
from service.reference import REFERENCE, Reference
from service.scores import SCORE_OUTPUTS, score
from tests.training.small import Fitted, gappy_inputs, gaps, table
from tests.training.test_resume import stopping, through_a_file
from training import masks
from training.batches import Batch, Batches
from training.by_modules import scorer
from training.calibrate import MEMBER_NATS, Fold, calibrate, cross_calibrate
from training.data import from_arrays
from training.errors import FitError, Interrupted
from training.evaluate import evaluate, false_alarms
from training.fit import FitOptions, fit
from training.graphs import specs
from training.interrupt import Interrupt
from training.models.mlp import VAE, VAEConfig
from training.output import write
from training.parity import check_parity
from training.ranking import auroc
from training.recalibrate import recalibrate
from training.reference import reference_of
from training.scorer import run_scorer, scores_of
from training.scorer_graph import MaskedScorerGraph, ScorerGraph
from training.state import State
from training.steps.written import write_bundle
from training.table import lines
from training.validation import Validation

Floats = NDArray[np.float64]
Array = NDArray[np.generic]

HALF, ALL = (1 + masks.MASK_BINS.index(end) for end in (0.5, 1.0))
"""The bins of rows that lack a half, and most or all."""

OUTPUTS = [tensor.name for tensor in specs(VAE(gappy_inputs(2), VAEConfig(1, (), "gaussian")))["scorer"].outputs]


def scored(graph: torch.nn.Module, *tensors: torch.Tensor) -> dict[str, torch.Tensor]:
    """The outputs of a scorer by name."""
    with torch.no_grad():
        return dict(zip(OUTPUTS, graph(*tensors), strict=True))


def linear_gaussian() -> tuple[VAE, Floats, Floats]:
    """A model y = W z + b + sigma e of four columns in their own units, with q(z|x) = p(z); b and W W^T + sigma^2 I."""
    vae = VAE(gappy_inputs(4), VAEConfig(latent_dim=2, hidden=(), likelihood="gaussian", sigma="shared"), seed=3)
    x = np.random.default_rng(0).standard_normal((500, 4)) * [1.0, 1e3, 1e-3, 5.0] + [0.0, 7e3, 0.0, 1.0]
    vae.adapt(x)
    with torch.no_grad():
        for head in (vae.mu, vae.logvar):
            head.weight.zero_()
        w, b = vae.theta.weight.double().numpy(), vae.theta.bias.double().numpy()
        sigma = vae.likelihood.predict(torch.zeros(1, 4))[2].double().numpy()[0] / 1.959963984540054
    return vae, b, w @ w.T + np.diag(sigma**2)


def test_a_score_with_a_mask_is_that_of_the_marginal() -> None:
    """
    The bound of 200,000 draws from the prior is log N(x_o; b_o, (W W^T + sigma^2 I)_oo) in original units.

    Within 0.02 nats, whichever columns are missing: no value is made up for them, and none of theirs is counted.
    """
    vae, b, covariance = linear_gaussian()
    center, scale = vae.scaling.center.numpy(), vae.scaling.scale.numpy()
    generator = np.random.default_rng(1)
    eps = torch.from_numpy(generator.standard_normal((200_000, 2), np.float32))
    for mask in ([True] * 4, [False, True, True, True], [True, False, True, True], [False, False, False, True]):
        seen = np.array(mask)
        y = generator.standard_normal((2, 4))
        x = torch.from_numpy(center + scale * y)
        got = scored(MaskedScorerGraph(vae), x, torch.from_numpy(np.tile(seen, (2, 1))), eps)
        exact = multivariate_normal(b[seen], covariance[np.ix_(seen, seen)]).logpdf(y[:, seen])
        exact = exact - np.log(scale[seen]).sum()
        np.testing.assert_allclose(-score("nll", {"log_w": got["log_w"].numpy()}), exact, atol=0.02)


def test_a_score_without_a_column_is_that_of_a_model_without_it() -> None:
    """The same weights less that column's: every output of the others agrees, and the column's own parts are 0."""
    whole = VAE(gappy_inputs(4), VAEConfig(2, (5,), "gaussian"), seed=4)
    x = np.random.default_rng(0).standard_normal((60, 4)) * [1, 30, 2, 1] + 5
    whole.adapt(x)
    less = VAE(from_arrays("less", {"X": x[:, 1:]}).inputs, whole.config, seed=9)
    less.adapt(x[:, 1:])
    state = whole.state_dict()
    first = torch.cat([state["encoder.0.weight"][:, 1:4], torch.zeros(5, 0)], dim=1)
    bias = state["encoder.0.bias"] + state["encoder.0.weight"][:, 5:].sum(dim=1)  # the masks of those that are there
    taken = {"encoder.0.weight": first, "encoder.0.bias": bias, "theta.weight": state["theta.weight"][1:]}
    taken |= {"theta.bias": state["theta.bias"][1:]}
    taken |= {name: state[name] for name in state if name.split(".")[0] in ("mu", "logvar", "decoder")}
    less.load_state_dict({**less.state_dict(), **taken})
    mask = torch.ones(60, 4, dtype=torch.bool)
    mask[:, 0] = False
    eps = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    got = scored(MaskedScorerGraph(whole), torch.from_numpy(x), mask, eps)
    want = scored(ScorerGraph(less), torch.from_numpy(x[:, 1:]), eps)
    for name in OUTPUTS:
        value = got[name][:, 1:] if name.startswith(("feature", "expected", "lower", "upper")) else got[name]
        torch.testing.assert_close(value, want[name], rtol=1e-4, atol=1e-4, msg=name)
    for name in ("feature_nll_iw", "feature_nll_mean"):
        assert (got[name][:, 0] == 0).all()


@pytest.mark.parametrize("value", [0.0, -17.5, 1e308, math.inf, math.nan])
def test_what_stands_under_a_false_mask_does_not_matter(gappy: Fitted, value: float) -> None:
    """To the bit, in onnxruntime: a client may send any number there."""
    engine = Engine(gappy.bundle.graphs, threads=1)
    mask = ~np.isnan(gappy.test)
    x = np.where(mask, gappy.test, 0.0)
    for graph, more in (("encoder", {}), ("scorer", {"eps": gappy.bundle.eps[:16]})):
        want = engine.run(graph, {"x": x, "mask": mask, **more})
        got = engine.run(graph, {"x": np.where(mask, x, value), "mask": mask, **more})
        for name in want:
            np.testing.assert_array_equal(got[name], want[name], err_msg=name)


def test_the_parts_of_what_was_observed_add_up_to_the_score(gappy: Fitted) -> None:
    """Sum of the features and the latent term is the score; a missing feature has no part, and an expected value."""
    engine = Engine(gappy.bundle.graphs, threads=1)
    x = gaps(table(100, 7), 0.5, 7)
    mask = ~np.isnan(x)
    got = engine.run("scorer", {"x": np.where(mask, x, 0), "mask": mask, "eps": gappy.bundle.eps[:16]})
    nll = got["feature_nll_iw"].astype(np.float64).sum(axis=1) + got["latent_term"]
    np.testing.assert_allclose(nll, score("nll", got), rtol=1e-5, atol=1e-3)
    assert (got["feature_nll_iw"][~mask] == 0).all()
    assert np.abs(np.asarray(got["expected"], np.float64)[:, 0] - 1.7e9).max() < 4 * 3600


def test_onnxruntime_agrees_with_pytorch_on_masks_too(gappy: Fitted) -> None:
    """Random masks, everything there, one value, nothing; and the bundle replays some of each before it is served."""
    check_parity(gappy.vae, gappy.graphs)
    observed = gappy.bundle.golden["scorer"]["mask"].sum(axis=1)
    assert observed.max() == 5
    assert observed.min() <= 2
    assert gappy.bundle.golden["observe"]["x"].shape == (len(gappy.bundle.golden["observe"]["z"]), 5)


def test_graphs_take_a_mask_where_values_may_be_missing_and_only_there(gappy: Fitted, fitted: Fitted) -> None:
    """x, mask, eps in this order; a model of complete rows is as it was."""
    inputs = {name: [t.name for t in graph.inputs] for name, graph in gappy.bundle.manifest.graphs.items()}
    assert inputs == {"encoder": ["x", "mask"], "decoder": ["z"], "scorer": ["x", "mask", "eps"], "observe": ["z", "u"]}
    plain = fitted.bundle.manifest
    assert not any(t.name == "mask" for graph in plain.graphs.values() for t in graph.inputs)
    assert (plain.capabilities.missing, plain.mask_bins) == (False, ())
    assert not any(key.startswith("absent") for key in fitted.bundle.calibration)


def test_a_bundle_with_masks_is_written_and_proves_itself(gappy: Fitted, tmp_path: Path) -> None:
    """The manifest says that values may be missing, in which bins, and the engine replays the golden vectors."""
    write(tmp_path / "gappy", gappy.bundle)
    assert gappy.bundle.manifest.capabilities.missing
    assert gappy.bundle.manifest.mask_bins == (0.25, 0.5, 0.75, 1.0)
    drawn = Engine.open(gappy.bundle, threads=1).run(
        "observe", {"z": np.zeros((400, 3), np.float32), "u": np.random.default_rng(0).random((400, 2, 5), np.float32)}
    )
    assert drawn["x"].dtype == np.float64
    assert float(drawn["x"].astype(np.float64)[:, 0].std()) > 100


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask_bins": []}, "mask_bins are there where values may be missing"),
        ({"mask_bins": [0.5, 0.1, 1.0]}, "mask_bins must ascend"),
        ({"mask_bins": [0.1, 0.5]}, "mask_bins must ascend, and end with 1"),
        ({"mask_bins": [0.5, 1.0]}, "is calibrated for mask_bin 3; there are 2"),
        ({"capabilities": {"missing": False}}, "capabilities.missing does not say what the columns say"),
        ({"graphs": {"scorer": None}}, "graph scorer takes no mask"),
    ],
)
def test_a_manifest_whose_masks_do_not_fit_is_refused(gappy: Fitted, changes: dict[str, Any], message: str) -> None:
    """Columns, graphs, capabilities and calibration speak of the same."""
    document = gappy.bundle.manifest.model_dump(mode="json")
    if "graphs" in changes:
        scorer = document["graphs"]["scorer"]
        scorer["inputs"] = [tensor for tensor in scorer["inputs"] if tensor["name"] != "mask"]
    else:
        for name, value in changes.items():
            document[name] = {**document[name], **value} if isinstance(value, dict) else value
    with pytest.raises(ValidationError, match=message):
        Manifest.model_validate(document)


def batches(
    rank: int = 0, processes: int = 1, resident_bytes: int = 2**20, rate: float = 0.8, missing: float = 0.2
) -> Batches:
    """Batches of ten of 103 rows, some of whose values are missing and more hidden."""
    x = gaps(np.random.default_rng(0).standard_normal((103, 6)), missing)
    vae = VAE(gappy_inputs(6), VAEConfig(2, (4,), "gaussian"))
    vae.adapt(x)
    return Batches(vae, x, None, 10, 7, rank, processes, resident_bytes, rate)


def hidden(steps: list[Batch]) -> torch.Tensor:
    """Which values an epoch does not show, in order."""
    return torch.cat([step.v for step in steps]).isnan()


def test_what_is_hidden_is_a_function_of_the_seed_and_the_place() -> None:
    """From any step on, from memory or block by block, in one process or three; another epoch hides other values."""
    whole = list(batches().epoch(3))
    for done in (1, 5):
        rest = list(batches().epoch(3, done))
        torch.testing.assert_close([step.v for step in rest], [step.v for step in whole[done:]], equal_nan=True)
    made = list(batches(resident_bytes=0).epoch(3))
    torch.testing.assert_close([step.v for step in made], [step.v for step in whole], equal_nan=True)
    shares = [list(batches(rank, 3).epoch(3)) for rank in range(3)]
    for step, batch in enumerate(whole):
        torch.testing.assert_close(torch.cat([share[step].v for share in shares]), batch.v, equal_nan=True)
    one, other = (hidden(list(batches(missing=0.0).epoch(epoch))) for epoch in (3, 4))
    assert not torch.equal(one, other)


def test_a_row_hides_a_share_between_none_and_the_rate() -> None:
    """Uniformly drawn: of all values 0.2 were missing and 0.4 of the others go; a column that must be there stays."""
    gone = torch.cat([hidden(list(batches().epoch(epoch))) for epoch in range(60)])
    assert not gone[:, -1].any()
    assert float(gone[:, :-1].double().mean()) == pytest.approx(0.2 + 0.8 * 0.4, abs=0.02)
    assert float(gone[:, :-1].double().mean(dim=1).std()) > 0.25  # one rate for all rows would give 0.22
    assert float(hidden(list(batches(rate=0.0).epoch(1)))[:, :-1].double().mean()) == pytest.approx(0.2, abs=0.03)


def test_a_fit_with_missing_values_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    """To the bit, through the file, wherever it stopped."""
    x, options = gaps(np.random.default_rng(0).standard_normal((1500, 5)), 0.1), FitOptions(epochs=3, batch_size=20)

    def model(seed: int) -> VAE:
        return VAE(gappy_inputs(5), VAEConfig(2, (8,), "gaussian"), seed)

    whole, interrupt, states, vae = model(0), Interrupt(), list[State](), model(0)
    fit(whole, x, x[:100], options, stopping(Interrupt(), 0))
    with pytest.raises(Interrupted):
        fit(
            vae,
            x,
            x[:100],
            options,
            stopping(interrupt, 4),
            save=lambda state: states.append(through_a_file(state, vae, tmp_path)),
            interrupt=interrupt,
        )
    other = model(9)
    fit(other, x, x[:100], options, stopping(Interrupt(), 0), resume=states[0])
    for name, value in whole.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_a_value_that_may_not_be_missing_is_named_when_it_is() -> None:
    """It is a fault of the data, and not taken for a missing value."""
    x = np.random.default_rng(0).standard_normal((100, 3))
    bad = np.where(np.arange(100)[:, None] % 2 == [[9, 9, 1]], np.nan, x)
    with pytest.raises(FitError, match="the value of x2 is not finite"):
        fit(VAE(gappy_inputs(3), VAEConfig(1, (4,), "gaussian")), bad, x, FitOptions(epochs=2, batch_size=5))


def test_a_fit_learns_from_what_there_is() -> None:
    """Two columns that are one: with either missing, the model expects it where the other says, in original units."""
    generator = np.random.default_rng(0)
    a = generator.standard_normal(2000)
    x = np.stack([1e6 + 1e3 * a, a + 0.1 * generator.standard_normal(2000), generator.standard_normal(2000)], axis=1)
    vae = VAE(gappy_inputs(3), VAEConfig(2, (32,), "gaussian"), seed=0)
    fit(vae, gaps(x, 0.2), x[:200], FitOptions(epochs=100, batch_size=50, warmup_epochs=5))
    test = 1e6 + 1e3 * np.array([-1.5, 0.0, 1.5])
    rows = torch.from_numpy(np.stack([np.zeros(3), [-1.5, 0.0, 1.5], np.zeros(3)], axis=1))
    mask = torch.tensor([[False, True, True]]).expand(3, 3)
    eps = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    expected = scored(MaskedScorerGraph(vae), rows, mask, eps)["expected"][:, 0].numpy()
    np.testing.assert_allclose(expected, test, atol=300)
    assert Validation(vae, gaps(x[:200], 0.5), 0)()["validation_elbo"] < 0  # finite, with half of the values gone


def test_each_bin_has_its_own_rows() -> None:
    """Rows that are in it, and others with more hidden, of every share in the bin; never a value that must be there."""
    x, inputs = gaps(np.random.default_rng(0).standard_normal((2000, 21)), 0.06, 1), gappy_inputs(21)
    ends = masks.MASK_BINS
    own = masks.bins_of(x, inputs, ends)
    found = dict(masks.by_bin(x, inputs, ends, (0,)))
    assert sorted(found) == list(range(len(ends) + 1))
    np.testing.assert_array_equal(found[0], x[own == 0])
    np.testing.assert_array_equal(found[1], x[own == 1])  # there are enough
    for bin_ in range(2, len(ends) + 1):
        rows = found[bin_]
        assert (masks.bins_of(rows, inputs, ends) == bin_).all()
        assert len(rows) == (own <= bin_).sum()
        assert not np.isnan(rows[:, -1]).any()
        kept = x[own <= bin_]
        same = np.isnan(rows) | (rows == kept)
        assert same.all()
        assert (np.isnan(rows) >= np.isnan(kept)).all()
        shares = np.isnan(rows[:, :-1]).mean(axis=1)
        assert set(np.round(shares * 20)) == set(masks.counts(inputs, ends, bin_))


def test_bins_that_no_row_can_be_in_have_no_rows() -> None:
    """Of two columns that may be missing a row lacks a half or all; with nothing else observed, all is too much."""
    x = np.random.default_rng(0).standard_normal((50, 3))
    assert [bin_ for bin_, _ in masks.by_bin(x, gappy_inputs(3), masks.MASK_BINS, (0,))] == [0, HALF, ALL]
    alone = gappy_inputs(3).model_copy(
        update={
            "columns": tuple(column.model_copy(update={"missing": True}) for column in gappy_inputs(3).columns or ())
        }
    )
    found = dict(masks.by_bin(x, alone, masks.MASK_BINS, (0,)))
    assert np.isnan(found[1 + masks.MASK_BINS.index(0.7)]).sum(axis=1).tolist() == [2] * 50


def test_a_bundle_has_the_bins_that_its_rows_can_be_in() -> None:
    """Of 20 columns all; of fewer some have no rows, and their place is taken by the next."""
    assert [masks.default_bins(gappy_inputs(n)) for n in (21, 9, 3, 2)] == [
        masks.MASK_BINS,
        (0.15, 0.25, 0.4, 0.5, 0.65, 0.75, 0.9, 1.0),
        (0.5, 1.0),
        (1.0,),
    ]
    assert masks.default_bins(from_arrays("whole", {"X": np.zeros((2, 3))}).inputs) == ()


def test_a_bin_that_all_rows_lack_more_than_has_the_next_ones_calibration(gappy: Fitted) -> None:
    """Where no row is complete, complete ones are compared with those that lack least: there are no others."""
    rows = table(150, 4)
    rows[:, 0] = np.nan
    engine, ends = Engine(gappy.bundle.graphs, threads=1), gappy.bundle.manifest.mask_bins
    known = gappy.bundle.calibration
    found = calibrate(engine, gappy.vae.inputs, gappy.bundle.eps, rows, 16, (16,), mask_bins=ends, reference=known)
    assert {entry.mask_bin for entry in found.entries} == {0, 1, 2, 3, 4}
    for name in ("scores/{}/16/all", "features/{}/16/all"):
        nll = name.format("nll")
        np.testing.assert_array_equal(found.arrays[f"{nll}/0"], found.arrays[f"{nll}/1"])
    for name in ("scores/fused/16/all/{}", "reference/fused/16/{}/knots", "reference/typicality/16/{}"):
        np.testing.assert_array_equal(found.arrays[name.format(0)], found.arrays[name.format(1)])
        assert not np.array_equal(known[name.format(0)], known[name.format(1)])


def test_the_bin_of_a_share_ends_with_its_upper_end() -> None:
    """None missing is a bin of its own."""
    ends = (0.1, 0.25, 0.5, 1.0)
    shares = np.array([0, 0.01, 0.1, 0.1001, 0.25, 0.5, 0.51, 1.0])
    assert calibration.mask_bins(shares, np.array(ends)).tolist() == [0, 1, 1, 2, 2, 3, 4, 4]
    assert calibration.mask_bins(np.zeros(3), np.zeros(0)).tolist() == [0, 0, 0]


def test_the_rows_of_a_bin_are_said_in_words() -> None:
    """By what they miss."""
    assert [calibration.lacking(index, (0.05, 0.1, 1.0)) for index in range(4)] == [
        "that miss nothing",
        "that miss up to 5 %",
        "that miss 5 to 10 %",
        "that miss 10 to 100 %",
    ]


def test_rows_that_too_few_calibration_rows_are_like_are_warned_of(
    gappy: Fitted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By what they miss: others are judged."""
    rows = {entry.mask_bin: entry.rows for entry in gappy.bundle.manifest.calibrated}
    scoring = gappy.bundle.manifest.scoring.model_copy(update={"alpha": 1 / max(rows.values())})
    manifest = gappy.bundle.manifest.model_copy(update={"scoring": scoring})
    write_bundle(Namespace(quiet=True), tmp_path / manifest.name, replace(gappy.bundle, manifest=manifest))
    told = capsys.readouterr().err
    assert f"of some rows there are fewer: of those that miss nothing ({rows[0]})" in told
    assert "their is_anomaly is null" in told


def test_the_alpha_that_can_be_named_is_one_for_all_rows(
    gappy: Fitted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the bin that has the fewest calibration rows: another would leave some rows undecided."""
    fewest = min(entry.rows for entry in gappy.bundle.manifest.calibrated)
    scoring = gappy.bundle.manifest.scoring.model_copy(update={"alpha": 1e-3})
    manifest = gappy.bundle.manifest.model_copy(update={"scoring": scoring})
    write_bundle(Namespace(quiet=True), tmp_path / manifest.name, replace(gappy.bundle, manifest=manifest))
    found = re.search(r"requests must name an alpha of (\S+) or more", capsys.readouterr().err)
    assert found is not None
    assert 1 / (fewest + 1) <= float(found[1]) < 1 / (fewest + 1) + 1e-4


def test_no_rate_is_told_of_rows_that_are_all_the_same(gappy: Fitted) -> None:
    """Of those of which nothing is left none is rare: a rate of 0 there is no sign of anything."""
    engine, arrays = Engine(gappy.bundle.graphs, threads=1), dict(gappy.bundle.calibration)
    for entry in gappy.bundle.manifest.calibrated:
        if entry.mask_bin == 2:
            arrays[entry.key] = np.full(entry.rows, 5.0)
    for calibrated, bins in ((gappy.bundle.calibration, {0, 1, 2, 3, 4}), (arrays, {0, 1, 3, 4})):
        bundle = replace(gappy.bundle, calibration=calibrated)
        told: Any = list(false_alarms(bundle, engine, gappy.test, np.zeros((1, 0))))
        assert {row["mask_bin"] for row in told} == bins


def test_false_alarms_hold_in_every_bin(gappy: Fitted) -> None:
    """
    Of 40 calibrations on 200 rows each, nine in ten have rates inside their 90 % interval, whatever is missing.

    The thresholds of complete rows, used for all, are far off.
    """
    engine, inputs, eps = Engine(gappy.bundle.graphs, threads=1), gappy.vae.inputs, gappy.bundle.eps
    ends = gappy.bundle.manifest.mask_bins
    inside: dict[int, list[bool]] = {}
    rates: dict[int, list[float]] = {}
    reference = {k: v for k, v in gappy.bundle.calibration.items() if k.startswith(REFERENCE)}
    for seed in range(40):
        rows, test = gaps(table(200, 100 + seed), 0.05, seed), gaps(table(300, 900 + seed), 0.05, seed)
        found = calibrate(engine, inputs, eps, rows, 16, (16,), mask_bins=ends, reference=reference, seed=seed)
        manifest = gappy.bundle.manifest.model_copy(update={"calibrated": found.entries})
        bundle = replace(gappy.bundle, manifest=manifest, calibration=found.arrays)
        complete = next(e for e in found.entries if (e.kind, e.mask_bin) == ("nll", 0)).thresholds[0].threshold
        for row in false_alarms(bundle, engine, test, np.zeros((1, 0)), seed):
            assert isinstance(row, dict)
            assert isinstance(row["mask_bin"], int)
            if row["alpha"] == 0.1:
                inside.setdefault(row["mask_bin"], []).append(bool(row["inside"]))
        for bin_, some in masks.by_bin(test, inputs, ends, (seed,)):
            raw = score("nll", run_scorer(engine, inputs, some, eps[:16], ("log_w",)))
            rates.setdefault(bin_, []).append(float((raw > complete).mean()))
    assert sorted(inside) == [0, 1, 2, 3, 4]
    for bin_, values in inside.items():
        assert 0.75 <= np.mean(values) <= 1, (bin_, np.mean(values))
    assert np.mean(rates[3]) > 0.2 or np.mean(rates[3]) < 0.02


def test_rows_that_lack_different_columns_are_ranked_by_what_they_have() -> None:
    """
    A column of millions adds 14 nats to every score, one of millionths takes 14 off: which are missing is no anomaly.

    With what missing columns add on average, anomalies among rows that lack half are found; without it, hardly.
    """
    generator = np.random.default_rng(0)
    scale = 10.0 ** np.array([6, -6, 6, -6, 6, -6, 6, -6, 0])
    w = generator.standard_normal((2, 9))
    x = (generator.standard_normal((3000, 2)) @ w + 0.5 * generator.standard_normal((3000, 9))) * scale
    inputs = gappy_inputs(9)
    vae = VAE(inputs, VAEConfig(2, (16,), "gaussian"), seed=0)
    fit(vae, x[:2000], x[:200], FitOptions(epochs=8))
    engine = scorer(vae)
    eps = np.random.default_rng(1).standard_normal((16, 2)).astype(np.float32)
    found = reference_of(engine, inputs, eps, x[2000:2500], (16,), masks.MASK_BINS)
    absent = np.asarray(found[f"absent/nll/16/all/{HALF}"], np.float64)
    half = masks.counts(inputs, masks.MASK_BINS, HALF)
    normal = masks.hide(x[2500:], inputs, half, np.random.default_rng(2))
    strange = masks.hide(x[2500:] + 2 * scale, inputs, half, np.random.default_rng(3))
    raw = [score("nll", run_scorer(engine, inputs, rows, eps, ("log_w",))) for rows in (normal, strange)]
    whole = [
        calibration.completed(values, ~np.isnan(rows), absent)
        for values, rows in zip(raw, (normal, strange), strict=True)
    ]
    assert auroc(*whole) > 0.95
    assert auroc(*raw) < auroc(*whole) - 0.1
    spread = [float(values[0].std()) for values in (raw, whole)]
    assert spread[1] < spread[0] / 3


def test_rows_that_lack_a_column_of_rare_surprises_are_ranked_by_what_they_have() -> None:
    """
    A column that is 0 in all but a few rows adds next to nothing to a normal row, and thousands of nats to those.

    So it does to what rows that lack it are taken to be short of: else all of them would be above all that have it.
    """
    generator = np.random.default_rng(0)
    x = generator.standard_normal((1500, 9))
    x[:, 0] = np.where(generator.random(1500) < 0.02, 50.0, 0.0)
    inputs = gappy_inputs(9)
    vae = VAE(inputs, VAEConfig(2, (), "gaussian"), seed=0)
    vae.adapt(x[x[:, 0] == 0])
    engine, eps = scorer(vae), np.random.default_rng(1).standard_normal((16, 2)).astype(np.float32)
    known = reference_of(engine, inputs, eps, x[:500], (16,), masks.MASK_BINS)
    rows = masks.hide(x[500:], inputs, masks.counts(inputs, masks.MASK_BINS, HALF), generator)
    outputs, usual = run_scorer(engine, inputs, rows, eps, ("log_w", "mu")), rows[:, 0] == 0
    assert score("nll", outputs)[~usual & ~np.isnan(rows[:, 0])].min() > 1000
    ranked = Reference.of(known, 16, HALF).score("nll", outputs, ~np.isnan(rows))[1]
    assert 0.4 < auroc(ranked[usual], ranked[np.isnan(rows[:, 0])]) < 0.6
    assert 0 < float(np.asarray(known[f"reference/typicality/16/{HALF}"], np.float64)) < 100  # of normal rows, too


def test_rows_of_two_folds_lack_different_values(gappy: Fitted) -> None:
    """The same rows in both folds: as they are they have the same scores, and with values hidden others."""
    engine, rows, inputs = Engine(gappy.bundle.graphs, threads=1), table(60, 5), gappy_inputs(5)
    folds = [Fold(engine, rows, {})] * 2
    found = cross_calibrate(folds, inputs, gappy.bundle.eps, 1, (1,), mask_bins=gappy.bundle.manifest.mask_bins)
    for entry in found.entries:
        one, other = np.split(np.asarray(found.arrays[entry.key], np.float64), [entry.folds[0]])
        assert np.array_equal(one, other) == (entry.mask_bin in (0, 4)), entry  # in the last all that may lack does
    alone = calibrate(engine, inputs, gappy.bundle.eps, np.concatenate([rows, rows]), 1, (1,))
    for key in (entry.features_key for entry in alone.entries if entry.kind == "nll"):
        grids = (np.asarray(arrays[key], np.float64) for arrays in (found.arrays, alone.arrays))
        np.testing.assert_allclose(next(grids), next(grids) + MEMBER_NATS, atol=1e-3)


def test_false_alarms_hold_where_all_rows_lie_at_an_end_of_a_bin() -> None:
    """Rows of 100 columns that lack as many as a bin begins with, or ends with; those that calibrate spread over it."""
    vae = VAE(gappy_inputs(100), VAEConfig(2, (), "gaussian"), seed=0)
    x = np.random.default_rng(0).standard_normal((12_000, 100)) * 2.0 ** np.arange(100)
    vae.adapt(x[:1000])
    inputs, engine = vae.inputs, scorer(vae)
    eps = np.random.default_rng(1).standard_normal((1, 2)).astype(np.float32)
    known = reference_of(engine, inputs, eps, x[:1000], (1,), masks.MASK_BINS)
    dealt = dict(masks.by_bin(x[1000:6000], inputs, masks.MASK_BINS, (0,)))

    def ranked(rows: Array, bin_: int) -> Floats:
        outputs = run_scorer(engine, inputs, rows, eps, ("log_w",))
        return Reference.of(known, 1, bin_).score("nll", outputs, ~np.isnan(rows))[1]

    for bin_ in (3, HALF, HALF + 1, 1 + masks.MASK_BINS.index(0.7)):
        limit = calibration.threshold(np.sort(ranked(dealt[bin_], bin_)), 0.05)
        assert limit is not None
        every = masks.counts(inputs, masks.MASK_BINS, bin_)
        for end in (every[:1], every[-1:]):
            rows = masks.hide(x[6000:], inputs, end, np.random.default_rng(bin_))
            assert (ranked(rows, bin_) > limit).mean() == pytest.approx(0.05, abs=0.015), (bin_, end)


def _outside(evaluation: dict[str, Any]) -> dict[str, Any]:
    """The same, with no rate inside its interval."""
    return {**evaluation, "false_alarms": [{**row, "inside": False} for row in evaluation["false_alarms"]]}


def test_a_bundle_is_evaluated_and_calibrated_again_with_its_bins(gappy: Fitted) -> None:
    """False alarms for each bin in the manifest and in print; what missing features add stays that of the model."""
    bundle = gappy.bundle
    found: Any = bundle.manifest.evaluation
    assert {row["mask_bin"] for row in found["false_alarms"]} == {0, 1, 2, 3, 4}
    assert found["auroc"]["nll"] > 0.9
    text = "\n".join(lines(found))
    assert "false alarms at alpha 0.1 " in text
    masked = [row for row in found["false_alarms"] if row["mask_bin"]]
    outside = [row for row in masked if not row["inside"]]
    assert f" {len(masked) - len(outside)} of {len(masked)} rates inside the 90 % interval" in text
    assert text.count("% missing") == len(outside)
    assert "false alarms at alpha 0.1, 25 to 50 % missing" in "\n".join(lines(_outside(found)))
    made = recalibrate(bundle, 2, gaps(table(250, 5), 0.1, 5), "1" * 64, threads=1)
    assert {e.key for e in made.manifest.calibrated} == {e.key for e in bundle.manifest.calibrated}
    assert made.manifest.mask_bins == bundle.manifest.mask_bins
    for key in (key for key in bundle.calibration if key.startswith("absent")):
        np.testing.assert_array_equal(made.calibration[key], bundle.calibration[key])
    engine = Engine(made.graphs, threads=1)
    again: Any = evaluate(made, engine, gappy.test, draws=2)
    assert {row["mask_bin"] for row in again["false_alarms"]} == {0, 1, 2, 3, 4}
    scores = scores_of(made, engine, gappy.test)
    assert set(scores) == set(SCORE_OUTPUTS)
    assert all(np.isfinite(values).all() for values in scores.values())
