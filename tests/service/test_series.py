"""Series over HTTP: rows that the service makes of raw readings, and refusals by name."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from service.anomaly import Anomaly
from service.bundle import Bundle, open_bundle
from service.codec import json, slices
from service.codec.fields import read_rows, read_rows_flagged
from service.codec.rows import RowSpec
from service.engine import Engine
from service.errors import InvalidInput, ServiceError
from service.http import media
from service.inputs import Column, Inputs, Windows
from service.reload import unfit
from service.windows import rows_of
from tests.bundles import make_bundle
from tests.server import Server

SENSORS = (
    Column(name="flow", unit="l/s"),
    Column(name="heat", missing=True),
    Column(name="mode", kind="categorical", vocabulary=("idle", "run")),
)
WINDOWS = Windows(sensors=SENSORS, length=4, stride=2, differences=True)
INPUTS = Inputs(kind="table", shape=(12,), dtype="float64", columns=WINDOWS.columns, clamp=1000.0, windows=WINDOWS)
Floats = NDArray[np.float64]


def readings(count: int, seed: int = 0) -> Floats:
    """Of the three sensors: two that walk, and one that switches."""
    generator = np.random.default_rng(seed)
    walk = generator.normal(size=(count, 2)).cumsum(axis=0)
    return np.concatenate([walk + np.array([50, 300]), generator.integers(0, 2, (count, 1))], axis=1)


@pytest.fixture(scope="module")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Windows of four readings, one every two, calibrated on 200."""
    x = rows_of(readings(803), WINDOWS)
    return make_bundle(tmp_path_factory.mktemp("models") / "line", INPUTS, "gaussian", x)


@pytest.fixture(scope="module")
def bundle(bundle_path: Path) -> Bundle:
    """The same, opened."""
    return open_bundle(bundle_path)


@pytest.fixture(scope="module")
def server(bundle_path: Path) -> Iterator[Server]:
    """The service on it."""
    with Server(bundle_path, max_request_rows=20) as running:
        yield running


def ask(server: Server, op: str = "anomaly-score", **body: Any) -> Any:
    """What the service answers, as JSON."""
    reply = server.client.post(f"/v1/{op}", json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_each_window_has_its_own_score_and_says_which_readings_it_is_of(server: Server, bundle: Bundle) -> None:
    """As the scorer has it of the rows that training would make; the end that makes no window is passed over."""
    x = readings(13, seed=1)
    reply = ask(server, series=x.tolist(), alpha=0.1)
    assert reply["windows"] == [{"first": at, "last": at + 3} for at in (0, 2, 4, 6, 8)]
    rows = np.stack([np.concatenate([x[at], *(step(x, at + i) for i in (1, 2, 3))]) for at in (0, 2, 4, 6, 8)])
    anomaly, engine = Anomaly(bundle), Engine.open(bundle, threads=1)
    plan = anomaly.plan(kind=None, samples=None, alpha=0.1)
    mask = np.ones(rows.shape, bool)
    outputs = engine.run("scorer", {"x": rows, "mask": mask, "eps": bundle.eps[:16]}, plan.outputs)
    want = anomaly.judge(plan, rows, outputs)
    np.testing.assert_allclose(reply["scores"], want.scores, rtol=1e-4)
    np.testing.assert_allclose(reply["p_values"], want.p_values)
    assert want.is_anomaly is not None
    assert reply["is_anomaly"] == want.is_anomaly.tolist()


def step(x: Floats, at: int) -> Floats:
    """How much the numeric sensors are more than a reading before, and the category as it is."""
    found: Floats = x[at] - x[at - 1]
    found[2] = x[at, 2]
    return found


def test_an_explanation_names_the_sensor_and_how_long_ago(server: Server) -> None:
    """A jump at one reading stands in the windows that hold it, at the place where it is in each."""
    x = readings(10, seed=2)
    x[5:, 0] += 500
    reply = ask(server, series=x.tolist(), explain=12, alpha=0.1)
    for window, parts, sensors in zip(reply["windows"], reply["explanations"], reply["sensors"], strict=True):
        for part in parts:
            kind = "change of " if part["lag"] < 3 and part["sensor"] != "mode" else ""
            assert part["feature"] == f"{kind}{part['sensor']}@{-part['lag'] if part['lag'] else 0}"
            at = window["last"] - part["lag"]
            value = x[at, 0] - (x[at - 1, 0] if part["lag"] < 3 else 0)
            if part["sensor"] == "flow":
                assert part["observed"] == pytest.approx(value)
            elif part["sensor"] == "mode":
                assert part["observed"] == ("idle", "run")[int(x[at, 2])]
        total = dict.fromkeys(("flow", "heat", "mode"), 0.0)
        for part in parts:
            total[part["sensor"]] += part["nats"]
        assert {one["sensor"]: pytest.approx(one["nats"], abs=1e-3) for one in sensors} == total
        assert [one["excess"] for one in sensors] == sorted((one["excess"] for one in sensors), reverse=True)
        if window["first"] < 5 <= window["last"]:
            first = parts[0]
            assert (first["sensor"], window["last"] - first["lag"]) == ("flow", 5)
            assert sensors[0]["sensor"] == "flow"
    few = ask(server, series=x.tolist(), explain=2)
    assert [len(row) for row in (few["explanations"][0], few["sensors"][0])] == [2, 2]
    assert "sensors" not in ask(server, series=x.tolist())


def test_records_arrays_and_tensors_are_series_too(server: Server) -> None:
    """Readings by sensor name, in words; a .npy file; x of the protocol: one answer."""
    x = readings(9, seed=3)
    x[4, 1] = np.nan
    want = ask(server, series=[[None if np.isnan(v) else v for v in row] for row in x.tolist()], explain=3, alpha=0.1)
    assert want["missing"][0]["row"] == 1
    words = ("idle", "run")
    told = [{"flow": flow, "mode": words[int(mode)], "heat": heat} for flow, heat, mode in x.tolist()]
    del told[4]["heat"]
    assert ask(server, records=told, explain=3, alpha=0.1) == want
    file = io.BytesIO()
    np.save(file, x)
    reply = server.client.post(
        "/v1/anomaly-score?alpha=0.1&explain=3",
        content=file.getvalue(),
        headers={"Content-Type": media.NPY, "Accept": media.JSON},
    )
    assert reply.json() == want
    tensor = {"name": "x", "shape": [9, 3], "datatype": "FP64", "data": np.nan_to_num(x).ravel().tolist()}
    mask = {"name": "mask", "shape": [9, 3], "datatype": "BOOL", "data": (~np.isnan(x)).ravel().tolist()}
    body = {"inputs": [tensor, mask], "parameters": {"alpha": 0.1, "explain": 3}}
    reply = server.client.post("/v2/models/anomaly-score/infer", json=body)
    assert reply.status_code == 200, reply.text
    tensors = {one["name"]: np.reshape(one["data"], one["shape"]) for one in reply.json()["outputs"]}
    assert tensors["score"].tolist() == want["scores"]
    assert tensors["windows.last"].tolist() == [window["last"] for window in want["windows"]]
    assert tensors["explanations.lag"].tolist() == [[part["lag"] for part in row] for row in want["explanations"]]
    assert tensors["sensors.sensor"].tolist() == [[part["sensor"] for part in row] for row in want["sensors"]]


def test_the_protocol_says_what_a_series_is(server: Server) -> None:
    """The axis of x is none of independent rows; what readings are, and how they are cut, is in the metadata."""
    model = server.client.get("/v2/models/anomaly-score").json()
    assert model["inputs"][0] == {"name": "x", "datatype": "FP64", "shape": [-1, 3]}
    assert model["parameters"]["windows"]["stride"] == 2
    assert len(model["parameters"]["columns"]) == 12
    names = {tensor["name"] for tensor in model["outputs"]}
    assert {"windows.first", "windows.last"} <= names
    for op, size in (("anomaly-score", 0), ("encode", 0), ("reconstruct", 0), ("decode", 20)):
        assert server.client.get(f"/v2/models/{op}/config").json()["max_batch_size"] == size


def test_the_other_operations_take_series_and_give_rows(server: Server) -> None:
    """A row is one of windows, with a column for each sensor and time; as records, under the names of these."""
    x = readings(8, seed=4).tolist()
    assert len(ask(server, "encode", series=x)["mu"]) == 3
    rows = ask(server, "reconstruct", series=x)["outputs"]
    assert np.shape(rows) == (3, 12)
    told = [{"flow": flow, "heat": heat, "mode": ("idle", "run")[int(mode)]} for flow, heat, mode in x]
    records = ask(server, "reconstruct", records=told)["records"]
    assert list(records[0]) == [column.name for column in WINDOWS.columns]
    assert records[0]["flow@-3"] == rows[0][0]
    assert records[0]["mode@0"] in ("idle", "run")
    assert ask(server, "interpolate", series=x, steps=3)["alphas"] == [0, 0.5, 1, 1.5, 2]
    assert np.shape(ask(server, "sample", count=2)["outputs"]) == (2, 12)


@pytest.mark.parametrize(
    ("body", "status", "field", "told"),
    [
        ({"series": [[1, 2, 0]] * 3}, 422, "series", "series has 3 readings, which make 0 windows of 4; at least 1"),
        ({"series": [[1, 2]] * 8}, 422, "series", "series: row 0 has 2 values; 3 needed"),
        ({"series": [[1, 2, 0]] * 7 + [[1, "x", 0]]}, 422, "series", "series: row 7, position 1 must be a number"),
        ({"series": [[1, 2, 0]] * 7 + [[None, 2, 0]]}, 422, "series", "position [0] is missing; column 'flow' must"),
        ({"series": [[1, 2, 5]] * 8}, 422, "series", "column 'mode' is 5; it must be a whole number of 0 to 1"),
        (
            {"series": [[1, 2, 0]] * 44},
            413,
            "series",
            "44 readings, which make 21 windows of 4; one request may have 20",
        ),
        ({"records": [{"flow": 1}] * 44}, 413, "records", "44 readings, which make 21 windows of 4"),
        ({"records": [{"flow": 1, "mode": "off"}] * 8}, 422, "records", "row 0, column 'mode', must be one of"),
        ({"inputs": [[0] * 12]}, 422, "inputs", "made of the readings of a series: give series instead of inputs"),
        ({"inputs": [[0] * 12], "series": [[1, 2, 0]] * 8}, 422, "inputs", "give series instead of inputs"),
        ({"records": [], "series": [[1, 2, 0]] * 8}, 422, "records", "give series or records, and not both"),
        ({}, 422, "series", "series is missing"),
    ],
)
def test_what_is_no_series_of_the_model_is_refused(
    server: Server, body: dict[str, Any], status: int, field: str, told: str
) -> None:
    """By name, with the reading; limits are of windows."""
    reply = server.client.post("/v1/anomaly-score", json=body)
    assert (reply.status_code, reply.json()["field"]) == (status, field), reply.text
    assert told in reply.json()["detail"]


def test_as_many_windows_as_rows_are_answered(server: Server) -> None:
    """43 readings are 20 windows, and one reading over."""
    assert len(ask(server, series=readings(43).tolist(), alpha=0.1)["scores"]) == 20


@pytest.mark.parametrize("op", ["anomaly-score", "encode", "interpolate"])
def test_a_model_of_rows_takes_no_series(table_server: Server, op: str) -> None:
    """By name, whatever is beside it."""
    for beside in ({}, {"inputs": [[1, 2, 3], [4, 5, 6]]}):
        reply: httpx.Response = table_server.client.post(f"/v1/{op}", json={"series": [[1, 2, 3]] * 9, **beside})
        assert (reply.status_code, reply.json()["field"]) == (422, "series")
        assert "not made of the readings of a series: give inputs instead" in reply.json()["detail"]


def test_a_bad_reading_costs_the_windows_that_hold_it(server: Server) -> None:
    """With flags: these have its reason, and the others their answers."""
    x: list[list[Any]] = readings(14, seed=5).tolist()
    whole = ask(server, series=x, alpha=0.1)
    x[5][0], x[13][2] = "x", 7
    reply = ask(server, series=x, alpha=0.1, on_invalid="flag", explain=1)
    assert [one["row"] for one in reply["invalid"]] == [1, 2, 5]
    reasons = [one["reason"] for one in reply["invalid"]]
    assert reasons[0] == reasons[1] == "series: row 5, position 0 must be a number; it is a string"
    assert "row 13, column 'mode' is 7" in reasons[2]
    assert len(reply["windows"]) == len(reply["scores"]) == 6
    for row, score in enumerate(reply["scores"]):
        assert (score is None) == (row in (1, 2, 5))
        assert (reply["sensors"][row] is None) == (score is None)
        if score is not None:
            assert score == pytest.approx(whole["scores"][row], rel=1e-4)


def spec() -> RowSpec:
    """What a request's series is, as the codec has it."""
    sensors = tuple(column.model_copy(update={"missing": False}) for column in SENSORS[:2])
    windows = WINDOWS.model_copy(update={"sensors": sensors})
    return RowSpec("series", (2,), np.dtype(np.float64), windows=windows)


@pytest.mark.parametrize("count", [3, 4, 30, 41, 42, 100])
def test_a_long_series_is_read_in_slices_as_it_is_at_once(count: int) -> None:
    """The same windows, and the same refusals; windows are made when all is there."""
    x = readings(count)[:, :2]
    body = b'{"alpha": 0.1, "series": [%s]}' % b", ".join(b"[%r, %r]" % (a, b) for a, b in x.tolist())
    found = []
    for sliced in (False, True):
        try:
            if sliced:
                work, fields = slices.read(body, spec(), most=19, step=64), None
                while fields is None:
                    try:
                        next(work)
                    except StopIteration as done:
                        fields = done.value
            else:
                fields = json.read_object(body, spec(), most=19)
            found.append((read_rows(fields, spec(), 19).tobytes(), str(fields)))
        except ServiceError as error:
            found.append((b"", error.detail))
    assert found[0] == found[1]
    assert bool(found[0][0]) == (4 <= count <= 41)


def test_a_window_outside_the_likelihoods_support_is_flagged_as_one() -> None:
    """The support is one of rows, and the reading is not at fault."""
    flagged = RowSpec.inputs(open_manifest())
    x, reasons = read_rows_flagged({"series": [[1.0], [-2.0], [1.0], [1.0]]}, flagged, 9)
    assert (x.tolist(), list(reasons)) == ([[1.0, 1.0]], [0, 1])
    assert "feature 'n@0' is -2; its likelihood is defined for" in reasons[0]
    with pytest.raises(InvalidInput, match="series: row 0: feature 'n@0'"):
        flagged.check_support(read_rows({"series": [[1.0], [-2.0]]}, flagged, 9))


def open_manifest() -> Any:
    """Of one sensor whose windows have a likelihood of numbers from 0 on."""

    class Part:
        support, columns, low, high = "interval", None, 0.0, None

    class Manifest:
        likelihood = (Part,)
        windows = Windows(sensors=(Column(name="n"),), length=2, stride=1)
        inputs = Inputs(kind="table", shape=(2,), dtype="float64", columns=windows.columns, clamp=1.0, windows=windows)

    return Manifest


def test_a_version_with_other_windows_does_not_follow_by_itself(bundle: Bundle) -> None:
    """Of the same readings it would make other rows."""
    manifest = bundle.manifest
    windows = WINDOWS.model_copy(update={"stride": 1})
    other = manifest.model_copy(update={"inputs": manifest.inputs.model_copy(update={"windows": windows})})
    assert unfit(manifest, manifest) is None
    assert "rows are not those of the version that is served" in (unfit(other, manifest) or "")
