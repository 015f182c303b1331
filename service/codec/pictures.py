"""
PNG and JPEG files to rows of the model.

Nothing is guessed: a picture has the model's size, and is converted only where no information is made or lost. Its
header is read before any pixel is decoded. Colour profiles are not applied: the numbers in the file count.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.codec import jpeg, pillow, png
from service.codec.pixels import Size, size, values
from service.codec.rows import Array
from service.errors import InvalidInput, MalformedBody, ServiceError, counted
from service.inputs import Inputs

READERS = ("image/png", "image/jpeg")
"""The media types of pictures that are read."""


class _Picture(NamedTuple):
    """*colour* (height, width, 1 or 3) and, where there is one, *alpha* (height, width): from 0 to *most*."""

    colour: NDArray[np.unsignedinteger]
    alpha: NDArray[np.unsignedinteger] | None
    most: int


def read(body: bytes, media_type: str, inputs: Inputs, row: int = 0) -> Array:
    """
    The picture in *body*, of one of READERS, as one row of *inputs*, which `pixels.refusal` has nothing against.

    Raises MalformedBody for a file that is not what it should be, InvalidInput for a picture that is not one of the
    model's, TooLarge; each names the *row*.
    """
    try:
        wanted = size(inputs)
        picture = _png(body, wanted) if media_type == "image/png" else _jpeg(body, wanted)
        return values(_channels(picture, wanted.channels), picture.most, inputs)
    except ServiceError as error:
        facts = {"field": "inputs", "row": row, **error.facts}
        raise type(error)(f"inputs: row {row}: {error.detail}", **facts) from None


def _png(body: bytes, wanted: Size) -> _Picture:
    found = png.read(body)
    _check_size(found.width, found.height, wanted)
    if found.depth == 16 and found.colour != png.GREY:
        raise InvalidInput(
            "it has 16 bits a sample in colour or with transparency; these are read with 8, grey with 16"
        )
    if found.transparency is not None and found.colour != png.PALETTE:
        raise InvalidInput("it has a transparent colour (tRNS); send it without transparency")
    png.check_pixels(found)
    pixels = pillow.decode(found.file, "PNG")
    if found.colour == png.PALETTE:
        return _painted(pixels, found)
    pixels = pixels.reshape(found.height, found.width, -1)
    if found.colour in (png.GREY_ALPHA, png.RGB_ALPHA):
        return _Picture(pixels[..., :-1], pixels[..., -1], 255)
    return _Picture(pixels, None, 65535 if found.depth == 16 else 255)


def _painted(indices: NDArray[np.unsignedinteger], found: png.PNG) -> _Picture:
    """A palette's colours instead of their *indices*."""
    palette = np.frombuffer(found.palette, np.uint8)
    alpha = np.frombuffer(found.transparency or b"", np.uint8)
    entries = len(palette) // 3
    if len(palette) % 3 or len(alpha) > entries:
        raise MalformedBody("the PNG file's palette is no list of colours")
    if indices.max() >= entries:
        raise MalformedBody(
            f"the PNG file's palette has {counted(entries, 'colour')}; a pixel has number {indices.max()}"
        )
    opaque = np.full(entries - len(alpha), 255, np.uint8)
    return _Picture(palette.reshape(-1, 3)[indices], np.concatenate([alpha, opaque])[indices], 255)


def _jpeg(body: bytes, wanted: Size) -> _Picture:
    found = jpeg.read(body, lambda width, height: _check_size(width, height, wanted))
    if found.components not in (1, 3):
        kind = "CMYK" if found.components == 4 else "of a kind that is not read"
        raise InvalidInput(f"it has {found.components} components ({kind}); grey has 1, colour 3")
    return _Picture(pillow.decode(found.file, "JPEG").reshape(found.height, found.width, -1), None, 255)


def _check_size(width: int, height: int, wanted: Size) -> None:
    if (width, height) != (wanted.width, wanted.height):
        raise InvalidInput(
            f"the picture is {width} x {height} pixels (width x height); the model takes "
            f"{wanted.width} x {wanted.height}, and nothing is resized",
            limit=[wanted.width, wanted.height],
            value=[width, height],
        )


def _channels(picture: _Picture, channels: int) -> NDArray[np.unsignedinteger]:
    """(height, width, *channels*): grey, red green blue, or those and alpha."""
    colour, alpha, most = picture
    if channels == 4:
        if alpha is None:
            alpha = np.full(colour.shape[:2], most, colour.dtype)  # the format's own meaning of no alpha
        return np.dstack([np.broadcast_to(colour, (*alpha.shape, 3)), alpha])
    if alpha is not None and (alpha != most).any():
        y, x = (int(i) for i in np.argwhere(alpha != most)[0])
        raise InvalidInput(
            f"the pixel {y},{x} (row, column) is transparent (alpha {alpha[y, x]} of {most}); the model takes no alpha"
        )
    if channels == 3:
        return np.broadcast_to(colour, (*colour.shape[:2], 3))
    if colour.shape[2] == 3:
        differs = (colour != colour[..., :1]).any(axis=-1)
        if differs.any():
            y, x = (int(i) for i in np.argwhere(differs)[0])
            raise InvalidInput(
                f"the pixel {y},{x} (row, column) has a colour, {colour[y, x].tolist()}; the model takes grey"
            )
    return colour[..., :1]
