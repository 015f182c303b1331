"""
CSV files: a header of column names, then one row a line (RFC 4180), UTF-8, with or without a byte-order mark.

pyarrow reads them where it is installed, Python's own reader where it is not, with the same result and more slowly.
What pyarrow refuses is read again by Python's, which knows the line. Knows texts; nothing of what they mean.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from service.errors import counted
from training import arrow
from training.cells import DELIMITERS, Cells, PlainCells, Reading
from training.errors import DataError

Block = tuple[int, dict[str, Cells]]

_BLOCK_VALUES = 2**18
_PIECE = 2**24


class CsvFile:
    """
    A CSV file whose header was read. Blank lines are skipped.

    *names*: of its columns, in order. *instants*: names of columns that are stored as dates: none, in CSV. *unread*:
    columns of a type that is not read, and the type: none either. Raises DataError naming file, line and reason.
    """

    def __init__(self, path: Path, reading: Reading, by_arrow: bool = True) -> None:
        self.name = path.name
        self.instants: frozenset[str] = frozenset()
        self.unread: dict[str, str] = {}
        self.rows: int | None = None
        self._path, self._reading = path, reading
        self._by_arrow = by_arrow and arrow.pyarrow() is not None
        self._strict = self._odd_quotes()
        self._delimiter = reading.delimiter or self._seen_delimiter()
        header = next(self._lines(), (1, []))
        self._header_lines, self.names = header[0], self._checked(header[1])

    def blocks(self, wanted: Sequence[str]) -> Iterator[Block]:
        """The rows in blocks: the number of the first, from 0, and the columns *wanted* by name."""
        first, places = 0, [self.names.index(name) for name in wanted]
        for rows, columns in self._by_pyarrow(places) if self._by_arrow else self._by_python(places):
            yield first, {self.names[i]: cells for i, cells in columns.items()}
            first += rows
        self.rows = first
        if not first:
            raise DataError(f"{self.name}: no rows below the header")

    def where(self, row: int) -> str:
        """Where row *row*, from 0, is: its last line."""
        rows = (line for line, values in itertools.islice(self._lines(), 1, None) if values)
        return f"line {next(itertools.islice(rows, row, None))}"

    def _by_pyarrow(self, places: Sequence[int]) -> Iterator[tuple[int, dict[int, Cells]]]:
        if self.rows is None and self._strict:
            self._find_fault()
        invalid = arrow.invalid()
        blocks = arrow.csv_blocks(
            self._path, self._delimiter, self._header_lines, len(self.names), places, self._reading
        )
        try:
            yield from blocks
        except invalid as error:
            self._find_fault()
            raise DataError(f"{self.name}: not CSV: {error}") from None
        finally:
            arrow.release()

    def _by_python(self, places: Sequence[int]) -> Iterator[tuple[int, dict[int, Cells]]]:
        rows = (values for _, values in self._rows())
        size = max(1, _BLOCK_VALUES // len(self.names))
        while block := list(itertools.islice(rows, size)):
            columns = list(zip(*block, strict=True))
            yield len(block), {i: PlainCells(columns[i], self._reading) for i in places}

    def _find_fault(self) -> None:
        """Raise DataError for the first thing that is not CSV, if there is one."""
        count = sum(1 for _ in self._rows())
        if not count:
            raise DataError(f"{self.name}: no rows below the header")

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """The rows with their lines, each checked for its number of values."""
        for line, values in itertools.islice(self._lines(), 1, None):
            if values and len(values) != len(self.names):
                many = f"{counted(len(values), 'value')}; the header has {counted(len(self.names), 'column')}"
                raise DataError(f"{self.name}: line {line}: {many}")
            if values:
                yield line, values

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        """The last line and the values of each row, the header first; blank ones are empty."""
        line = 1
        try:
            with self._path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.reader(file, delimiter=self._delimiter, strict=self._strict)
                try:
                    for values in reader:
                        line = reader.line_num
                        yield line, values
                except csv.Error as error:
                    raise DataError(f"{self.name}: line {reader.line_num}: not CSV: {error}") from None
        except UnicodeDecodeError as error:
            raise DataError(f"{self.name}: line {self._undecodable()}: not UTF-8: {error.reason}") from None

    def _undecodable(self) -> int:
        """The first line that is not UTF-8, from 1."""
        with self._path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError:
                    return number
        return 1

    def _odd_quotes(self) -> bool:
        """Whether a quote may be left open: then the file is read strictly, because pyarrow passes over that."""
        with self._path.open("rb") as file:
            return sum(piece.count(b'"') for piece in iter(lambda: file.read(_PIECE), b"")) % 2 == 1

    def _seen_delimiter(self) -> str:
        """The delimiter that makes most columns of the header; a comma where none makes two."""
        found = {}
        for self._delimiter in DELIMITERS:
            try:
                found[self._delimiter] = len(next(self._lines(), (1, []))[1])
            except DataError:
                found[self._delimiter] = 0
        return max(found, key=found.__getitem__)

    def _checked(self, names: list[str]) -> list[str]:
        names = [name.strip() for name in names]
        if not names:
            what = "line 1 is blank" if self._path.stat().st_size else "empty"
            raise DataError(f"{self.name}: {what}; the first line must name the columns")
        for i, name in enumerate(names):
            if not name:
                raise DataError(f"{self.name}: line 1: column {i + 1} has no name")
            if name in names[:i]:
                raise DataError(f"{self.name}: line 1: two columns are called {name!r}")
        if all(self._reading.number(name) is not None for name in names):
            raise DataError(f"{self.name}: line 1: only numbers; the first line must name the columns")
        return names
