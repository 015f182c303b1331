"""
Compressed bodies, right and wrong, and what their reader owes: the content, within the limit.

The judges are the standard library's `gzip`, which reads headers and checksums in Python, and for deflate the frame of
RFC 1950 read here around zlib's raw inflate.
"""

from __future__ import annotations

import gzip
import zlib
from random import Random
from typing import NamedTuple

from service.codec.compression import decompress
from service.errors import ServiceError
from tests.fuzz.mutations import chance, mutate, octets, pick
from tests.fuzz.verdicts import check_refusal

LIMIT = 20_000
WORDS = (
    b"\x1f\x8b", b"\x1f\x8b\x08", b"\x78\x9c", b"\x78\x01", b"\x00\x00\xff\xff", b"\x00" * 8, b"\x03\x00",
    b"\xff" * 4,
)  # fmt: skip


class Stream(NamedTuple):
    """One body and its coding."""

    coding: str
    body: bytes


def make(random: Random) -> Stream:
    """A stream: whole, or cut short, doubled, damaged, too long, or of another kind than it says."""
    content = pick(
        random,
        (4, random.randbytes(random.choice((0, 1, 100, 1000)))),
        (3, b"[1.5, 2.5, 3.5], " * random.choice((1, 50, 1000))),
        (2, bytes(random.choice((LIMIT - 1, LIMIT, LIMIT + 1, 2 * LIMIT)) * (50 if chance(random, 0.1) else 1))),
    )
    coding = random.choice(("gzip", "deflate"))
    wbits = pick(random, (8, 31 if coding == "gzip" else 15), (1, 31), (1, 15), (1, -15), (1, 9), (1, 25))
    dictionary = {"zdict": b"1.5, 2.5"} if wbits in (9, 15) and chance(random, 0.1) else {}
    packer = zlib.compressobj(
        random.choice((0, 1, 6, 9)),
        zlib.DEFLATED,
        wbits,
        random.choice((1, 8, 9)),
        random.choice((0, 2, 4)),
        **dictionary,
    )
    body = b""
    for _ in range(random.choice((1, 1, 1, 2, 20))):
        body += packer.compress(content[:100]) + packer.flush(random.choice((zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH)))
        content = content[100:]
    body += packer.compress(content) + packer.flush()
    wrong = pick(
        random,
        (9, ""),
        (1, "header"),
        (1, "cut"),
        (1, "twice"),
        (1, "rubbish"),
        (1, "checksum"),
        (2, "bytes"),
        (1, "empty"),
    )
    match wrong:
        case "header" if wbits == 31:  # extra field, name, comment, checksum of the header
            flags = random.randrange(32)
            fields = b"\x03\x00abc" * bool(flags & 4) + b"name\0" * bool(flags & 8) + b"say\0" * bool(flags & 16)
            head = body[:3] + bytes([flags]) + body[4:10] + fields
            sum16 = (zlib.crc32(head) & 0xFFFF) ^ chance(random, 0.3)
            body = head + sum16.to_bytes(2, "little") * bool(flags & 2) + body[10:]
        case "cut":
            body = body[: random.randint(0, len(body))]
        case "twice":
            body += random.choice(
                (body, zlib.compress(b""), gzip.compress(b"", mtime=0), gzip.compress(b"", mtime=0) * 500)
            )
        case "rubbish":
            body += random.choice((b"\0", b"\0" * 1000, octets(random, 9) + b"x"))
        case "checksum":
            body = body[:-8] + bytes([*body[-8:]][::-1])
        case "bytes":
            body = mutate(random, body, WORDS)
        case "empty":
            body = random.choice((b"", body[:2], body[:10], b"\x1f\x8b\x08\0" + b"\0" * 6 + b"\0\0\0\xff\xff" * 5000))
    return Stream(coding, body)


def check(made: Stream) -> str:
    """Decompress *made* and compare with the judge: "accepted", or the class of the refusal."""
    judged = _gunzipped(made.body) if made.coding == "gzip" else _inflated(made.body)
    refused = None
    try:
        got = decompress(made.body, made.coding, LIMIT)
    except ServiceError as error:
        refused = error
    if refused is not None:
        stricter = judged is not None and (
            len(judged) > LIMIT or (made.coding == "gzip" and _more_than_a_member(made.body))
        )
        assert judged is None or stricter, refused.detail
        return check_refusal(refused)
    assert got == judged
    assert len(got) <= LIMIT
    return "accepted"


def _gunzipped(body: bytes) -> bytes | None:
    try:
        return gzip.decompress(body) if body else None  # for gzip nothing is no members; here it is no stream
    except (OSError, EOFError, zlib.error):
        return None


def _more_than_a_member(body: bytes) -> bool:
    """Whether one gzip member is not all there is, or its header has flags that `gzip` does not look at."""
    stream = zlib.decompressobj(31)
    try:
        stream.decompress(body)
    except zlib.error:
        return bool(body[3] & 0b11100010)
    return bool(stream.unused_data)


def _inflated(body: bytes) -> bytes | None:
    """RFC 1950: two bytes that say the method and are a multiple of 31, raw deflate, Adler-32."""
    if len(body) < 6 or body[0] & 15 != 8 or body[0] >> 4 > 7 or (body[0] << 8 | body[1]) % 31 or body[1] & 32:
        return None
    stream = zlib.decompressobj(-8 - (body[0] >> 4))
    try:
        found = stream.decompress(body[2:])
    except zlib.error:
        return None
    if not stream.eof or stream.unused_data != zlib.adler32(found).to_bytes(4, "big"):
        return None
    return found
