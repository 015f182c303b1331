"""Calibration in groups: which columns make them, that rates hold within each, and what the steps say of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from service.anomaly import Anomaly
from service.bundle import open_bundle
from service.calibrated import Groups
from service.calibration import threshold
from service.engine import Engine
from service.groups import NONE, UNKNOWN, groups_of
from service.inputs import Column, Inputs, Windows
from service.reference import Reference
from service.scores import SCORE_OUTPUTS
from tests.training.itself import ITSELF
from training.__main__ import main
from training.calibrate import KINDS, calibrate
from training.data import load
from training.errors import DataError
from training.groups import MOST_GROUPS, groups_by
from training.parts import Dealing, deal
from training.reference import reference_of
from training.schema import Schema
from training.scorer import p_values_of, ranked_of, run_scorer

Floats = NDArray[np.float64]

SITE = Column(name="site", kind="categorical", vocabulary=("north", "south"), unknown="other", missing=True)
COLUMNS = (
    Column(name="speed"),
    SITE,
    Column(name="alarm", kind="binary"),
    Column(name="grade", kind="categorical", vocabulary=("other", "(other)"), unknown="other"),
    Column(name="part", kind="categorical", vocabulary=tuple(map(str, range(MOST_GROUPS + 1)))),
    Column(name="mode", kind="integer", missing=True),
    Column(name="starts", kind="count"),
)
INPUTS = Inputs(kind="table", shape=(7,), dtype="float64", columns=COLUMNS, clamp=100.0)
X = np.zeros((MOST_GROUPS + 1, 7))
X[:, 5] = np.resize([3, -1, np.nan], len(X))
X[:, 6] = range(len(X))
QUICK = ("--epochs", "2", "--hidden", "8", "--latent-dim", "2", "--draws", "4", "--threads", "1", "--quiet")
GAUSSIAN = ("--likelihood", "gaussian", "--prior", "standard-normal")  # quicker to export than the defaults


def test_a_group_is_a_value_of_the_column() -> None:
    """By the names of its vocabulary, another one among them; of truth values 0 and 1."""

    def names(column: str) -> tuple[str, ...]:
        found = groups_by(column, INPUTS, X)
        assert found is not None
        assert found.column == column
        return found.names

    assert names("site") == ("site=north", "site=south", "site=other")
    assert names("alarm") == ("alarm=0", "alarm=1")
    assert names("grade") == ("grade=other", "grade=(other)", "grade=((other))")
    assert groups_by(None, INPUTS, X) is groups_by("", INPUTS, X) is None


def test_groups_of_whole_numbers_are_the_values_that_there_are() -> None:
    """And those of the groups that there were; a row of another value, or of none, is in no group."""
    found = groups_by("mode", INPUTS, X)
    assert found == Groups(column="mode", names=("mode=-1", "mode=3"), values=(-1, 3))
    assert groups_of(X[:3], INPUTS, found).tolist() == [1, 0, NONE]
    x = X.copy()
    x[:, 5] = 2
    assert groups_of(x[:1], INPUTS, found).tolist() == [UNKNOWN]
    again = groups_by("mode", INPUTS, x, found)
    assert again is not None
    assert again.values == (-1, 2, 3)
    x[:, 5] = np.nan
    with pytest.raises(DataError, match="--groups mode: no row has a value"):
        groups_by("mode", INPUTS, x)


def test_windows_are_grouped_by_one_of_their_readings() -> None:
    """The last reading of a sensor is its column @0."""
    windows = Windows(sensors=(Column(name="speed"), Column(name="mode", kind="integer")), length=3, stride=1)
    inputs = Inputs(kind="table", shape=(6,), dtype="float64", columns=windows.columns, windows=windows, clamp=100.0)
    x = np.array([[0.1, 1, 0.2, 1, 0.3, 2], [0.2, 1, 0.3, 2, 0.4, 1], [0.3, 2, 0.4, 1, 0.5, 1]])
    found = groups_by("mode@0", inputs, x)
    assert found == Groups(column="mode@0", names=("mode@0=1", "mode@0=2"), values=(1, 2))
    assert groups_of(x, inputs, found).tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ("place", "--groups place: there is no such column; there are speed, site, alarm, grade, part, mode, starts"),
        ("speed", "--groups speed: the column is numeric; groups are by one that is categorical, ordinal, binary, int"),
        ("part", "--groups part: 33 values; at most 32 can be groups"),
        ("starts", "--groups starts: 33 values; at most 32 can be groups"),
    ],
)
def test_a_column_that_makes_no_groups_is_refused(column: str, reason: str) -> None:
    """By name, with what would do."""
    with pytest.raises(DataError, match=reason):
        groups_by(column, INPUTS, X)
    image = Inputs(kind="image", shape=(2, 2), dtype="float32", layout="HW", clamp=100.0)
    with pytest.raises(DataError, match=f"--groups {column}: no table"):
        groups_by(column, image, X)


def test_whole_numbers_that_were_taken_for_measurements_are_told_what_would_do() -> None:
    """A guess never makes a column of integers; a schema does."""
    x = X.copy()
    x[:, 0] = np.arange(len(x))
    with pytest.raises(DataError, match="it has whole numbers alone: a schema can make it one of these"):
        groups_by("speed", INPUTS, x)


PLAIN = Inputs(kind="table", shape=(3,), dtype="float64", columns=(Column(name="a"), SITE, Column(name="b")), clamp=1e3)
GROUPS = groups_by("site", PLAIN, np.zeros((1, 3)))


def rows(n: int, generator: np.random.Generator) -> Floats:
    """Rows of two sites, a quarter of them in the south, where values are spread twice as widely."""
    site = (generator.random(n) < 0.25).astype(np.float64)
    a, b = generator.normal(size=(2, n)) * (1 + site)
    return np.stack([a, site, b], axis=1)


def test_the_rows_of_a_bin_are_those_of_its_groups_and_those_of_none() -> None:
    """Every kind in each: the scores of all are those of the groups, and of rows whose site is missing or hidden."""
    x = rows(400, np.random.default_rng(0))
    x[:5, 1] = np.nan
    eps, ends = np.zeros((1, 3), np.float32), (1.0,)
    known = reference_of(ITSELF, PLAIN, eps, rows(300, np.random.default_rng(1)), (1,), ends)
    found = calibrate(ITSELF, PLAIN, eps, x, 1, (1,), mask_bins=ends, reference=known, groups=GROUPS)
    by = {(entry.kind, entry.group, entry.mask_bin): entry for entry in found.entries}
    names = ("all", "site=north", "site=south")
    assert {(kind, group, 0) for kind in KINDS for group in names} < set(by)
    assert {(group, bin_) for _, group, bin_ in by} == {*((group, 0) for group in names), ("all", 1)}
    assert found.groups is not None
    assert found.groups.rows == (int((x[:, 1] == 0).sum()), int((x[:, 1] == 1).sum()), 0)
    for kind in KINDS:
        parts = [found.arrays[by[kind, group, 0].key] for group in ("site=north", "site=south")]
        assert [len(part) for part in parts] == [int((x[:, 1] == site).sum()) for site in (0, 1)]
        assert np.array_equal(np.sort(np.concatenate(parts)), found.arrays[by[kind, "all", 0].key])
    assert not by["nll", "site=north", 0].thresholds


@pytest.mark.parametrize("kind", ["nll", "latent", "typicality", "fused"])
def test_false_alarms_hold_within_each_group_where_those_of_all_together_do_not(kind: str) -> None:
    """
    Of 100 splits of 400 and 400 rows at 0.1: by their own calibration rows each group has its rate, to a hundredth.

    By all together the quieter site has next to no alarms, and the other one three times too many.
    """
    generator, eps = np.random.default_rng(2), np.zeros((1, 3), np.float32)
    known = reference_of(ITSELF, PLAIN, eps, rows(500, generator), (1,), (1.0,))
    flagged: dict[tuple[str, str], list[float]] = {}
    for _ in range(100):
        x, test = rows(400, generator), rows(400, generator)
        found = calibrate(ITSELF, PLAIN, eps, x, 1, (1,), reference=known, groups=GROUPS)
        outputs = run_scorer(ITSELF, PLAIN, test, eps, SCORE_OUTPUTS[kind])
        scores = Reference.of(found.arrays, 1, 0).score(kind, outputs, None)[0]
        for entry in (entry for entry in found.entries if entry.kind == kind):
            limit = threshold(np.asarray(found.arrays[entry.key], np.float64), 0.1)
            assert limit is not None
            for site, group in enumerate(("site=north", "site=south")):
                if entry.group in ("all", group):
                    rate = (scores[test[:, 1] == site] > limit).mean()
                    flagged.setdefault((group, entry.group), []).append(float(rate))
    mean = {key: float(np.mean(values)) for key, values in flagged.items()}
    for group in ("site=north", "site=south"):
        assert mean[group, group] == pytest.approx(0.1, abs=0.012)
    assert mean["site=north", "all"] < 0.05
    assert mean["site=south", "all"] > 0.2


def write(path: Path, n: int, seed: int) -> Path:
    """Rows as CSV; of the third site there are few."""
    generator = np.random.default_rng(seed)
    x = rows(n, generator)
    sites = np.where(generator.random(n) < 0.04, "west", np.where(x[:, 1] == 1, "south", "north"))
    lines = [f"{a:.6f},{site},{b:.6f}" for (a, _, b), site in zip(x, sites, strict=True)]
    path.write_text("\n".join(["a,site,b", *lines]) + "\n")
    return path


def test_the_whole_way_in_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fit says which are too small, evaluate counts each, calibrate keeps them or takes others, export has them."""
    data, model = write(tmp_path / "rows.csv", 4000, 0), tmp_path / "models" / "sites"
    assert main(["fit", "--data", str(data), "--output", str(model), "--groups", "site", *GAUSSIAN, *QUICK]) == 0
    assert "needs: site=west (" in capsys.readouterr().err
    first = open_bundle(model)
    groups = first.manifest.groups
    assert groups is not None
    assert (groups.column, groups.names) == ("site", ("site=north", "site=south", "site=west"))
    assert sum(groups.rows) == first.manifest.data.rows["calibration"]
    counted = cast("list[dict[str, Any]]", first.manifest.evaluation["false_alarms"])
    assert {(row["group"], row["by"], row["interval"] is None) for row in counted if row["alpha"] == 0.01} == {
        ("all", "all", False),
        ("site=north", "site=north", False),
        ("site=south", "site=south", False),
        ("site=west", "all", True),
    }
    shown = first.report["report.html"].decode()
    assert "site=south" in shown
    assert "too few calibration rows" in shown
    command = ["--bundle", str(model), "--data", str(data), "--threads", "1"]
    assert main(["evaluate", *command, "--draws", "2"]) == 0
    assert "false alarms at alpha 0.05, site=south" in capsys.readouterr().out

    _p_values_are_those_of_the_service(first.path, data)

    normals = ["calibrate", "--bundle", str(model), "--data", str(tmp_path / "normals.csv"), "--quiet"]
    for version, more, names in (
        (2, [], groups.names),
        (3, ["--groups", ""], ()),
        (4, [], ()),
        (5, ["--groups", "site"], groups.names),
    ):
        write(tmp_path / "normals.csv", 300, version)
        assert main([*normals, *more]) == 0
        made = open_bundle(model).manifest
        assert (made.version, made.groups.names if made.groups else ()) == (version, names)
        assert {entry.group for entry in made.calibrated} == {"all", *names}
        assert made.groups is None or sum(made.groups.rows) == 300
    saved = ["export", "--checkpoint", str(model / "checkpoint-1.npz"), "--output", str(tmp_path / "again")]
    assert main([*saved, "--data", str(data), "--groups", "site", "--threads", "1", "--quiet"]) == 0
    again = open_bundle(tmp_path / "again")
    assert (again.manifest.groups, again.graphs) == (groups, first.graphs)
    assert again.calibration.keys() == first.calibration.keys()
    for key, scores in first.calibration.items():
        np.testing.assert_allclose(again.calibration[key].astype(np.float64), scores.astype(np.float64), rtol=1e-5)
    Engine.open(again, threads=1)
    capsys.readouterr()
    assert main([*saved, "--groups", "site", "--quiet"]) == 2
    assert "--groups is of calibration rows" in capsys.readouterr().err
    write(tmp_path / "normals.csv", 300, 0)
    assert main([*normals, "--groups", "a"]) == 2
    assert "--groups a: the column is numeric" in capsys.readouterr().err


def _p_values_are_those_of_the_service(path: Path, data: Path) -> None:
    """At the default alpha: rows of groups that are too small for it by all."""
    bundle = open_bundle(path)
    x = deal(load(str(data), Schema.of(bundle.manifest)), Dealing.of(bundle.manifest.training)).test
    engine, anomaly = Engine(bundle.graphs, threads=1), Anomaly(bundle)
    plan = anomaly.plan(kind=None, samples=None, alpha=None)
    feeds = {"x": x, "eps": bundle.eps[: plan.entry.samples]}
    scored = anomaly.judge(plan, x, engine.run("scorer", feeds, plan.outputs))
    assert scored.grouped is not None
    assert set(scored.grouped.group) == {"all", "site=north", "site=south"}
    ranked = ranked_of(bundle, engine, x)["nll"]
    np.testing.assert_allclose(p_values_of(bundle, x, ranked, "nll"), scored.p_values)
