"""
multipart/form-data (RFC 7578): the parts of a whole body, in order.

python-multipart parses; what it would be slow at is refused before. It is an extra (`images`). Knows bytes and names;
nothing of what parts hold.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from service.errors import MalformedBody, TooLarge, UnsupportedMedia, counted, named, shown

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
_BOUNDS = {  # what the parser says, and which limit it means
    "Maximum header size exceeded": (f"a header of more than {MAX_HEADER} bytes", MAX_HEADER),
    "Maximum header count exceeded": (f"more than {MAX_HEADERS} headers", MAX_HEADERS),
}
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
    The parts of *body*, whose *content_type* names the boundary; a preamble (RFC 2046, 5.1.1) is passed over.

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
            f"the form has {counted(count, 'part')} or more; the limit is {most}", field="body", limit=most, value=count
        )
    if any(delimiter + space in body or body.startswith(delimiter[2:] + space) for space in (b" ", b"\t")):
        raise MalformedBody("there is white space behind a boundary of the form")  # allowed, unused, and slow to parse
    start = _start(body, delimiter)
    collector = _Collector()
    parser = MultipartParser(boundary, collector.callbacks(), max_header_count=MAX_HEADERS, max_header_size=MAX_HEADER)
    try:
        parser.write(body[start:])
    except FormParserError as error:
        where = f"part {len(collector.parts) - 1} of the form"  # boundaries were looked at before: a part has begun
        if bound := _BOUNDS.get(str(error)):
            raise MalformedBody(f"{where} has {bound[0]}", limit=bound[1]) from None
        raise MalformedBody(f"{where} cannot be read: {error}") from None
    if not collector.ended:
        raise MalformedBody("the form is cut short: its last boundary is missing")
    return [_named(part, index) for index, part in enumerate(collector.parts)]


def _start(body: bytes, delimiter: bytes) -> int:
    """Where the first boundary is, behind the preamble. Raises MalformedBody where there is none."""
    skipped = len(body) - len(body.lstrip(b"\r\n"))  # whatever the line breaks are: none of them hides a part
    if body.startswith((delimiter[2:] + b"\r\n", delimiter[2:] + b"--"), skipped):
        return skipped
    found = [at for end in (b"\r\n", b"--") if (at := body.find(delimiter + end)) >= 0]
    if not found:
        boundary = shown(delimiter[2:].decode("latin-1"))
        raise MalformedBody(f"the body is not a form: no line of it is the boundary, {boundary}")
    return min(found) + 2


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
