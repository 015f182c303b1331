"""
pyarrow, which the extra `arrow` brings: its columns as `Cells`, and CSV files a block of rows at a time.

It is asked for here and nowhere else. What it refuses is found again, with its line, by the reader in csv_file.py.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np

from training.cells import Cells, Codes, Floats, NumberCells, Reading, merged, parsed

BLOCK_BYTES: Final = 2**23
"""What is read at a time; no row may be longer."""

_SECONDS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def pyarrow(part: str = "") -> ModuleType | None:
    """Pyarrow, or its module *part*; None where it is not installed."""
    try:
        return importlib.import_module(f"pyarrow.{part}" if part else "pyarrow")
    except ImportError:
        return None


def invalid() -> type[Exception]:
    """What pyarrow raises for a file that it cannot read."""
    found: type[Exception] = importlib.import_module("pyarrow").ArrowInvalid
    return found


class ArrowCells:
    """An array of pyarrow's strings; nulls are missing."""

    def __init__(self, array: Any, reading: Reading) -> None:
        self._array, self._reading = array, reading

    def __len__(self) -> int:
        return len(self._array)

    def numbers(self) -> Floats | None:
        """See Cells. pyarrow takes most; spaces, plus signs and other words for "missing" are taken one by one."""
        pa, compute = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.compute")
        array, comma = self._array, self._reading.decimal == ","
        if not (comma and compute.any(compute.match_substring(array, ".")).as_py()):
            try:
                return _floats((compute.replace_substring(array, ",", ".") if comma else array).cast(pa.float64()))
            except pa.ArrowInvalid:
                pass
        return parsed(self._array.to_pylist(), self._reading)

    def texts(self) -> tuple[Codes, list[str]]:
        """See Cells."""
        encoded = self._array.dictionary_encode()
        codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        return merged(codes, encoded.dictionary.to_pylist(), self._reading)

    def text(self, i: int) -> str:
        """See Cells."""
        return str(self._array[i].as_py() or "")


def csv_blocks(
    path: Path, delimiter: str, header_lines: int, columns: int, wanted: Sequence[int], reading: Reading
) -> Iterator[tuple[int, dict[int, Cells]]]:
    """
    The rows of a CSV file below its first *header_lines*, in blocks: how many, and the columns *wanted*, by number.

    Raises `invalid` for rows that do not have *columns* values, and for what is not UTF-8.
    """
    pa, csv = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.csv")
    names = [str(i) for i in range(columns)]
    spellings = {spelling for word in reading.missing for spelling in (word, word.lower(), word.upper(), word.title())}
    with csv.open_csv(
        path,
        csv.ReadOptions(block_size=BLOCK_BYTES, skip_rows=header_lines, column_names=names),
        csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=[str(i) for i in wanted],
            null_values=sorted(spellings),
            strings_can_be_null=True,
        ),
    ) as reader:
        for batch in reader:
            if batch.num_rows:
                found = zip(wanted, batch.columns, strict=True)
                yield batch.num_rows, {i: ArrowCells(array, reading) for i, array in found}


def is_read(kind: Any) -> bool:
    """Whether `typed_cells` takes columns of pyarrow's type *kind*."""
    types = importlib.import_module("pyarrow").types
    if types.is_dictionary(kind):
        return is_read(kind.value_type)
    simple = (types.is_boolean, types.is_null, types.is_integer, types.is_floating, types.is_decimal, is_instant)
    return any(check(kind) for check in (*simple, types.is_string, types.is_large_string, types.is_string_view))


def is_instant(kind: Any) -> bool:
    """Whether *kind* is a date, or a date and time."""
    types = importlib.import_module("pyarrow").types
    return bool(types.is_timestamp(kind) or types.is_date(kind))


def typed_cells(array: Any, reading: Reading) -> Cells:
    """
    A column of one of the types that `is_read` names: numbers, truth values ("true", "false"), texts.

    Instants become seconds since 1970-01-01 UTC; those without a time zone are taken to be in UTC.
    """
    pa = importlib.import_module("pyarrow")
    kind = array.type
    if pa.types.is_dictionary(kind):
        return typed_cells(array.dictionary_decode(), reading)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind):
        return NumberCells(_floats(array.cast(pa.float64(), safe=False)), reading)
    if is_instant(kind):
        ticks = array.cast(pa.timestamp("s" if pa.types.is_date32(kind) else "ms")) if pa.types.is_date(kind) else array
        per_second = _SECONDS[ticks.type.unit]
        there = ~_missing(ticks)
        found = np.full(len(ticks), np.nan)
        whole, rest = np.divmod(ticks.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False), per_second)
        found[there] = (whole + rest / per_second)[there]
        return NumberCells(found, reading)
    return ArrowCells(array.cast(pa.string()), reading)


def release() -> None:
    """Give memory that pyarrow keeps for its next file back to the system."""
    if (pa := pyarrow()) is not None:
        pa.default_memory_pool().release_unused()


def _floats(array: Any) -> Floats:
    found: Floats = array.to_numpy(zero_copy_only=False)
    return found


def _missing(array: Any) -> Any:
    return array.is_null().to_numpy(zero_copy_only=False)
