"""
multipart/form-data (RFC 7578): the parts of a whole body, in order.

python-multipart parses; what it would be slow at is refused before. It is an extra (`images`). Knows bytes and names;
nothing of what parts hold.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from service.errors import MalformedBody, TooLarge, UnsupportedMedia, named, shown

try:
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header

    MISSING = ""
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # the client is told; the log need not be
except ModuleNotFoundError:
    MISSING = "python-multipart is not installed here; pip install 'vae-serve[images]' brings it"
if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_HEADERS = 8  # of one part
MAX_HEADER = 1024  # bytes of each
_AS_IT_IS = ("", "7bit", "8bit", "binary")


@dataclass
class Part:
    """One part: its name, its Content-Type in lower case without parameters (empty: none), and what it holds."""

    name: str = ""
    media_type: str = ""
    data: bytes = b""
    headers: dict[str, bytes] = field(default_factory=dict)


def read(body: bytes, content_type: bytes, most: int) -> list[Part]:
    """
    The parts of *body*, whose *content_type* names the boundary.

    Raises MalformedBody, UnsupportedMedia for an encoded part, or, before it parses any, TooLarge for more than *most*.
    """
    short = content_type if len(content_type) <= MAX_HEADER else b""  # 64 KiB of semicolons would take 0.2 s
    boundary = parse_options_header(short)[1].get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:
        raise MalformedBody(f"the Content-Type names no boundary of 1 to 70 characters within {MAX_HEADER} bytes")
    delimiter = b"\r\n--" + boundary
    count = body.count(delimiter) + body.startswith(delimiter[2:]) - 1
    if count > most:
        raise TooLarge(
            f"the form has {count} parts or more; the limit is {most}", field="body", limit=most, value=count
        )
    if delimiter + b" " in body or delimiter + b"\t" in body:  # allowed, unused, and slow: a byte at a time
        raise MalformedBody("there is white space behind a boundary of the form")
    collector = _Collector()
    parser = MultipartParser(boundary, collector.callbacks(), max_header_count=MAX_HEADERS, max_header_size=MAX_HEADER)
    try:
        parser.write(body)
    except FormParserError as error:
        raise MalformedBody(f"the body is not a form: {error}") from None
    if not collector.ended:
        raise MalformedBody("the form is cut short: its last boundary is missing")
    return [_named(part, index) for index, part in enumerate(collector.parts)]


def _named(part: Part, index: int) -> Part:
    """The *part* with what its headers say."""
    kind, options = parse_options_header(part.headers.get("content-disposition", b""))
    if kind != b"form-data" or not options.get(b"name"):
        raise MalformedBody(f"part {index} of the form has no Content-Disposition: form-data with a name")
    coding = part.headers.get("content-transfer-encoding", b"").decode("latin-1").strip().lower()
    if coding not in _AS_IT_IS:
        raise UnsupportedMedia(
            f"part {index} of the form is encoded ({shown(coding)}); send it as it is", value=named(coding)
        )
    part.name = options[b"name"].decode("utf-8", "replace")
    part.media_type = parse_options_header(part.headers.get("content-type", b""))[0].decode("latin-1")
    return part


class _Collector:
    """What the parser calls while it goes through the body."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.ended = False
        self._name = ""

    def callbacks(self) -> MultipartCallbacks:
        """By the parser's names."""
        return {
            "on_part_begin": lambda: self.parts.append(Part()),
            "on_header_field": self._field,
            "on_header_value": self._value,
            "on_part_data": self._data,
            "on_end": self._end,
        }

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._name = data[start:end].decode("latin-1").lower()

    def _value(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].headers[self._name] = data[start:end]

    def _data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].data += data[start:end]

    def _end(self) -> None:
        self.ended = True
