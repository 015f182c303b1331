"""
gzip and deflate (zlib's format) around whole bodies, with a limit on what comes out.

Knows bytes; nothing of what they hold.
"""

from __future__ import annotations

import zlib

from service.errors import MalformedBody, TooLarge, counted

WBITS = {"gzip": 31, "deflate": 15}
"""The codings, by their names in HTTP: how zlib is told of them."""

LEVEL = 1  # of float tensors, higher levels save little and cost much
_STEP = 2**20


def decompress(body: bytes, coding: str, limit: int) -> bytes:
    """
    The content of *body*, which is one stream. Raises MalformedBody, or TooLarge as soon as it passes *limit* bytes.

    A second gzip member is refused: a million empty ones would cost a minute.
    """
    stream = zlib.decompressobj(WBITS[coding])
    parts: list[bytes] = []
    size, rest = 0, body
    while not stream.eof:
        try:
            part = stream.decompress(rest, _STEP)
        except zlib.error as error:
            raise MalformedBody(f"the body is not {coding}: {error}") from None
        rest = stream.unconsumed_tail
        if not part and not rest and not stream.eof:
            raise MalformedBody(f"the body is {coding} that is cut short")
        parts.append(part)
        size += len(part)
        if size > limit:
            raise TooLarge(
                f"the body has more than {limit} bytes when decompressed", field="body", limit=limit, value=size
            )
    if stream.unused_data:
        raise MalformedBody(f"{counted(len(stream.unused_data), 'byte')} left over behind the {coding} body")
    return b"".join(parts)


def compress(body: bytes, coding: str) -> bytes:
    """*body* in the coding."""
    stream = zlib.compressobj(LEVEL, zlib.DEFLATED, WBITS[coding])
    return stream.compress(body) + stream.flush()
