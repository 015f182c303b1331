"""
A slow reader of PNG files, made from the specification: no interlace, one sample at a time.

Shares nothing with service/codec or Pillow.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

Levels = NDArray[np.float64]


def read(body: bytes) -> Levels | None:
    """The samples (height, width, channels) from 0 to 255, palettes painted; None for what is interlaced."""
    at, chunks = 8, list[tuple[bytes, bytes]]()
    while at < len(body):
        size = int.from_bytes(body[at : at + 4], "big")
        chunks.append((body[at + 4 : at + 8], body[at + 8 : at + 8 + size]))
        at += 12 + size
    header = dict(chunks)[b"IHDR"]
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    depth, colour, interlace = header[8], header[9], header[12]
    if interlace:
        return None
    packed = b"".join(data for kind, data in chunks if kind == b"IDAT")
    raw = zlib.decompress(packed)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    length, back = (width * channels * depth + 7) // 8, max(1, channels * depth // 8)
    above, samples = bytes(length), []
    for row in range(height):
        line = raw[row * (length + 1) : (row + 1) * (length + 1)]
        above = _unfiltered(line[0], line[1:], above, back)
        bits = int.from_bytes(above, "big")
        samples += [bits >> (8 * length - depth * (index + 1)) & (2**depth - 1) for index in range(width * channels)]
    levels = np.array(samples, np.float64).reshape(height, width, channels)
    if colour != 3:
        scaled: Levels = levels * 255 / (2**depth - 1)
        return scaled
    palette = np.frombuffer(dict(chunks)[b"PLTE"], np.uint8).reshape(-1, 3)
    painted = palette[levels[..., 0].astype(int)].astype(np.float64)
    alpha = np.full(len(palette), 255.0)
    given = np.frombuffer(dict(chunks).get(b"tRNS", b""), np.uint8)
    alpha[: len(given)] = given
    return np.dstack([painted, alpha[levels[..., 0].astype(int)]])


def converted(picture: NDArray[Any], shape: tuple[int, ...]) -> Levels:
    """*picture* (height, width, 1 to 4), or (height, width), as a row of *shape*: grey, colour, or colour and alpha."""
    levels: Levels = picture.reshape(*picture.shape[:2], -1).astype(np.float64)
    grey = levels.shape[2] < 3
    colour = np.repeat(levels[..., :1], 3, axis=2) if grey else levels[..., :3]
    alpha = levels[..., -1:] if levels.shape[2] in (2, 4) else np.full((*levels.shape[:2], 1), 255.0)
    if shape[2:] == (4,):
        return np.concatenate([colour, alpha], axis=2)
    assert (alpha == 255).all()
    if shape[2:] == (3,):
        return colour
    assert (colour == colour[..., :1]).all()
    found: Levels = colour[..., 0]
    return found


def _unfiltered(kind: int, line: bytes, above: bytes, back: int) -> bytes:
    """PNG specification, 9.2."""
    out = bytearray()
    for index, value in enumerate(line):
        left = out[index - back] if index >= back else 0
        up, corner = above[index], above[index - back] if index >= back else 0
        guess = left + up - corner
        nearest = min((abs(guess - left), 0, left), (abs(guess - up), 1, up), (abs(guess - corner), 2, corner))[2]
        out.append((value + (0, left, up, (left + up) // 2, nearest)[kind]) & 255)
    return bytes(out)
