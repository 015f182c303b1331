"""
The OpenAPI document: what FastAPI knows of its routes and of those in front of it, headers, and examples.

It is built when somebody asks for it, and not at the start. The examples are in examples.json, whose replies are
recorded from the real service.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.errors import Forbidden, Unauthorized
from service.hot_routes import hot_routes
from service.http import media
from service.http.keys import is_open
from service.http.refusals import documented
from service.oip.messages import OIPError
from service.oip.routes import TAG
from service.replies import Problem

ABOUT = """
Serves one variational autoencoder: encode, decode, sample, interpolate, reconstruct, score anomalies.

Letters of shapes: n rows, L latents, C features (columns or pixels), K latent draws of a score, E features explained, \
p points of a path; *row is the shape of one row, which `GET /v1/model` tells with everything else about the model. \
Rows are in original units, scores and likelihoods in nats. What is said of VAE_ settings is the operator's choice, \
and so is whether requests need an API key.

Errors are problem documents (RFC 9457) under `/v1`, and `{"error": ...}` under `/v2`. Besides the statuses named at \
each operation, a path that does not exist is 404 and a wrong method 405, in the same form; what is not HTTP is \
refused in plain text. Replies close their connection while the service drains.

Request bodies under `/v1` are not compressed. A .npz file holds the fields that JSON has: of a table (explanations, \
invalid, components) one array a column, "explanations.nats"; NaN, or -1 for a truth value, where JSON has null.
"""
TAGS = [
    {
        "name": "operations",
        "description": "What the model does with rows and latent vectors: JSON, numpy files, pictures.",
    },
    {"name": "model", "description": "What is served."},
    {"name": "monitoring", "description": "Liveness, readiness, metrics."},
    {
        "name": TAG,
        "description": "The operations as models of the Open Inference Protocol, version 2, with binary tensors.",
    },
]
_PARAMETERS: dict[str, dict[str, Any]] = {
    "RequestId": {
        "name": "X-Request-Id",
        "description": "The caller's name for this request, which comes back: 1 to 128 letters, digits and any of "
        "`._:-`; where this is something else, another is given.",
        "schema": {"type": "string"},
    },
    "RequestTimeoutMs": {
        "name": "X-Request-Timeout-Ms",
        "description": "Milliseconds from the headers to the answer; the service's own limit where that is less.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 999999999},
    },
    "InferenceHeaderContentLength": {
        "name": "Inference-Header-Content-Length",
        "description": "Bytes of JSON before the raw tensors; 0: the body is one row of the one input, and nothing "
        "else. Without it the body is JSON.",
        "schema": {"type": "integer", "minimum": 0, "maximum": 999999999999},
    },
    "ContentEncoding": {
        "name": "Content-Encoding",
        "description": "How the body is compressed: gzip (one member) or deflate; identity, or nothing: not at all.",
        "schema": {"type": "string", "enum": ["gzip", "deflate", "identity"]},
    },
    "AcceptEncoding": {
        "name": "Accept-Encoding",
        "description": "gzip or deflate, alone, compresses the reply.",
        "schema": {"type": "string"},
    },
}
_HEADERS: dict[str, dict[str, Any]] = {
    "RequestId": {
        "description": "The request's id: the caller's, or one that was given.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"},
    },
    "Model": {
        "description": "Of a .npy reply, which has no other place for it: name/version/bundle_id of the model.",
        "schema": {"type": "string"},
    },
    "Challenge": {"description": "How to say who you are (RFC 6750).", "schema": {"type": "string"}},
    "RetryAfter": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}},
    "InferenceHeaderContentLength": {
        "description": "Bytes of JSON before the raw tensors; there where there are any.",
        "schema": {"type": "integer", "minimum": 1},
    },
}

_KEYS: dict[str, dict[str, Any]] = {
    "ApiKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, where the operator has set some: `Authorization: Bearer KEY`.",
    },
    "ApiKeyHeader": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "The same, where Authorization is taken; it counts where that holds no bearer token.",
    },
}


def document(web: FastAPI) -> dict[str, Any]:
    """Of every route that *web* has and that is answered in front of it."""
    found = get_openapi(
        title=web.title,
        version=web.version,
        description=ABOUT.strip(),
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        servers=[{"url": "/", "description": "where this document is"}],
        tags=TAGS,
        routes=[*hot_routes().routes, *web.routes],
    )
    # for the whole document, and with "nothing" as an alternative: most services ask for no key
    found["security"] = [*({name: []} for name in _KEYS), {}]
    components = found["components"]
    for error in (Problem, OIPError):
        components["schemas"][error.__name__] = error.model_json_schema()
    _strip(found)
    examples = orjson.loads(files("service").joinpath("examples.json").read_bytes())
    components["headers"] = _HEADERS
    components["securitySchemes"] = _KEYS
    components["parameters"] = {
        name: {"in": "header", **parameter, "example": examples["parameters"][parameter["name"]]}
        for name, parameter in _PARAMETERS.items()
    }
    for path, item in found["paths"].items():
        for operation in item.values():
            _complete(operation, components["schemas"], path)
            _add_examples(operation, examples, path)
    components["schemas"] = {name: components["schemas"][name] for name in sorted(components["schemas"])}
    return found


def _strip(found: dict[str, Any]) -> None:
    """
    Mend what FastAPI and pydantic make of the routes.

    Out go titles, from which generators make names that are worse than those from the fields, and the errors of
    FastAPI's own validation, which is not done here.
    """
    for item in found["paths"].values():
        for operation in item.values():
            responses = operation["responses"]
            if "HTTPValidationError" in str(responses.get("422")):
                del responses["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        found["components"]["schemas"].pop(name, None)
    found["components"]["schemas"]["JsonValue"] = {"description": "Any JSON value."}
    _tidy(found["paths"])
    _tidy(found["components"])


def _tidy(part: Any) -> None:
    if isinstance(part, dict):
        if isinstance(part.get("title"), str):
            del part["title"]
        for bound in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):  # FastAPI makes floats of them
            if isinstance(part.get(bound), float) and part[bound].is_integer():
                part[bound] = int(part[bound])
        for value in part.values():
            _tidy(value)
    elif isinstance(part, list):
        for value in part:
            _tidy(value)


def _complete(operation: dict[str, Any], schemas: dict[str, Any], path: str) -> None:
    """What every operation has: the headers of its requests and replies, and descriptions that say something."""
    if is_open(path):
        operation["security"] = []
    else:
        refusals = documented(path, Unauthorized, Forbidden)
        responses = {**operation["responses"], **{str(status): refusals[status] for status in (401, 403)}}
        operation["responses"] = dict(sorted(responses.items()))
    parameters = operation.setdefault("parameters", [])
    parameters.append({"$ref": "#/components/parameters/RequestId"})
    for parameter in parameters:
        if parameter.get("in") == "path":
            parameter["description"] = {
                "model": "The operation.", "version": "The version that is served, no other."
            }[parameter["name"]]  # fmt: skip
    for status, response in operation["responses"].items():
        headers = response.setdefault("headers", {})
        headers["X-Request-Id"] = {"$ref": "#/components/headers/RequestId"}
        if media.NPY in response.get("content", {}):
            headers["X-Model"] = {"$ref": "#/components/headers/Model"}
        if status == "429":
            headers["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
        if status in ("401", "403"):
            headers["WWW-Authenticate"] = {"$ref": "#/components/headers/Challenge"}
        schema = response.get("content", {}).get("application/json", {}).get("schema", {})
        if response["description"] == "Successful Response" and "$ref" in schema:
            response["description"] = schemas[schema["$ref"].rsplit("/", 1)[1]]["description"]


def _add_examples(operation: dict[str, Any], examples: dict[str, Any], path: str) -> None:
    """The recorded requests and replies of *operation*, and the recorded errors that it may answer with."""
    recorded = examples["operations"].get(operation["operationId"], {})
    if sent := {name: _example(one, "body") for name, one in recorded.items() if "body" in one}:
        operation["requestBody"]["content"]["application/json"]["examples"] = sent
    if recorded:
        content = operation["responses"]["200"]["content"]["application/json"]
        content["examples"] = {name: _example(one, "reply") for name, one in recorded.items()}
    for parameter in operation["parameters"]:
        if "name" in parameter:
            parameter["example"] = examples["parameters"][parameter["name"]]
    problems = examples["problems"]["/v2" if path.startswith("/v2") else "/v1"]
    for status, response in operation["responses"].items():
        if status >= "400":
            for content in response.get("content", {}).values():
                for name, example in content.get("examples", {}).items():
                    example["value"] = problems[name]


def _example(one: dict[str, Any], part: str) -> dict[str, Any]:
    return {"summary": one["summary"], "value": one[part]}
