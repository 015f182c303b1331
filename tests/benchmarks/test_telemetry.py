"""The benchmark of series: faults that are what they are called, delays from where they begin, fair references."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.telemetry import page
from benchmarks.telemetry.__main__ import OURS, fitted, of_the_same_windows, write_readings
from benchmarks.telemetry.delays import Found, Run, faulty, tally, watch
from benchmarks.telemetry.detectors import Served, Watched, references
from benchmarks.telemetry.machine import FAULTS, LATE, PRESSURE, SENSORS, SPEED, VIBRATION, readings
from service.bundle import open_bundle
from service.inputs import Column, Windows
from service.windows import rows_of
from tests.server import Server
from training.errors import TrainingError

Floats = NDArray[np.float64]
WINDOWS = Windows(sensors=tuple(Column(name=name) for name in SENSORS), length=16, stride=4)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_changes_its_own_sensor_from_its_onset_on(name: str) -> None:
    """For as long as it lasts, and nothing before it, beside it or after it."""
    fault = FAULTS[name]
    x = readings(300, np.random.default_rng(0))
    changed = x.copy()
    fault.begin(changed, 120, np.random.default_rng(1))
    where = np.argwhere(changed != x)
    assert set(where[:, 1]) == {fault.sensor}
    assert (where[:, 0].min(), where[:, 0].max()) == (120, 120 + fault.lasts - 1)


def test_what_is_late_is_what_was_before_and_what_is_detuned_is_as_loud() -> None:
    """Two faults that no value by itself shows."""
    x = readings(300, np.random.default_rng(0))
    late, detuned = x.copy(), x.copy()
    FAULTS["late"].begin(late, 120, np.random.default_rng(1))
    FAULTS["detuned"].begin(detuned, 120, np.random.default_rng(1))
    assert np.array_equal(late[120:220, PRESSURE], x[120 - LATE : 220 - LATE, PRESSURE])
    before, after = x[120:220, VIBRATION], detuned[120:220, VIBRATION]
    assert after.std() == pytest.approx(before.std(), rel=0.3)
    assert np.corrcoef(before[1:], before[:-1])[0, 1] > 0.7
    assert abs(np.corrcoef(after[1:], after[:-1])[0, 1]) < 0.3


def test_sensors_of_normal_running_hang_together_over_cycles_and_time() -> None:
    """Flow by speed, pressure by its square, temperature by itself; the same seed gives the same readings."""
    x = readings(3000, np.random.default_rng(0))
    speed = x[:, SPEED]
    assert np.corrcoef(speed, x[:, 1])[0, 1] > 0.95
    assert np.corrcoef(speed**2, x[:, PRESSURE])[0, 1] > 0.99
    assert np.corrcoef(x[1:, 4], x[:-1, 4])[0, 1] > 0.99
    starts = np.diff((speed > 700).astype(int)).clip(0).sum()
    assert 3000 / 90 < starts < 3000 / 30  # of a cycle of 30 to 80 readings
    assert np.array_equal(x, readings(3000, np.random.default_rng(0)))


class Knowing:
    """Flags each window of 16 readings, one every 4, that holds the one reading of pressure that is far out."""

    def __call__(self, x: Floats) -> Watched:
        """As a detector does."""
        at = int(x[:, PRESSURE].argmax())
        last = np.arange(15, len(x), 4)
        hit = (last >= at) & (last - 15 <= at)
        return Watched(last, np.where(hit, 0.001, 1.0), np.full(len(last), PRESSURE))


def test_the_delay_is_from_the_first_changed_reading_to_the_end_of_the_first_window_that_is_flagged() -> None:
    """Less than a stride, where the detector is perfect."""
    runs = [faulty(FAULTS["spike"], (0, number), 16, 4) for number in range(20)]
    for run in runs:
        run.x[run.onset, PRESSURE] += 1000
    found = [watch(Knowing(), run, 0.01) for run in runs]
    assert {one.delay for one in found} == {0, 1, 2, 3}
    assert {one.sensor for one in found} == {PRESSURE}
    assert watch(Knowing(), runs[0], 0.0001) == Found()


def test_a_flag_before_the_fault_or_after_it_is_not_the_fault() -> None:
    """Of windows that hold none of its readings."""
    last = np.arange(15, 200, 4)

    def flagging(*at: int) -> Found:
        watched = Watched(last, np.where(np.isin(last, at), 0.001, 1.0), np.zeros(len(last), np.int64))
        return watch(lambda _: watched, Run(np.zeros((200, 5)), 100, 120), 0.01)

    assert flagging(99) == Found()
    assert flagging(99, 103) == Found(3, 0)
    assert flagging(131) == Found(31, 0)  # its first reading is 116
    assert flagging(135) == Found()  # its first is 120


def test_false_alarms_are_counted_by_window_and_by_reading_and_by_stretches_as_long_as_a_fault() -> None:
    """Of 615 readings, in which there are five stretches."""
    p = np.ones(150)
    p[[0, 28, 110]] = 0.005  # of the first stretch, which is 100 readings and 15 before them, both
    alarms = tally([Watched(np.arange(15, 15 + 4 * 150, 4), p, np.zeros(150, np.int64))], 0.01, 615)
    assert (alarms.share, alarms.windows) == (3 / 150, 150)
    assert alarms.per_thousand == pytest.approx(3000 / 615)
    assert alarms.chance == 2 / 5


def test_references_flag_about_as_many_normal_windows_as_they_are_asked_to_and_name_what_stands_out() -> None:
    """Calibrated on windows that they were not fitted to; a sensor that is far out is named by each."""
    train, kept, normal = (readings(3000, np.random.default_rng(seed)) for seed in range(3))
    found = references(rows_of(train, WINDOWS), rows_of(kept, WINDOWS), WINDOWS, 18)
    assert list(found) == ["largest z-score", "norm", "PCA", "Mahalanobis", "kNN"]
    for name, reference in found.items():
        watched = reference(normal)
        assert watched.last.tolist() == list(range(15, 3000, 4)), name
        assert 0.02 < (watched.p_values <= 0.1).mean() < 0.25, name
        for sensor in range(len(SENSORS)):
            x = normal[:16].copy()
            x[8, sensor] += 20 * train[:, sensor].std()
            watched = reference(x)
            assert watched.p_values[0] < 0.01, name
            assert watched.sensor.tolist() == [sensor], name


def test_the_page_says_what_was_found_how_late_and_where_another_detector_is_better() -> None:
    """Delays are of what was found; as many found sooner is better."""
    spiked = FAULTS["spike"].sensor
    some = [Found(3, spiked), Found(9, SPEED), Found(4, spiked), Found()]
    found = {"VAE": dict.fromkeys(FAULTS, some), "other": dict.fromkeys(FAULTS, some)}
    sooner, later = ([Found(delay) for delay in delays] + [Found()] for delays in ((1, 2, 9), (1, 5, 5)))
    found["other"] |= {"spike": [*some[:3], Found(1, SPEED)], "stuck": some[2:], "drift": sooner, "late": later}
    assert [*page.delays(found["VAE"])][2].startswith(
        f"| spike: {FAULTS['spike'].about} | 3 of 4 | 4 (3 to 9) | 8 (6 to 18) | pressure 2, speed 1 (right: pressure)"
    )
    assert [*page.beside(found)][2] == "| spike | 75%, 4, 67% | 100%, 3, 50% |"
    assert [*page.better(found, "VAE")][2:] == ["- spike: other", "- drift: other"]
    assert "No other" in next(page.better({"VAE": found["VAE"]}, "VAE"))


def test_a_fitted_model_is_served_raw_readings_and_stands_beside_references_of_its_own_windows(tmp_path: Path) -> None:
    """The whole way, short; readings that it was not fitted to are refused."""
    small = ["--epochs=1", "--hidden=32", "--likelihood=gaussian", "--prior=standard-normal"]
    options = Namespace(seed=3, fit=small)
    data = write_readings(tmp_path, 900, 3)
    bundle = fitted(data, tmp_path, OURS, options)
    manifest = open_bundle(bundle).manifest
    beside = of_the_same_windows(bundle, data)
    run = readings(100, np.random.default_rng(9))
    run[60:, PRESSURE] = 100.0
    with Server(bundle) as server:
        watched = Served(server)(run)
        assert server.metric("vae_http_requests_total", route="/v1/anomaly-score", method="POST", code="200") == 1
    assert watched.last.tolist() == list(range(15, 100, 4))
    least = 1 / (1 + manifest.data.rows["calibration"])
    assert watched.p_values[-1] == pytest.approx(least)
    assert beside["norm"](run).p_values[-1] == pytest.approx(least)  # of as many windows
    assert watched.sensor[-1] == PRESSURE
    assert fitted(data, tmp_path, OURS, options) == bundle  # it is not fitted again
    write_readings(tmp_path, 900, 4)
    with pytest.raises(TrainingError, match="other readings"):
        of_the_same_windows(bundle, data)
