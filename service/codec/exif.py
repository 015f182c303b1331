"""
EXIF in a picture file: which way up the picture is. Knows the first directory of TIFF's, and one tag of it.

Pillow reads it too, but also all that it points to.
"""

from __future__ import annotations

import struct

UPRIGHT = 1
_ORIENTATION = 0x0112
_SHORT = 3


def orientation(tiff: bytes) -> int:
    """
    The orientation that a TIFF header and its first directory tell: 1 to 8, 1 being upright.

    1 where they do not, or cannot be read (TIFF 6.0, section 2; EXIF 2.32, 4.6.4).
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return UPRIGHT
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    if start + 2 > len(tiff):
        return UPRIGHT
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    for at in range(start + 2, min(start + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind, values, value = struct.unpack_from(f"{order}HHIH", tiff, at)
        if (tag, kind, values) == (_ORIENTATION, _SHORT, 1) and 1 <= value <= 8:
            return int(value)
    return UPRIGHT
