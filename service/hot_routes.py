"""
The routes that are answered in front of FastAPI, as FastAPI would know them: for the OpenAPI document alone.

Media types come from api.py's tables, statuses from the errors, fields from the pydantic models. Answers nothing.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from service import errors
from service.api import ARRAYS_FIRST, DRAWN, MAIN, READS, ROUTES, WRITES, Route
from service.codec.rows import SERIES
from service.codec.table import RECORDS
from service.http import media
from service.http.refusals import documented
from service.messages import SheetOptions
from service.oip.messages import InferenceReply, InferenceRequest
from service.oip.routes import INFER, TAG
from service.operations import TASKS

_BINARY = {"type": "string", "format": "binary"}
_FORM = {
    "type": "object",
    "description": "pictures of the model's size; the other fields are options",
    "properties": {
        "inputs": {"type": "array", "items": _BINARY, "description": "PNG or JPEG files, one a row, each with its type"}
    },
    "required": ["inputs"],
}
_OF_A_BODY = (
    errors.MalformedBody,
    errors.LengthRequired,
    errors.TooLarge,
    errors.UnsupportedMedia,
    errors.InvalidInput,
    errors.Unsupported,
    errors.SlowBody,
    errors.Overloaded,
    errors.HeadersTooLarge,
    errors.NotReady,
    errors.DeadlineExceeded,
)


def hot_routes() -> APIRouter:
    """The operations under /v1, and inference under /v2."""
    router = APIRouter()
    for route in ROUTES:
        _enter(router, route)
    _enter_inference(router)
    return router


def _enter(router: APIRouter, route: Route) -> None:
    """Enter one of the operations of /v1 in *router*."""

    async def never(body: Any) -> None:
        raise AssertionError(f"{route.path} is answered in front of FastAPI. This is a bug.")

    never.__annotations__ = {"body": route.request, "return": None}
    options = TASKS[route.op].options.model_json_schema()["properties"]
    parameters = [_in_query(name, schema) for name, schema in options.items()]
    rows = [name for name in route.request.model_fields if name not in (*options, RECORDS, SERIES)]
    # arrays last: of several types of bytes openapi-python-client sends the last one, and pictures have the form
    kinds = sorted(READS[route.op][1:], key=lambda kind: kind == media.NPY)
    takes = {kind: {"schema": _FORM if kind == media.FORM else _BINARY} for kind in kinds}
    gives = {kind: {"schema": _BINARY} for kind in WRITES[route.op][1:]}
    told = [(model.__doc__ or "").strip() for model in (route.request, route.reply)]
    if media.NPY in takes:
        told.append(f"The body is JSON, or {media.NPY}: one array, {' or '.join(rows)}, the options in the query.")
    if SERIES in route.request.model_fields:
        told.append(f"For models of windows it is {SERIES} instead of {rows[0]}: readings, of which the rows are made.")
    if media.PNG in takes:
        told.append(f"For models of images it may be {media.PNG} or {media.JPEG}: one row, the options in the query.")
    if media.FORM in takes:
        told.append(f"{media.FORM} is several pictures, each a field {rows[0]}; the other fields are options.")
    if options:
        told.append("Options are in the query or in a JSON body, each in one of the two.")
    told.append(
        f"The reply is JSON, {media.NPZ} of all its fields, or {media.NPY} of {MAIN[route.op]}, as Accept says."
    )
    if media.PNG in gives:
        told.append(f"For models of images {media.PNG} is a contact sheet of {DRAWN[route.op]}.")
        drawn = SheetOptions.model_json_schema()["properties"]
        for name, schema in drawn.items():
            parameters.append(_in_query(name, {**schema, "description": f"with {media.PNG}: {schema['description']}"}))
    if takes:
        told.append(f"Where it does not say, an array is answered by {ARRAYS_FIRST[0]}.")
    if len(rows) > 1 and media.NPY in takes:
        parameters.append(
            {
                "name": "array",
                "in": "query",
                "description": f"which field the array is that is a whole body; {rows[0]} where it is not given",
                "schema": {"type": "string", "enum": rows},
            }
        )
    router.add_api_route(
        route.path,
        never,
        methods=["POST"],
        response_model=route.reply,
        operation_id=route.op.replace("-", "_"),
        tags=["operations"],
        summary=TASKS[route.op].about.rstrip("."),
        description=" ".join(told),
        responses={200: {"content": gives}, **documented(route.path, errors.NotAcceptable, *_OF_A_BODY)},
        openapi_extra={
            "requestBody": {"description": (route.request.__doc__ or "").strip(), "content": takes},
            "parameters": [*parameters, {"$ref": "#/components/parameters/RequestTimeoutMs"}],
        },
    )


def _in_query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """An option as a query parameter: without null, and without a default that generated clients would send."""
    schema = dict(schema)
    about, default = schema.pop("description"), schema.pop("default", None)
    for choice in schema.pop("anyOf", ()):
        schema |= choice if choice != {"type": "null"} else {}
    about += "" if default is None else f"; {str(default).lower()} where it is not given"
    return {"name": name, "in": "query", "description": about, "schema": schema}


def _enter_inference(router: APIRouter) -> None:
    """Enter inference under /v2 in *router*."""

    async def infer(body: InferenceRequest, model: str) -> None:
        raise AssertionError(f"{model} is answered in front of FastAPI. This is a bug.")

    async def version_infer(body: InferenceRequest, model: str, version: str) -> None:
        raise AssertionError(f"{model} {version} is answered in front of FastAPI. This is a bug.")

    binary = {"application/octet-stream": {"schema": _BINARY}}
    length = {"Inference-Header-Content-Length": {"$ref": "#/components/headers/InferenceHeaderContentLength"}}
    names = ("RequestTimeoutMs", "InferenceHeaderContentLength", "ContentEncoding", "AcceptEncoding")
    for path, endpoint, operation_id, told in (
        (INFER[0], infer, "v2_model_infer", ""),
        (INFER[1], version_infer, "v2_model_version_infer", ", in one version"),
    ):
        router.add_api_route(
            path,
            endpoint,
            methods=["POST"],
            response_model=InferenceReply,
            operation_id=operation_id,
            tags=[TAG],
            summary=f"Inference{told}",
            description="Run a model on tensors. The body is JSON, with raw tensors behind it where the header "
            "Inference-Header-Content-Length says so; the Content-Type does not matter. See docs/oip.md.",
            responses={
                200: {"content": binary, "headers": length},
                **documented(path, errors.UnknownModel, *_OF_A_BODY),
            },
            openapi_extra={
                "requestBody": {"description": (InferenceRequest.__doc__ or "").strip(), "content": binary},
                "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in names],
            },
        )
