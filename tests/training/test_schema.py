"""Schemas as text: what is written is read again, and what is edited wrongly is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.inputs import Column
from training.cells import MISSING
from training.errors import DataError
from training.schema import Schema, read, written

COLUMN = '[[column]]\nname = "a"\n'

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
words = names.map(str.strip).filter(lambda word: word and word.lower() not in MISSING)


@st.composite
def columns(draw: st.DrawFn, name: str) -> Column:
    """Any column that a schema can have."""
    kind = draw(st.sampled_from(["numeric", "integer", "categorical", "ordinal", "binary", "count"]))
    sizes = {"categorical": (1, 4), "ordinal": (1, 4), "binary": (2, 2)}.get(kind)
    vocabulary = None
    if sizes and (kind != "binary" or draw(st.booleans())):
        vocabulary = tuple(draw(st.lists(words, min_size=sizes[0], max_size=sizes[1], unique=True)))
    return Column.model_validate(
        {
            "name": name,
            "kind": kind,
            "unit": draw(st.none() | names),
            "vocabulary": vocabulary,
            "unknown": draw(st.sampled_from(["other", "reject"])) if kind == "categorical" else "reject",
            "missing": draw(st.booleans()),
            "time": draw(st.sampled_from([None, "epoch", "iso8601"])) if kind == "numeric" else None,
        }
    )


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    """Any schema."""
    found = draw(st.lists(names, min_size=1, max_size=5, unique=True))
    used = draw(st.integers(1, len(found)))
    label = draw(st.none() | names.filter(lambda name: name not in found))
    return Schema(tuple(draw(columns(name)) for name in found[:used]), tuple(found[used:]), label, source="schema.toml")


@given(schema=schemas(), note=names)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_what_is_written_is_read_again(tmp_path: Path, schema: Schema, note: str) -> None:
    """Whatever the names, the words and the notes."""
    path = tmp_path / "schema.toml"
    path.write_text(written(schema, "rows.csv", dict.fromkeys([c.name for c in schema.columns], note)), "utf-8")
    assert read(path) == schema


def test_a_schema_is_text_to_be_read_by_people() -> None:
    """One paragraph a column, with what was seen of it."""
    schema = Schema(
        (
            Column(name="speed", unit="rpm"),
            Column(name="site", kind="categorical", vocabulary=("north", "south"), unknown="other", missing=True),
        ),
        ("id",),
        "broken",
    )
    text = written(schema, "rows.csv", {"speed": "0 to 9", "id": "50 different texts"})
    assert text.split("leaves the column out\n")[1] == (
        '\nmissing = ["", "na", "n/a", "null", "none", "nan", "?"]\nlabel = "broken"\n'
        '\n[[column]]\nname = "speed"\n# 0 to 9\nkind = "numeric"\nunit = "rpm"\nmissing = false\n'
        '\n[[column]]\nname = "site"\nkind = "categorical"\nvocabulary = ["north", "south"]\nunknown = "other"\n'
        "missing = true\n"
        '\n[[column]]\nname = "id"\n# 50 different texts\nuse = false\n'
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "s.toml: no column is used"),
        ("a = = 1", "s.toml: not TOML: Invalid value (at line 1, column 5)"),
        ("columns = 1", "s.toml: 'columns' is none of missing, label and [[column]]"),
        ("missing = 3", "s.toml: missing must be a list of texts"),
        ("label = 3", "s.toml: label must be the name of a column"),
        ("column = 3", "s.toml: columns are written under [[column]], each in one of its own"),
        ('[[column]]\nkind = "count"', "s.toml: line 1: the column has no name"),
        (COLUMN + "use = false", "s.toml: no column is used"),
        (COLUMN + COLUMN, "s.toml: line 3, column 'a': is there twice"),
        (
            'label = "a"\n' + COLUMN,
            "s.toml: line 2, column 'a': is the label, and cannot be learned from: take it out here, or out of label",
        ),
        (
            COLUMN + "kin = 3",
            "s.toml: line 1, column 'a': 'kin' is none of name, use, kind, unit, vocabulary, unknown, missing, time",
        ),
        (COLUMN + "missing = 1", "s.toml: line 1, column 'a': missing must be true or false"),
        (COLUMN + "kind = 1", "s.toml: line 1, column 'a': kind must be a text"),
        (
            COLUMN + 'kind = "number"',
            "s.toml: line 1, column 'a': kind 'number' is none of "
            "numeric, integer, categorical, ordinal, binary, count",
        ),
        (COLUMN + 'time = "unix"', "s.toml: line 1, column 'a': time 'unix' is none of epoch, iso8601"),
        (COLUMN + 'unknown = "x"', "s.toml: line 1, column 'a': unknown 'x' is none of other, reject"),
        (COLUMN + 'kind = "ordinal"', "s.toml: line 1, column 'a': ordinal, so it needs a vocabulary"),
        (COLUMN + 'vocabulary = ["x"]', "s.toml: line 1, column 'a': numeric, so it has no vocabulary"),
        (
            COLUMN + 'kind = "binary"\nvocabulary = ["x"]',
            "s.toml: line 1, column 'a': binary, so its vocabulary has two texts; it has 1",
        ),
        (
            COLUMN + 'kind = "count"\ntime = "epoch"',
            "s.toml: line 1, column 'a': count, so it has no time: an instant is numeric",
        ),
        (
            COLUMN + 'kind = "ordinal"\nvocabulary = ["x"]\nunknown = "other"',
            "s.toml: line 1, column 'a': ordinal, so unknown cannot be \"other\"",
        ),
        (
            COLUMN + 'kind = "categorical"\nvocabulary = ["x", "x"]',
            "s.toml: line 1, column 'a': the vocabulary has 'x' twice",
        ),
        (
            COLUMN + 'kind = "categorical"\nvocabulary = [1]',
            "s.toml: line 1, column 'a': the vocabulary has 1, which is not a text without space around it",
        ),
        (
            COLUMN + 'kind = "categorical"\nvocabulary = ["x", "NA"]',
            "s.toml: line 1, column 'a': the vocabulary has 'NA', which is a word for a missing value",
        ),
    ],
)
def test_what_is_wrong_in_a_schema_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    """The message is enough to mend it."""
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(DataError) as refused:
        read(tmp_path / "s.toml")
    assert str(refused.value) == message
