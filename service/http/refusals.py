"""
Errors as the bodies of replies: problem+json (RFC 9457), and what the Open Inference Protocol's clients read.

`refuse` writes them, `documented` tells OpenAPI of them. Knows errors; nothing of requests but their path.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from service.errors import InferenceFailed, ServiceError

PROBLEM = "application/problem+json"
OIP_ERROR = "application/json"


class Refusal(NamedTuple):
    """An error as the client gets it."""

    status: int
    media_type: str
    body: bytes


def refuse(path: str, error: ServiceError, request_id: str) -> Refusal:
    """How a request for *path* is told of *error*."""
    status, media_type = _form(path, error.status)
    if media_type == OIP_ERROR:
        return Refusal(status, media_type, orjson.dumps({"error": error.detail}))
    document = {
        "type": f"urn:vae-serve:{error.type}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "request_id": request_id,
        **{name: fact for name, fact in error.facts.items() if fact is not None},
    }
    return Refusal(status, media_type, orjson.dumps(document))


def documented(path: str, *errors: type[ServiceError]) -> dict[int | str, dict[str, Any]]:
    """
    The OpenAPI responses of a route at *path* that may answer with *errors*, and with 500, as every route may.

    The schemas are named and not here; the examples have the types of the errors for names, and nothing in them yet.
    """
    responses: dict[int | str, dict[str, Any]] = {}
    every: list[type[ServiceError]] = [*errors, InferenceFailed]
    for error in sorted(every, key=lambda error: _form(path, error.status)):
        status, media_type = _form(path, error.status)
        schema = {"$ref": "#/components/schemas/" + ("OIPError" if media_type == OIP_ERROR else "Problem")}
        content = {media_type: {"schema": schema, "examples": {}}}
        response = responses.setdefault(status, {"description": "", "content": content})
        about = (error.__doc__ or "").strip().split("\n")[0]
        response["description"] = f"{response['description']} {about}".strip()
        response["content"][media_type]["examples"][error.type] = {"summary": error.title}
    return responses


def _form(path: str, status: int) -> tuple[int, str]:
    """
    The status and the media type with which a request for *path* is told of an error of *status*.

    The clients of /v2 know no 422, and take anything but 200 for an object with "error".
    """
    if path == "/v2" or path.startswith("/v2/"):
        return 400 if status == 422 else status, OIP_ERROR
    return status, PROBLEM


def internal_error() -> ServiceError:
    """What a client is told of a fault of ours: nothing; the log has it."""
    return InferenceFailed("internal error")
