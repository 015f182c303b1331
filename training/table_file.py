"""
A table in a file, CSV or Parquet, as what is asked of it: names, and columns a block of rows at a time.

Knows which reader takes which file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from training.cells import Cells, Reading
from training.csv_file import CsvFile
from training.parquet_file import ParquetFile

SUFFIXES: Final = (".csv", ".tsv", ".parquet")


class TableFile(Protocol):
    """
    A file whose columns are known by name.

    *instants*: columns that are stored as dates. *unread*: columns of a type that is not read, and the type. *rows*:
    how many there are; None until they were read once.
    """

    name: str
    names: list[str]
    instants: frozenset[str]
    unread: dict[str, str]
    rows: int | None

    def blocks(self, wanted: Sequence[str]) -> Iterator[tuple[int, Mapping[str, Cells]]]:
        """The rows in blocks: the number of the first, from 0, and the columns *wanted*. Raises DataError."""
        ...

    def where(self, row: int) -> str:
        """Where row *row*, from 0, is, in words."""
        ...


def is_table(path: Path) -> bool:
    """Whether *path* is named as a table."""
    return path.suffix.lower() in SUFFIXES


def open_table(path: Path, reading: Reading) -> TableFile:
    """The table in *path*. Raises DataError, naming the file, the line or row, the column and the reason."""
    return ParquetFile(path, reading) if path.suffix.lower() == ".parquet" else CsvFile(path, reading)
