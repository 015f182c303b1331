"""The headers of a request: whatever they hold, a refusal is a refusal, and as short as a message should be."""

from __future__ import annotations

import pytest

from service.errors import (
    InvalidInput,
    LengthRequired,
    NotAcceptable,
    ServiceError,
    TooLarge,
    UnsupportedMedia,
    named,
    shown,
)
from service.http import media
from service.http.headers import Headers


def headers(*pairs: tuple[bytes, bytes]) -> Headers:
    """A request's headers, without a query."""
    return Headers({"headers": list(pairs), "query_string": b""})


@pytest.mark.parametrize(
    ("length", "error"),
    [
        (b"9" * 5000, TooLarge),  # Python reads no whole number of more than 4,300 digits
        (b"0" * 5000 + b"101", TooLarge),
        (b"0" * 5000 + b"100", None),
        (b"0", None),
        (b"", LengthRequired),
        (b"+5", LengthRequired),
        (b"5,5", LengthRequired),
    ],
)
def test_an_announced_length_of_any_number_of_digits_is_held_to_the_limit(
    length: bytes, error: type[ServiceError] | None
) -> None:
    """What is no length announces no body."""
    found = headers((b"content-length", length))
    if error is None:
        found.check(100)
    else:
        with pytest.raises(error):
            found.check(100)


def test_headers_of_one_name_are_one_list_in_their_order() -> None:
    """RFC 9110, 5.3; those of other names stay as they are."""
    found = headers((b"accept", b"a/b"), (b"x", b"1"), (b"accept", b""), (b"accept", b"a/c"))
    assert (found.get(b"accept"), found.get(b"x")) == (b"a/b,,a/c", b"1")


def test_blanks_around_a_value_are_no_part_of_it() -> None:
    """RFC 9110, 5.5: a proxy may add them."""
    found = headers((b"content-length", b"20 "), (b"x-request-timeout-ms", b" 500\t"), (b"accept", b" a/b "))
    found.check(100)
    assert found.timeout_s(9) == 0.5
    assert found.get(b"accept") == b"a/b"


def test_a_time_that_is_none_is_refused_by_name_with_limit_and_value() -> None:
    """A header is a field too."""
    with pytest.raises(InvalidInput, match="X-Request-Timeout-Ms must be a whole number from 1") as refused:
        headers((b"x-request-timeout-ms", b"soon")).timeout_s(9)
    assert refused.value.facts == {
        "field": "X-Request-Timeout-Ms",
        "limit": "a whole number from 1 to 999999999",
        "value": "soon",
    }


def test_a_refusal_does_not_repeat_what_it_refuses_without_end() -> None:
    """A header may have 64 KiB; a message that has them too is read by nobody."""
    with pytest.raises(UnsupportedMedia) as body:
        media.of_body(b"x" * 60_000, (media.JSON,))
    with pytest.raises(NotAcceptable) as reply:
        media.of_reply(b"\x07;q=2," * 10_000, (media.JSON,))
    for refused in (body.value, reply.value):
        assert len(refused.detail) + len(str(refused.facts)) < 600
        assert refused.detail.isprintable()


def test_a_refusal_says_which_quality_could_not_be_read() -> None:
    """Nobody can tell whether `q=high` was meant as a refusal, so the range does not count."""
    with pytest.raises(NotAcceptable, match=r"the q of '\*/\*;q=high' is no number from 0 to 1"):
        media.of_reply(b"text/html, */*;q=high", (media.JSON,))
    assert media.of_reply(b"*/*;q=high, application/json", (media.JSON,)) == media.JSON


@pytest.mark.parametrize("value", ["x" * 10**6, "\x00" * 1000, 10**4000, [["y" * 999] * 999], {"k" * 999: None}, 1e308])
def test_any_value_can_be_shown_in_a_message(value: object) -> None:
    """In printable characters, and not many of them."""
    assert len(shown(value)) <= 103
    assert shown(value).isprintable()


def test_a_name_is_shown_as_it_is_where_that_can_be_read() -> None:
    """Names that were chosen to spoil a log are quoted."""
    assert named("inputs") == "inputs"
    assert named("a\nb") == r"'a\nb'"
    assert len(named("a" * 10**6)) < 110
