"""
The chunks of a PNG file: what it says of itself, and the file less all that makes no pixels.

Text, colour profiles and other metadata, which may be compressed, are passed over here and reach no decoder; Pillow's
reader would open them, and does not look at the checksums of the pixels. Knows bytes; nothing of models. PNG
specification, third edition.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

from service.codec.exif import UPRIGHT, orientation
from service.errors import InvalidInput, MalformedBody, TooLarge, counted

MAX_CHUNKS = 4096  # 32 MiB of the usual 8 KiB; each costs as much as a small picture's pixels
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
_DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGB_ALPHA: (8, 16)}
_SAMPLES = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}  # of a pixel
_WHOLE = ((0, 0, 1, 1),)  # a pass over the picture: from which column and line, and steps to the right and below
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ONCE = (b"IHDR", b"PLTE", b"tRNS")
_FRAMES = (b"fcTL", b"fdAT")  # of an animation, which acTL in front of them announces


class PNG(NamedTuple):
    """
    A PNG file: *colour* is its colour type, *depth* its bits a sample; *file* has only the chunks of its pixels.

    *data*: the pixels, filtered and compressed.
    """

    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool
    palette: bytes
    transparency: bytes | None
    file: bytes
    data: bytes


def read(body: bytes) -> PNG:
    """Raise MalformedBody, TooLarge (chunks), or InvalidInput for an animation and for one that is not upright."""
    if not body.startswith(_SIGNATURE):
        raise MalformedBody("it is not a PNG file: it does not begin with \\x89PNG")
    found: dict[bytes, bytes] = {}
    kept: list[bytes] = [_SIGNATURE]
    pixels: list[memoryview] = []
    view, at, kind, count = memoryview(body), len(_SIGNATURE), b"", 0
    while kind != b"IEND":
        count += 1
        previous, kind, end = kind, bytes(body[at + 4 : at + 8]), at + 12 + int.from_bytes(body[at : at + 4], "big")
        if len(body) < at + 12 or len(body) < end:
            raise MalformedBody("the PNG file is cut short")
        if count > MAX_CHUNKS:
            raise TooLarge(f"the PNG file has more than {MAX_CHUNKS} chunks", limit=MAX_CHUNKS, value=count)
        if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(body[end - 4 : end], "big"):
            raise MalformedBody(f"the PNG file is damaged: the checksum of chunk {count} is wrong")
        data = view[at + 8 : end - 4]
        if (count == 1) != (kind == b"IHDR") or kind in found:
            raise MalformedBody(f"the PNG file has a chunk {kind.decode('latin-1')!r} at a wrong place")
        _check_order(kind, previous, bool(pixels), len(data), found)
        if kind in _ONCE:
            found[kind] = bytes(data)
        if kind in (b"IHDR", b"PLTE", b"IDAT", b"IEND"):
            kept.append(body[at:end])
            pixels += [data] if kind == b"IDAT" else []
        elif kind == b"acTL":
            raise InvalidInput("it is an animation (APNG); a row is one picture")
        elif kind == b"eXIf" and (turned := orientation(bytes(data))) != UPRIGHT:
            raise InvalidInput(f"it is to be turned (EXIF orientation {turned}); send it upright", value=turned)
        elif not kind[0] & 0x20 and kind not in _ONCE:  # a critical chunk: the pixels mean nothing without it
            raise MalformedBody(f"the PNG file has a chunk {kind.decode('latin-1')!r}, which the format does not know")
        at = end
    if at != len(body):
        raise MalformedBody(f"the PNG file has {counted(len(body) - at, 'byte')} too many, behind its end")
    return PNG(*_header(found[b"IHDR"]), found.get(b"PLTE", b""), found.get(b"tRNS"), b"".join(kept), b"".join(pixels))


def check_pixels(found: PNG) -> None:
    """
    Raise MalformedBody where the pixels are not as many as the header tells: Pillow makes up lines that are absent.

    To be called for a size that is wanted: as much memory is taken.
    """
    bits = found.depth * _SAMPLES[found.colour]
    size = 0
    for left, top, right, below in _ADAM7 if found.interlaced else _WHOLE:
        width, height = -((left - found.width) // right), -((top - found.height) // below)
        size += height * (1 + (width * bits + 7) // 8) if width else 0
    stream = zlib.decompressobj()
    try:
        got = len(stream.decompress(found.data, size + 1))
    except zlib.error as error:
        raise MalformedBody(f"the PNG file's pixels cannot be decompressed: {error}") from None
    if got != size or not stream.eof:
        raise MalformedBody(f"the PNG file's pixels are not the {size} bytes that its header tells of")
    if stream.unused_data:
        rest = counted(len(stream.unused_data), "byte")
        raise MalformedBody(f"the PNG file has {rest} too many in IDAT, behind the compressed pixels")


def _check_order(kind: bytes, previous: bytes, pixels: bool, size: int, found: dict[bytes, bytes]) -> None:
    """
    Raise MalformedBody for a chunk of *kind* that has no place behind *previous*.

    *pixels*: whether there were some before it; *size*: of its data, in bytes; *found*: what came before it of _ONCE.
    """
    name = kind.decode("latin-1")
    if kind in (b"PLTE", b"tRNS") and pixels:
        raise MalformedBody(f"the PNG file has a chunk {name!r} behind its pixels (IDAT); it belongs before them")
    if kind == b"PLTE" and b"tRNS" in found:
        raise MalformedBody("the PNG file has a chunk 'PLTE' behind 'tRNS'; it belongs before it")
    if kind == b"IDAT" and pixels and previous != kind:
        other = previous.decode("latin-1")
        raise MalformedBody(f"the PNG file's pixels (IDAT) are split by a chunk {other!r}; they belong together")
    if kind == b"IEND" and size:
        raise MalformedBody(f"the PNG file's end, IEND, holds {counted(size, 'byte')}; it is to hold none")
    if kind in _FRAMES:
        raise MalformedBody(f"the PNG file has a chunk {name!r} of an animation, and no acTL before it")


def _header(data: bytes) -> tuple[int, int, int, int, bool]:
    """IHDR's width, height, depth, colour type, and whether it is interlaced."""
    if len(data) != 13:
        raise MalformedBody(f"the PNG file's header has {counted(len(data), 'byte')}; 13 needed")
    depth, colour, compression, filters, interlace = data[8:]
    if depth not in _DEPTHS.get(colour, ()):
        raise MalformedBody(f"the PNG file's header tells of colour type {colour} with {depth} bits, which is none")
    for name, method, known in (("compression", compression, 0), ("filter", filters, 0), ("interlace", interlace, 1)):
        if method > known:
            methods = "0 is the only one" if not known else "0 and 1 are all"
            raise MalformedBody(f"the PNG file's header tells of {name} method {method}; {methods} that the format has")
    return int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big"), depth, colour, interlace == 1
