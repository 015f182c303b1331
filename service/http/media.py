"""
Media types of bodies and replies, as Content-Type and Accept name them (RFC 9110, 8.3 and 12.5.1).

Knows headers' syntax; nothing of what is in a body.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from service.errors import NotAcceptable, UnsupportedMedia, named, shown

JSON = "application/json"
NPY = "application/x-npy"
NPZ = "application/x-npz"
PNG = "image/png"
JPEG = "image/jpeg"
FORM = "multipart/form-data"

_QUALITY = re.compile(r"q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)")


def of_body(content_type: bytes, able: tuple[str, ...], absent: Mapping[str, str] = MappingProxyType({})) -> str:
    """
    The media type of a body, JSON where none is named. Raises UnsupportedMedia for what is not in *able*.

    *absent*: why types that are spoken elsewhere are not here.
    """
    if content_type in (b"application/json", b"") and JSON in able:
        return JSON
    media, *parameters = (part.strip() for part in content_type.decode("latin-1").lower().split(";"))
    charsets = [part.split("=", 1)[1].strip(' "') for part in parameters if part.startswith("charset=")]
    if media in able and charsets in ([], ["utf-8"], ["utf8"]):
        return media
    given = content_type.decode("latin-1")
    known = " or ".join(f"{name} in UTF-8" if name == JSON else name for name in able)
    why = f": {absent[media]}" if media in absent else ""
    raise UnsupportedMedia(f"send {known}; the Content-Type is {shown(given)}{why}", value=named(given))


def of_reply(accept: bytes, able: tuple[str, ...], absent: Mapping[str, str] = MappingProxyType({})) -> str:
    """
    The one of *able* that the client would rather have, the first of several; any where it does not say.

    The most specific range that names a type gives its quality; 0 is a refusal. A range whose quality is no quality is
    no range: nobody can tell whether it was meant as a refusal. Raises NotAcceptable. *absent*: as in `of_body`.
    """
    if accept in (b"", b"*/*"):
        return able[0]
    ranges: dict[str, float] = {}
    unreadable = ""
    for part in accept.decode("latin-1").lower().split(","):
        media, *parameters = (word.strip() for word in part.split(";"))
        weights = [_QUALITY.fullmatch(word) for word in parameters if word.startswith("q=")]
        if None in weights:
            unreadable = unreadable or part.strip()
        else:
            ranges[media] = float(weights[0][1]) if weights and weights[0] else 1.0
    qualities = []
    for media in able:
        names = (media, media.split("/")[0] + "/*", "*/*")
        qualities.append(next((ranges[name] for name in names if name in ranges), 0.0))
    if not max(qualities):
        given = accept.decode("latin-1")
        why = next((f": {reason}" for media, reason in absent.items() if media in ranges), "")
        if unreadable:
            why += f", where the q of {shown(unreadable)} is no number from 0 to 1 with up to 3 decimals"
        raise NotAcceptable(f"replies are {', '.join(able)}; the Accept is {shown(given)}{why}", value=named(given))
    return able[qualities.index(max(qualities))]
