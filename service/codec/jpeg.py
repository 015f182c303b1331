"""
The segments of a JPEG file: what it says of itself, and the file less all that makes no pixels.

EXIF, colour profiles, thumbnails and comments are passed over here and reach no decoder; nor do fill bytes, each of
which costs a step of Pillow's Python. Knows bytes; nothing of models. ITU-T T.81, annex B; EXIF 2.32, 4.7.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from service.codec.exif import UPRIGHT, orientation
from service.errors import InvalidInput, MalformedBody, TooLarge, counted

MAX_SEGMENTS = 1024
MAX_SCANS = 64  # progressive encoders write about 10; each is a pass over every pixel, for as little as 10 bytes
MAX_FILL = 256  # bytes of it, in all; encoders write none
MAX_TABLES = 131072  # bytes of all that is passed on but the scans; 64 scans with tables of their own have 70,000
SCAN_BYTES = 8  # a sample: the longest codes take 3.25 in a sequential picture, and those may all be stuffed
SCAN_UNIT = 32  # pixels: the sides of the largest unit that a scan is padded to
_SOI, _EOI, _SOS = b"\xff\xd8", 0xD9, 0xDA
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_JFIF, _EXIF, _FRAMES_MORE, _ADOBE = 0xE0, 0xE1, 0xE2, 0xEE  # APP0 and APP14 say what the components mean
_JFIF_NAME = b"JFIF\0"  # other APP0 (JFXX) hold thumbnails
_METADATA = {*range(0xE1, 0xF0), 0xFE} - {_ADOBE}
_FILL = re.compile(rb"\xff{1,%d}" % (MAX_FILL + 2))  # the last of them begins a marker
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # neither a stuffed FF nor a restart within a scan


class JPEG(NamedTuple):
    """A JPEG file: *components* is 1 for grey, 3 for colour; *file* has only the segments of its pixels."""

    width: int
    height: int
    components: int
    file: bytes


def read(body: bytes, check_size: Callable[[int, int], None]) -> JPEG:
    """
    *check_size* is called with the width and the height of the header, before anything behind it is read.

    Raises what it raises, MalformedBody, TooLarge (segments, scans or their bytes), or InvalidInput for what cannot be
    one upright picture.
    """
    if not body.startswith(_SOI):
        raise MalformedBody("it is not a JPEG file: it does not begin with \\xff\\xd8")
    kept, frames, scans, tables = [_SOI], [], 0, 0
    for marker, data, segment in _segments(body, check_size):
        _check_metadata(marker, data)
        if marker not in _METADATA and (marker != _JFIF or data.startswith(_JFIF_NAME)):
            kept.append(segment)
            tables += 0 if marker == _SOS else len(segment)
        if marker in _FRAMES:
            frames.append(data)
        scans += marker == _SOS
    if scans > MAX_SCANS:
        raise TooLarge(f"the JPEG file has {scans} scans; the limit is {MAX_SCANS}", limit=MAX_SCANS, value=scans)
    if tables > MAX_TABLES:
        raise TooLarge(
            f"the JPEG file has {tables} bytes of tables; the limit is {MAX_TABLES}", limit=MAX_TABLES, value=tables
        )
    if len(frames) != 1 or not scans:
        headers = f"{counted(len(frames), 'header')} and {counted(scans, 'scan')}"
        raise MalformedBody(f"the JPEG file has {headers}; one and one or more needed")
    width, height, components = _header(frames[0])
    return JPEG(width, height, components, b"".join(kept))


def _segments(body: bytes, check_size: Callable[[int, int], None]) -> Iterator[tuple[int, bytes, bytes]]:
    """The segments up to the end of the picture, without fill: marker, data, and all bytes; a scan's with the scan."""
    at, marker, count, filled, left = len(_SOI), 0, 0, 0, -1
    while marker != _EOI:
        at, behind = _marker(body, at), at
        filled += at - behind
        if filled > MAX_FILL:
            raise MalformedBody(f"the JPEG file has more than {MAX_FILL} fill bytes before its markers", limit=MAX_FILL)
        count += 1
        if count > MAX_SEGMENTS:
            raise TooLarge(f"the JPEG file has more than {MAX_SEGMENTS} segments", limit=MAX_SEGMENTS, value=count)
        start, marker = at, int.from_bytes(body[at + 1 : at + 2], "big")
        size = 0 if marker == _EOI else int.from_bytes(body[at + 2 : at + 4], "big")
        if marker != _EOI and (size < 2 or at + 2 + size > len(body)):
            raise MalformedBody("the JPEG file is cut short")
        data, at = body[at + 4 : at + 2 + size], at + 2 + size
        if marker in _FRAMES and left < 0:
            width, height, components = _header(data)
            check_size(width, height)
            left = _most(width, height, components)
        if marker == _SOS:
            scan = _scan(body, at, left)
            at, left = at + scan, left - scan
        yield marker, data, body[start:at]
    if at != len(body):
        raise MalformedBody(f"the JPEG file has {counted(len(body) - at, 'byte')} too many, behind its end")


def _marker(body: bytes, at: int) -> int:
    """Where the marker begins that is next, behind fill; MAX_FILL + 1 bytes of it are passed over at most."""
    fill = _FILL.match(body, at)
    if fill is None and at < len(body):
        raise MalformedBody(f"the JPEG file is damaged: no segment begins at byte {at}")
    return fill.end() - 1 if fill else at


def _most(width: int, height: int, components: int) -> int:
    """The bytes that the scans of such a picture may have, all together."""
    padded = (-(-side // SCAN_UNIT) * SCAN_UNIT for side in (width, height))
    return SCAN_BYTES * math.prod(padded) * components


def _scan(body: bytes, at: int, left: int) -> int:
    """How many bytes the scan has that begins at byte *at*: up to *left*, and without the fill behind it."""
    if left < 0:
        raise MalformedBody("the JPEG file has a scan before its header")
    end = at + left + MAX_FILL + 2
    found = _MARKER.search(body, at, end)
    size = len(body[at : found.start() if found else end].rstrip(b"\xff"))
    if size > left:
        raise TooLarge(
            f"the JPEG file's scans have more bytes than a picture of its size: over {SCAN_BYTES} a sample, of a "
            f"picture whose sides are rounded up to {SCAN_UNIT}",
            limit=SCAN_BYTES,
        )
    return size


def _header(data: bytes) -> tuple[int, int, int]:
    """A frame's width, height and components. Raises MalformedBody, or InvalidInput for other samples than 8 bits."""
    if len(data) < 6:
        raise MalformedBody(f"the JPEG file's header has {counted(len(data), 'byte')}; 6 or more needed")
    if data[0] != 8:
        raise InvalidInput(f"it has {data[0]} bits a sample; JPEG is read with 8", limit=8, value=data[0])
    return int.from_bytes(data[3:5], "big"), int.from_bytes(data[1:3], "big"), data[5]


def _check_metadata(marker: int, data: bytes) -> None:
    """Raise InvalidInput for metadata that say that the pixels are not all there is to it."""
    if marker == _EXIF and data.startswith(b"Exif\0\0") and (turned := orientation(data[6:])) != UPRIGHT:
        raise InvalidInput(f"it is to be turned (EXIF orientation {turned}); send it upright", value=turned)
    if marker == _FRAMES_MORE and data.startswith(b"MPF\0"):
        raise InvalidInput("it is one of several pictures in a file (MPF); a row is one picture")
