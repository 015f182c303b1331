"""
The segments of a JPEG file: what it says of itself, and the file less all that makes no pixels.

EXIF, colour profiles, thumbnails and comments are passed over here and reach no decoder. Knows bytes; nothing of
models. ITU-T T.81, annex B; EXIF 2.32, 4.7.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from service.codec.exif import UPRIGHT, orientation
from service.errors import InvalidInput, MalformedBody, TooLarge

MAX_SEGMENTS = 1024
MAX_SCANS = 64  # progressive encoders write about 10; each is a pass over every pixel, for as little as 10 bytes
_SOI, _EOI, _SOS = b"\xff\xd8", 0xD9, 0xDA
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_JFIF, _EXIF, _FRAMES_MORE, _ADOBE = 0xE0, 0xE1, 0xE2, 0xEE  # APP0 and APP14 say what the components mean
_METADATA = {*range(0xE1, 0xF0), 0xFE} - {_ADOBE}
_FILL = re.compile(rb"\xff+")  # any number of them, of which the last begins a marker
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # neither a stuffed FF nor a restart within a scan


class JPEG(NamedTuple):
    """A JPEG file: *components* is 1 for grey, 3 for colour; *file* has only the segments of its pixels."""

    width: int
    height: int
    components: int
    file: bytes


def read(body: bytes) -> JPEG:
    """Raise MalformedBody, TooLarge (segments or scans), or InvalidInput for what cannot be one upright picture."""
    if not body.startswith(_SOI):
        raise MalformedBody("it is not a JPEG file: it does not begin with \\xff\\xd8")
    kept, frames, scans = [_SOI], [], 0
    for marker, data, segment in _segments(body):
        _check_metadata(marker, data)
        if marker not in _METADATA:
            kept.append(segment)
        if marker in _FRAMES:
            frames.append(data)
        scans += marker == _SOS
    if scans > MAX_SCANS:
        raise TooLarge(f"the JPEG file has {scans} scans; the limit is {MAX_SCANS}", limit=MAX_SCANS, value=scans)
    if len(frames) != 1 or len(frames[0]) < 6 or not scans:
        raise MalformedBody(f"the JPEG file has {len(frames)} headers and {scans} scans; one and one or more needed")
    depth, components = frames[0][0], frames[0][5]
    if depth != 8:
        raise InvalidInput(f"it has {depth} bits a sample; JPEG is read with 8", limit=8, value=depth)
    height, width = int.from_bytes(frames[0][1:3], "big"), int.from_bytes(frames[0][3:5], "big")
    return JPEG(width, height, components, b"".join(kept))


def _segments(body: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """The segments up to the end of the picture: marker, data, and all bytes; with a scan's header its scan."""
    at, marker, count = len(_SOI), 0, 0
    while marker != _EOI:
        start, fill = at, _FILL.match(body, at)
        if fill is None and at < len(body):
            raise MalformedBody(f"the JPEG file is damaged: no segment begins at byte {at}")
        at = fill.end() - 1 if fill else at
        count += 1
        if count > MAX_SEGMENTS:
            raise TooLarge(f"the JPEG file has more than {MAX_SEGMENTS} segments", limit=MAX_SEGMENTS, value=count)
        marker, size = int.from_bytes(body[at + 1 : at + 2], "big"), int.from_bytes(body[at + 2 : at + 4], "big")
        if marker == _EOI:
            size = 0
        elif size < 2 or at + 2 + size > len(body):
            raise MalformedBody("the JPEG file is cut short")
        data, at = body[at + 4 : at + 2 + size], at + 2 + size
        if marker == _SOS:
            found = _MARKER.search(body, at)
            at = found.start() if found else len(body)
        yield marker, data, body[start:at]
    if at != len(body):
        raise MalformedBody(f"{len(body) - at} bytes are left over behind the JPEG file")


def _check_metadata(marker: int, data: bytes) -> None:
    """Raise InvalidInput for metadata that say that the pixels are not all there is to it."""
    if marker == _EXIF and data.startswith(b"Exif\0\0") and (turned := orientation(data[6:])) != UPRIGHT:
        raise InvalidInput(f"it is to be turned (EXIF orientation {turned}); send it upright", value=turned)
    if marker == _FRAMES_MORE and data.startswith(b"MPF\0"):
        raise InvalidInput("it is one of several pictures in a file (MPF); a row is one picture")
