"""Tables as files, for several tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.cells import Reading
from training.csv_file import CsvFile
from training.table_file import TableFile, open_table


def csv_file(folder: Path, text: str, reading: Reading | None = None, by_arrow: bool = True) -> CsvFile:
    """*text* as the file rows.csv."""
    path = folder / "rows.csv"
    path.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
    return CsvFile(path, reading or Reading(), by_arrow)


def texts_of(file: TableFile) -> list[list[str | None]]:
    """Every row of *file*, as texts; None where missing."""
    rows: list[list[str | None]] = []
    for _, block in file.blocks(file.names):
        columns = []
        for cells in block.values():
            codes, distinct = cells.texts()
            columns.append([None if code < 0 else distinct[code] for code in codes])
        rows += [list(row) for row in zip(*columns, strict=True)]
    return rows


def numbers_of(file: TableFile) -> NDArray[np.float64]:
    """Every row of *file*, as numbers: (n, C)."""
    blocks = []
    for _, block in file.blocks(file.names):
        columns = [cells.numbers() for cells in block.values()]
        assert all(column is not None for column in columns)
        blocks.append(np.stack([column for column in columns if column is not None], axis=1))
    return np.concatenate(blocks)


def opened(path: Path, reading: Reading | None = None) -> TableFile:
    """The table in *path*."""
    return open_table(path, reading or Reading())
