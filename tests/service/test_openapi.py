"""The OpenAPI document is complete, is what is committed, and is what the service does."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from service.http import media
from service.messages import SheetOptions
from tests.openapi import (
    BUNDLE,
    COUNTED,
    DOCUMENT,
    TABLE,
    VARYING,
    Answer,
    answer,
    as_recorded,
    examples,
    near,
    pretty,
    problems,
    serving,
)
from tests.server import Server

Json = dict[str, Any]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """The service on the shipped example."""
    with Server(BUNDLE, device="cpu") as running:
        yield running


@pytest.fixture(scope="module")
def document(server: Server) -> Json:
    """As it is served."""
    found: Json = server.client.get("/openapi.json").json()
    return found


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    """Method, path and what is said of each operation."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def schemas(part: Any) -> Iterator[Json]:
    """Every schema of a header, a parameter or a body."""
    if isinstance(part, dict):
        if isinstance(part.get("schema"), dict):
            yield part["schema"]
        for value in part.values():
            yield from schemas(value)
    elif isinstance(part, list):
        for value in part:
            yield from schemas(value)


def resolved(document: Json, part: Json) -> Json:
    """What a reference means."""
    while "$ref" in part:
        found: Any = document
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        part = found
    return part


def operation_of(document: Json, reply: Answer) -> Json:
    """The operation that an answer is of; paths with fewer parameters win."""
    for path in sorted(document["paths"], key=lambda path: path.count("{")):
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), reply.path):
            found: Json = document["paths"][path][reply.method.lower()]
            return found
    raise AssertionError(f"{reply.path} is not documented")


def check(document: Json, reply: Answer) -> Json:
    """An answer must be documented: its status, headers, media type, and every member of its body."""
    operation = operation_of(document, reply)
    told = f"{reply.method} {reply.path}: {reply.status} {reply.body[:200]!r}"
    assert str(reply.status) in operation["responses"], told
    response: Json = operation["responses"][str(reply.status)]
    kind = reply.headers["content-type"].split(";")[0]
    for name in response["headers"]:
        always = name != "Inference-Header-Content-Length" and (name != "X-Model" or kind == media.NPY)
        assert not always or name.lower() in reply.headers, (name, told)
    assert kind in response["content"], (kind, told)
    if kind.endswith("json"):
        schema = {"components": document["components"], **response["content"][kind]["schema"]}
        errors = [
            f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(reply.json())
        ]
        assert not errors, (told, errors)
    return response


def test_the_document_is_valid(document: Json) -> None:
    """By the rules of OpenAPI 3.1, examples and defaults among them."""
    assert document["openapi"].startswith("3.1.")
    validate(document)
    for schema in [*document["components"]["schemas"].values(), *schemas(document)]:
        Draft202012Validator.check_schema(schema)


def test_the_committed_document_is_the_one_that_is_served(document: Json) -> None:
    """What a client was generated from is what answers it."""
    committed, served = DOCUMENT.read_text("utf-8"), pretty(document)
    for number, (old, new) in enumerate(zip_longest(committed.splitlines(), served.splitlines()), 1):
        assert old == new, f"docs/openapi.json, line {number} is not what is served; `make openapi` writes it again"
    assert committed == served
    assert len(committed) < 2**20


def test_every_field_says_what_it_means(document: Json) -> None:
    """By itself, or by the schema that it refers to."""
    for name, schema in document["components"]["schemas"].items():
        assert schema.get("description"), name
        for field, about in schema.get("properties", {}).items():
            assert about.get("description") or resolved(document, about).get("description"), f"{name}.{field}"
    for name in ("HTTPValidationError", "ValidationError"):
        assert name not in document["components"]["schemas"], "never sent"


def test_every_operation_is_fit_for_generators(document: Json) -> None:
    """A name that makes a method, one tag that is described, and nothing that they must guess."""
    tags = {tag["name"]: tag["description"] for tag in document["tags"]}
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert not [name for name, count in Counter(names).items() if count > 1]
    used = set()
    for method, path, operation in operations(document):
        told = f"{method} {path}"
        assert re.fullmatch("[a-z][a-z0-9]*(_[a-z0-9]+)*", operation["operationId"]), told
        (tag,) = operation["tags"]
        used.add(tag)
        assert operation["summary"], told
        assert operation["description"], told
        assert not operation["summary"].endswith("."), told
        parameters = [resolved(document, parameter) for parameter in operation["parameters"]]
        for parameter in parameters:
            assert parameter["description"], (told, parameter)
            assert "default" not in parameter["schema"], "a generated client would send it, beside the body's"
            Draft202012Validator(parameter["schema"]).validate(parameter["example"])
        assert "X-Request-Id" in [parameter["name"] for parameter in parameters], told
        assert {"200", "500"} <= set(operation["responses"]), told
        for status, response in operation["responses"].items():
            assert response["description"] not in ("", "Successful Response"), (told, status)
            assert response["content"], (told, status)
            headers = {name: resolved(document, header) for name, header in response["headers"].items()}
            assert all(header["description"] for header in headers.values())
            assert ("Retry-After" in headers) == (status == "429"), told
    assert used == set(tags)


def test_every_example_request_gets_the_reply_that_is_shown(document: Json, server: Server) -> None:
    """From the real service, number by number; and every other 200 is as documented, too."""
    seen = set()
    for operation_id, name, reply in examples(document, server):
        shown = shown_for(document, name, reply)
        seen.add(operation_id)
        if name:
            told = f"{operation_id}, {name}: not the reply that is shown; `make openapi` records it again"
            assert operation_id in VARYING or near(shown, reply.json()), told
    assert seen == {operation["operationId"] for _, _, operation in operations(document)}


def test_every_example_of_a_table_gets_the_reply_that_is_shown(document: Json, mixed_bundle: Path) -> None:
    """Records, and tensors with a mask, from the real service on a table; each operation under /v1 has one."""
    seen = []
    with serving(TABLE, mixed_bundle) as server:
        for operation_id, name, reply in examples(document, server, TABLE):
            shown = shown_for(document, name, reply)
            seen.append(operation_id)
            told = f"{operation_id}, {name}: not the reply that is shown; `make openapi` records it again"
            assert near(shown, as_recorded(reply.json(), shown)), told
    rows = {"encode", "decode", "sample", "interpolate", "reconstruct", "anomaly_score"}
    assert {*rows, "v2_model_infer"} <= set(seen)


def shown_for(document: Json, name: str, reply: Answer) -> Any:
    """The reply that the document shows for an example of that name; it and *reply* are as documented."""
    assert reply.status == 200, reply
    response = check(document, reply)
    if not name:
        return None
    shown = response["content"]["application/json"]["examples"][name]["value"]
    schema = {"components": document["components"], **response["content"]["application/json"]["schema"]}
    Draft202012Validator(schema).validate(shown)
    return shown


def test_two_instants_are_the_same_within_a_moment() -> None:
    """Their last digits are those of a number."""
    assert near("2026-01-31T12:00:00Z", "2026-01-31T12:00:41.123456Z")
    assert not near("2026-01-31T12:00:00Z", "2026-01-31T12:02:00Z")
    assert not near("2026-01-31T12:00:00Z", "north")
    found = as_recorded(
        {"model": {"name": "a", "bundle_id": "2"}, "z": [1]}, {"model": {"name": "a", "bundle_id": "1"}}
    )
    assert found == {"model": {"name": "a", "bundle_id": "1"}, "z": [1]}


def fields_of(document: Json, schema: Json, value: Any) -> Iterator[tuple[str, str]]:
    """The fields, by the names of their schemas, that *value* has a value for."""
    for one in (schema, *schema.get("anyOf", ())):
        if "$ref" in one:
            name, target = one["$ref"].rsplit("/", 1)[1], resolved(document, one)
            if isinstance(value, dict):
                yield from ((name, field) for field in target.get("properties", {}) if value.get(field) is not None)
            yield from fields_of(document, target, value)
        if isinstance(value, dict):
            for field, about in one.get("properties", {}).items():
                if field in value:
                    yield from fields_of(document, about, value[field])
            if isinstance(one.get("additionalProperties"), dict):
                for inner in value.values():
                    yield from fields_of(document, one["additionalProperties"], inner)
        elif isinstance(value, list):
            for inner in value:
                yield from fields_of(document, one.get("items", {}), inner)


def test_every_field_has_an_example(document: Json) -> None:
    """In a request or a reply that is shown and was sent, or, where the shipped bundle has none, by itself."""
    shown = set()
    for _, _, operation in operations(document):
        contents = [operation.get("requestBody", {}), *operation["responses"].values()]
        for content in (kind for body in contents for kind in body.get("content", {}).values()):
            for example in content.get("examples", {}).values():
                shown |= set(fields_of(document, content["schema"], example["value"]))
    for name, schema in document["components"]["schemas"].items():
        for field, about in schema.get("properties", {}).items():
            alone = {"components": document["components"], **about}
            for example in about.get("examples", ()):
                Draft202012Validator(alone).validate(example)
            assert (name, field) in shown or about.get("examples") or "$ref" in str(about), f"{name}.{field}"


def test_every_query_parameter_is_taken(document: Json, server: Server) -> None:
    """Each with its example, beside an array where the operation takes one and beside JSON."""
    rows = np.load(BUNDLE.parent.parent / "examples/two-digits.npy")
    taken = 0
    for method, path, operation in operations(document):
        given = {p["name"]: p["example"] for p in operation["parameters"] if p.get("in") == "query"}
        content = operation.get("requestBody", {}).get("content", {})
        file = io.BytesIO()
        np.save(file, np.zeros((2, 16)) if path == "/v1/decode" else rows)
        body = next(iter(content["application/json"]["examples"].values()))["value"] if given else {}
        for name, value in given.items():
            query = {name: value if isinstance(value, str) else json.dumps(value)}
            kinds = [("application/json", json.dumps({k: v for k, v in body.items() if k != name}).encode())]
            if "application/x-npy" in content:
                kinds.append(("application/x-npy", file.getvalue()))
            for kind, sent in kinds if name != "array" else kinds[1:]:
                accept = "image/png" if name in SheetOptions.model_fields else "application/json"
                headers = {"Content-Type": kind, "Accept": accept}
                reply = answer(server.client.request(method, path, params=query, content=sent, headers=headers))
                assert reply.status == 200, (name, kind, reply)
                check(document, reply)
                taken += 1
    assert taken >= 29


def test_every_documented_media_type_is_spoken(document: Json, server: Server) -> None:
    """Each reply in each of its types."""
    for _, path, operation in operations(document):
        if not path.startswith("/v1/") or "requestBody" not in operation:
            continue
        body = next(iter(operation["requestBody"]["content"]["application/json"]["examples"].values()))["value"]
        for kind in operation["responses"]["200"]["content"]:
            reply = answer(server.client.post(path, json=body, headers={"Accept": kind}))
            assert (reply.status, reply.headers["content-type"]) == (200, kind)
            check(document, reply)


def test_the_headers_of_inference_are_taken(document: Json, server: Server) -> None:
    """With their examples: that many bytes of JSON, before a raw tensor; compressed, there and back."""
    operation = document["paths"]["/v2/models/{model}/infer"]["post"]
    documented = [resolved(document, parameter) for parameter in operation["parameters"]]
    parameters = {parameter["name"]: parameter["example"] for parameter in documented}
    head = (
        b'{"inputs": [{"name": "x", "shape": [1, 8, 8], "datatype": "FP32", "parameters": {"binary_data_size": 256}}]}'
    )
    body = head.ljust(parameters["Inference-Header-Content-Length"]) + np.zeros(64, np.float32).tobytes()
    stream = zlib.compressobj(wbits=31)
    headers = {name: str(value) for name, value in parameters.items() if name != "model"}
    reply = answer(
        server.client.post(
            f"/v2/models/{parameters['model']}/infer", content=stream.compress(body) + stream.flush(), headers=headers
        )
    )
    assert reply.headers["x-request-id"] == parameters["X-Request-Id"]
    assert reply.headers["content-encoding"] == "gzip"
    check(document, reply)
    asked = {"inputs": json.loads(head)["inputs"], "parameters": {"binary_data_output": True}}
    text = json.dumps(asked).encode()
    reply = answer(
        server.client.post(
            "/v2/models/encode/infer",
            content=text + bytes(256),
            headers={"Inference-Header-Content-Length": str(len(text))},
        )
    )
    assert check(document, reply)["headers"].keys() >= {"Inference-Header-Content-Length"}
    length = int(reply.headers["inference-header-content-length"])
    said = answer(server.client.get("/v2"))._replace(method="POST", path="/v2/models/encode/infer")
    check(document, said._replace(body=reply.body[:length]))


def test_every_error_that_can_be_had_is_documented_where_it_comes_from(document: Json) -> None:
    """Each status with its body, its headers and its example; and no error is documented that never comes."""
    last: dict[tuple[str, str], Any] = {}
    for reply in problems():
        response = check(document, reply)
        if reply.type:
            (content,) = response["content"].values()
            last["/v2" if reply.path.startswith("/v2") else "/v1", reply.type] = (
                content["examples"][reply.type]["value"],
                reply.json(),
            )
    for (under, kind), pair in last.items():
        counted = kind in COUNTED
        shown, real = (re.sub("[0-9.]+", "0", json.dumps(one)) if counted else one for one in pair)
        told = f"{under}, {kind}: not the reply that is shown; `make openapi` records it again"
        assert near(shown, real), told
    shown_types = set()
    for _, path, operation in operations(document):
        for status, response in operation["responses"].items():
            for content in response["content"].values() if status >= "400" else ():
                shown_types |= {
                    ("/v2" if path.startswith("/v2") else "/v1", name) for name in content.get("examples", {})
                }
    assert set(last) == shown_types


def test_what_is_no_operation_is_a_problem_too(document: Json, server: Server) -> None:
    """404 and 405, as the document's introduction says."""
    forms = {name: {"components": document["components"], "$ref": f"#/components/schemas/{name}"} for name in
               ("Problem", "OIPError")}  # fmt: skip
    for method, path, status, schema in (
        ("GET", "/v1/encode", 405, "Problem"),
        ("DELETE", "/health/live", 405, "Problem"),
        ("POST", "/v1/nope", 404, "Problem"),
        ("GET", "/v2/nope", 404, "OIPError"),
        ("GET", "/v2/models/encode/infer", 405, "OIPError"),
        ("GET", "/v2/models/encode/versions/1/infer", 405, "OIPError"),
    ):
        reply = server.client.request(method, path)
        assert reply.status_code == status, (path, reply.text)
        Draft202012Validator(forms[schema]).validate(reply.json())
        assert (status == 405) == ("allow" in reply.headers)
    assert server.client.get("/v1/encode").json()["title"] == "Method Not Allowed"


def test_a_table_is_described_as_documented(document: Json, table_server: Server) -> None:
    """The shipped example has no columns."""
    check(document, answer(table_server.client.get("/v1/model")))
    check(document, answer(table_server.client.get("/v2/models/anomaly-score")))


PROGRAM = """
import sys
from digits import Client, models
from digits.api.inference_protocol import v2_model_infer
from digits.api.model import model
from digits.api.monitoring import health_ready
from digits.api.operations import anomaly_score, encode, interpolate
from digits.types import File

with Client(sys.argv[1]) as client:
    assert health_ready.sync(client=client).ready is True
    served = model.sync(client=client)
    assert served.manifest.inputs.shape == [8, 8]
    row = [[0.0] * 8] * 8
    encoded = encode.sync(client=client, body=models.EncodeRequest(inputs=[row], draws=2, seed=7))
    assert len(encoded.mu[0]) == served.manifest.latent.dim == len(encoded.z[0][1])
    scored = anomaly_score.sync(client=client, body=models.AnomalyScoreRequest(inputs=[row], alpha=0.05, explain=1))
    assert scored.is_anomaly == [True]
    assert scored.explanations[0][0].interval
    assert isinstance(scored.model, models.ModelId)
    refused = encode.sync(client=client, body=models.EncodeRequest(inputs=[[1.0]]))
    assert isinstance(refused, models.Problem) and refused.status == 422 and refused.row == 0
    path = interpolate.sync(client=client, body=models.InterpolateRequest(latents=[[0.0] * 16, [1.0] * 16], steps=3))
    assert path.alphas == [0.0, 0.5, 1.0]
    array = File(payload=open("deploy/examples/two-digits.npy", "rb"))
    as_json = client.with_headers({"Accept": "application/json"})
    assert len(encode.sync(client=as_json, body=array).mu) == 2
    names = ("deploy/examples/three.png", "deploy/examples/six.png")
    pictures = [File(open(name, "rb"), name, "image/png") for name in names]
    assert len(encode.sync(client=client, body=models.EncodeFilesBody(inputs=pictures)).mu) == 2
    x = models.InputTensor(name="x", shape=[1, 8, 8], datatype="FP32", data=[0.0] * 64)
    inferred = v2_model_infer.sync("encode", client=client, body=models.InferenceRequest(inputs=[x]))
    assert [tensor.name for tensor in inferred.outputs] == ["mu", "logvar"]
    print("typed")
"""


def test_a_generated_client_works(server: Server, tmp_path: Path) -> None:
    """openapi-python-client has nothing to complain of, and what it makes talks to the service in types."""
    settings = tmp_path / "settings.yml"
    types = ("application/x-npy", "application/x-npz", "image/png", "image/jpeg")
    kinds = "".join(f"  {kind}: application/octet-stream\n" for kind in types)
    settings.write_text(f"content_type_overrides:\n{kinds}post_hooks: []\n")
    command = ["-m", "openapi_python_client", "generate", "--meta", "none", "--fail-on-warning"]
    made = subprocess.run(
        [sys.executable, *command, "--path", DOCUMENT, "--config", settings, "--output-path", tmp_path / "digits"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (made.returncode, "WARNING" in made.stdout + made.stderr) == (0, False), made.stdout + made.stderr
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, server.url],
        env={"PYTHONPATH": str(tmp_path)},
        cwd=DOCUMENT.parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "typed\n", "")
