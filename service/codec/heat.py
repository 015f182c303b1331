"""
Nats as colours: what is more surprising is brighter, on one scale for all rows and all models.

Knows numbers by pixel and the manifest's channels; nothing of scores or of files.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.codec.pixels import by_pixel
from service.inputs import Inputs

MOST = 10.0
"""Nats of the brightest colour, and of all that is more. Of a Gaussian pixel that is usual otherwise: 4.5 sigma."""

_COLOURS = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
"""Of 0, 2.5, 5, 7.5 and 10 nats; evenly mixed between. matplotlib's inferno (CC0), which is as even in grey."""


def heat(nats: NDArray[np.generic], inputs: Inputs) -> NDArray[np.uint8]:
    """
    Rows of *nats* by feature, (n, *shape), as pictures in colour, (n, height, width, 3).

    The channels of a pixel are added. 0 and less is black.
    """
    pixels = by_pixel(nats, inputs).sum(axis=-1)
    at = pixels.clip(0, MOST) / MOST * (len(_COLOURS) - 1)
    planes = [np.interp(at, np.arange(len(_COLOURS)), [colour[c] for colour in _COLOURS]) for c in range(3)]
    found: NDArray[np.uint8] = np.rint(np.stack(planes, axis=-1)).astype(np.uint8)
    return found
