"""Readings of sensors to windows: runs apart, in the order of time, anomalies named; and `vae-train` on them."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.bundle import Bundle, open_bundle
from service.inputs import Column
from tests.training.commanded import PLAIN
from tests.training.tables import csv_file
from tests.training.test_tables import READING
from tests.training.unexported import fit_alone
from training import checkpoint, series
from training.__main__ import main
from training.cells import Reading
from training.data import Dataset
from training.errors import DataError
from training.schema import Schema
from training.series import Cut
from training.steps.reading import as_known

Floats = NDArray[np.float64]
QUICK = (*PLAIN, "--epochs", "2", "--hidden", "8", "--latent-dim", "2", "--draws", "4", "--threads", "1")
FLOW, HEAT = Column(name="flow"), Column(name="heat")
SEEN = Column(name="seen", time="iso8601")
Make = Callable[..., Dataset]


@pytest.fixture
def windows_of(tmp_path: Path) -> Make:
    """The windows of a CSV."""

    def make(text: str, columns: tuple[Column, ...], cut: Cut, label: str | None = None) -> Dataset:
        schema = series.schema_of(Schema(columns, label=label), cut)
        readings = series.of_table(csv_file(tmp_path, text), schema, Reading())
        return series.windowed(readings, cut.windows(schema.columns))

    return make


def test_no_window_crosses_from_one_run_to_another(windows_of: Make) -> None:
    """Also where the readings of two machines are mixed in the file; each keeps its own order."""
    text = "machine,flow\n" + "".join(f"{'ab'[i % 3 == 0]},{i}\n" for i in range(12))
    found = windows_of(text, (FLOW,), Cut(3, 2, group="machine"))
    a, b = [i for i in range(12) if i % 3], [0, 3, 6, 9]
    assert found.x.tolist() == [b[0:3], a[0:3], a[2:5], a[4:7]]
    assert found.places is not None
    assert found.places.run.tolist() == [0, 1, 1, 1]
    assert found.places.first.tolist() == [0, 0, 2, 4]
    assert found.inputs.names == ("flow@-2", "flow@-1", "flow@0")


def test_anomalous_windows_share_no_reading(windows_of: Make) -> None:
    """One fault in many windows that overlap is not many faults: no figure of the evaluation is surer for them."""
    text = "flow,broken\n" + "".join(f"{i},{int(6 <= i < 14)}\n" for i in range(24))
    found = windows_of(text, (FLOW,), Cut(4, 1), label="broken")
    assert found.anomalies is not None
    assert found.anomalies.tolist() == [[3, 4, 5, 6], [7, 8, 9, 10], [11, 12, 13, 14]]


def test_windows_with_an_anomalous_reading_are_anomalies(windows_of: Make) -> None:
    """And none of them is learned from."""
    text = "flow,broken\n" + "".join(f"{i},{int(i in (4, 9))}\n" for i in range(12))
    found = windows_of(text, (FLOW,), Cut(2, 2), label="broken")
    assert found.x.tolist() == [[0, 1], [2, 3], [6, 7], [10, 11]]
    assert found.anomalies is not None
    assert found.anomalies.tolist() == [[4, 5], [8, 9]]
    assert found.places is not None
    assert found.places.first.tolist() == [0, 2, 6, 10]
    with pytest.raises(DataError, match="every window has a reading that is an anomaly"):
        windows_of("flow,broken\n1,1\n2,0\n3,1\n", (FLOW,), Cut(2, 1), label="broken")


def test_readings_that_go_back_in_time_are_refused_by_line(windows_of: Make) -> None:
    """Within a run; the next machine may begin where it likes, and the time is no sensor."""
    head, cut = "seen,machine,flow\n", Cut(2, 1, group="machine", time="seen")
    good = head + "2026-01-01,a,1\n2026-01-02,a,2\n2026-01-01,b,3\n2026-01-01,b,4\n"
    found = windows_of(good, (SEEN, FLOW), cut)
    assert found.x.tolist() == [[1, 2], [3, 4]]
    assert found.schema is not None
    assert (found.schema.columns, found.schema.ignored) == ((FLOW,), ("machine", "seen"))
    with pytest.raises(DataError, match=r"rows.csv: line 5, column 'seen': earlier than the reading before it"):
        windows_of(good[: -len("2026-01-01,b,4\n")] + "2025-12-31,b,4\n", (SEEN, FLOW), cut)


@pytest.mark.parametrize(
    ("text", "columns", "cut", "told"),
    [
        ("seen,flow\n2026-01-01,1\n", (SEEN, FLOW), Cut(2, 1), "column 'seen' holds instants, and is no sensor"),
        ("flow\n1\n", (FLOW,), Cut(2, 1, time="seen"), "--time seen: .* no column of instants or numbers of this name"),
        ("flow\n1\n", (FLOW,), Cut(2, 1, time="flow"), "no column that could be a sensor"),
        ("flow\n1\n2\n", (FLOW,), Cut(2, 1, group="machine"), "no column 'machine', which says what run"),
        (
            "machine,flow\n,1\na,2\n",
            (FLOW,),
            Cut(2, 1, group="machine"),
            "line 2, column 'machine': the value is missing",
        ),
        (
            "seen,flow\n2026-01-01,1\n,2\n",
            (SEEN, FLOW),
            Cut(2, 1, time="seen"),
            "line 3, column 'seen': the value is missing",
        ),
        ("flow\n1\n2\n", (FLOW,), Cut(3, 1), "no run has the 3 readings of a window"),
    ],
)
def test_what_makes_no_windows_is_refused_by_name(
    windows_of: Make, text: str, columns: tuple[Column, ...], cut: Cut, told: str
) -> None:
    """With what would help."""
    with pytest.raises(DataError, match=told):
        windows_of(text, columns, cut)


def test_arrays_are_readings_too() -> None:
    """With runs and labels beside them."""
    x = np.arange(12.0).reshape(6, 2)
    found = series.of_arrays(
        "a.npz", {"X": x, "columns": np.array(["flow", "heat"]), "runs": np.array([7, 7, 7, 2, 2, 2])}
    )
    windows = series.windowed(found, Cut(2, 1, differences=True).windows(found.sensors))
    assert windows.x.tolist() == [[6, 7, 2, 2], [8, 9, 2, 2], [0, 1, 2, 2], [2, 3, 2, 2]]
    strange = series.of_arrays("a.npz", {"X": x, "y": np.array([0, 0, 0, 0, 0, 1])})
    assert len(series.windowed(strange, Cut(2, 1).windows(strange.sensors)).x) == 4
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"X": x, "runs": np.zeros(5, int)}, "one for each of the 6 readings"),
        ({"X": x, "runs": np.zeros(6)}, "runs must be whole numbers"),
        ({"X": np.zeros((3, 2, 2))}, "readings of sensors are 2-D"),
    )
    for arrays, told in cases:
        with pytest.raises(DataError, match=told):
            series.of_arrays("a.npz", arrays)


def write(path: Path, readings: int, seed: int, machines: str = "ab") -> Path:
    """A CSV of some machines, one behind the other: what a sensor shows wanders, and another follows it."""
    generator = np.random.default_rng(seed)
    lines = ["seen,machine,flow,heat"]
    for machine in machines:
        flow = 50 + np.convolve(generator.normal(size=readings + 9), np.ones(10) / 3, "valid")
        heat = 2 * flow + 0.1 * generator.normal(size=readings)
        lines += [f"{100 + i},{machine},{a:.4f},{b:.4f}" for i, (a, b) in enumerate(zip(flow, heat, strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


def fit(data: Path, model: Path, *more: str) -> int:
    """`vae-train fit` for a moment."""
    cut = ("--window", "8", "--stride", "4", "--group", "machine", "--time", "seen")
    return main(["fit", "--data", str(data), "--output", str(model), *cut, *QUICK, *more])


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle]:
    """The data and the bundle."""
    folder = tmp_path_factory.mktemp("line")
    data = write(folder / "readings.csv", 1000, 0)
    assert fit(data, folder / "line", "--quiet", "--differences") == 0
    return data, open_bundle(folder / "line")


def test_a_bundle_of_windows_says_how_they_are_made(fitted: tuple[Path, Bundle]) -> None:
    """All that a service needs to make them of raw readings."""
    manifest = fitted[1].manifest
    windows = manifest.inputs.windows
    assert windows is not None
    assert [sensor.name for sensor in windows.sensors] == ["flow", "heat"]
    assert (windows.length, windows.stride, windows.differences) == (8, 4, True)
    assert manifest.inputs.names[:4] == ("flow@-7", "heat@-7", "change of flow@-6", "change of heat@-6")
    assert manifest.training["table"] == {
        "ignored": ["machine", "seen"],
        "label": None,
        "missing": ["", "na", "n/a", "null", "none", "nan", "?"],
        "group": "machine",
        "time": {**SEEN.model_dump(mode="json"), "time": None},
    }


def test_a_bundle_of_windows_is_evaluated_on_windows_that_do_not_overlap(
    fitted: tuple[Path, Bundle], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The data of the fit give its test windows again; others, of other machines, all that are apart."""
    data, bundle = fitted
    evaluate = ["evaluate", "--bundle", str(bundle.path), "--draws", "4", "--threads", "1"]
    assert main([*evaluate, "--data", str(data)]) == 0
    said = capsys.readouterr().out
    assert "the test rows of the split that the bundle was fitted with" in said
    assert f"rows {bundle.manifest.data.rows['test']}" in " ".join(said.split())
    other = write(tmp_path / "other.csv", 101, 1, "xyz")
    assert main([*evaluate, "--data", str(other)]) == 0
    said = capsys.readouterr().out
    assert "all windows that do not overlap" in said
    assert "rows 36" in " ".join(said.split())  # of each machine 12


def test_a_bundle_of_windows_is_calibrated_on_windows_that_do_not_overlap(
    fitted: tuple[Path, Bundle], tmp_path: Path
) -> None:
    """By the names of its sensors, in any order; the column of the runs must be there."""
    bundle = fitted[1]
    other = write(tmp_path / "other.csv", 101, 2, "xyz")
    calibrate = ["calibrate", "--bundle", str(bundle.path), "--threads", "1", "--quiet", "--data"]
    assert main([*calibrate, str(other)]) == 0
    made = open_bundle(bundle.path.parent)
    assert (made.manifest.version, made.manifest.calibrated[0].rows) == (2, 36)
    assert made.manifest.inputs == bundle.manifest.inputs


def test_readings_without_their_runs_are_refused_at_every_step(
    fitted: tuple[Path, Bundle], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Windows would cross from one machine to another."""
    lines = write(tmp_path / "whole.csv", 100, 3).read_text().splitlines()
    bare = tmp_path / "bare.csv"
    bare.write_text("\n".join(",".join(np.delete(line.split(","), 1)) for line in lines) + "\n")
    assert main(["calibrate", "--bundle", str(fitted[1].path), "--data", str(bare), "--threads", "1"]) == 2
    assert "no column 'machine', which says what run a reading is of" in capsys.readouterr().err


def test_arrays_of_readings_are_fitted_and_evaluated(
    fitted: tuple[Path, Bundle], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of .npz, with runs; a run that is too short is told of."""
    x = np.random.default_rng(0).normal(size=(1500, 2)).cumsum(axis=0)
    data, model = tmp_path / "readings.npz", tmp_path / "line"
    np.savez(data, X=x, runs=np.repeat([0, 1, 2], [900, 595, 5]), columns=["flow", "heat"])
    said = fit_alone("--data", str(data), "--output", str(model), "--window", "8", "--stride", "4", *QUICK)
    assert "371 windows of 8 readings, one every 4, in 3 runs" in said.out
    assert "1 run of 3 with fewer than 8 readings" in said.err
    options = Namespace(data=str(data), label=None, **dict.fromkeys(READING))
    begun = checkpoint.load(model / "checkpoint-1.npz")
    again = as_known(options, Schema.known(begun.inputs, begun.training, "the checkpoint"))
    assert again.hash == begun.data.hash
    evaluate = ["evaluate", "--bundle", str(fitted[1].path), "--draws", "4", "--threads", "1", "--data", str(data)]
    assert main(evaluate) == 0
    assert "rows 186" in " ".join(capsys.readouterr().out.split())  # of the long runs 112 and 74, which are apart


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--stride", "4"), "--stride is for windows: say by --window"),
        (("--differences",), "--differences is for windows"),
        (("--group", "machine"), "--group is for windows"),
        (("--time", "seen"), "--time is for windows"),
    ],
)
def test_options_of_windows_without_any_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], told: str
) -> None:
    """They would change nothing, silently."""
    data = write(tmp_path / "readings.csv", 50, 0)
    assert main(["fit", "--data", str(data), "--output", str(tmp_path / "line"), *options]) == 2
    assert told in capsys.readouterr().err


def test_columns_of_arrays_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs are an array beside the readings."""
    np.save(tmp_path / "x.npy", np.zeros((50, 2)))
    cut = ("--window", "4", "--group", "machine")
    assert main(["fit", "--data", str(tmp_path / "x.npy"), "--output", str(tmp_path / "d"), *cut]) == 2
    assert "in .npz, runs says which run a reading is of" in capsys.readouterr().err


def test_windows_of_pictures_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is no series in them."""
    assert main(["fit", "--data", "sklearn:digits", "--output", str(tmp_path / "d"), "--window", "4"]) == 2
    assert "windows are made of readings in .csv" in capsys.readouterr().err
