"""
Errors as the bodies of replies: problem+json (RFC 9457), and what the Open Inference Protocol's clients read.

Knows errors; nothing of requests but their path.
"""

from __future__ import annotations

from typing import NamedTuple

import orjson

from service.errors import InferenceFailed, ServiceError


class Refusal(NamedTuple):
    """An error as the client gets it."""

    status: int
    media_type: str
    body: bytes


def refuse(path: str, error: ServiceError, request_id: str) -> Refusal:
    """How a request for *path* is told of *error*."""
    if path == "/v2" or path.startswith("/v2/"):
        # its clients know no 422; anything but 200 must be an object with "error"
        status = 400 if error.status == 422 else error.status
        return Refusal(status, "application/json", orjson.dumps({"error": error.detail}))
    document = {
        "type": f"urn:vae-serve:{error.type}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "request_id": request_id,
        **{name: fact for name, fact in error.facts.items() if fact is not None},
    }
    return Refusal(error.status, "application/problem+json", orjson.dumps(document))


def internal_error() -> ServiceError:
    """What a client is told of a fault of ours: nothing; the log has it."""
    return InferenceFailed("internal error")
