"""What a column is taken for, by its values alone; and what nobody can say for its owner."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.inputs import Column
from tests.training.tables import csv_file
from training.cells import Reading
from training.errors import DataError
from training.infer import Guess, Levels, guess_schema, looks_like_label

GENERATOR = np.random.default_rng(0)
COUNTS = GENERATOR.poisson(3, 200).tolist()
MARKS = GENERATOR.integers(0, 6, 200).tolist()
ALIKE = [0, 5] + [2] * 100 + [1, 3] * 20


def guess(folder: Path, values: list[object], name: str = "a", levels: Levels | None = None) -> Guess:
    """What the column of *values* is taken for, beside another one."""
    text = "".join(f"{'' if value is None else value},{i % 7}.5\n" for i, value in enumerate(values))
    return guess_schema(csv_file(folder, f"{name},b\n{text}"), Reading(), None, levels)


@pytest.mark.parametrize(
    ("values", "column", "note"),
    [
        ([1.5, 2.25, -3], Column(name="a"), "-3 to 2.25"),
        ([1, 2, None, 3], Column(name="a", missing=True), "whole numbers, 1 to 3; 1 of 4 values missing"),
        ([7, 7, 7], Column(name="a"), "constant: always 7"),
        ([0, 1, 1, 0], Column(name="a", kind="binary"), "0 and 1"),
        ([2, 1, 1, 2], Column(name="a", kind="binary", vocabulary=("1", "2")), "1 and 2"),
        ([0.5, 1, 0.5], Column(name="a"), "0.5 to 1"),
        (
            ["True", "false", None],
            Column(name="a", kind="binary", missing=True),
            "true and false; 1 of 3 values missing",
        ),
        (
            ["yes", "no", "no"],
            Column(name="a", kind="binary", vocabulary=("no", "yes")),
            "2 categories: 'no' 2, 'yes' 1",
        ),
        (
            ["n", "s", "w"] * 5,
            Column(name="a", kind="categorical", vocabulary=("n", "s", "w")),
            "3 categories: 'n' 5, 's' 5, 'w' 5",
        ),
        (
            ["n", "s"] * 5 + ["x", "y"],
            Column(name="a", kind="categorical", vocabulary=("n", "s"), unknown="other"),
            "2 categories: 'n' 5, 's' 5; 2 rare ones together are another one",
        ),
        (["n"] * 3, Column(name="a", kind="categorical", vocabulary=("n",)), "constant: always 'n'"),
        (COUNTS, Column(name="a", kind="count"), f"counts up to {max(COUNTS)}, mean {np.mean(COUNTS):.3g}"),
        (MARKS, Column(name="a"), "whole numbers, 0 to 5"),
        (ALIKE, Column(name="a"), "whole numbers, 0 to 5"),
        (["2026-01-31", "2026-02-01T10:00:00+02:00"], Column(name="a", time="iso8601"), "dates, 2026-01-31 to "),
        (["2026-01-31", None], Column(name="a", time="iso8601", missing=True), "dates, 2026-01-31 to 2026-01-31; 1 of"),
        ([1_700_000_000, 1_700_000_060, 1_700_003_600], Column(name="a"), "whole numbers, 1700000000 to 1700003600"),
    ],
)
def test_a_column_is_taken_for_what_its_values_look_like(
    tmp_path: Path, values: list[object], column: Column, note: str
) -> None:
    """Nothing is ordinal: texts do not tell that they have an order."""
    found = guess(tmp_path, values)
    assert found.problems == ()
    assert found.schema.columns[0] == column
    assert found.notes["a"].startswith(note)


@pytest.mark.parametrize("name", ["time", "Timestamp", "event_ts", "created_at", "start date"])
def test_whole_seconds_since_1970_under_the_name_of_a_time_are_instants(tmp_path: Path, name: str) -> None:
    """The number stays what it is; clients may send ISO 8601 text as well."""
    values: list[object] = [1_700_000_000, 1_700_000_060, 1_700_003_600]
    assert guess(tmp_path, values, name).schema.columns[0] == Column(name=name, time="epoch")
    assert guess(tmp_path, [1.5, *values], name).schema.columns[0].time is None


@pytest.mark.parametrize("name", ["seats", "update", "data", "runtime_s"])
def test_a_name_that_only_holds_the_letters_of_time_is_none(tmp_path: Path, name: str) -> None:
    """Nor are numbers of other sizes."""
    values: list[object] = [1_700_000_000, 1_700_000_060, 1_700_003_600]
    assert guess(tmp_path, values, name).schema.columns[0].time is None
    assert guess(tmp_path, [1, 2, 5], "time").schema.columns[0].time is None


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([f"id-{i}" for i in range(50)], "50 different texts in 50 rows, most of them in fewer than 5: an identifier"),
        (list(range(30)), "0 to 29 by ones: it numbers the rows"),
        ([f"w{i // 5}" for i in range(50)], "10 categories, more than --max-levels 8"),
    ],
)
def test_identifiers_are_left_out_and_said_so(tmp_path: Path, values: list[object], why: str) -> None:
    """They would be learned by heart."""
    found = guess(tmp_path, values, levels=Levels(most=8))
    assert found.schema.ignored == ("a",)
    assert found.left_out["a"].startswith(why)
    assert found.lines()[0].startswith(f"a: left out: {why}")


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (
            [1, 2, "x"],
            "rows.csv: line 4, column 'a': 'x' is not a number, and 2 of 3 values are: mend it, make it a word for a "
            "missing value with --missing, or say in a schema what the column is",
        ),
        ([None, None], "rows.csv: column 'a': every value is missing: leave it out with use = false in a schema"),
        ([1, "inf"], "rows.csv: line 3, column 'a': 'inf' is not a finite number"),
        (['"1,5"', '"2,5"', 3], "rows.csv: line 2, column 'a': '1,5' has a decimal comma: --decimal comma reads it"),
    ],
)
def test_what_is_not_clear_is_a_problem_with_its_line(tmp_path: Path, values: list[object], problem: str) -> None:
    """A slip of the keyboard must not make a category of a number."""
    found = guess(tmp_path, values)
    assert found.problems == (problem,)
    assert found.schema.ignored == ("a",)


def test_a_column_that_turns_to_texts_late_is_seen_whole(tmp_path: Path) -> None:
    """Its first blocks were numbers, and are levels like the others."""
    rows = ["1", "2"] * 200_000 + ["x", "y"] * 300_000
    found = guess_schema(csv_file(tmp_path, "a,b\n" + "".join(f"{row},{'0' * 20}.5\n" for row in rows)), Reading())
    assert found.schema.columns[0].vocabulary == ("1", "2", "x", "y")
    assert found.notes["a"] == "4 categories: '1' 200,000, '2' 200,000, 'x' 300,000, 'y' 300,000"


def test_the_label_is_no_column(tmp_path: Path) -> None:
    """And must be there."""
    file = csv_file(tmp_path, "a,y\n1.5,0\n2.5,1\n")
    found = guess_schema(file, Reading(), "y")
    assert ([column.name for column in found.schema.columns], found.schema.label) == (["a"], "y")
    with pytest.raises(DataError, match=r"rows.csv: no column 'z', which is to be the label"):
        guess_schema(file, Reading(), "z")


def test_a_table_of_nothing_but_identifiers_is_refused(tmp_path: Path) -> None:
    """There is nothing to learn."""
    text = "".join(f"id-{i}\n" for i in range(50))
    with pytest.raises(DataError, match=r"rows.csv: every column is left out: 'a', for one, holds 50 different texts"):
        guess_schema(csv_file(tmp_path, f"a\n{text}"), Reading())


@pytest.mark.parametrize(
    ("name", "like"),
    [
        *((name, True) for name in ("y", "Class", "is_anomaly", "isOutlier", "Machine failure", "label_2")),
        *((name, False) for name in ("yield", "ay", "classified", "labelled", "running", "defaulted")),
    ],
)
def test_a_flag_called_like_a_label_looks_like_one(tmp_path: Path, name: str, like: bool) -> None:
    """By its name, where it is 0 or 1; of other values, or where the word only begins another one, it is a feature."""
    flags, others = guess(tmp_path, [0, 1, 1, 0], name), guess(tmp_path, [0.5, 1, 2, 0], name)
    assert [looks_like_label(column) for column in flags.schema.columns] == [like, False]
    assert not any(looks_like_label(column) for column in others.schema.columns)
