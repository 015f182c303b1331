"""
Tables of numbers from CSV files: a header of column names, then one row a line. Knows nothing of models.

Every refusal names the file, the line, the column and the reason.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.errors import DataError

_BLOCK = 10000
_MISSING = ("", "na", "n/a", "null", "none", "?")


def read_csv(path: Path) -> tuple[list[str], NDArray[np.float64]]:
    """
    Column names and values, (n, columns). Comma-separated, RFC 4180 quotes; blank lines are skipped.

    Raises DataError for anything that is not a finite number.
    """
    values, count = np.empty((0, 0)), 0
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            names = _header(path, next(reader, []))
            for row in reader:
                if not row:
                    continue
                if len(row) != len(names):
                    where = f"{path.name}: line {reader.line_num}"
                    raise DataError(f"{where}: {len(row)} values; the header has {len(names)} columns")
                rows.append(row)
                lines.append(reader.line_num)
                if len(rows) == _BLOCK:
                    count = _append(values, count, _numbers(path, names, rows, lines))
                    rows, lines = [], []
    except csv.Error as error:
        raise DataError(f"{path.name}: line {reader.line_num}: not CSV: {error}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name}: line {_undecodable(path)}: not UTF-8: {error.reason}") from None
    if rows:
        count = _append(values, count, _numbers(path, names, rows, lines))
    if not count:
        raise DataError(f"{path.name}: no rows below the header")
    values.resize((count, len(names)), refcheck=False)
    return names, values


def _append(values: NDArray[np.float64], count: int, block: NDArray[np.float64]) -> int:
    """
    Put *block* after the first *count* rows of *values*, which grows in place: large memory is moved, not copied.

    Blocks kept apart and joined at the end would need the table twice. Returns the new count.
    """
    total = count + len(block)
    if total > len(values):
        values.resize((total + total // 8, block.shape[1]), refcheck=False)
    values[count:total] = block
    return total


def _undecodable(path: Path) -> int:
    """The first line that is not UTF-8, from 1."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 1


def _header(path: Path, names: list[str]) -> list[str]:
    names = [name.strip() for name in names]
    if not names:
        what = "line 1 is blank" if path.stat().st_size else "empty"
        raise DataError(f"{path.name}: {what}; the first line must name the columns")
    for separator, word in ((";", "semicolons"), ("\t", "tabs")):
        if len(names) == 1 and separator in names[0]:
            raise DataError(f"{path.name}: line 1: separated by {word}; values must be separated by commas")
    for i, name in enumerate(names):
        if not name:
            raise DataError(f"{path.name}: line 1: column {i + 1} has no name")
        if name in names[:i]:
            raise DataError(f"{path.name}: line 1: two columns are called {name!r}")
    if all(_number(name) is not None for name in names):
        raise DataError(f"{path.name}: line 1: only numbers; the first line must name the columns")
    return names


def _numbers(path: Path, names: list[str], rows: list[list[str]], lines: list[int]) -> NDArray[np.float64]:
    try:
        values = np.array(rows, dtype=np.float64)
    except ValueError:
        values = np.full((1, 1), np.nan)
    if np.isfinite(values).all() and not any("_" in "".join(row) for row in rows):
        return values
    for line, row in zip(lines, rows, strict=True):
        for name, text in zip(names, row, strict=True):
            if reason := _fault(text):
                raise DataError(f"{path.name}: line {line}, column {name!r}: {reason}")
    return np.array([[_number(text) for text in row] for row in rows], dtype=np.float64)


def _fault(text: str) -> str | None:
    if text.strip().lower() in _MISSING:
        return "the value is missing"
    value = _number(text)
    if value is None:
        return f"{text!r} is not a number"
    return None if math.isfinite(value) else f"{text!r} is not a finite number"


def _number(text: str) -> float | None:
    if "_" in text:  # Python reads 1_000 as a number; nobody else does
        return None
    try:
        return float(text)
    except ValueError:
        return None
