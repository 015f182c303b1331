"""Tables over HTTP: records in and out, missing values, draws; judged by the graphs run by hand."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from scipy import stats

from service import calibration
from service.anomaly import Anomaly
from service.bundle import Bundle, open_bundle
from service.codec.table import Table
from service.engine import Engine
from service.errors import BundleError
from service.latent import uniforms
from service.reference import PARTS, Reference
from service.reload import unfit
from service.scores import score
from tests.bundles import edit_manifest
from tests.guide import ROOT, same
from tests.mixed import BINS, COLUMNS, KINDS, MAY_MISS, NAMES, C, K, L, make_mixed, masked, mixed_rows, observed
from tests.server import Server
from training.output import write
from training.recalibrate import recalibrate

TABLE = Table(COLUMNS)
Json = dict[str, Any]


@pytest.fixture(scope="module")
def bundle(mixed_bundle: Path) -> Path:
    """Every kind of column, values that may be missing, draws."""
    return mixed_bundle


@pytest.fixture(scope="module")
def server(bundle: Path) -> Iterator[Server]:
    """The service on it."""
    with Server(bundle) as running:
        yield running


@pytest.fixture(scope="module")
def opened(bundle: Path) -> Bundle:
    """Its parts."""
    return open_bundle(bundle)


@pytest.fixture(scope="module")
def engine(opened: Bundle) -> Engine:
    """Its graphs."""
    return Engine.open(opened, threads=1)


def records_of(x: np.ndarray) -> list[Json]:
    """Rows as a client would send them: null where missing."""
    columns = {name: column.tolist() for name, column in TABLE.columns(np.nan_to_num(x)).items()}
    return [
        {name: None if np.isnan(x[row, at]) else columns[name][row] for at, name in enumerate(NAMES)}
        for row in range(len(x))
    ]


def nulls(x: np.ndarray) -> list[list[float | None]]:
    """Rows of numbers as JSON has them."""
    return [[None if np.isnan(value) else float(value) for value in row] for row in x]


def post(server: Server, path: str, body: Json, **headers: str) -> Json:
    """A good answer."""
    reply = server.client.post(path, json=body, headers=headers)
    assert reply.status_code == 200, reply.text
    answer: Json = reply.json()
    return answer


def problem(server: Server, path: str, body: Any) -> Json:
    """What is refused, and how."""
    reply = server.client.post(path, json=body)
    assert reply.status_code == 422, reply.text
    told: Json = reply.json()
    return told


X = np.concatenate([mixed_rows(3, seed=11), *(masked(mixed_rows(2, seed=index), index) for index in (1, 2, 3))])


@pytest.mark.parametrize("path", ["/v1/encode", "/v1/anomaly-score"])
def test_records_arrays_with_null_and_npy_with_nan_are_the_same_rows(server: Server, path: str) -> None:
    """To the last bit of the answer: it is one row, however it came."""
    by_records = post(server, path, {"records": records_of(X)})
    assert post(server, path, {"inputs": nulls(X)}) == by_records
    file = io.BytesIO()
    np.save(file, X)
    reply = server.client.post(
        path, content=file.getvalue(), headers={"Content-Type": "application/x-npy", "Accept": "application/json"}
    )
    assert reply.json() == by_records


def test_the_graphs_get_zero_and_a_mask_where_a_value_is_missing(server: Server, engine: Engine) -> None:
    """As the bundle's contract says."""
    mu = post(server, "/v1/encode", {"records": records_of(X)})["mu"]
    want = np.asarray(engine.run("encoder", observed(X), ("mu",))["mu"], np.float64)
    np.testing.assert_allclose(mu, want, atol=1e-5)


def test_rows_that_share_a_batch_keep_their_own_masks(server: Server) -> None:
    """Alone each has the answer that it has among others."""
    together = post(server, "/v1/encode", {"records": records_of(X)})["mu"]
    alone = [post(server, "/v1/encode", {"records": [record]})["mu"][0] for record in records_of(X)]
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_what_is_made_of_records_comes_back_as_records(server: Server) -> None:
    """In original units, categories by name, and the same values as outputs has as numbers."""
    sent = {"records": records_of(X)}
    for path, more in (("reconstruct", {}), ("interpolate", {"steps": 3})):
        by_name = post(server, f"/v1/{path}", {**sent, **more})
        by_number = post(server, f"/v1/{path}", {"inputs": nulls(X), **more})
        assert "outputs" not in by_name
        assert "records" not in by_number
        assert by_name["records"] == records_of(np.array(by_number["outputs"]))
        assert {type(record["site"]) for record in by_name["records"]} == {str}


def test_sample_and_decode_answer_with_records_where_they_are_asked_to(server: Server) -> None:
    """The option of that name."""
    drawn = post(server, "/v1/sample", {"count": 5, "seed": 3})
    named = post(server, "/v1/sample", {"count": 5, "seed": 3, "records": True})
    assert named["records"] == records_of(np.array(drawn["outputs"]))
    assert named["latents"] == drawn["latents"]
    decoded = post(server, "/v1/decode", {"latents": drawn["latents"], "records": True})
    assert decoded["records"] == named["records"]


def test_a_draw_is_made_again_by_its_seed_and_row_i_does_not_depend_on_how_many(server: Server, engine: Engine) -> None:
    """The same uniform numbers, whatever the batches."""
    z = np.random.default_rng(1).normal(size=(7, L)).astype(np.float32)
    body = {"latents": z.tolist(), "draw": True}
    first = post(server, "/v1/decode", {**body, "seed": 5})
    assert first["seed"] == 5
    assert post(server, "/v1/decode", {**body, "seed": 5}) == first
    few = post(server, "/v1/decode", {**body, "latents": z[:3].tolist(), "seed": 5})
    assert few["outputs"] == first["outputs"][:3]
    drawn = post(server, "/v1/decode", body)
    assert post(server, "/v1/decode", {**body, "seed": drawn["seed"]})["outputs"] == drawn["outputs"]
    assert drawn["outputs"] != first["outputs"]
    want = np.asarray(engine.run("observe", {"z": z, "u": uniforms(5, 7, 2, C)})["x"], np.float64)
    np.testing.assert_allclose(first["outputs"], want, rtol=1e-6)
    named = post(server, "/v1/decode", {**body, "seed": 5, "records": True})
    assert named["records"] == records_of(np.array(first["outputs"]))


def test_a_bundle_without_draws_says_so(bundle: Path, tmp_path: Path) -> None:
    """As those of before there was such a graph."""
    own = Path(shutil.copytree(bundle, tmp_path / "mixed" / "1"))
    manifest = json.loads((own / "manifest.json").read_text())
    del manifest["graphs"]["observe"]
    edit_manifest(own, graphs=manifest["graphs"], capabilities={**manifest["capabilities"], "draw": False})
    with Server(own) as server:
        refused = problem(server, "/v1/decode", {"latents": [[0] * L], "draw": True})
    assert (refused["type"], refused["field"]) == ("urn:vae-serve:unsupported", "draw")


@pytest.mark.parametrize("kind", KINDS)
def test_each_row_is_judged_by_the_calibration_rows_that_miss_as_much(
    server: Server, opened: Bundle, engine: Engine, kind: str
) -> None:
    """p-value, threshold and decision of its own bin; the threshold of complete rows stands by itself."""
    reply = post(server, "/v1/anomaly-score", {"records": records_of(X), "alpha": 0.05, "kind": kind})
    outputs = engine.run("scorer", {**observed(X), "eps": opened.eps[:K]})
    if kind == "nll":
        np.testing.assert_allclose(reply["scores"], score("nll", outputs), rtol=1e-4)
    shares = np.isnan(X)[:, MAY_MISS].mean(axis=1)
    entries = {entry.mask_bin: entry for entry in opened.manifest.calibrated if entry.kind == kind}
    bins = np.array([0 if not share else 1 + next(i for i, end in enumerate(BINS) if share <= end) for share in shares])
    of_rows = [entries[index] for index in bins]
    assert {entry.mask_bin for entry in of_rows} == {0, 1, 2, 3}
    told = {row["row"]: row for row in reply["missing"]}
    assert list(told) == np.flatnonzero(shares).tolist()
    for row, entry in enumerate(of_rows):
        calibrated = opened.calibration[entry.key].astype(np.float64)
        known, part = Reference.of(opened.calibration, K, entry.mask_bin), slice(row, row + 1)
        told_score, ranked = known.score(kind, {name: a[part] for name, a in outputs.items()}, ~np.isnan(X[part]))
        assert reply["scores"][row] == pytest.approx(told_score[0], rel=1e-4, abs=1e-4)
        lacks = float(ranked[0] - told_score[0])
        assert (lacks == 0) == (kind in PARTS or not entry.mask_bin)
        p = calibration.p_values(calibrated, np.array([reply["scores"][row] + lacks]))[0]
        assert reply["p_values"][row] == pytest.approx(p)
        threshold = calibration.threshold(calibrated, 0.05)
        assert threshold is not None
        threshold -= lacks
        assert reply["is_anomaly"][row] == (reply["scores"][row] > threshold) == (p <= 0.05)
        if entry.mask_bin:
            assert told[row]["share"] == shares[row]
            assert told[row]["threshold"] == pytest.approx(threshold)
            assert told[row]["false_alarm_rate"] == pytest.approx(calibration.false_alarm_rate(200, 0.05))
        else:
            assert reply["threshold"] == pytest.approx(threshold)
    assert len({told[row]["threshold"] for row in told}) >= (3 if kind in PARTS else 4)


def test_rows_of_every_bin_are_flagged_together(server: Server) -> None:
    """One list of p-values, whatever a row lacks: the false-discovery rate is that of the request."""
    reply = post(server, "/v1/anomaly-score", {"records": records_of(X), "fdr": 0.2})
    assert len(reply["missing"]) == 6
    np.testing.assert_allclose(reply["adjusted_p_values"], stats.false_discovery_control(reply["p_values"]))
    assert reply["is_discovery"] == [p <= 0.2 for p in reply["adjusted_p_values"]]
    assert reply["least_discoveries"] == 1


def test_complete_rows_are_answered_as_by_a_model_without_missing_values(server: Server) -> None:
    """Nothing is said of what is not missing."""
    reply = post(server, "/v1/anomaly-score", {"records": records_of(X[:3])})
    assert "missing" not in reply


def test_explanations_are_of_observed_columns_with_their_values(server: Server) -> None:
    """By name, with an interval where values have an order; fewer where fewer were observed."""
    reply = post(server, "/v1/anomaly-score", {"records": records_of(X), "explain": 6})
    for row, parts in enumerate(reply["explanations"]):
        seen = {part["feature"]: part for part in parts}
        assert set(seen) == {name for at, name in enumerate(NAMES) if not np.isnan(X[row, at])}
        record = records_of(X)[row]
        for name, part in seen.items():
            assert part["observed"] == record[name]
            assert type(part["expected"]) is type(part["observed"])
        if "site" in seen:
            assert seen["site"]["interval"] is None
        if "grade" in seen:
            assert set(seen["grade"]["interval"]) <= {"1", "2", "3"}
        first, last = seen["seen"]["interval"]
        assert first < seen["seen"]["expected"] < last
        assert sum(part["nats"] for part in parts) < reply["scores"][row] + 10
    short = post(server, "/v1/anomaly-score", {"records": records_of(X), "explain": 2})
    assert [len(parts) for parts in short["explanations"]] == [2] * len(X)


def test_arrays_have_the_numbers_that_json_has_names_for(server: Server) -> None:
    """A .npz has one dtype a column: categories by their place in the vocabulary, in explanations too."""
    rows = {"records": records_of(X)}
    body = json.dumps({**rows, "explain": 6}).encode()
    headers = {"Content-Type": "application/json", "Accept": "application/x-npz"}
    reply = server.client.post("/v1/anomaly-score", content=body, headers=headers)
    with np.load(io.BytesIO(reply.content)) as fields:
        place = NAMES.index("site")
        for row in range(len(X)):
            at = np.flatnonzero(fields["explanations.feature"][row] == "site")
            assert [X[row, place]] * len(at) == fields["explanations.observed"][row, at].tolist()
        assert fields["missing.row"].tolist() == list(range(3, len(X)))
        assert fields["missing.threshold"].shape == (len(X) - 3,)
    reply = server.client.post("/v1/reconstruct", json=rows, headers=headers)
    assert reply.status_code == 200, reply.text
    with np.load(io.BytesIO(reply.content)) as fields:
        assert fields["records.speed"].dtype == np.float64
        assert fields["records.site"].dtype.kind == "U"
    refused = server.client.post("/v1/reconstruct", json=rows, headers={**headers, "Accept": "application/x-npy"})
    assert refused.status_code == 406
    assert "application/x-npz" in refused.json()["detail"]


GOOD = records_of(mixed_rows(1, seed=4))[0]


@pytest.mark.parametrize(
    ("body", "facts", "told"),
    [
        (
            {"records": [GOOD, {**GOOD, "grade": "9"}]},
            {"field": "records", "row": 1, "column": "grade", "value": "9", "limit": "one of '1', '2', '3'"},
            "records: row 1, column 'grade', must be one of '1', '2', '3'; it is '9'",
        ),
        ({"records": [GOOD, 7]}, {"row": 1}, "records: row 1 must be an object; it is a number"),
        ({"records": [{**GOOD, "x": 1}]}, {"row": 0, "column": "x"}, "records: row 0 has 'x', which is no column"),
        ({"records": [{**GOOD, "alarm": None}]}, {"row": 0, "column": "alarm"}, "column 'alarm', has no value"),
        ({"records": []}, {"field": "records", "limit": 1}, "records has 0 rows; at least 1 needed"),
        ({"records": {}}, {"field": "records"}, "records must be a list of objects; it is an object"),
        ({"records": True}, {"field": "records"}, "records must be a list of objects; it is true or false"),
        ({"records": [GOOD], "inputs": [[0] * 6]}, {"field": "records"}, "give inputs or records, and not both"),
        ({"inputs": [[0, 0, 0, None, 0, 0]]}, {"row": 0, "column": "alarm"}, "column 'alarm' must have a value"),
        ({"inputs": [[0, 4, 0, 0, 0, 0]]}, {"row": 0, "column": "site"}, "a whole number of 0 to 3"),
        ({"inputs": [[0, 0, 0, 0, -1, 0]]}, {"row": 0, "column": "starts"}, "a whole number of 0 to 16777216"),
        (
            {"inputs": [[0, 0, 0, 0, 2**24 + 1, 0]]},
            {
                "field": "inputs",
                "row": 0,
                "column": "starts",
                "limit": "a whole number of 0 to 16777216",
                "value": 2**24 + 1,
            },
            "row 0, column 'starts' is 16777217; it must be a whole number of 0 to 16777216",
        ),
        (
            {"records": [GOOD, {**GOOD, "starts": 1e300}]},
            {"row": 1, "column": "starts", "limit": "a whole number of 0 to 16777216", "value": 1e300},
            "column 'starts', must be a whole number of 0 to 16777216; it is 1e+300",
        ),
        ({"inputs": [[0, 0, 0.5, 0, 1, 0]]}, {"row": 0, "column": "grade"}, "a whole number of 0 to 2"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/encode", "/v1/anomaly-score"])
def test_what_is_no_row_of_the_table_is_refused_by_row_and_column(
    server: Server, path: str, body: Json, facts: Json, told: str
) -> None:
    """With the reason, the limit and the value; a category that there is not would else be a fault of the graph."""
    refused = problem(server, path, body)
    assert told in refused["detail"]
    assert facts.items() <= refused.items()


def test_a_member_that_is_given_twice_in_a_record_is_refused(server: Server) -> None:
    """Parsers disagree on which of the two counts, and orjson does not tell."""
    text = json.dumps({"records": [GOOD, GOOD]})
    for twice in (
        text.replace('"speed"', '"speed": 1, "speed"', 1),
        text.replace('"site"', '"site": "a\\"b", "site"', 1),
        text.replace('"speed"', '"sp\\u0065ed": 1, "speed"', 1),
    ):
        reply = server.client.post("/v1/encode", content=twice, headers={"Content-Type": "application/json"})
        assert reply.status_code == 422
        assert "given twice" in reply.json()["detail"]
    escaped = text.replace('"speed"', '"sp\\u0065ed"')
    assert server.client.post("/v1/encode", content=escaped, headers={"Content-Type": "application/json"}).is_success


def test_bad_records_are_flagged_and_cost_nobody_else(server: Server) -> None:
    """Each with its reason; the good ones have the answers that they have alone."""
    records = records_of(X)
    bad = [records[0], {**records[1], "grade": "?"}, records[3], 5, {"speed": 1}, records[4]]
    reply = post(server, "/v1/anomaly-score", {"records": bad, "on_invalid": "flag", "explain": 2, "components": True})
    assert [entry["row"] for entry in reply["invalid"]] == [1, 3, 4]
    assert reply["invalid"][0]["reason"].startswith("records: row 1, column 'grade', must be one of")
    assert reply["invalid"][2]["reason"] == (
        "records: row 4, column 'alarm', has no value; it must be 0 or 1, or true or false"
    )
    assert [row["row"] for row in reply["missing"]] == [2, 5]
    good = post(server, "/v1/anomaly-score", {"records": [bad[0], bad[2], bad[5]], "explain": 2})
    assert [reply["scores"][row] for row in (0, 2, 5)] == pytest.approx(good["scores"])
    assert [reply["explanations"][row] is None for row in range(6)] == [False, True, False, True, True, False]
    assert [reply["is_anomaly"][row] for row in (1, 3, 4)] == [None] * 3


def test_records_of_what_is_no_table_are_refused_by_name(image_server: Server) -> None:
    """Sent or asked for."""
    refused = problem(image_server, "/v1/encode", {"records": [{"a": 1}]})
    assert (refused["type"], refused["field"]) == ("urn:vae-serve:unsupported", "records")
    for path, body in (("sample", {"count": 1}), ("decode", {"latents": [[0, 0, 0, 0]]})):
        refused = problem(image_server, f"/v1/{path}", {**body, "records": True})
        assert (refused["type"], refused["field"]) == ("urn:vae-serve:unsupported", "records")


def test_a_table_without_missing_values_says_so(table_server: Server) -> None:
    """Its records are read all the same."""
    record = {"speed": 1500.0, "pressure": 3.0, "flow": 0.0}
    by_records = post(table_server, "/v1/encode", {"records": [record]})
    assert by_records == post(table_server, "/v1/encode", {"inputs": [[1500.0, 3.0, 0.0]]})
    refused = problem(table_server, "/v1/encode", {"records": [{**record, "flow": None}]})
    assert refused["column"] == "flow"
    for value in (None, "3", True):
        assert problem(table_server, "/v1/encode", {"inputs": [[1, 2, value]]})["column"] == "flow"
    assert "must be a number; it is null" in problem(table_server, "/v1/encode", {"inputs": [[1, 2, None]]})["detail"]


def test_a_row_with_nothing_observed_is_refused_or_flagged(bundle: Path, tmp_path: Path) -> None:
    """There is nothing to judge it by. Only a table whose columns all may be missing has such rows."""
    own = Path(shutil.copytree(bundle, tmp_path / "bare" / "1"))
    manifest = json.loads((own / "manifest.json").read_text())
    for column in manifest["inputs"]["columns"]:
        column["missing"] = True
    edit_manifest(own, name="bare", inputs=manifest["inputs"])
    nothing = dict.fromkeys(NAMES)
    with Server(own) as server:
        refused = problem(server, "/v1/anomaly-score", {"records": [GOOD, nothing]})
        assert refused["detail"] == "records: row 1: it has no value at all; one at least is needed"
        flagged = post(server, "/v1/anomaly-score", {"records": [GOOD, {}], "on_invalid": "flag"})
        assert [entry["row"] for entry in flagged["invalid"]] == [1]
        assert flagged["scores"][0] is not None
        assert post(server, "/v1/encode", {"records": [nothing]})["mu"]  # the prior, as far as the encoder knows


def test_alpha_that_the_calibration_rows_do_not_allow_leaves_rows_undecided(bundle: Path, tmp_path: Path) -> None:
    """Of every bin, with the reason."""
    few = make_mixed(tmp_path / "few", mixed_rows(10, seed=7), like=bundle)
    with Server(few) as server:
        reply = post(server, "/v1/anomaly-score", {"records": records_of(X)})
    assert reply["threshold"] is None
    assert reply["is_anomaly"] == [None] * len(X)
    assert "needs 19 calibration rows; the bundle has 10" in reply["reason"]
    assert {row["threshold"] for row in reply["missing"]} == {None}
    assert [row["false_alarm_rate"] for row in reply["missing"]] == [None] * (len(X) - 3)


def test_tensors_say_what_is_missing_by_a_mask(server: Server) -> None:
    """Or by NaN; the metadata describes the mask and the columns, and draws are an output of their own."""
    described = server.client.get("/v2/models/anomaly-score").json()
    assert {"name": "mask", "datatype": "BOOL", "shape": [-1, C]} in described["inputs"]
    assert described["parameters"]["optional_inputs"] == ["mask"]
    assert [column["name"] for column in described["parameters"]["columns"]] == list(NAMES)
    want = post(server, "/v1/anomaly-score", {"records": records_of(X)})
    x = {"name": "x", "shape": list(X.shape), "datatype": "FP64", "data": np.nan_to_num(X, nan=7.7).ravel().tolist()}
    mask = {"name": "mask", "shape": list(X.shape), "datatype": "BOOL", "data": (~np.isnan(X)).ravel().tolist()}
    reply = post(server, "/v2/models/anomaly-score/infer", {"inputs": [x, mask]})
    outputs = {output["name"]: output["data"] for output in reply["outputs"]}
    assert outputs["score"] == pytest.approx(want["scores"])
    assert outputs["p_value"] == pytest.approx(want["p_values"])
    assert outputs["missing.row"] == [row["row"] for row in want["missing"]]
    assert outputs["missing.threshold"] == pytest.approx([row["threshold"] for row in want["missing"]])
    x["data"] = np.nan_to_num(X[:3]).ravel().tolist()
    x["shape"] = [3, C]
    reply = post(server, "/v2/models/anomaly-score/infer", {"inputs": [x]})
    assert {output["name"]: output["shape"] for output in reply["outputs"]}["missing.row"] == [0]
    for wrong, told in (
        ({**mask, "shape": [C], "data": [True] * C}, "it must be that of x, which has the shape [3, 6]"),
        ({"name": "mask", "shape": [3, C], "datatype": "INT8", "data": [1] * 3 * C}, "mask must be truth values"),
        (
            {**mask, "shape": [3, C], "data": [True, True, True, False, True, True] * 3},
            "column 'alarm' must have a value",
        ),
    ):
        refused = server.client.post("/v2/models/encode/infer", json={"inputs": [x, wrong]})
        assert refused.status_code == 400
        assert told in refused.json()["error"]
    refused = server.client.post("/v2/models/encode/infer", json={"inputs": [mask]})
    assert "which is not there" in refused.json()["error"]


def test_whole_numbers_with_a_mask_are_exact_or_refused(server: Server) -> None:
    """As they are without one; what is masked may be anything."""
    big = 2**53 + 1
    x = {"name": "x", "shape": [1, C], "datatype": "INT64", "data": [big, 0, 0, 0, 0, 0]}
    mask = {"name": "mask", "shape": [1, C], "datatype": "BOOL", "data": [False, *[True] * 5]}
    assert server.client.post("/v2/models/encode/infer", json={"inputs": [x, mask]}).is_success
    mask["data"] = [True] * 6
    refused = server.client.post("/v2/models/encode/infer", json={"inputs": [x, mask]})
    assert "whole numbers are exact" in refused.json()["error"]


def test_a_draw_is_a_tensor_of_its_own(server: Server) -> None:
    """Mean stays the name of the mean."""
    z = {"name": "z", "shape": [2, L], "datatype": "FP32", "data": [0.5] * 4}
    reply = post(server, "/v2/models/decode/infer", {"inputs": [z], "parameters": {"draw": True, "seed": 5}})
    assert [output["name"] for output in reply["outputs"]] == ["x"]
    assert reply["parameters"]["seed"] == 5
    want = post(server, "/v1/decode", {"latents": [[0.5, 0.5]] * 2, "draw": True, "seed": 5})["outputs"]
    assert reply["outputs"][0]["data"] == np.array(want).ravel().tolist()
    asked = {"inputs": [z], "outputs": [{"name": "x"}]}
    refused = server.client.post("/v2/models/decode/infer", json=asked)
    assert "x is there with the parameter draw" in refused.json()["error"]
    refused = server.client.post(
        "/v2/models/decode/infer", json={**asked, "outputs": [{"name": "mean"}], "parameters": {"draw": True}}
    )
    assert "mean is not there with the parameter draw" in refused.json()["error"]


def test_the_guide_shows_a_request_and_its_answer(server: Server) -> None:
    """docs/records.md."""
    guide = (ROOT / "docs/records.md").read_text()
    asked, answered = re.findall(r"^```json\n(.*?)^```$", guide, re.M | re.S)
    reply = post(server, "/v1/anomaly-score", json.loads(asked))
    shown = json.loads(answered)
    assert same({**shown, "model": 0}, {**reply, "model": 0}), reply


def test_a_bundle_of_the_trainer_is_served_alike(machines: Bundle, tmp_path: Path) -> None:
    """Its families, its mask, its bins, what missing columns add, and its draws; every value of these is one."""
    table = Table(machines.manifest.inputs.columns or ())
    good = {"speed": 1500.0, "mode": "low", "site": "s3", "grade": "b", "valve": 0, "stops": 3, "seen": 1.7e9}
    good = {**good, "built": 2000}
    gone = {**good, "speed": None}
    with Server(write(tmp_path / "mixed", machines)) as server:
        body = {"records": [good, gone, {**good, "stops": 4000}], "alpha": 0.05, "explain": 8}
        reply = post(server, "/v1/anomaly-score", body)
        assert [row["row"] for row in reply["missing"]] == [1]
        assert reply["is_anomaly"] == [False, False, True]
        assert reply["explanations"][2][0]["feature"] == "stops"
        assert [len(parts) for parts in reply["explanations"]] == [8, 7, 8]
        lone = post(server, "/v1/anomaly-score", {**body, "records": [gone]})
        assert lone["scores"] == pytest.approx(reply["scores"][1:2], rel=1e-4)
        drawn = post(server, "/v1/decode", {"latents": [[0] * 3] * 9, "draw": True, "records": True})
        assert not table.read(drawn["records"]).flaws
        assert len({json.dumps(record) for record in drawn["records"]}) == 9
        assert set(drawn["records"][0]) == set(table.names) == set(good)


@pytest.mark.parametrize(
    ("at", "changes"),
    [
        (1, {"vocabulary": ("south", "north", "east, or so")}),
        (1, {"vocabulary": ("north", "south", "east, or so", "west")}),
        (1, {"unknown": "reject"}),
        (0, {"missing": False}),
        (4, {"kind": "numeric"}),
        (5, {"time": "epoch"}),
    ],
)
def test_a_version_whose_columns_take_other_values_does_not_follow_by_itself(
    opened: Bundle, at: int, changes: Json
) -> None:
    """The same number would be another category, or what was answered would be refused."""
    columns = list(COLUMNS)
    columns[at] = columns[at].model_copy(update=changes)
    inputs = opened.manifest.inputs.model_copy(update={"columns": tuple(columns)})
    told = unfit(opened.manifest.model_copy(update={"inputs": inputs}), opened.manifest)
    assert told is not None
    assert f"its column '{NAMES[at]}' does not take" in told
    assert unfit(opened.manifest, opened.manifest) is None


def test_long_records_are_the_same_as_in_parts(server: Server) -> None:
    """A body of several slices, with commas and brackets in its texts."""
    x = np.concatenate([masked(mixed_rows(250, seed=index), index) for index in range(4)])
    records = records_of(x)
    body = json.dumps({"records": records}, indent=1).encode()
    assert len(body) > 2**17
    reply = httpx.post(
        f"{server.url}/v1/encode", content=body, headers={"Content-Type": "application/json"}, timeout=30
    )
    parts = [post(server, "/v1/encode", {"records": records[at : at + 100]})["mu"] for at in range(0, len(x), 100)]
    np.testing.assert_allclose(reply.json()["mu"], np.concatenate(parts), atol=1e-6)


@pytest.mark.parametrize("missing", [0, 2])
def test_a_bundle_without_a_mask_bin_is_refused_at_the_start(bundle: Path, tmp_path: Path, missing: int) -> None:
    """Rows that miss so much could not be judged."""
    own = Path(shutil.copytree(bundle, tmp_path / "mixed" / "1"))
    manifest = json.loads((own / "manifest.json").read_text())
    kept = [entry for entry in manifest["calibrated"] if (entry["kind"], entry["mask_bin"]) != ("kl", missing)]
    edit_manifest(own, calibrated=kept)
    opened = open_bundle(own)
    with pytest.raises(BundleError, match=f"kl with {K} samples has no mask bin {missing}"):
        Anomaly(opened)


def test_rows_with_gaps_are_judged_where_too_few_calibration_rows_miss_nothing(opened: Bundle, tmp_path: Path) -> None:
    """A named alpha is refused where no rows suffice for it; a row of a bin that has too few is left undecided."""
    gappy = [masked(mixed_rows(60, seed=20 + index), index) for index in (1, 2, 3)]
    rows = np.concatenate([mixed_rows(10, seed=20), *gappy])
    few = write(tmp_path / "mixed", recalibrate(opened, 2, rows, "0" * 64, threads=1))
    with Server(few) as server:
        whole, gap = X[0], masked(X[:1], 1)[0]
        reply = post(server, "/v1/anomaly-score", {"records": records_of(np.stack([whole, gap])), "alpha": 0.05})
        assert reply["is_anomaly"] == [None, reply["p_values"][1] <= 0.05]
        assert (reply["threshold"], reply["missing"][0]["threshold"] is None) == (None, False)
        assert reply["reason"].endswith("needs 19 calibration rows; the bundle has 10 that miss nothing")
        judged = post(server, "/v1/anomaly-score", {"records": records_of(gap[None]), "alpha": 0.05})
        assert "reason" not in judged
        assert judged["is_anomaly"] == [reply["is_anomaly"][1]]
        refused = problem(server, "/v1/anomaly-score", {"records": records_of(gap[None]), "alpha": 1e-4})
        assert refused["rows_needed"] == 9999
        refused = problem(server, "/v1/anomaly-score", {"records": records_of(whole[None]), "fdr": 0.05})
        assert (refused["field"], refused["rows_needed"]) == ("fdr", 19)
