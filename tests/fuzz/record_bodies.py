"""
Bodies of records, right and wrong, and a slow reader of them: one value at a time, from the columns' descriptions.

The judge takes the same bytes by the pydantic model that OpenAPI shows, then each value as the words of its column say.
It shares no line with `codec/table.py`. The two agree on every body, in one piece and in slices, and row by row where
bad rows are flagged.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from random import Random
from typing import Any, NamedTuple

import numpy as np
from pydantic import ValidationError

from service import messages
from service.codec.fields import read_rows_flagged
from service.codec.rows import RowSpec
from service.codec.table import Table
from service.inputs import Column
from tests.fuzz import json_bodies
from tests.fuzz.json_bodies import NAMES, ODDITIES, SCORE, WORDS
from tests.fuzz.mutations import NUMBERS, chance, mutate, pick
from tests.fuzz.operation import MOST, Operation, Outcome

COLUMNS = (
    Column(name="speed", missing=True),
    Column(name="site", kind="categorical", vocabulary=("north", "a},{b", "", "7"), unknown="other", missing=True),
    Column(name="grade", kind="ordinal", vocabulary=("1", "2", "x\\y"), missing=False),
    Column(name='a "[name], so', kind="binary", missing=True),
    Column(name="mode", kind="binary", vocabulary=("off", "on")),
    Column(name="starts", kind="count", missing=True),
    Column(name="seen", time="iso8601", missing=True),
)
C = len(COLUMNS)
SPEC = RowSpec(
    "inputs",
    (C,),
    np.dtype(np.float64),
    names=tuple(column.name for column in COLUMNS),
    table=Table(COLUMNS),
    missing=tuple(column.missing for column in COLUMNS),
)
OPERATION = Operation(SPEC, messages.AnomalyScoreRequest, messages.AnomalyScoreOptions, SCORE)
GOOD: dict[str, tuple[str, ...]] = {
    "speed": ("0", "-1.5", "1e300", "9007199254740993"),
    "site": ('"north"', '"a},{b"', '""', '"7"', "7", '"nowhere"', '"\\u006eorth"', "12"),
    "grade": ('"1"', '"2"', "1", "2", '"x\\\\y"'),
    'a "[name], so': ("0", "1", "true", "false", "1.0", "0e0"),
    "mode": ('"off"', '"on"'),
    "starts": ("0", "3", "1e3", "12.0", "16777216"),
    "seen": ('"2026-01-31"', '"2026-01-31T12:00:00Z"', '"2026-01-31 12:00:00.25-05:30"', "0", "1.8e9", "-1"),
}
"""Good values by column."""
TEXTS = (
    '"north"',
    '"North"',
    '"off"',
    '"2026-02-30"',
    '"24:00"',
    '"2026-01-31T12"',
    '"20260131T120000Z"',
    '"1"',
    '"x"',
)
_ZEROS = str([0] * C)
_PLAIN = tuple(
    f"[{rows}]" for rows in (_ZEROS, f"{_ZEROS}, null", f"[null{_ZEROS[2:]}, {_ZEROS}", f"{_ZEROS[:-2]}null]")
)
"""Rows of numbers, with null where it may be and where it may not."""


class Body(NamedTuple):
    """The bytes of one request to anomaly-score."""

    body: bytes


def make(random: Random) -> Body:
    """A request: right, or wrong in a few places."""
    records = [_record(random) for _ in range(random.choice((1, 1, 2, 3, MOST, MOST + 1)))]
    wrong = pick(random, (8, ""), (4, "value"), (1, "record"), (1, "option"), (1, "both"), (1, "double"), (1, "damage"))
    texts = [_text(random, record) for record in records]
    if wrong == "value":
        for _ in range(random.randint(1, 2)):
            at, name = random.randrange(len(records)), random.choice(COLUMNS).name
            value = random.choice((*ODDITIES, *NUMBERS, *TEXTS, *random.choice(list(GOOD.values()))))
            texts[at] = _text(random, [(key, value if key == name else old) for key, old in records[at]])
    elif wrong == "record":
        texts[random.randrange(len(texts))] = random.choice((*ODDITIES, "{}", '{"speed": 1}', '{"speeed": 1}'))
    elif wrong == "double":
        at = random.randrange(len(records))
        texts[at] = _text(random, [*records[at], random.choice(records[at] or [("speed", "1")])])
    members = [("records", "[" + ", ".join(texts) + "]")]
    members += [(name, random.choice(values)) for name, values in SCORE.items() if chance(random, 0.15)]
    if wrong == "option":
        members.append((random.choice(NAMES), random.choice(ODDITIES)))
    elif wrong == "both":
        members.append(("inputs", random.choice(("null", "[]", *_PLAIN))))
        members = members if chance(random, 0.4) else members[1:]
    random.shuffle(members)
    space = random.choice(("", " ", "\n\t"))
    body = ("{" + f",{space}".join(f'"{name}":{space}{value}' for name, value in members) + "}").encode()
    return Body(mutate(random, body, WORDS) if wrong == "damage" else body)


def check(made: Body) -> str:
    """Read *made* in every way and compare: "accepted", or the class of the refusal."""
    outcome, found = OPERATION.read(made.body)
    _, sliced = OPERATION.read(made.body, sliced=True)
    expected, bad = documented(made.body)
    for other, told in ((sliced, "in slices"), (expected, "by the documented model")):
        assert (found is None) == (other is None), f"{outcome}, but {told} {'refused' if other is None else 'accepted'}"
        if found is not None and other is not None:
            assert found[0].shape == other[0].shape
            assert np.array_equal(found[0], other[0], equal_nan=True), told
            assert found[1] == other[1], told
    _check_flagged(made.body, bad)
    return outcome


def documented(body: bytes) -> tuple[Outcome | None, set[int] | None]:
    """
    By the model that OpenAPI shows, then each value by its column.

    The rows and the options, None where it is refused; and which rows are bad, None where more is wrong than rows.
    """
    try:
        request = messages.AnomalyScoreRequest.model_validate_json(body)
    except ValidationError:
        return None, None
    if json_bodies.twice(body) or OPERATION.is_beyond(body):
        return None, None
    given = request.records if request.records is not None else request.inputs
    if given is None or len(given) > MOST:
        return None, None
    rows = np.zeros((len(given), C))
    bad = set()
    for at, row in enumerate(given):
        numbers = _numbers(row) if isinstance(row, dict) else _plain(row)
        if numbers is None:
            bad.add(at)
        else:
            rows[at] = numbers
    options = request.model_dump(exclude={"inputs", "records", "series"})
    return (None if bad else (rows, options)), bad


def _plain(row: Any) -> list[float] | None:
    """A row of numbers, null where one is missing that may be."""
    if len(row) != C:
        return None
    numbers = []
    for column, value in zip(COLUMNS, row, strict=True):
        if isinstance(value, list) or (value is None and not column.missing):
            return None
        numbers.append(math.nan if value is None else float(value))
    return numbers


def _numbers(record: dict[str, Any]) -> list[float] | None:
    """A record as numbers; None where a value is none of its column's, or has no column."""
    numbers = []
    for column in COLUMNS:
        number = _number(column, record.pop(column.name, None))
        if number is None:
            return None
        numbers.append(number)
    return None if record else numbers


def _number(column: Column, value: Any) -> float | None:
    if value is None:
        return math.nan if column.missing else None
    if column.vocabulary is not None:
        return _category(column, value)
    if isinstance(value, str):
        return _instant(value) if column.time is not None else None
    wrong = isinstance(value, bool) and column.kind != "binary"
    wrong = wrong or not math.isfinite(value)
    wrong = wrong or (column.kind == "binary" and value not in (0, 1))
    wrong = wrong or (column.kind == "count" and (not 0 <= value <= 16777216 or value % 1 > 0))
    return None if wrong else float(value)


def _category(column: Column, value: Any) -> float | None:
    assert column.vocabulary is not None
    numbered = any(text.lstrip("-").isdigit() for text in column.vocabulary)
    if isinstance(value, bool) or not isinstance(value, (str, int, float) if numbered else str):
        return None
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    if text in column.vocabulary:
        return float(column.vocabulary.index(text))
    return float(len(column.vocabulary)) if column.unknown == "other" else None


def _instant(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if not text.isascii() or len(text) > 64:  # docs/records.md
        return None
    return (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment).timestamp()


def _record(random: Random) -> list[tuple[str, str]]:
    """The members of a good record, in any order, with some missing."""
    members = []
    for column in COLUMNS:
        missing = column.missing and chance(random, 0.2)
        if missing and chance(random, 0.5):
            continue
        members.append((column.name, "null" if missing else random.choice(GOOD[column.name])))
    if chance(random, 0.3):
        random.shuffle(members)
    return members


def _text(random: Random, members: list[tuple[str, str]]) -> str:
    space = random.choice(("", "", " ", "\n"))
    names = {name: name.replace('"', '\\"') for name, _ in members}
    return "{" + f",{space}".join(f'"{names[name]}":{space}{value}' for name, value in members) + "}"


def _check_flagged(body: bytes, bad: set[int] | None) -> None:
    """The bad rows are flagged where rows alone are bad, the others read; in slices as well."""
    if bad is None:
        return
    for sliced in (False, True):
        _, reasons = read_rows_flagged(OPERATION.fields(body, sliced), SPEC, MOST)
        alone = {row for row, reason in reasons.items() if "no value at all" not in reason}
        assert alone == bad, (alone, bad)
        assert all(len(reason) < 500 and reason.isprintable() for reason in reasons.values())
