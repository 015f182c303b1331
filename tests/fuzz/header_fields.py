"""
Headers and queries, right and wrong, and what their readers owe: the grammar of RFC 9110, or a refusal.

`_quality` and `_charset` are readers of their own, made of regular expressions over the whole value.
"""

from __future__ import annotations

import math
import re
from random import Random
from typing import NamedTuple
from urllib.parse import parse_qsl, quote_from_bytes

from service.codec.fields import MAX_QUERY, Fields, add_query
from service.errors import NotAcceptable, ServiceError, UnsupportedMedia
from service.http import media
from service.http.headers import MAX_HEADER_BYTES, Headers
from tests.fuzz.mutations import SIZES, chance, mutate, octets, pick
from tests.fuzz.verdicts import check_refusal

ABLE = ((media.JSON, media.NPZ, media.NPY), (media.NPZ, media.NPY, media.JSON), (media.JSON,))
LIMIT = 32 * 2**20
RANGES = (
    "application/json", "application/x-npz", "application/x-npy", "application/*", "*/*", "Application/JSON",
    "*/json", "*", "text/html", "image/png", "application/", "/", "", "application/json/x", "a b",
    "application/problem+json", "\xe9/\xff",
)  # fmt: skip
QUALITIES = (
    "q=1", "q=0", "q=0.5", "q=0.001", "q=1.000", "Q=0.9", "q=0.", "q=1.", "q=.5", "q=2", "q=-1", "q=1.001",
    "q=0.0001", "q=", "q=nan", "q=inf", "q=1e-1", "q=0,5", "q =1", "q= 1", 'q="1"', "q=\xb2", "q=0.5;q=1", "q=00",
    "q", "level=1;q=0.3", "q=0.7;ext=1",
)  # fmt: skip
TYPES = (
    "application/json", "application/x-npy", "APPLICATION/JSON", "application/x-npz", "text/json", "*/*", "",
    "application/json ",
)  # fmt: skip
PARAMETERS = (
    "charset=utf-8", 'charset="UTF-8"', "charset=utf8", "charset=latin-1", "charset=", "charset", "boundary=a", "",
    " charset=utf-8 ", "charset=utf-8;charset=utf-16", "charset= utf-8", "version=1", '"', "charset='utf-8'",
    "\xa0charset=utf-8", "=;=", "CHARSET=UTF8",
)  # fmt: skip
TEXTS = (
    "1", "0", "true", "false", "null", "nll", "0.5", "1e999", "NaN", '"a"', '""', "[1]", "{}", "", " 1 ", "%", "%zz",
    "%00", "+", "\xff", "%ff%fe", "%ed%a0%80", "9" * 400, "[" * 2000, "1 2", "%F0%9F%98%80", "a=b",
    "18446744073709551616", "%22%5cud800%22", "x" * 5000,
)  # fmt: skip
NAMES = (
    "draws", "seed", "kind", "alpha", "inputs", "array", "", "a", "%64raws", "draws%00", "%0a", "x" * 300, "\xe9",
    "draws ",
)  # fmt: skip
WORDS = tuple(
    text.encode("latin-1")
    for text in (*",;=/*\"' \t\0\r\n\\&%+#", "q=", ";q=0", ",,", "*/*", "charset=", "\xa0", "\xff")
)


class Value(NamedTuple):
    """One thing that stands before a body, by its name; *pairs*: all headers, where they are what is read."""

    name: str
    value: bytes = b""
    pairs: tuple[tuple[bytes, bytes], ...] = ()


def make(random: Random) -> Value:
    """An Accept, a Content-Type, a query, or all headers: well-formed, or odd in a name, a number or a byte."""
    name = random.choice(("accept", "content-type", "query", "headers"))
    if name == "headers":
        return Value(name, pairs=_pairs(random))
    return Value(name, {"accept": make_accept, "content-type": make_type, "query": make_query}[name](random))


def make_accept(random: Random) -> bytes:
    """Media ranges with weights."""
    count = pick(random, (30, random.randint(1, 4)), (2, 0), (1, 300))
    ranges = [random.choice(RANGES) + _some(random, QUALITIES) for _ in range(count)]
    return _damaged(random, random.choice((", ", ",", " ,\t")).join(ranges).encode("latin-1"))


def make_type(random: Random) -> bytes:
    """A media type with parameters."""
    return _damaged(random, (random.choice(TYPES) + _some(random, PARAMETERS)).encode("latin-1"))


def make_query(random: Random) -> bytes:
    """Parameters, some of one name."""
    if chance(random, 0.1):
        return quote_from_bytes(octets(random, 40)).encode()
    count = pick(random, (60, random.randint(0, 3)), (2, MAX_QUERY), (2, MAX_QUERY + 1), (1, 3000))
    names = map(str, range(count)) if chance(random, 0.5) else [random.choice(NAMES) for _ in range(count)]
    return _damaged(random, "&".join(f"{name}={random.choice(TEXTS)}" for name in names).encode("latin-1", "replace"))


def _damaged(random: Random, value: bytes) -> bytes:
    return mutate(random, value, WORDS) if chance(random, 0.3) else value


def check(made: Value) -> str:
    """Read *made* in both ways and compare: "accepted", or the class of the refusal."""
    able = ABLE[len(made.value) % len(ABLE)]
    match made.name:
        case "accept":
            return _check_accept(made.value, able)
        case "content-type":
            return _check_type(made.value, able)
        case "query":
            return _check_query(made.value)
        case _:
            return _check_headers(made.pairs)


def _pairs(random: Random) -> tuple[tuple[bytes, bytes], ...]:
    number = b"%d" % random.choice(SIZES)
    zeros = b"0" * 5000 + b"7"
    length = pick(random, (9, b"100"), (4, number), (1, zeros), (1, b"9" * 5000), (1, octets(random, 5)), (1, b"1,1"))
    timeout = pick(
        random, (9, b"100"), (2, number), (1, b"0100"), (1, octets(random, 5)), (1, b"9" * 5000), (1, b"1e3")
    )
    pairs = [(b"x-request-id", random.choice((b"a-1", octets(random, 9))))]
    pairs += [(b"content-length", length)] if chance(random, 0.9) else [(b"transfer-encoding", b"chunked")]
    pairs += [(b"x-request-timeout-ms", timeout)] if chance(random, 0.5) else []
    count = pick(random, (6, random.randint(0, 9)), (1, 400))
    pairs += [(b"x-%d" % random.randrange(5), octets(random, 9)) for _ in range(count)]
    if chance(random, 0.05):
        pairs.append((b"x", b"y" * random.choice((MAX_HEADER_BYTES, 60_000))))
    if chance(random, 0.05):
        pairs += pairs
    random.shuffle(pairs)
    return tuple(pairs)


def _check_accept(accept: bytes, able: tuple[str, ...]) -> str:
    qualities = [_quality(accept.decode("latin-1"), one) for one in able]
    try:
        chosen = media.of_reply(accept, able)
    except NotAcceptable as error:
        assert not any(qualities), qualities
        return check_refusal(error)
    assert qualities.index(max(qualities)) == able.index(chosen)
    assert max(qualities) > 0
    return "accepted"


def _quality(accept: str, one: str) -> float:
    """The quality of one media type: by the last of the most specific ranges that can be read; without a header 1."""
    if not accept:
        return 1.0
    for name in (one, one.split("/", maxsplit=1)[0] + "/*", "*/*"):
        for part in reversed(accept.split(",")):
            if part.split(";")[0].strip().lower() != name:
                continue
            weights = re.findall(r"(?i)(?<=;)\s*q=([^;]*)", part)
            if all(re.fullmatch(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?", weight.rstrip()) for weight in weights):
                return float(weights[0]) if weights else 1.0
    return 0.0


def _check_type(content_type: bytes, able: tuple[str, ...]) -> str:
    found = re.fullmatch(r"(?s)\s*([^;]*?)\s*(;.*)?", content_type.decode("latin-1").lower())
    assert found is not None
    charsets = re.findall(r"(?<=;)\s*charset=([^;]*)", found[2] or "")
    good = (
        found[1] in able
        and len(charsets) < 2
        and all(text.rstrip().strip(' "') in ("utf-8", "utf8") for text in charsets)  # a no-break space is no blank
    )
    try:
        got = media.of_body(content_type, able)
    except UnsupportedMedia as error:
        assert not good
        assert content_type or media.JSON not in able
        return check_refusal(error)
    assert got == found[1] if content_type else got == media.JSON
    assert good or not content_type
    return "accepted"


def _check_query(query: bytes) -> str:
    fields: Fields = {"given": 1}
    try:
        add_query(fields, query)
    except ServiceError as error:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
        names = [name for name, _ in pairs]
        assert query.count(b"&") >= MAX_QUERY or len({*names, "given"}) <= len(names)
        return check_refusal(error)
    assert len(fields) - 1 == len(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    for value in fields.values():
        assert isinstance(value, (str, int, float, bool, type(None)))
        assert not isinstance(value, float) or math.isfinite(value)
    return "accepted"


def _check_headers(pairs: tuple[tuple[bytes, bytes], ...]) -> str:
    found = Headers({"headers": list(pairs), "query_string": b""})
    for name in {name for name, _ in pairs}:
        assert found.get(name) == b",".join(value for other, value in pairs if other == name).strip(b" \t")
    assert found.request_id == b"" or re.fullmatch(rb"[A-Za-z0-9._:-]{1,128}", found.request_id)
    try:
        assert 0 < found.timeout_s(30.0) <= 30.0
        found.check(LIMIT)
    except ServiceError as error:
        return check_refusal(error)
    length = found.get(b"content-length")
    assert re.fullmatch(rb"[0-9]+", length) or found.get(b"transfer-encoding")
    assert not length.isdigit() or len(length.lstrip(b"0")) <= len(str(LIMIT))
    return "accepted"


def _some(random: Random, texts: tuple[str, ...]) -> str:
    return "".join(random.choice((";", "; ", " ;")) + random.choice(texts) for _ in range(random.choice((0, 1, 1, 2))))
