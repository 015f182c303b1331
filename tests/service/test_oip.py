"""The Open Inference Protocol as its stock clients speak it, synchronous and asyncio, over real HTTP."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import itertools
import json
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from service.bundle import open_bundle
from service.engine import Engine
from service.manifest import NEEDS
from service.oip.messages import InferenceReply
from tests.bundles import edit_manifest, image_rows, table_rows
from tests.server import Server

CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-3}


@pytest.fixture(scope="module")
def client(table_server: Server) -> Iterator[triton.InferenceServerClient]:
    """The stock client, on the table bundle."""
    with triton.InferenceServerClient(table_server.url.removeprefix("http://")) as client:
        yield client


def tensor(name: str, array: np.ndarray, binary: bool = True, datatype: str | None = None) -> triton.InferInput:
    """An input of the stock client."""
    made = triton.InferInput(name, list(array.shape), datatype or np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def wanted(binary: bool, *names: str) -> list[triton.InferRequestedOutput]:
    """Outputs as the stock client asks for them."""
    return [triton.InferRequestedOutput(name, binary_data=binary) for name in names]


def v1(server: Server, op: str, **body: Any) -> dict[str, Any]:
    """What /v1 answers."""
    reply = server.client.post(f"/v1/{op}", json=body)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def post(server: Server, model: str, status: int = 200, **body: Any) -> dict[str, Any]:
    """The reply to one inference request in JSON."""
    reply = server.client.post(f"/v2/models/{model}/infer", json=body)
    assert reply.status_code == status, reply.text
    found: dict[str, Any] = reply.json()
    if status == 200:
        InferenceReply.model_validate(found)
    else:
        assert set(found) == {"error"}
    return found


def given(name: str, array: Any, datatype: str = "FP64") -> dict[str, Any]:
    """An input in JSON."""
    return {"name": name, "shape": list(np.shape(array)), "datatype": datatype, "data": np.asarray(array).tolist()}


def test_the_stock_client_finds_the_server_and_its_models(client: triton.InferenceServerClient) -> None:
    """Liveness, readiness, metadata, configuration, index, with and without a version."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert [entry["name"] for entry in client.get_model_repository_index()] == list(NEEDS)
    for op, version in itertools.product(NEEDS, ("", "1")):
        assert client.is_model_ready(op, version)
        metadata = client.get_model_metadata(op, version)
        config = client.get_model_config(op, version)
        assert (metadata["name"], metadata["versions"], metadata["platform"]) == (op, ["1"], "onnxruntime_onnx")
        for described, configured in (("inputs", "input"), ("outputs", "output")):
            assert [t["name"] for t in metadata[described]] == [t["name"] for t in config[configured]]
        batched = config["max_batch_size"] > 0
        for meta, conf in zip(metadata["inputs"], config["input"], strict=True):
            assert [str(size) for size in meta["shape"][batched:]] == conf["dims"]
            assert conf["data_type"] == f"TYPE_{meta['datatype']}"
    assert not client.is_model_ready("encode", "2")
    assert not client.is_model_ready("nothing")


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_infer_answers_what_v1_and_the_engine_answer_in_all_four_combinations(
    client: triton.InferenceServerClient, table_server: Server, table_bundle: Path, binary_in: bool, binary_out: bool
) -> None:
    """Tensors in JSON or in binary are the same tensors."""
    x = table_rows(5, seed=1)
    result = client.infer("encode", [tensor("x", x, binary_in)], outputs=wanted(binary_out, "logvar", "mu"))
    assert [output["name"] for output in result.get_response()["outputs"]] == ["logvar", "mu"]
    engine: dict[str, Any] = {**Engine(open_bundle(table_bundle).graphs, threads=1).run("encoder", {"x": x})}
    reply = v1(table_server, "encode", inputs=x.tolist())
    for name in ("mu", "logvar"):
        got = result.as_numpy(name)
        assert (got.dtype, got.shape) == (np.float32, (5, 4))
        np.testing.assert_allclose(got, engine[name], **CLOSE)
        np.testing.assert_allclose(got, reply[name], **CLOSE)
        sizes = [output.get("parameters", {}) for output in result.get_response()["outputs"]]
        assert sizes == [{"binary_data_size": 80}] * 2 if binary_out else [{}] * 2


def test_by_default_every_output_comes_in_binary(client: triton.InferenceServerClient) -> None:
    """As the stock client asks when its caller names none; the id is given back, and the bundle is named."""
    result = client.infer("encode", [tensor("x", table_rows(2))], request_id="a-1", model_version="1")
    response = result.get_response()
    assert (response["model_name"], response["model_version"], response["id"]) == ("encode", "1", "a-1")
    assert len(response["parameters"]["bundle_id"]) == 64
    assert [output["parameters"] for output in response["outputs"]] == [{"binary_data_size": 32}] * 2


def test_every_operation_answers_as_under_v1(client: triton.InferenceServerClient, table_server: Server) -> None:
    """Decode, reconstruct, sample, interpolate: the tensors are the fields."""
    x, z = table_rows(3, seed=2), np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    decoded = v1(table_server, "decode", latents=z.tolist())
    np.testing.assert_allclose(client.infer("decode", [tensor("z", z)]).as_numpy("mean"), decoded["outputs"], **CLOSE)
    again = v1(table_server, "reconstruct", inputs=x.tolist())
    np.testing.assert_allclose(
        client.infer("reconstruct", [tensor("x", x)]).as_numpy("mean"), again["outputs"], **CLOSE
    )
    options = {"seed": 5, "temperature": 0.5, "truncation": 1.5}
    sampled = client.infer("sample", [tensor("count", np.array([4]))], parameters=options)
    same = v1(table_server, "sample", count=4, **options)
    assert sampled.get_response()["parameters"]["seed"] == 5
    np.testing.assert_allclose(sampled.as_numpy("z"), same["latents"], **CLOSE)
    np.testing.assert_allclose(sampled.as_numpy("mean"), same["outputs"], **CLOSE)
    for name, field, waypoints in (("x", "inputs", x), ("z", "latents", z)):
        walk = client.infer("interpolate", [tensor(name, waypoints)], parameters={"steps": 4, "method": "lerp"})
        path = v1(table_server, "interpolate", steps=4, method="lerp", **{field: waypoints.tolist()})
        assert walk.as_numpy("alphas").tolist() == path["alphas"]
        assert walk.get_response()["parameters"]["degenerate"] is False
        np.testing.assert_allclose(walk.as_numpy("z"), path["latents"], **CLOSE)
        np.testing.assert_allclose(walk.as_numpy("mean"), path["outputs"], **CLOSE)


def test_draws_add_a_tensor(client: triton.InferenceServerClient, table_server: Server) -> None:
    """Asked for without them it is refused, with the parameter that it needs."""
    x = table_rows(2)
    result = client.infer("encode", [tensor("x", x)], parameters={"draws": 3, "seed": 1})
    want = v1(table_server, "encode", inputs=x.tolist(), draws=3, seed=1)
    np.testing.assert_allclose(result.as_numpy("z"), want["z"], **CLOSE)
    assert result.get_response()["parameters"]["seed"] == 1
    with pytest.raises(InferenceServerException, match="output z is there with the parameter draws"):
        client.infer("encode", [tensor("x", x)], outputs=wanted(True, "z"))


@pytest.mark.parametrize("binary", [True, False])
def test_scores_with_parts_and_explanations_are_those_of_v1(
    client: triton.InferenceServerClient, table_server: Server, binary: bool
) -> None:
    """Features are strings; a truth value that may be unknown is 0, 1 or -1."""
    x = np.concatenate([table_rows(3, seed=4), table_rows(1, seed=5) * [1, 5, 1]])
    options: dict[str, Any] = {"kind": "neg_elbo", "samples": 16, "alpha": 0.1, "explain": 2, "components": True}
    names = ["score", "p_value", "is_anomaly", "threshold", "false_alarm_rate"]
    names += [f"components.{name}" for name in ("reconstruction", "kl", "latent", "effective_samples")]
    parts = ["feature", "nats", "p_value", "observed", "expected", "lower", "upper"]
    result = client.infer(
        "anomaly-score",
        [tensor("x", x)],
        outputs=wanted(binary, *names, *(f"explanations.{part}" for part in parts)),
        parameters=options,
    )
    want = v1(table_server, "anomaly-score", inputs=x.tolist(), **options)
    told = result.get_response()["parameters"]
    assert (told["kind"], told["samples"], told["alpha"]) == ("neg_elbo", 16, 0.1)
    np.testing.assert_allclose(result.as_numpy("score"), want["scores"], **CLOSE)
    np.testing.assert_allclose(result.as_numpy("p_value"), want["p_values"], **CLOSE)
    assert result.as_numpy("is_anomaly").dtype == np.int8
    assert result.as_numpy("is_anomaly").tolist() == want["is_anomaly"]
    assert result.as_numpy("threshold").tolist() == pytest.approx([want["threshold"]])
    assert result.as_numpy("false_alarm_rate").tolist() == pytest.approx(want["false_alarm_rate"])
    np.testing.assert_allclose(result.as_numpy("components.kl"), want["components"]["kl"], **CLOSE)
    found = {part: result.as_numpy(f"explanations.{part}") for part in parts}
    assert all(array.shape == (4, 2) for array in found.values())
    for row, part in itertools.product(range(4), range(2)):
        one = want["explanations"][row][part]
        feature = found["feature"][row, part]
        assert (feature.decode() if binary else feature) == one["feature"]
        low, high = one.pop("interval")
        for name, value in {**one, "lower": low, "upper": high}.items():
            if name != "feature":
                assert found[name][row, part] == pytest.approx(value, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("binary", [True, False])
def test_discoveries_are_those_of_v1(client: triton.InferenceServerClient, table_server: Server, binary: bool) -> None:
    """As tensors, with the rate and the least number of them as parameters; there with the parameter fdr alone."""
    x = np.concatenate([table_rows(9, seed=4), table_rows(1, seed=5) * [1, 5, 1]])
    outputs = wanted(binary, "adjusted_p_value", "is_discovery")
    result = client.infer("anomaly-score", [tensor("x", x)], outputs=outputs, parameters={"fdr": 0.1})
    want = v1(table_server, "anomaly-score", inputs=x.tolist(), fdr=0.1)
    np.testing.assert_allclose(result.as_numpy("adjusted_p_value"), want["adjusted_p_values"], **CLOSE)
    assert result.as_numpy("is_discovery").dtype == np.int8
    assert result.as_numpy("is_discovery").tolist() == want["is_discovery"] == [False] * 9 + [True]
    told = result.get_response()["parameters"]
    assert (told["fdr"], told["least_discoveries"]) == (0.1, 1)
    with pytest.raises(InferenceServerException, match="output is_discovery is there with the parameter fdr"):
        client.infer("anomaly-score", [tensor("x", x)], outputs=wanted(binary, "is_discovery"))


def test_a_row_that_cannot_be_scored_has_no_number_and_an_unknown_flag(image_server: Server) -> None:
    """With on_invalid = flag; its index and the reason are tensors."""
    x = image_rows(3, seed=2)
    x[1] = 0.5
    reply = post(image_server, "anomaly-score", inputs=[given("x", x)], parameters={"on_invalid": "flag", "alpha": 0.1})
    outputs = {output["name"]: output for output in reply["outputs"]}
    assert outputs["score"]["data"][1] is None
    assert outputs["is_anomaly"]["data"][1] == -1
    assert outputs["invalid.row"]["data"] == [1]
    assert "its likelihood is defined for whole numbers from 0 to 1" in outputs["invalid.reason"]["data"][0]
    assert outputs["invalid.reason"]["datatype"] == "BYTES"


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_bodies_are_compressed_both_ways(client: triton.InferenceServerClient, coding: str) -> None:
    """In binary and in JSON, small and large."""
    for rows, binary in itertools.product((2, 1000), (True, False)):
        x = table_rows(rows)
        plain = client.infer("encode", [tensor("x", x, binary)], outputs=wanted(binary, "mu"))
        result = client.infer(
            "encode",
            [tensor("x", x, binary)],
            outputs=wanted(binary, "mu"),
            request_compression_algorithm=coding,
            response_compression_algorithm=coding,
        )
        np.testing.assert_allclose(result.as_numpy("mu"), plain.as_numpy("mu"), **CLOSE)


def test_a_reply_is_compressed_only_where_one_coding_is_named(table_server: Server) -> None:
    """The asyncio client always names several, and does not decode errors; errors are never compressed."""
    body = {"inputs": [given("x", table_rows(1))]}
    for accept, coding in (("gzip", "gzip"), ("deflate", "deflate"), ("gzip, deflate", None), ("br", None)):
        headers = {"Accept-Encoding": accept}
        reply = table_server.client.post("/v2/models/encode/infer", json=body, headers=headers)
        assert reply.headers.get("content-encoding") == coding
        assert reply.json()["model_name"] == "encode"
        refused = table_server.client.post("/v2/models/encode/infer", json={}, headers=headers)
        assert "content-encoding" not in refused.headers
        assert "error" in refused.json()


def test_a_compressed_body_may_not_grow_beyond_the_limit(table_bundle: Path) -> None:
    """A thousand times its size on the wire: refused where it passes, not afterwards."""
    with Server(table_bundle, max_body_bytes=100_000) as server:
        bomb = b" " * 10**8
        for body, coding in ((gzip.compress(bomb), "gzip"), (zlib.compress(bomb), "deflate")):
            for content in (body, body[:50_000]):
                headers = {"Content-Encoding": coding}
                reply = server.client.post("/v2/models/encode/infer", content=content, headers=headers)
                assert reply.status_code == 413
                assert reply.json()["error"] == "the body has more than 100000 bytes when decompressed"
        assert server.metric("process_resident_memory_bytes") < 10**9


@pytest.mark.parametrize(
    ("coding", "content", "status", "told"),
    [
        ("gzip", b"{}", 400, "the body is not gzip"),
        ("gzip", gzip.compress(b"{}", mtime=0)[:-9], 400, "cut short"),
        ("gzip", gzip.compress(b"{}", mtime=0) * 2, 400, "bytes left over behind the gzip body"),
        ("deflate", zlib.compress(b"{}") + b"x", 400, "1 byte left over"),
        ("gzip", b"", 400, "cut short"),
        ("br", b"{}", 415, "the codings of bodies here are gzip and deflate"),
        ("gzip, deflate", b"{}", 415, "gzip and deflate"),
        ("GZIP", gzip.compress(b"{}", mtime=0), 400, "inputs must be a list"),
        ("identity", b"{}", 400, "inputs must be a list"),
    ],
)
def test_a_body_that_is_not_in_its_coding_is_refused(
    table_server: Server, coding: str, content: bytes, status: int, told: str
) -> None:
    """By name."""
    headers = {"Content-Encoding": coding}
    reply = table_server.client.post("/v2/models/encode/infer", content=content, headers=headers)
    assert (reply.status_code, told in reply.json()["error"]) == (status, True), reply.text


def test_the_stock_client_reads_every_error(client: triton.InferenceServerClient, table_server: Server) -> None:
    """An object with "error", whatever the status and whoever made it."""
    x = table_rows(2)
    refused = [
        ("encode", [tensor("x", x[:, :2])], "400", r"x has the shape \[2, 2\]; \[n, 3\] needed"),
        ("encode", [tensor("y", x)], "400", "encode has no input 'y'; it has: x"),
        ("encode", [tensor("x", table_rows(1025))], "413", "one request may have 1024"),
        ("encode", [tensor("x", x * np.nan)], "400", r"x: row 0, position \[0\] holds nan, which is not finite"),
        ("sample", [tensor("count", np.array([0]))], "400", "count: Input should be greater than or equal to 1"),
        ("sample", [tensor("count", np.array([1, 2]))], "400", r"count must be one whole number, of shape \[1\]"),
        ("interpolate", [tensor("x", x), tensor("z", x)], "400", "give x or z, and not both"),
        ("nothing", [tensor("x", x)], "404", "there is no model 'nothing'; there are: encode, decode"),
    ]
    for model, inputs, status, told in refused:
        with pytest.raises(InferenceServerException, match=told) as error:
            client.infer(model, inputs)
        assert error.value.status() == status
    for call in (client.get_model_metadata, client.get_model_config, client.get_inference_statistics):
        for arguments in (("nothing",), ("encode", "7")):
            with pytest.raises(InferenceServerException) as error:
                call(*arguments)
            assert error.value.status() == "404"
    for unsupported in (client.get_trace_settings, client.get_log_settings, client.get_system_shared_memory_status):
        with pytest.raises(InferenceServerException, match="Not Found"):
            unsupported()
    for method, path in (("GET", "/v2/models/encode/infer"), ("PUT", "/v2"), ("POST", "/v2/models/encode")):
        reply = table_server.client.request(method, path)
        assert (reply.status_code, set(reply.json())) == (405, {"error"})


def test_the_asyncio_client_gets_the_same_answers(table_server: Server) -> None:
    """It sends application/octet-stream for JSON as well, and names every coding that it knows."""
    x = table_rows(3, seed=1)
    want = v1(table_server, "encode", inputs=x.tolist())["mu"]

    async def talk() -> None:
        async with triton_aio.InferenceServerClient(table_server.url.removeprefix("http://")) as client:
            assert await client.is_server_live()
            assert await client.is_server_ready()
            assert await client.is_model_ready("encode", "1")
            assert (await client.get_server_metadata())["name"] == "vae-serve"
            assert (await client.get_model_metadata("encode"))["inputs"][0]["name"] == "x"
            assert (await client.get_model_config("encode"))["max_batch_size"] == 1024
            assert len(await client.get_model_repository_index()) == 6
            assert (await client.get_inference_statistics("encode"))["model_stats"][0]["name"] == "encode"
            calls: list[Any] = []
            for binary_in, binary_out in itertools.product((True, False), repeat=2):
                for coding in (None, "gzip", "deflate"):
                    call = client.infer(
                        "encode",
                        [tensor("x", x, binary_in)],
                        outputs=wanted(binary_out, "mu"),
                        request_compression_algorithm=coding,
                        response_compression_algorithm=coding,
                    )
                    calls.append(call)
            calls += [client.infer("encode", [tensor("x", x)]) for _ in range(20)]
            for result in await asyncio.gather(*calls):
                np.testing.assert_allclose(result.as_numpy("mu"), want, **CLOSE)
            with pytest.raises(InferenceServerException, match="there is no model 'nothing'"):
                await client.infer("nothing", [tensor("x", x)])

    asyncio.run(talk())


def test_many_calls_at_once_get_their_own_rows(client: triton.InferenceServerClient, table_server: Server) -> None:
    """The stock client's own concurrency, and threads with a plain one."""
    rows = [table_rows(n % 4 + 1, seed=n) for n in range(40)]
    address = table_server.url.removeprefix("http://")
    with triton.InferenceServerClient(address, concurrency=8) as many:
        asked = [many.async_infer("reconstruct", [tensor("x", x)]) for x in rows]
        answers = [one.get_result().as_numpy("mean") for one in asked]
    with ThreadPoolExecutor(8) as pool:
        plain = list(pool.map(lambda x: v1(table_server, "reconstruct", inputs=x.tolist())["outputs"], rows))
    for got, want in zip(answers, plain, strict=True):
        np.testing.assert_allclose(got, want, **CLOSE)


def test_statistics_are_counts_of_what_was_done(table_bundle: Path) -> None:
    """Rows, batches, requests good and bad; /v1 and /v2 are one operation."""
    with Server(table_bundle) as server:
        address = server.url.removeprefix("http://")
        with triton.InferenceServerClient(address) as client:
            for rows in (3, 3, 5):
                client.infer("encode", [tensor("x", table_rows(rows))])
            v1(server, "encode", inputs=table_rows(2).tolist())
            post(server, "encode", 400, inputs=[])
            one = client.get_inference_statistics("encode")["model_stats"][0]
            every = client.get_inference_statistics()["model_stats"]
        assert one in every
        assert (one["name"], one["version"], one["inference_count"], one["execution_count"]) == ("encode", "1", 13, 4)
        stats = one["inference_stats"]
        assert {name: entry["count"] for name, entry in stats.items()} == {
            "success": 4, "fail": 1, "queue": 4, "compute_input": 4, "compute_infer": 4, "compute_output": 4,
            "cache_hit": 0, "cache_miss": 0,
        }  # fmt: skip
        parts = sum(stats[name]["ns"] for name in ("queue", "compute_input", "compute_infer", "compute_output"))
        assert 0 < parts < stats["success"]["ns"]
        sizes = {entry["batch_size"]: entry["compute_infer"]["count"] for entry in one["batch_stats"]}
        assert sizes == {2: 1, 3: 2, 5: 1}
        assert sum(entry["compute_infer"]["ns"] for entry in one["batch_stats"]) == stats["compute_infer"]["ns"]
        assert one["last_inference"] > 1.7e12
        assert every[1]["inference_count"] == 0
        routes = {"route": "/v2/models/encode/infer", "method": "POST"}
        assert server.metric("vae_http_requests_total", **routes, code="200") == 3
        assert server.metric("vae_http_requests_total", **routes, code="400") == 1
        server.client.get("/v2/models/whatever/config")
        assert server.metric("vae_http_requests_total", route="/v2/models", method="GET", code="404") == 1


def test_a_body_that_is_one_tensor_and_nothing_else(table_server: Server) -> None:
    """Inference-Header-Content-Length: 0: one row, every output in binary."""
    x = table_rows(1, seed=3)
    headers = {"Inference-Header-Content-Length": "0"}
    reply = table_server.client.post("/v2/models/encode/infer", content=x.tobytes(), headers=headers)
    length = int(reply.headers["inference-header-content-length"])
    assert reply.headers["content-type"] == "application/octet-stream"
    names = [output["name"] for output in json.loads(reply.content[:length])["outputs"]]
    assert names == ["mu", "logvar"]
    got = np.frombuffer(reply.content[length:], np.float32).reshape(2, 4)
    np.testing.assert_allclose(got[0], v1(table_server, "encode", inputs=x.tolist())["mu"][0], **CLOSE)
    for model, content, told in (
        ("encode", x.tobytes()[1:], "FP64 of shape [1, 3] has 24 bytes; 23 came"),
        ("interpolate", b"", "this model has no single input of one row"),
    ):
        reply = table_server.client.post(f"/v2/models/{model}/infer", content=content, headers=headers)
        assert (reply.status_code, told in reply.json()["error"]) == (400, True), reply.text


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("FP16", np.array([[0.5, -2, 3]], np.float16)),
        ("FP32", np.array([[0.1, 1e30, -3]], np.float32)),
        ("FP64", np.array([[0.1, 1e300, -3]], np.float64)),
        ("INT8", np.array([[-128, 0, 127]], np.int8)),
        ("UINT8", np.array([[255, 0, 1]], np.uint8)),
        ("INT32", np.array([[-(2**31), 0, 1]], np.int32)),
        ("INT64", np.array([[-(2**53), 0, 2**53]], np.int64)),
        ("UINT64", np.array([[2**53, 0, 1]], np.uint64)),
        ("BOOL", np.array([[True, False, True]])),
    ],
)
def test_a_tensor_of_any_numbers_that_the_model_can_hold_is_taken(
    table_server: Server, client: triton.InferenceServerClient, datatype: str, values: np.ndarray
) -> None:
    """And is the same row as its float64."""
    want = v1(table_server, "encode", inputs=values.astype(np.float64).tolist())["mu"]
    got = client.infer("encode", [tensor("x", values, datatype=datatype)]).as_numpy("mu")
    np.testing.assert_allclose(got, want, **CLOSE)


def test_bf16_is_taken_in_binary(image_server: Server) -> None:
    """The upper half of a float32."""
    x = image_rows(2)
    bits = (x.view(np.uint32) >> 16).astype(np.uint16)
    head = json.dumps(
        {
            "inputs": [
                {"name": "x", "shape": [2, 2, 3], "datatype": "BF16", "parameters": {"binary_data_size": bits.nbytes}}
            ]
        }
    ).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    reply = image_server.client.post("/v2/models/encode/infer", content=head + bits.tobytes(), headers=headers)
    want = np.ravel(v1(image_server, "encode", inputs=x.tolist())["mu"])
    np.testing.assert_allclose(reply.json()["outputs"][0]["data"], want, **CLOSE)


@pytest.mark.parametrize(
    ("values", "datatype", "told"),
    [
        ([[[2**24 + 1, 0, 0], [0, 0, 0]]], "INT32", "whole numbers are exact in float32 up to 16777216"),
        ([[[-(2**62), 0, 0], [0, 0, 0]]], "INT64", "whole numbers are exact in float32 up to 16777216"),
        ([[[1e39, 0, 0], [0, 0, 0]]], "FP32", "which is beyond"),
        ([[[1e39, 0, 0], [0, 0, 0]]], "FP64", "which is beyond"),
        ([[[1, 0, 0], [0, 0, 0]]], "FP16", "FP16 has no form in JSON"),
        ([[[1, 0, 0], [0, 0, 0]]], "BF16", "BF16 has no form in JSON"),
        ([[[1, 0, 0], [0, 0, 0]]], "BYTES", "its datatype must be one of BOOL, INT8"),
        ([[[1, 0, 0], [0, 0, 0]]], "BOOL", "the data of BOOL must be true or false"),
        ([[[1.0, 0, 0], [0, 0, 0]]], "INT8", "the data of INT8 must be whole numbers"),
        ([[[128, 0, 0], [0, 0, 0]]], "INT8", "holds a number that is no INT8"),
        ([[["1", 0, 0], [0, 0, 0]]], "FP32", "the data of FP32 must be numbers"),
        (
            [[[None, 0, 0], [0, 0, 0]]],
            "FP32",
            "there is no null: where a value may be missing, it is false in the",
        ),
    ],
)
def test_a_tensor_that_would_be_changed_is_refused(image_server: Server, values: Any, datatype: str, told: str) -> None:
    """Nothing is rounded but floating-point numbers, and nothing wraps around."""
    inputs = [{"name": "x", "shape": [1, 2, 3], "datatype": datatype, "data": values}]
    assert told in post(image_server, "encode", 400, inputs=inputs)["error"]


def test_data_may_be_flat_or_nested(image_server: Server) -> None:
    """Row-major."""
    x = image_rows(2)
    flat = post(image_server, "encode", inputs=[{**given("x", x), "data": x.ravel().tolist()}])
    nested = post(image_server, "encode", inputs=[given("x", x)])
    np.testing.assert_allclose(flat["outputs"][0]["data"], nested["outputs"][0]["data"], **CLOSE)
    half: list[Any] = [*x[0].ravel().tolist(), x[1].ravel().tolist()]
    wrong: list[Any] = [x.ravel().tolist()[1:], [x.tolist()], [x[0].ravel().tolist()] * 2, half, [[]], "x", {}]
    for data in wrong:
        error = post(image_server, "encode", 400, inputs=[{**given("x", x), "data": data}])["error"]
        assert "input x: data" in error or "the data of" in error


def test_a_timeout_in_microseconds_shortens_the_deadline(table_server: Server) -> None:
    """And is no way to lengthen it; 0 is none."""
    inputs = [given("x", table_rows(1))]
    late = post(table_server, "encode", 504, inputs=inputs, parameters={"timeout": 1})
    assert late == {"error": "no answer within the timeout of 1 us"}
    post(table_server, "encode", inputs=inputs, parameters={"timeout": 10**9})
    post(table_server, "encode", inputs=inputs, parameters={"timeout": 0, "priority": 1, "sequence_id": 7, "mine": []})
    for timeout in (-1, 1.5, "1", True):
        assert (
            "timeout must be"
            in post(table_server, "encode", 400, inputs=inputs, parameters={"timeout": timeout})["error"]
        )


def test_a_full_queue_and_a_late_body_are_told_in_the_same_form(table_bundle: Path) -> None:
    """429 with Retry-After; 408; 413."""
    with Server(table_bundle, max_queue_rows=4, max_batch_rows=1, request_timeout_s=1.0) as server:

        async def storm() -> list[httpx.Response]:
            body = {"inputs": [given("x", table_rows(4))]}
            async with httpx.AsyncClient(base_url=server.url) as client:
                return list(
                    await asyncio.gather(*(client.post("/v2/models/encode/infer", json=body) for _ in range(50)))
                )

        refused = [reply for reply in asyncio.run(storm()) if reply.status_code == 429]
        assert refused
        assert set(refused[0].json()) == {"error"}
        assert int(refused[0].headers["retry-after"]) >= 1

        def slowly() -> Iterator[bytes]:
            yield b"{"
            time.sleep(1.5)
            yield b"}"

        late = server.client.post("/v2/models/encode/infer", content=slowly())
        assert (late.status_code, set(late.json())) == (408, {"error"})


def test_a_body_that_is_not_announced_is_refused_where_one_is_needed(table_server: Server) -> None:
    """The stock client's index request has none, and needs none."""
    for path, status in (("/v2/models/encode/infer", 411), ("/v2/repository/index", 200)):
        connection = http.client.HTTPConnection(table_server.url.removeprefix("http://"), timeout=10)
        connection.putrequest("POST", path)
        connection.endheaders()
        reply = connection.getresponse()
        assert reply.status == status
        assert (b'{"error":' in reply.read()) == (status != 200)
        connection.close()


def test_only_what_the_bundle_can_do_is_a_model(own_bundle: Path) -> None:
    """The others are unknown."""
    manifest = json.loads((own_bundle / "manifest.json").read_text())
    edit_manifest(own_bundle, capabilities={**manifest["capabilities"], "operations": ["decode", "sample"]})
    with Server(own_bundle) as server:
        assert [entry["name"] for entry in server.client.post("/v2/repository/index").json()] == ["decode", "sample"]
        assert (
            "there is no model 'encode'; there are: decode, sample" in post(server, "encode", 404, inputs=[])["error"]
        )
        assert server.client.get("/v2/models/encode").status_code == 404
        assert len(server.client.get("/v2/models/stats").json()["model_stats"]) == 2
