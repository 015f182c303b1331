"""
Pillow's part: pixels out of a file whose header was read before, and pixels into a PNG file.

The only module that knows Pillow, which is an extra (`images`): without it the service starts all the same. Of its
decoders only the one that is asked for is reachable, PNG's or JPEG's.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import io
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from service.errors import MalformedBody

MISSING = (
    "" if importlib.util.find_spec("PIL") else "Pillow is not installed here; pip install 'vae-serve[images]' brings it"
)

Pixels = NDArray[Any]
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@functools.cache
def _pillow() -> tuple[ModuleType, ModuleType]:
    """Load Pillow's images and their PNG files with the first picture: 10 ms that no start should take."""
    image = importlib.import_module("PIL.Image")
    image.preinit()
    return image, importlib.import_module("PIL.PngImagePlugin")


def decode(file: bytes, form: Literal["PNG", "JPEG"]) -> Pixels:
    """
    The samples (height, width) or (height, width, channels) in *file*: uint8, or uint16; a palette's are its indices.

    Raises MalformedBody.
    """
    pil, _ = _pillow()
    try:
        with pil.open(io.BytesIO(file), formats=(form,)) as image:
            return np.asarray(image.convert("L") if image.mode == "1" else image)
    except Exception as error:  # whatever a decoder stumbles over, there is no one list of it
        told = "" if isinstance(error, pil.UnidentifiedImageError) else f": {error}"
        raise MalformedBody(f"the {form} file cannot be decoded{told}") from None


def encode(pixels: Pixels, text: Mapping[str, str]) -> bytes:
    """*pixels* (height, width, 1, 3 or 4) uint8 as a PNG file with *text* in tEXt chunks: Latin-1, keys up to 79."""
    pil, png = _pillow()
    info = png.PngInfo()
    for key, value in text.items():
        info.add_text(key, value)
    mode = _MODES[pixels.shape[2]]
    file = io.BytesIO()
    pil.fromarray(pixels[..., 0] if mode == "L" else pixels).save(file, "PNG", pnginfo=info)
    return file.getvalue()
