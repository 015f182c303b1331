"""Long JSON in slices: the same answers as at once, and others get their turn between two slices."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.codec import json, slices
from service.codec.fields import Fields, read_rows, read_rows_flagged
from service.codec.records import Records
from service.codec.rows import RowSpec
from service.errors import DeadlineExceeded, InvalidInput, ServiceError, TooLarge
from service.turns import Turns
from tests.fuzz.record_bodies import SPEC as RECORDS

Result = TypeVar("Result")
TABLE = RowSpec("inputs", (3,), np.dtype(np.float64))
IMAGE = RowSpec("inputs", (2, 2), np.dtype(np.float32))
LATENT = RowSpec("latents", (2,), np.dtype(np.float32))
MOST = 9


def drain(work: Generator[None, None, Result]) -> tuple[Result, int]:
    """What *work* returns, and how often it gave way."""
    yields = 0
    while True:
        try:
            next(work)
        except StopIteration as done:
            return done.value, yields
        yields += 1


def outcome(fields: Fields, spec: RowSpec) -> tuple[bytes, str]:
    """The rows and the options of a body, or how it is refused."""
    try:
        x = read_rows(fields, spec, MOST)
    except ServiceError as error:
        return b"", f"{error.type} {error.detail}"
    return x.tobytes(), repr(fields)


def at_once(body: bytes, spec: RowSpec) -> tuple[bytes, str]:
    """As json.py reads it."""
    try:
        fields = json.read_object(body, spec, LATENT, most=MOST)
    except ServiceError as error:
        return b"", f"{error.type} {error.detail}"
    return outcome(fields, spec)


def in_slices(body: bytes, spec: RowSpec, step: int) -> tuple[bytes, str]:
    """As slices.py reads it."""
    try:
        fields, _ = drain(slices.read(body, spec, LATENT, most=MOST, step=step))
    except ServiceError as error:
        return b"", f"{error.type} {error.detail}"
    return outcome(fields, spec)


numbers = st.integers(-9, 9) | st.floats(-1e3, 1e3) | st.sampled_from([1e39, 1e300, 5e-324, -0.0])
table_rows = st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=0, max_size=12)
image_rows = st.lists(st.lists(st.lists(numbers, min_size=2, max_size=2), min_size=2, max_size=2), max_size=12)
options = st.dictionaries(
    st.sampled_from(["alpha", "inputs]", 'in"puts', "latents", "x"]),
    st.none() | st.booleans() | st.integers(0, 9) | st.sampled_from(["[", "]", "]]", '"inputs":[', '],"inputs":[', []]),
    max_size=3,
)
TOKENS = [
    b"[",
    b"]",
    b"]]",
    b",",
    b"{",
    b"}",
    b'"',
    b"\\",
    b" ",
    b"\n",
    b"null",
    b"true",
    b"1",
    b"-",
    b".",
    b"e9",
    b'"inputs":[',
]


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, RowSpec]:
    """A body with rows and options in any order and layout, as it is or damaged in up to three places."""
    spec, rows = draw(st.sampled_from([(TABLE, table_rows), (IMAGE, image_rows)]))
    members = [*draw(options).items(), ("inputs", draw(rows))]
    value: Any = dict(draw(st.permutations(members)))
    body = orjson.dumps(value, option=draw(st.sampled_from([0, orjson.OPT_INDENT_2])))
    if draw(st.booleans()):
        body = body.replace(b",", b" ,\n ")
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(body)))
        cut = draw(st.integers(0, 6))
        body = body[:at] + draw(st.sampled_from([b"", *TOKENS])) + body[at + cut :]
    return body, spec


@settings(max_examples=2000, deadline=None)
@given(made=bodies(), step=st.integers(0, 40))
@example(made=(b'{"inputs":[[1,2,3],"inputs":[[4,5,6]]}', TABLE), step=0)
@example(made=(b'{"inputs":[[1,2,3]],"inputs":[[4,5,6]]}', TABLE), step=0)
@example(made=(b'{"inputs":[[1,2,3],]}', TABLE), step=0)
@example(made=(b'{"inputs":[[1,2,3] [1,2,3]]}', TABLE), step=0)
@example(made=(b'{"a\\"inputs":[[1,2,3],[1,2,3]]}', TABLE), step=0)
@example(made=(b'{"o":{"inputs":[[1,2,3],[1,2,3]]}}', TABLE), step=0)
@example(made=(b'{"inputs":[[1,2,3]],"x":[[4,5,6]]}', TABLE), step=0)
def test_a_body_in_slices_is_what_it_is_at_once(made: tuple[bytes, RowSpec], step: int) -> None:
    """The same rows to the bit, the same options, the same words where it is refused."""
    body, spec = made
    assert in_slices(body, spec, step) == at_once(body, spec)


@pytest.mark.parametrize(("spec", "indent"), [(TABLE, 0), (TABLE, orjson.OPT_INDENT_2), (IMAGE, 0)])
def test_rows_come_in_slices_wherever_the_options_stand(spec: RowSpec, indent: int) -> None:
    """Or the event loop would be busy with all of them at once."""
    x = np.arange(8 * spec.shape[0] * (spec.shape[-1] if len(spec.shape) > 1 else 1)).reshape(8, *spec.shape)
    for fields in ({"inputs": x.tolist(), "alpha": 0.5}, {"alpha": 0.5, "inputs": x.tolist()}):
        read, yields = drain(slices.read(orjson.dumps(fields, option=indent), spec, LATENT, most=MOST, step=1))
        assert yields >= 3
        assert np.array_equal(read["inputs"], x)
        assert read["inputs"].dtype == spec.dtype
        assert read["alpha"] == 0.5


def records_body(rows: int, **options: Any) -> tuple[bytes, list[dict[str, Any]]]:
    """Good records of the fuzz grammar's columns, with texts that look like the ends of records."""
    record = {"site": "a},{b", "grade": "1", "mode": "on", 'a "[name], so': True, "seen": "2026-01-31"}
    records = [{**record, "speed": row / 3} for row in range(rows)]
    return orjson.dumps({**options, "records": records}), records


@pytest.mark.parametrize("blank", [b"\x0b", b"\x0c", b"\xa0", b"\0"])
@pytest.mark.parametrize("rows", [b"[1, 2]%b, [3, 4]", b"[1, 2],%b [3, 4]"])
def test_what_is_no_blank_in_json_is_none_between_two_rows(rows: bytes, blank: bytes) -> None:
    """The bytes between two slices are read by nobody else."""
    body = b'{"latents": [%b]}' % (rows % blank)
    refused = at_once(body, LATENT)
    assert refused[1].startswith("malformed-body")
    assert in_slices(body, LATENT, 1) == refused


@pytest.mark.parametrize("options", [{}, {"alpha": 0.5, "kind": "a]}"}])
def test_records_come_in_slices_wherever_they_can_be_cut(options: dict[str, Any]) -> None:
    """As rows of numbers already; a text with the end of a record in it is no reason to be wrong."""
    body, records = records_body(8, **options)
    for text, least in ((body, 0), (body.replace(b"},{b", b"; b"), 5)):
        read, yields = drain(slices.read(text, RECORDS, LATENT, most=MOST, step=1))
        assert yields >= least
        fields = {name: value for name, value in read.items() if name in options}
        assert fields == options
        rows = read_rows(read, RECORDS, MOST)
        assert rows[:, 0].tolist() == [record["speed"] for record in records]
        assert np.isnan(rows[:, 5]).all()


def test_a_bad_record_in_a_slice_is_told_by_its_row_in_the_body() -> None:
    """And the good ones are kept, where it is only to be flagged: the body is not read again."""
    body, _ = records_body(8)
    bad = body.replace(b"},{b", b"; b").replace(b'"speed":2.0', b'"speed":"x"')
    read, yields = drain(slices.read(bad, RECORDS, LATENT, most=MOST, step=1))
    assert yields >= 5
    with pytest.raises(InvalidInput, match="records: row 6, column 'speed', must be a number; it is 'x'"):
        read_rows(dict(read), RECORDS, MOST)
    x, reasons = read_rows_flagged(dict(read), RECORDS, MOST)
    assert list(reasons) == [6]
    assert len(x) == 7


def test_more_records_than_a_request_may_have_are_not_kept_while_they_are_counted() -> None:
    """A body of a million empty objects would else become a million rows."""
    body = b'{"records":[' + b"{}," * 300_000 + b"{}]}"
    with pytest.raises(TooLarge, match="one request may have"):
        drain(slices.read(body, RECORDS, LATENT, most=MOST))
    body, _ = records_body(MOST + 1)
    with pytest.raises(TooLarge, match=f"records has {MOST + 1} rows"):
        drain(slices.read(body.replace(b"},{b", b"; b"), RECORDS, LATENT, most=MOST, step=1))
    body, _ = records_body(1000)
    reading = slices.read(body.replace(b"},{b", b"; b"), RECORDS, LATENT, most=MOST, step=1)
    with pytest.raises(TooLarge):
        list(islice(reading, MOST + 2))  # of a thousand


def test_numbers_with_null_come_in_slices_too() -> None:
    """Where a value may be missing; each is an object before it is a number."""
    x = np.arange(8.0 * 7).reshape(8, 7)
    x[::3, 0] = np.nan
    body = orjson.dumps({"inputs": x, "alpha": 0.5}, option=orjson.OPT_SERIALIZE_NUMPY)
    assert body.count(b"null") == 3
    read, yields = drain(slices.read(body, RECORDS, LATENT, most=MOST, step=1))
    assert yields >= 5
    assert np.array_equal(read["inputs"], x, equal_nan=True)
    assert outcome(read, RECORDS) == at_once(body, RECORDS)
    for wrong in (body.replace(b"null,", b"true,", 1), body.replace(b"16.0", b"null")):
        assert in_slices(wrong, RECORDS, 1) == at_once(wrong, RECORDS)
        assert not in_slices(wrong, RECORDS, 1)[0]


def test_what_is_long_is_less_where_each_value_is_an_object_first() -> None:
    """Of records, and where there may be null."""
    text = b" " * (slices.LONG_LISTS + 1)
    assert slices.is_long_body(b'{"records": [' + text, TABLE)
    assert slices.is_long_body(b'{"inputs": [' + text, RECORDS)
    assert not slices.is_long_body(b'{"inputs": [' + text, TABLE)
    assert slices.is_long_body(b'{"inputs": [' + text * (slices.LONG // slices.LONG_LISTS), TABLE)


def test_a_long_reply_in_slices_is_the_reply_at_once() -> None:
    """Arrays of several axes, masked ones, tables with absent rows, and what is short."""
    rng = np.random.default_rng(0)
    rows = 3000
    absent = np.where(rng.random((rows, 4)) < 0.1, np.nan, 1.0)
    reply: Fields = {
        "model": {"name": "m"},
        "outputs": rng.random((rows, 10, 12), np.float32),
        "scores": np.where(rng.random(rows) < 0.1, np.nan, rng.random(rows)),
        "is_anomaly": np.ma.MaskedArray(rng.random(rows) < 0.5, rng.random(rows) < 0.1),
        "explanations": Records(
            {
                "feature": rng.choice(["a", "b"], (rows, 4)),
                "nats": rng.random((rows, 4)),
                "lower": rng.random((rows, 4)),
                "upper": rng.random((rows, 4)),
            },
            frozenset({0, 7, rows - 1}),
            {"interval": ("lower", "upper")},
        ),
        "short": Records(
            {"nats": rng.random((rows, 4)), "lower": absent, "upper": absent},
            lists={"interval": ("lower", "upper")},
            shown={"nats": rng.choice(["a", "b"], (rows, 4)).astype(object)},
            counts=rng.integers(0, 5, rows),
        ),
        "reason": None,
    }
    assert slices.is_long(reply)
    written, yields = drain(slices.write(reply))
    assert written == json.write_object(reply)
    assert yields > 20
    assert not slices.is_long({"outputs": np.zeros((2, 3)), "reason": "x"})


def test_others_get_their_turn_between_two_steps_and_long_work_waits_for_long_work() -> None:
    """One at a time, first come, first served; errors and results come back."""
    order: list[str] = []

    def work(name: str) -> Generator[None, None, str]:
        for step in range(3):
            order.append(f"{name}{step}")
            yield
        return name

    def wrong() -> Generator[None, None, str]:
        yield
        raise ValueError("wrong")

    async def short() -> None:
        for _ in range(3):
            order.append("short")
            await asyncio.sleep(0)

    async def test() -> None:
        turns, deadline = Turns(), asyncio.get_running_loop().time() + 10
        first, second, bad = (asyncio.create_task(turns.take(w, deadline)) for w in (work("a"), work("b"), wrong()))
        other = asyncio.create_task(short())
        assert (await first, await second) == ("a", "b")
        with pytest.raises(ValueError, match="wrong"):
            await bad
        await other
        assert await turns.take(work("c"), deadline) == "c"

    asyncio.run(test())
    assert [step for step in order if step != "short"] == [f"{name}{step}" for name in "abc" for step in range(3)]
    assert order[1] == "short"


def test_work_that_does_not_get_its_turn_before_the_deadline_is_told_so() -> None:
    """And whoever comes next gets the turn."""

    def endless() -> Generator[None, None, None]:
        while True:
            yield

    async def test() -> None:
        turns, now = Turns(), asyncio.get_running_loop().time()
        working, waiting = (asyncio.create_task(turns.take(endless(), now + t)) for t in (0.2, 0.1))
        for task in (waiting, working):
            with pytest.raises(DeadlineExceeded):
                await task
        assert (await turns.take(slices.write({"a": 1}), now + 10)) == b'{"a":1}'

    asyncio.run(test())
