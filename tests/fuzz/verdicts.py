"""What every refusal owes its reader: a status that blames the request, and a message that can be read."""

from __future__ import annotations

from service.errors import ServiceError
from service.http.refusals import refuse

LONGEST = 500  # characters


def check_refusal(error: ServiceError) -> str:
    """The class of *error*; fails where it blames the service, is long or holds what cannot be printed."""
    assert 400 <= error.status < 500, error
    assert 0 < len(error.detail) < LONGEST, error.detail
    assert error.detail.isprintable(), error.detail
    refusal = refuse("/v1/encode", error, "1")
    assert len(refusal.body) < 4 * LONGEST
    return type(error).__name__
