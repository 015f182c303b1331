"""
The headers of a request: what they announce of its body, how long it may take, what may be answered.

Knows HTTP's headers; nothing of sockets, routes or what a body holds.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Any

from service.errors import HeadersTooLarge, InvalidInput, LengthRequired, TooLarge, named, shown

Scope = MutableMapping[str, Any]

MAX_HEADER_BYTES = 65536
MAX_HEADERS = 256  # lines: a hundred bytes are kept for each, however short it is
_DIGITS = 18  # of a length: beyond them it is as good as infinite, and Python refuses to read 4,300
_MILLISECONDS = re.compile(rb"[1-9][0-9]{0,8}")
_TIMES = "a whole number from 1 to 999999999"
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class Headers:
    """
    The headers of one request by name in lower case; several of one name are one list (RFC 9110, 5.3).

    *query*: the query string, still encoded. *request_id*: the client's, where it is harmless, else empty.
    """

    __slots__ = ("_found", "_lines", "_size", "query", "request_id")

    def __init__(self, scope: Scope) -> None:
        raw = scope["headers"]
        found: dict[bytes, bytes] = dict(raw)
        if len(found) != len(raw):
            lists: dict[bytes, list[bytes]] = {}
            for name, value in raw:
                lists.setdefault(name, []).append(value)
            found = {name: b",".join(values) for name, values in lists.items()}
        self._found = found
        self._lines = len(raw)
        self._size = sum(map(len, found)) + sum(map(len, found.values()))
        self.query: bytes = scope["query_string"]
        given = found.get(b"x-request-id", b"")
        self.request_id = given if given and _REQUEST_ID.fullmatch(given) else b""

    def get(self, name: bytes) -> bytes:
        """The value of one header, without the blanks around it; empty where it is not there."""
        return self._found.get(name, b"").strip(b" \t")

    def timeout_s(self, most: float) -> float:
        """Seconds that this request may take: X-Request-Timeout-Ms, or *most*, whichever is less."""
        timeout_ms = self.get(b"x-request-timeout-ms")
        if not timeout_ms:
            return most
        if not _MILLISECONDS.fullmatch(timeout_ms):
            given = timeout_ms.decode("latin-1")
            raise InvalidInput(
                f"X-Request-Timeout-Ms must be {_TIMES}; given: {shown(given)}",
                field="X-Request-Timeout-Ms",
                limit=_TIMES,
                value=named(given),
            )
        return min(most, int(timeout_ms) / 1000)

    def check(self, max_body_bytes: int) -> None:
        """
        Raise for a request that cannot be answered whatever its body holds.

        HeadersTooLarge; LengthRequired for a body that was not announced; TooLarge for one announced too large.
        """
        if self._size > MAX_HEADER_BYTES:
            raise HeadersTooLarge(
                f"the headers have {self._size} bytes; the limit is {MAX_HEADER_BYTES}",
                limit=MAX_HEADER_BYTES,
                value=self._size,
            )
        if self._lines > MAX_HEADERS:
            raise HeadersTooLarge(
                f"there are {self._lines} headers; the limit is {MAX_HEADERS}", limit=MAX_HEADERS, value=self._lines
            )
        length = self.get(b"content-length")
        if length.isdigit():
            digits = length.lstrip(b"0")
            size = int(digits or b"0") if len(digits) <= _DIGITS else 10**_DIGITS
            if size > max_body_bytes:
                raise body_too_large(max_body_bytes, size)
        elif b"transfer-encoding" not in self._found:
            raise LengthRequired("send a body, with Content-Length or Transfer-Encoding: chunked")


def body_too_large(limit: int, size: int) -> TooLarge:
    """What a body of *size* bytes or more is refused with."""
    return TooLarge(f"the body has {size} bytes or more; the limit is {limit}", field="body", limit=limit, value=size)
