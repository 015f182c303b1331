"""multipart/form-data: parts as they were sent, and bounded in number, names and headers."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.codec import form
from service.errors import MalformedBody, ServiceError, TooLarge, UnsupportedMedia

TYPE = b"multipart/form-data; boundary=b"
HEAD = b'Content-Disposition: form-data; name="x"'


def made(*parts: bytes, end: bytes = b"--b--\r\n") -> bytes:
    """A body of *parts*, each with its headers."""
    return b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + end


def part(data: bytes, *headers: bytes) -> bytes:
    """One part named x."""
    return b"\r\n".join([HEAD, *headers]) + b"\r\n\r\n" + data


def test_parts_are_in_order_with_their_names_and_types() -> None:
    """As a client's library writes them; several may have one name."""
    files: list[Any] = [
        ("inputs", ("a.png", b"\x89PNG\r\n--\x00", "image/png")),
        ("inputs", ("ü.jpg", b"", "Image/JPEG; x=y")),
        ("äh", (None, b"text")),
    ]
    request = httpx.Request("POST", "http://test", files=files)
    got = form.read(request.read(), request.headers["content-type"].encode(), 3)
    assert [(found.name, found.media_type, found.data) for found in got] == [
        ("inputs", "image/png", b"\x89PNG\r\n--\x00"),
        ("inputs", "image/jpeg", b""),
        ("äh", "", b"text"),
    ]


@given(data=st.lists(st.binary(max_size=40), max_size=5))
@example(data=[b"\r\n--", b"--b", b"\r", b"\n", b"\r\n-"])
def test_what_is_sent_is_what_is_read(data: list[bytes]) -> None:
    """Whatever is in a part, but its boundary."""
    body = made(*[part(piece) for piece in data])
    if body.count(b"\r\n--b") > len(data):
        return
    assert [found.data for found in form.read(body, TYPE, 5)] == data


def test_a_preamble_and_an_epilogue_are_no_parts() -> None:
    """RFC 2046 allows line breaks before the first boundary, and anything behind the last."""
    assert [found.data for found in form.read(b"\r\n" + made(part(b"1")) + b"more", TYPE, 1)] == [b"1"]
    assert form.read(b"--b--", TYPE, 1) == []
    two = made(part(b"1"), part(b"2"))
    assert [len(form.read(breaks + two, TYPE, 2)) for breaks in (b"\n", b"\r", b"\n\r\n")] == [2, 2, 2]
    preamble = b"This is a message\r\nof several parts --b\r\n--bx\r\n"
    assert [found.data for found in form.read(preamble + made(part(b"1")), TYPE, 2)] == [b"1"]
    assert [found.data for found in form.read(b"--bx\r\n" + made(part(b"1")), TYPE, 2)] == [b"1"]


@pytest.mark.parametrize(
    ("body", "content_type", "error", "told"),
    [
        (b"", TYPE, MalformedBody, "no line of it is the boundary, '--b'"),
        (b"junk", TYPE, MalformedBody, "not a form: no line of it is the boundary, '--b'"),
        (made(part(b"1"), end=b""), TYPE, MalformedBody, "cut short"),
        (made(part(b"1"), end=b"--b-"), TYPE, MalformedBody, "cut short"),
        (made(part(b"1")), b"multipart/form-data", MalformedBody, "no boundary"),
        (made(part(b"1")), b"multipart/form-data; boundary=", MalformedBody, "no boundary"),
        (made(part(b"1")), b"multipart/form-data; boundary=" + b"b" * 71, MalformedBody, "no boundary"),
        (made(part(b"1")), TYPE + b";" * 1000, MalformedBody, "no boundary of 1 to 70 characters within 1024 bytes"),
        (made(part(b"1")), b"multipart/form-data; boundary=c", MalformedBody, "not a form"),
        (made(b"\r\n1"), TYPE, MalformedBody, "part 0 of the form has no Content-Disposition"),
        (
            made(part(b"1"), b"Content-Disposition: form-data\r\n\r\n1"),
            TYPE,
            MalformedBody,
            "part 1 of the form has no",
        ),
        (made(b"Content-Disposition: attachment; name=x\r\n\r\n1"), TYPE, MalformedBody, "part 0"),
        (made(b"no header\r\n\r\n1"), TYPE, MalformedBody, "part 0 of the form cannot be read: Found invalid"),
        (
            made(part(b"1", b"X: " + b"x" * 1024)),
            TYPE,
            MalformedBody,
            "part 0 of the form has a header of more than 1024",
        ),
        (made(part(b"1"), part(b"1", b"X" * 1025 + b": x")), TYPE, MalformedBody, "part 1 of the form has a header of"),
        (made(part(b"1", *[b"X: x"] * 8)), TYPE, MalformedBody, "part 0 of the form has more than 8 headers"),
        (made(part(b"1", b"Content-Transfer-Encoding: base64")), TYPE, UnsupportedMedia, r"encoded \('base64'\)"),
        (made(part(b"1")).replace(b"--b\r\n", b"--b \r\n"), TYPE, MalformedBody, "white space"),
        (b"\r\n" + made(part(b"1")).replace(b"--b\r\n", b"--b \r\n"), TYPE, MalformedBody, "white space"),
        (made(*[part(b"1")] * 4), TYPE, TooLarge, "4 parts or more; the limit is 3"),
        (made(part(b"\r\n--bx" * 10)), TYPE, TooLarge, "11 parts or more; the limit is 3"),
    ],
)
def test_what_is_no_form_is_refused(body: bytes, content_type: bytes, error: type[ServiceError], told: str) -> None:
    """Bounds are named, and hold before the parts are looked at."""
    with pytest.raises(error, match=told):
        form.read(body, content_type, 3)


def test_ten_thousand_parts_and_a_giant_header_are_refused_without_being_parsed() -> None:
    """And the log is not what a client writes."""
    with pytest.raises(TooLarge, match="10000 parts"):
        form.read(made(*[part(b"")] * 10_000), TYPE, 100)
    with pytest.raises(MalformedBody, match="part 0 of the form has a header of more than 1024 bytes"):
        form.read(made(part(b"1", b"X: " + b"x" * 2**22)), TYPE, 100)
    assert not logging.getLogger("python_multipart.multipart").isEnabledFor(logging.ERROR)


bits = st.sampled_from([b"--b", b"\r\n", b"\r\n--b", b"--", b"b", b"-", b"\r", HEAD, b": ", b"\r\n\r\n", b" ", b"\0"])


@given(body=st.lists(bits | st.binary(max_size=5), max_size=12).map(b"".join), head=st.sampled_from([b"", b"--b\r\n"]))
def test_any_bytes_are_parts_or_a_refusal(body: bytes, head: bytes) -> None:
    """Of no more bytes than came."""
    try:
        parts = form.read(head + body, TYPE, 10)
    except (MalformedBody, TooLarge, UnsupportedMedia):
        return
    assert sum(len(found.data) for found in parts) <= len(head + body)


@given(content_type=st.binary(max_size=40).map(lambda rest: b"multipart/form-data;" + rest))
def test_any_content_type_names_a_boundary_or_is_refused(content_type: bytes) -> None:
    """It was read once before, for its type alone."""
    try:
        form.read(made(part(b"1")), content_type, 10)
    except (MalformedBody, TooLarge):
        return
