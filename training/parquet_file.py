"""
Parquet files, by pyarrow: the same questions as of a CSV file, with types that the file itself states.

Knows types; nothing of what the columns mean.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from training import arrow
from training.cells import Cells, Reading
from training.errors import DataError

_BLOCK_VALUES = 2**20
_BUFFER_BYTES = 2**18  # of each column; without a buffer a whole row group of it is read at once


class ParquetFile:
    """
    A Parquet file whose footer was read.

    *names*: of its columns, in order. *instants*: those that are stored as dates, or dates and times. *unread*: those
    of a type that is not read, and the type. Raises DataError, naming the file and the reason.
    """

    def __init__(self, path: Path, reading: Reading) -> None:
        self.name = path.name
        if arrow.pyarrow() is None:
            raise DataError(f"{self.name}: reading Parquet takes pyarrow: pip install 'vae-serve[arrow]'")
        try:
            parquet = importlib.import_module("pyarrow.parquet")
            self._file = parquet.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        except arrow.invalid() as error:
            raise DataError(f"{self.name}: not a Parquet file: {error}") from None
        self._reading = reading
        types = {field.name: field.type for field in self._file.schema_arrow}
        self.names = self._checked([field.name for field in self._file.schema_arrow])
        self.instants = frozenset(name for name, kind in types.items() if arrow.is_instant(kind))
        self.unread = {name: str(kind) for name, kind in types.items() if not arrow.is_read(kind)}
        self.rows: int | None = int(self._file.metadata.num_rows)
        if not self.rows:
            raise DataError(f"{self.name}: no rows")

    def blocks(self, wanted: Sequence[str]) -> Iterator[tuple[int, dict[str, Cells]]]:
        """The rows in blocks: the number of the first, from 0, and the columns *wanted* by name."""
        first = 0
        try:
            size = max(1, _BLOCK_VALUES // len(wanted))
            for batch in self._file.iter_batches(batch_size=size, columns=list(wanted)):
                yield first, {name: arrow.typed_cells(batch.column(name), self._reading) for name in wanted}
                first += batch.num_rows
        except (arrow.invalid(), OSError) as error:
            raise DataError(f"{self.name}: row {first} or below: cannot be read: {error}") from None
        finally:
            arrow.release()

    def where(self, row: int) -> str:
        """Where row *row*, from 0, is."""
        return f"row {row}"

    def _checked(self, names: list[str]) -> list[str]:
        for i, name in enumerate(names):
            if not name:
                raise DataError(f"{self.name}: column {i + 1} has no name")
            if name in names[:i]:
                raise DataError(f"{self.name}: two columns are called {name!r}")
        return names
