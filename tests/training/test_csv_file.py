"""CSV files as people have them, by pyarrow and by Python's own reader, which must agree."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.training.tables import csv_file, numbers_of, texts_of
from training.cells import Reading
from training.errors import DataError

BOTH = pytest.mark.parametrize("by_arrow", [True, False], ids=["pyarrow", "python"])


@BOTH
@pytest.mark.parametrize(
    ("text", "names", "rows"),
    [
        ("a,b\n1,2\n3,4\n", ["a", "b"], [["1", "2"], ["3", "4"]]),
        ("a;b\n1;2\n", ["a", "b"], [["1", "2"]]),
        ("a\tb\n1\t2\n", ["a", "b"], [["1", "2"]]),
        ("a,b;c\n1,2\n", ["a", "b;c"], [["1", "2"]]),
        ('"a;b",c\n1,2\n', ["a;b", "c"], [["1", "2"]]),
        ("\ufeffa,b\n1,2\n", ["a", "b"], [["1", "2"]]),
        ('\ufeff"a",b\n1,2\n', ["a", "b"], [["1", "2"]]),
        ("a,b\r\n1,2\r\n", ["a", "b"], [["1", "2"]]),
        ("a,b\n1,2", ["a", "b"], [["1", "2"]]),
        ("a,b\n\n1,2\n\n\n3,4\n\n", ["a", "b"], [["1", "2"], ["3", "4"]]),
        ('a,b\n"x, y","say ""hi"""\n', ["a", "b"], [["x, y", 'say "hi"']]),
        ('a,b\n"two\nlines",2\n', ["a", "b"], [["two\nlines", "2"]]),
        ('"a\nb",c\n1,2\n', ["a\nb", "c"], [["1", "2"]]),
        ('a,b\n5" pipe,2\n', ["a", "b"], [['5" pipe', "2"]]),
        ('a,b\n"5"x,2\n', ["a", "b"], [["5x", "2"]]),
        (" a , b \n x , 2 \n", ["a", "b"], [["x", "2"]]),
        ("a,b\n,NA\nn/a,null\nNone,NaN\n?,x\n na ,\n", ["a", "b"], [[None, None]] * 3 + [[None, "x"], [None, None]]),
        ("a\n1\n2\n", ["a"], [["1"], ["2"]]),
        ("größe,温度\né,ß\n", ["größe", "温度"], [["é", "ß"]]),
    ],
)
def test_what_people_call_csv_is_read(
    tmp_path: Path, text: str, names: list[str], rows: list[list[str | None]], by_arrow: bool
) -> None:
    """Delimiters are seen in the header; quotes, blank lines, marks and spaces are what they are elsewhere."""
    file = csv_file(tmp_path, text, by_arrow=by_arrow)
    assert (file.names, texts_of(file), file.rows) == (names, rows, len(rows))


@BOTH
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n\n1,2,3\n", "rows.csv: line 4: 3 values; the header has 2 columns"),
        ("a,b\n1,2\n1\n", "rows.csv: line 3: 1 value; the header has 2 columns"),
        ("a,a\n1,2\n", "rows.csv: line 1: two columns are called 'a'"),
        ("a,\n1,2\n", "rows.csv: line 1: column 2 has no name"),
        ("1,2\n3,4\n", "rows.csv: line 1: only numbers; the first line must name the columns"),
        ("a,b\n", "rows.csv: no rows below the header"),
        ("a,b\n\n\n", "rows.csv: no rows below the header"),
        ("", "rows.csv: empty; the first line must name the columns"),
        ("\na,b\n1,2\n", "rows.csv: line 1 is blank; the first line must name the columns"),
        ('a,b\n1,2\n"3,4\n', "rows.csv: line 3: not CSV: unexpected end of data"),
        ('a,b\n1,2\n3,"4\n', "rows.csv: line 3: not CSV: unexpected end of data"),
        ("a,b\n1,2\n3,\udce9\n", "rows.csv: line 3: not UTF-8: invalid continuation byte"),
        ("a,\udce9\n1,2\n", "rows.csv: line 1: not UTF-8: invalid continuation byte"),
    ],
)
def test_what_is_not_csv_is_refused_with_its_line(tmp_path: Path, text: str, message: str, by_arrow: bool) -> None:
    """The message is enough to mend the file, whoever reads it."""
    with pytest.raises(DataError) as refused:
        texts_of(csv_file(tmp_path, text, by_arrow=by_arrow))
    assert str(refused.value) == message


@BOTH
@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1), ("-2.5e-3", -0.0025), ("+3", 3), (" 4 ", 4), ("1e308", 1e308), (".5", 0.5), ("5.", 5), ("inf", np.inf)],
)
def test_numbers_are_read_as_python_reads_them(tmp_path: Path, text: str, number: float, by_arrow: bool) -> None:
    """Signs, exponents and spaces included."""
    assert numbers_of(csv_file(tmp_path, f"a\n{text}\n", by_arrow=by_arrow)).tolist() == [[number]]


@BOTH
@pytest.mark.parametrize("text", ["1_000", "0x10", "1,5", "1 2", "one", "--1", "1e", "true"])
def test_what_is_no_number_is_a_text(tmp_path: Path, text: str, by_arrow: bool) -> None:
    """Not even where a programming language would read it."""
    file = csv_file(tmp_path, f'a\n"{text}"\n', Reading(delimiter=";"), by_arrow)
    [(_, block)] = file.blocks(["a"])
    assert block["a"].numbers() is None


@BOTH
def test_decimal_commas_are_read_when_they_are_announced(tmp_path: Path, by_arrow: bool) -> None:
    """Then a point is no decimal point: 1.500 may be a thousand and a half."""
    reading = Reading(decimal=",")
    assert numbers_of(csv_file(tmp_path, "a;b\n1,5;2\n-0,25;NA\n", reading, by_arrow)).tolist()[0] == [1.5, 2]
    [(_, block)] = csv_file(tmp_path, "a;b\n1.500;2\n", reading, by_arrow).blocks(["a"])
    assert block["a"].numbers() is None


@BOTH
def test_the_words_for_a_missing_value_are_ones_own(tmp_path: Path, by_arrow: bool) -> None:
    """In any case, with any space; others are then texts."""
    file = csv_file(
        tmp_path, "a,b\n-999,Unknown\n 1, unknown \n2,NA\n", Reading(missing=("", "-999", "UNKNOWN")), by_arrow
    )
    assert texts_of(file) == [[None, None], ["1", None], ["2", "NA"]]


@BOTH
def test_the_line_of_a_row_counts_blank_lines_and_those_within_quotes(tmp_path: Path, by_arrow: bool) -> None:
    """It is the line on which the row ends."""
    file = csv_file(tmp_path, 'a,b\n\n1,2\n\n"x\ny",4\n5,6\n', by_arrow=by_arrow)
    assert [file.where(row) for row in range(3)] == ["line 3", "line 6", "line 7"]


@BOTH
def test_more_rows_than_are_read_at_once_come_in_order(tmp_path: Path, by_arrow: bool) -> None:
    """And only the columns that are wanted."""
    x = np.arange(600_000.0).reshape(-1, 2)
    text = io.StringIO()
    np.savetxt(text, x, delimiter=",", header="a,b", comments="", fmt="%.20f")
    file = csv_file(tmp_path, text.getvalue(), by_arrow=by_arrow)
    blocks = list(file.blocks(["b"]))
    assert len(blocks) > 1
    assert [first for first, _ in blocks] == np.cumsum([0, *(len(block["b"]) for _, block in blocks[:-1])]).tolist()
    values = [block["b"].numbers() for _, block in blocks]
    np.testing.assert_array_equal(np.concatenate([part for part in values if part is not None]), x[:, 1])
    assert file.rows == len(x)


@BOTH
def test_values_of_several_lines_may_lie_across_what_is_read_at_once(tmp_path: Path, by_arrow: bool) -> None:
    """A line end within quotes ends no row, wherever it is."""
    lines = "x,\n" * 250
    rows = [f'"{i}\n{lines}",{i}' for i in range(12_000)]
    found = texts_of(csv_file(tmp_path, "a,b\n" + "\n".join(rows), by_arrow=by_arrow))
    assert [(str(a).split("\n", 1)[0], b) for a, b in found] == [(str(i), str(i)) for i in range(12_000)]


words = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufeff") | st.sampled_from('\n",;\t')
)


@given(
    rows=st.integers(1, 3).flatmap(lambda c: st.lists(st.lists(words, min_size=c, max_size=c), min_size=1, max_size=8)),
    delimiter=st.sampled_from(",;\t"),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_python_writes_both_readers_read_alike(tmp_path: Path, rows: list[list[str]], delimiter: str) -> None:
    """Delimiters, quotes and line ends inside values too; texts come back without the space around them."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerows([[f"c{i}" for i in range(len(rows[0]))], *rows])
    reading = Reading(delimiter=delimiter)
    wanted = [[None if reading.is_missing(value) else value.strip() for value in row] for row in rows]
    for by_arrow in (True, False):
        assert texts_of(csv_file(tmp_path, text.getvalue(), reading, by_arrow)) == wanted


def test_without_pyarrow_csv_is_read_all_the_same(tmp_path: Path) -> None:
    """It is an extra; Parquet says what to install."""
    (tmp_path / "rows.csv").write_text("a,b\n1.5,x\n2.5,y\n")
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from training.data import load\n"
        "print(load('rows.csv').x.tolist())\n"
        "try: load('rows.parquet')\n"
        "except Exception as error: print(error)\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r})\n{code}"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == [
        "[[1.5, 0.0], [2.5, 1.0]]",
        "rows.parquet: reading Parquet takes pyarrow: pip install 'vae-serve[arrow]'",
    ]
