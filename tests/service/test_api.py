"""The /v1 operations over real HTTP, on real bundles, by the real server."""

from __future__ import annotations

import json
import math
import socket
from pathlib import Path
from typing import Any, get_args

import httpx
import numpy as np
import pytest
from scipy import stats

from service.api import ROUTES
from service.bundle import open_bundle
from service.calibrated import ScoreKind
from service.engine import Engine
from tests.bundles import image_rows, table_rows
from tests.server import Server

CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4 * math.sqrt(6)}


def ask(server: Server, op: str, status: int = 200, **body: Any) -> dict[str, Any]:
    """The reply to one request; its status must be *status*, and it must be as documented."""
    reply = server.client.post(f"/v1/{op}", json=body)
    assert reply.status_code == status, reply.text
    found: dict[str, Any] = reply.json()
    if status == 200:
        assert reply.headers["content-type"] == "application/json"
        model = next(route.reply for route in ROUTES if route.op == op)
        model.model_validate(found)
    else:
        assert reply.headers["content-type"] == "application/problem+json"
        assert found["status"] == status
        assert found["request_id"] == reply.headers["x-request-id"]
    return found


def in_process(bundle: Path, graph: str, **inputs: Any) -> dict[str, Any]:
    """What onnxruntime says without a service."""
    return Engine(open_bundle(bundle).graphs, threads=1).run(graph, inputs)


def test_encode_answers_what_the_encoder_says(table_server: Server, table_bundle: Path) -> None:
    """The whole way through HTTP changes nothing."""
    x = table_rows(5, seed=1)
    reply = ask(table_server, "encode", inputs=x.tolist())
    want = in_process(table_bundle, "encoder", x=x)
    np.testing.assert_allclose(reply["mu"], want["mu"], **CLOSE)
    np.testing.assert_allclose(reply["logvar"], want["logvar"], **CLOSE)
    assert set(reply) == {"model", "mu", "logvar"}


def test_every_reply_names_the_model_its_version_and_its_bundle(table_server: Server, table_bundle: Path) -> None:
    """A number without the model that it came from is worth little."""
    want = {"name": "pumps", "version": 1, "bundle_id": open_bundle(table_bundle).bundle_id}
    x = table_rows(2).tolist()
    z = ask(table_server, "encode", inputs=x)["mu"]
    bodies: dict[str, dict[str, Any]] = {
        "encode": {"inputs": x},
        "decode": {"latents": z},
        "sample": {},
        "interpolate": {"latents": z},
        "reconstruct": {"inputs": x},
        "anomaly-score": {"inputs": x},
    }
    assert set(bodies) == {route.op for route in ROUTES}
    for op, body in bodies.items():
        assert ask(table_server, op, **body)["model"] == want


def test_draws_of_z_follow_the_posterior_and_their_seed(table_server: Server) -> None:
    """Each is mu + std eps; equal seeds give equal draws, and a seed that was not given is told."""
    x = table_rows(3, seed=2).tolist()
    first = ask(table_server, "encode", inputs=x, draws=200, seed=5)
    again = ask(table_server, "encode", inputs=x, draws=200, seed=5)
    assert first["z"] == again["z"]
    z, mu = np.array(first["z"]), np.array(first["mu"])
    std = np.exp(0.5 * np.array(first["logvar"]))
    assert z.shape == (3, 200, 4)
    assert np.abs((z - mu[:, None]) / std[:, None]).mean(axis=(1, 2)) == pytest.approx(math.sqrt(2 / math.pi), abs=0.1)
    unseeded = ask(table_server, "encode", inputs=x, draws=1)
    assert ask(table_server, "encode", inputs=x, draws=1, seed=unseeded["seed"])["z"] == unseeded["z"]


def test_decode_answers_in_original_units_and_shape(image_server: Server, image_bundle: Path) -> None:
    """The mean of p(x given z), nested as the image is."""
    z = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    reply = ask(image_server, "decode", latents=z.tolist())
    np.testing.assert_allclose(reply["outputs"], in_process(image_bundle, "decoder", z=z)["mean"], **CLOSE)
    assert np.shape(reply["outputs"]) == (4, 2, 3)


def test_a_sample_is_made_again_by_its_seed(table_server: Server) -> None:
    """Also when the server chose it; the outputs are the decoded latents."""
    first = ask(table_server, "sample", count=3)
    again = ask(table_server, "sample", count=3, seed=first["seed"])
    assert (first["latents"], first["outputs"]) == (again["latents"], again["outputs"])
    np.testing.assert_allclose(
        ask(table_server, "decode", latents=first["latents"])["outputs"], first["outputs"], **CLOSE
    )


def test_temperature_and_truncation_shape_the_latents(table_server: Server) -> None:
    """Temperature 0 is the origin; truncation bounds each latent before the temperature."""
    assert not np.any(ask(table_server, "sample", count=4, temperature=0)["latents"])
    z = np.array(ask(table_server, "sample", count=500, truncation=0.5, temperature=2, seed=1)["latents"])
    assert 0.9 < np.abs(z).max() <= 1.0


@pytest.mark.parametrize("method", ["slerp", "lerp"])
def test_a_path_has_its_waypoints_once_and_to_the_bit(table_server: Server, method: str) -> None:
    """Three waypoints with five steps a leg are nine points."""
    z = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32).tolist()
    reply = ask(table_server, "interpolate", latents=z, steps=5, method=method)
    assert reply["alphas"] == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]
    path = np.array(reply["latents"], np.float32)
    assert np.array_equal(path[[0, 4, 8]], np.array(z, np.float32))
    assert len(reply["outputs"]) == 9
    assert reply["degenerate"] is False


def test_rows_as_waypoints_are_encoded_first(table_server: Server) -> None:
    """Inputs and the mu of those inputs give one path."""
    x = table_rows(2, seed=3).tolist()
    mu = ask(table_server, "encode", inputs=x)["mu"]
    by_rows = ask(table_server, "interpolate", inputs=x, steps=4)
    by_latents = ask(table_server, "interpolate", latents=mu, steps=4)
    np.testing.assert_allclose(by_rows["latents"], by_latents["latents"], **CLOSE)


def test_a_null_is_as_good_as_nothing_where_one_of_two_is_asked(table_server: Server) -> None:
    """As the documented model says."""
    ask(table_server, "interpolate", inputs=None, latents=[[1, 2, 3, 4], [4, 3, 2, 1]])


def test_an_alpha_just_below_one_flags_all_but_the_lowest(table_server: Server) -> None:
    """The edge of the range is inside it."""
    reply = ask(table_server, "anomaly-score", inputs=table_rows(3).tolist(), alpha=0.9999999999999999)
    assert reply["is_anomaly"] == [p <= 0.9999999999999999 for p in reply["p_values"]]


def test_opposite_waypoints_are_flagged(table_server: Server) -> None:
    """Between opposite directions there are many great circles; the reply says that one was chosen."""
    z = np.array([1.0, 2.0, 0.5, -1.0])
    assert ask(table_server, "interpolate", latents=[z.tolist(), (-z).tolist()])["degenerate"] is True


def test_reconstruct_is_encode_then_decode(image_server: Server) -> None:
    """At z = mu."""
    x = image_rows(3, seed=1).tolist()
    mu = ask(image_server, "encode", inputs=x)["mu"]
    np.testing.assert_allclose(
        ask(image_server, "reconstruct", inputs=x)["outputs"],
        ask(image_server, "decode", latents=mu)["outputs"],
        **CLOSE,
    )


@pytest.mark.parametrize("kind", get_args(ScoreKind))
def test_a_score_comes_with_p_value_threshold_and_the_interval_of_its_rate(table_server: Server, kind: str) -> None:
    """Exactly the rows above the threshold are anomalous, which are those with p <= alpha."""
    x = np.concatenate([table_rows(40, seed=4), table_rows(3, seed=5) * [1, 5, 1]])
    reply = ask(table_server, "anomaly-score", inputs=x.tolist(), kind=kind, alpha=0.1)
    scores, p = np.array(reply["scores"]), np.array(reply["p_values"])
    assert reply["is_anomaly"] == (scores > reply["threshold"]).tolist() == (p <= 0.1).tolist()
    low, high = reply["false_alarm_rate"]
    assert 0 < low < 0.1 < high < 0.2
    assert (reply["kind"], reply["samples"], reply["alpha"]) == (kind, 16, 0.1)


def test_with_fdr_the_reply_says_which_rows_are_flagged_together(table_server: Server) -> None:
    """Adjusted p-values are scipy's; without fdr none of its fields is there."""
    x = np.concatenate([table_rows(30, seed=14), table_rows(6, seed=15) * [1, 5, 1]])
    reply = ask(table_server, "anomaly-score", inputs=x.tolist(), fdr=0.1)
    adjusted = np.array(reply["adjusted_p_values"])
    np.testing.assert_allclose(adjusted, stats.false_discovery_control(reply["p_values"]))
    assert reply["is_discovery"] == (adjusted <= 0.1).tolist()
    assert reply["is_discovery"][30:] == [True] * 6
    assert (reply["fdr"], reply["least_discoveries"]) == (0.1, 2)  # 36 rows, 200 calibration rows: 36/2/201 < 0.1
    plain = ask(table_server, "anomaly-score", inputs=x.tolist())
    assert not {"fdr", "adjusted_p_values", "is_discovery", "least_discoveries"} & set(plain)
    problem = ask(table_server, "anomaly-score", 422, inputs=x.tolist(), fdr=0.001)
    assert problem["detail"] == "fdr 0.001 needs 999 calibration rows; the bundle has 200"
    assert (problem["field"], problem["rows_needed"]) == ("fdr", 999)


def test_a_row_that_could_not_be_scored_is_no_test_of_the_request(image_server: Server) -> None:
    """The others are adjusted as if it had not been sent."""
    good = image_rows(3, seed=16).tolist()
    options: dict[str, Any] = {"fdr": 0.1, "on_invalid": "flag"}
    reply = ask(image_server, "anomaly-score", inputs=[good[0], "row", *good[1:]], **options)
    alone = ask(image_server, "anomaly-score", inputs=good, **options)
    assert [reply[name][1] for name in ("adjusted_p_values", "is_discovery")] == [None, None]
    for name in ("adjusted_p_values", "is_discovery"):
        assert reply[name][:1] + reply[name][2:] == alone[name]
    only_bad = ask(image_server, "anomaly-score", inputs=["x"], **options)
    assert (only_bad["is_discovery"], "least_discoveries" in only_bad) == ([None], False)


def test_a_broken_relation_between_columns_is_found_and_explained(table_server: Server) -> None:
    """Each value alone is usual; the explanation names the columns, in the units of the table."""
    usual = table_rows(1, seed=6)
    odd = usual.copy()
    odd[0, 1] = 60.0
    reply = ask(table_server, "anomaly-score", inputs=[*usual.tolist(), *odd.tolist()], explain=3, components=True)
    assert reply["is_anomaly"] == [False, True]
    first = reply["explanations"][1][0]
    assert (first["feature"], first["observed"]) == ("pressure", 60.0)
    assert first["interval"][0] < first["expected"] < first["interval"][1]
    nats = sum(part["nats"] for part in reply["explanations"][1])
    assert nats + reply["components"]["latent"][1] == pytest.approx(reply["scores"][1], rel=1e-4, abs=1e-3)


def test_a_row_scores_the_same_alone_and_among_others(table_server: Server) -> None:
    """Within the tolerance of the contract, whatever shares its batch."""
    x = table_rows(50, seed=7)
    together = ask(table_server, "anomaly-score", inputs=x.tolist())["scores"]
    alone = [ask(table_server, "anomaly-score", inputs=[row])["scores"][0] for row in x.tolist()[:10]]
    np.testing.assert_allclose(alone, together[:10], rtol=1e-4, atol=1e-4 * math.sqrt(3))


def test_with_on_invalid_flag_a_bad_row_costs_nobody_else(image_server: Server) -> None:
    """It gets a null and its reason; the others get the answers that they get alone."""
    good = image_rows(2, seed=2).tolist()
    rows: list[Any] = [good[0], [[1, 2]], [[0.5] * 3] * 2, [[None] * 3] * 2, good[1], "row"]
    reply = ask(image_server, "anomaly-score", inputs=rows, on_invalid="flag", alpha=0.1, explain=1, components=True)
    alone = ask(image_server, "anomaly-score", inputs=good, alpha=0.1)
    assert [row["row"] for row in reply["invalid"]] == [1, 2, 3, 5]
    assert "its likelihood is defined for whole numbers from 0 to 1" in reply["invalid"][1]["reason"]
    for name in ("scores", "p_values", "is_anomaly"):
        assert [reply[name][i] for i in (1, 2, 3, 5)] == [None] * 4
    np.testing.assert_allclose([reply["scores"][0], reply["scores"][4]], alone["scores"], **CLOSE)
    assert [row is None for row in reply["explanations"]] == [False, True, True, True, False, True]
    assert reply["components"]["kl"][1] is None
    only_bad = ask(image_server, "anomaly-score", inputs=["x"], on_invalid="flag", components=True, explain=2)
    assert (only_bad["scores"], only_bad["explanations"]) == ([None], [None])


def test_values_outside_the_support_are_refused_only_where_a_likelihood_is_evaluated(image_server: Server) -> None:
    """Grey pixels can be encoded by a Bernoulli model; they have no likelihood."""
    grey = [[[0.5] * 3] * 2]
    ask(image_server, "encode", inputs=grey)
    ask(image_server, "reconstruct", inputs=grey)
    problem = ask(image_server, "anomaly-score", 422, inputs=grey)
    assert "feature '0,0' is 0.5" in problem["detail"]
    assert problem["row"] == 0


def test_scores_are_finite_for_every_finite_input(table_server: Server) -> None:
    """The largest doubles as well: standardised inputs are clamped in the graph."""
    x = [[1.7e308, -1.7e308, 0], [5e-324, 0, 0], [-1.7e308] * 3]
    reply = ask(table_server, "anomaly-score", inputs=x)
    assert all(math.isfinite(score) for score in reply["scores"])
    assert reply["is_anomaly"] == [True] * 3


@pytest.mark.parametrize(
    ("op", "body", "status", "told"),
    [
        ("encode", {}, 422, "inputs is missing"),
        ("encode", {"inputs": []}, 422, "inputs has 0 rows; at least 1 needed"),
        ("encode", {"inputs": [[1, 2]]}, 422, "row 0 has 2 values; 3 needed"),
        ("encode", {"inputs": [[1, 2, 3], [1, 2, "3"]]}, 422, "row 1, position 2 must be a number; it is a string"),
        ("encode", {"inputs": [[1, True, 3]]}, 422, "row 0, position 1 must be a number; it is true or false"),
        ("encode", {"inputs": [[1, None, 3]]}, 422, "row 0, position 1 must be a number; it is null"),
        ("encode", {"inputs": {"x": 1}}, 422, "inputs must be a list of rows; it is an object"),
        ("encode", {"inputs": [[1, 2, 3]] * 1025}, 413, "inputs has 1025 rows; one request may have 1024"),
        ("encode", {"inputs": [[1, 2, 3]], "draw": 1}, 422, "unknown field 'draw'; the options here are: draws, seed"),
        ("encode", {"inputs": [[1, 2, 3]], "draws": 300}, 422, "draws: Input should be less than or equal to 256"),
        ("encode", {"inputs": [[1, 2, 3]], "seed": 2**53}, 422, "seed: Input should be less than or equal to"),
        ("decode", {"latents": [[1]]}, 422, "latents: row 0 has 1 value; 4 needed"),
        ("decode", {"latents": [[1e39, 0, 0, 0]]}, 422, "row 0, position [0] holds 1e+39, which is beyond +-1e+06"),
        ("sample", {"count": 0}, 422, "count: Input should be greater than or equal to 1"),
        ("sample", {"count": 1025}, 413, "count is 1025; one request may have 1024"),
        ("sample", {"temperature": -1}, 422, "temperature: Input should be greater"),
        ("sample", {"temperature": "hot"}, 422, "temperature: Input should be a valid number; given: 'hot'"),
        ("interpolate", {"latents": [[1, 2, 3, 4]]}, 422, "latents has 1 row; at least 2 needed"),
        ("interpolate", {}, 422, "inputs or latents is missing; at least 2 rows needed"),
        ("interpolate", {"latents": [[1, 2, 3, 4]] * 2, "steps": 1}, 422, "steps: Input should be greater"),
        ("interpolate", {"latents": [[1, 2, 3, 4]] * 3, "steps": 1024}, 413, "are 2047 points"),
        ("interpolate", {"latents": [[1, 2, 3, 4]] * 2, "method": "walk"}, 422, "method: Input should be 'slerp'"),
        ("reconstruct", {"inputs": [[1, 2, 3]], "seed": 1}, 422, "unknown field 'seed'; the options here are: none"),
        ("anomaly-score", {"inputs": [[1, 2, 3]], "samples": 3}, 422, "nll with 1, 16, 64 samples"),
        ("anomaly-score", {"inputs": [[1, 2, 3]], "kind": "mse"}, 422, "kind: Input should be 'nll'"),
        ("anomaly-score", {"inputs": [[1, 2, 3]], "alpha": 1e-4}, 422, "alpha 0.0001 needs 9999 calibration rows"),
        ("anomaly-score", {"inputs": [[1, 2, 3]], "alpha": 1}, 422, "alpha: Input should be less than 1"),
        ("anomaly-score", {"inputs": [[1, 2, 3]], "alpha": 1e-20}, 422, "alpha: Input should be greater than or equal"),
        ("anomaly-score", {"inputs": [[1, 2, 3]], "alpha": 1e-9}, 422, "alpha 1e-09 needs 999999999 calibration rows"),
        ("anomaly-score", {"inputs": [[1, 2, 3]], "kind": "kl", "explain": 1}, 422, "kl has no parts by feature"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_the_limit_and_the_value(
    table_server: Server, op: str, body: dict[str, Any], status: int, told: str
) -> None:
    """Every refusal names the field and says what would be right."""
    assert told in ask(table_server, op, status, **body)["detail"]


@pytest.mark.parametrize(
    ("headers", "content", "status", "told"),
    [
        ({}, b"{", 400, "the body is not JSON"),
        ({}, b"[1]", 400, "the body must be a JSON object; it is a list"),
        ({}, b"", 400, "the body is not JSON"),
        ({}, b'{"inputs": [[1, 2, NaN]]}', 400, "the body is not JSON"),
        ({}, b'{"inputs": ' + b"[" * 5000 + b"]" * 5000 + b"}", 400, "the body is not JSON"),
        ({}, b"\xff\xfe{}", 400, "the body is not JSON"),
        ({"Content-Type": "text/csv"}, b"1,2,3", 415, "'text/csv'"),
        ({"Content-Type": "application/json; charset=latin-1"}, b"{}", 415, "UTF-8"),
        ({"Content-Encoding": "gzip"}, b"{}", 415, "uncompressed"),
        ({"Accept": "text/html, application/json;q=0"}, b"{}", 406, "replies are application/json"),
        ({"Accept": "image/png"}, b"{}", 406, "'image/png'"),
        ({"X-Long": "x" * 66000}, b"{}", 431, "the limit is 65536"),
        ({"X-Request-Timeout-Ms": "soon"}, b"{}", 422, "X-Request-Timeout-Ms must be a whole number from 1"),
        ({"X-Request-Timeout-Ms": "9" * 5000}, b"{}", 422, "X-Request-Timeout-Ms must be a whole number from 1"),
    ],
)
def test_what_is_not_json_is_refused(
    table_server: Server, headers: dict[str, str], content: bytes, status: int, told: str
) -> None:
    """Before anything is made of it."""
    reply = table_server.client.post(
        "/v1/encode", content=content, headers={"Content-Type": "application/json", **headers}
    )
    assert (reply.status_code, told in reply.json()["detail"]) == (status, True)


@pytest.mark.parametrize("seed", [2**53, 2**64 - 1, 2**64, 10**30, -(10**30)])
def test_a_seed_that_is_too_large_is_told_its_limit_whatever_parsers_make_of_it(
    table_server: Server, seed: int
) -> None:
    """Of more than 64 bits it is no whole number any more to JSON's parsers, and was said to be none."""
    x = {"name": "x", "shape": [1, 3], "datatype": "FP64", "data": table_rows(1).tolist()}
    v2 = {"inputs": [x], "parameters": {"draws": 1, "seed": seed}}
    limit = 2**53 - 1 if seed > 0 else 0
    for reply in (
        table_server.client.post("/v1/sample", content=b'{"seed": %d}' % seed),
        table_server.client.post(f"/v1/sample?seed={seed}", content=b"{}"),
    ):
        problem = reply.json()
        assert (reply.status_code, problem["field"], problem["limit"]) == (422, "seed", limit)
        assert problem["value"] == pytest.approx(seed)
    told = table_server.client.post("/v2/models/encode/infer", content=json.dumps(v2)).json()["error"]
    assert told.startswith("seed: Input should be ")
    assert f"than or equal to {limit}; given: " in told


def test_a_coding_that_changes_nothing_is_taken_in_any_case(table_server: Server) -> None:
    """The names of codings have no case (RFC 9110, 8.4.1), under /v1 as under /v2."""
    body = json.dumps({"inputs": table_rows(1).tolist()}).encode()
    assert table_server.client.post("/v1/encode", content=body, headers={"Content-Encoding": "Identity"}).is_success


def test_a_content_type_with_parameters_or_none_is_json(table_server: Server) -> None:
    """As clients send it."""
    body = json.dumps({"inputs": table_rows(1).tolist()}).encode()
    for headers in ({"Content-Type": "Application/JSON; charset=UTF-8"}, {}):
        assert table_server.client.post("/v1/encode", content=body, headers=headers).status_code == 200


@pytest.mark.parametrize("accept", ["*/*", "application/*", "text/html;q=0.9, */*;q=0.1", "application/json; q=1.0"])
def test_an_accept_that_admits_json_gets_json(table_server: Server, accept: str) -> None:
    """By name or by wildcard."""
    headers = {"Accept": accept}
    assert table_server.client.post("/v1/sample", json={}, headers=headers).status_code == 200


def test_a_body_over_the_limit_is_refused_before_it_is_read(table_bundle: Path) -> None:
    """By its Content-Length, and without one as soon as it is too long."""
    with Server(table_bundle, max_body_bytes=2000) as server:
        whole = server.client.post("/v1/encode", content=b" " * 2001)
        chunked = server.client.post("/v1/encode", content=(b" " * 500 for _ in range(5)))
        assert (whole.status_code, chunked.status_code) == (413, 413)
        assert (whole.json()["limit"], whole.json()["value"]) == (2000, 2001)
        assert server.client.get("/health/ready").status_code == 200


def raw(server: Server, head: str) -> bytes:
    """The reply to a request that no well-behaved client sends, up to the end of the connection."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as sender:
        sender.sendall(head.encode())
        return b"".join(iter(lambda: sender.recv(65536), b""))


def test_a_body_that_is_not_announced_is_411(table_server: Server) -> None:
    """With neither Content-Length nor Transfer-Encoding there is none."""
    reply = raw(table_server, "POST /v1/encode HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 411")
    assert b"send a body, with Content-Length or Transfer-Encoding" in reply


def test_only_a_body_that_was_not_read_costs_its_connection(table_bundle: Path) -> None:
    """Too many rows are told on a connection that lives on; too many bytes are not worth reading."""
    with Server(table_bundle, max_request_rows=2, max_body_bytes=2000) as server:
        rows = server.client.post("/v1/encode", json={"inputs": table_rows(3).tolist()})
        size = server.client.post("/v1/encode", content=b" " * 2001)
        assert (rows.status_code, rows.headers.get("connection")) == (413, None)
        assert (size.status_code, size.headers.get("connection")) == (413, "close")


def test_one_is_told_in_the_singular(table_bundle: Path) -> None:
    """Of rows and of bytes."""
    with Server(table_bundle, max_request_rows=1) as server:
        rows = server.client.post("/v1/sample", json={"count": 2}).json()["detail"]
        assert rows == "count is 2; one request may have 1 row"
        tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": 12}}
        head = json.dumps({"inputs": [tensor]}).encode()
        length = {"Inference-Header-Content-Length": str(len(head))}
        reply = server.client.post("/v2/models/encode/infer", content=head + b"x", headers=length)
        assert reply.json()["error"] == "input x: binary_data_size is 12; 1 byte left"


def test_several_accept_headers_are_one_list(table_server: Server) -> None:
    """RFC 9110, 5.3."""
    for headers in ([("accept", "application/json"), ("accept", "text/html")], [("accept", "text/html")] * 2):
        reply = httpx.post(table_server.url + "/v1/sample", json={}, headers=headers)
        assert reply.status_code == (200 if ("accept", "application/json") in headers else 406)


def test_a_request_id_is_kept_or_given(table_server: Server) -> None:
    """The caller's own, when it is harmless; on every route."""
    for path, method in (("/v1/encode", "POST"), ("/health/live", "GET"), ("/nowhere", "GET")):
        given = table_server.client.request(method, path, headers={"X-Request-Id": "abc-1"})
        assert given.headers["x-request-id"] == "abc-1"
        strange = table_server.client.request(method, path, headers={"X-Request-Id": "a b\t<script>"})
        assert strange.headers["x-request-id"] not in ("", "a b\t<script>")


def test_the_model_says_what_it_is_and_what_a_request_may_hold(table_server: Server, table_bundle: Path) -> None:
    """A client needs no other documentation to send the right rows."""
    model = table_server.client.get("/v1/model").json()
    assert model["bundle_id"] == open_bundle(table_bundle).bundle_id
    assert model["manifest"] == json.loads((table_bundle / "manifest.json").read_text())
    assert [column["name"] for column in model["manifest"]["inputs"]["columns"]] == ["speed", "pressure", "flow"]
    assert model["execution"] == {
        "requested": "auto", "provider": "CPUExecutionProvider", "fell_back": False, "threads": 1
    }  # fmt: skip
    assert model["limits"]["max_request_rows"] == 1024


def test_the_metrics_count_what_happened(table_bundle: Path) -> None:
    """Requests by status, rows, batches, stages, rejections, scores."""
    with Server(table_bundle) as server:
        x = table_rows(7).tolist()
        ask(server, "anomaly-score", inputs=x, alpha=0.1)
        ask(server, "encode", inputs=x)
        ask(server, "encode", 422, inputs=[])
        count = server.metric
        assert count("vae_http_requests_total", route="/v1/encode", method="POST", code="200") == 1
        assert count("vae_http_requests_total", route="/v1/encode", method="POST", code="422") == 1
        assert count("vae_http_request_duration_seconds_count", route="/v1/encode") == 2
        assert count("vae_http_requests_in_progress", route="/v1/encode") == 0
        assert count("vae_rows_total", op="encode") == 7
        assert count("vae_batch_rows_sum", op="anomaly-score") == 7
        for stage in ("parse", "queue", "compute", "serialize"):
            assert count("vae_stage_duration_seconds_count", stage=stage, op="anomaly-score") == 1
        assert count("vae_rejected_total", reason="invalid-input") == 1
        assert count("vae_rejected_total", reason="overloaded") == 0
        assert count("vae_scored_rows_total") == 7
        assert count("vae_anomaly_p_value_count", version="1") == 7
        assert count("vae_model_ready") == 1
        assert count("vae_warmup_duration_seconds") > 0
        identity = {"name": "pumps", "version": "1", "bundle_id": open_bundle(table_bundle).bundle_id}
        assert count("vae_model_info", **identity) == 1
        assert count("vae_execution_provider_info", requested="auto", actual="CPUExecutionProvider", device="cpu") == 1


def test_a_client_that_keeps_its_connection_is_served_again_and_again(table_server: Server) -> None:
    """Replies are framed right: a hundred requests on one connection, in order."""
    with httpx.Client(base_url=table_server.url, limits=httpx.Limits(max_connections=1)) as client:
        for count in range(1, 101):
            reply = client.post("/v1/encode", json={"inputs": table_rows(count % 5 + 1).tolist()})
            assert len(reply.json()["mu"]) == count % 5 + 1
