"""
A table as people have them, made up: numbers, counts, categories and truth values of a few hidden causes, with gaps.

Of any size, a block of rows at a time, as CSV or Parquet; and its schema, where some of the categories have an order.
Needs pyarrow.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training.cells import Reading
from training.data import sure_schema
from training.schema import written
from training.table_file import open_table

Floats = NDArray[np.float64]

KINDS: Final = ("number", "count", "category", "number", "truth")
"""What the columns are in turn; every second category has 40 levels, the others 5."""

ALL_KINDS: Final = ("number", "count", "category", "order", "truth")
"""With columns whose categories have an order, which no guess finds: see `write_schema`."""

_ORDER: Final = ("least", "little", "some", "much")

_BLOCK: Final = 50_000
_CAUSES: Final = 8


def write_mixed(
    file: Path, rows: int, columns: int, missing: float = 0.05, kinds: Sequence[str] = KINDS, seed: int = 0
) -> None:
    """*missing*: the share of the values that are not there, in every column but each tenth, where all are."""
    pa: Any = importlib.import_module("pyarrow")
    each = [kinds[c % len(kinds)] for c in range(columns)]
    with _writer(pa, file, _schema(pa, each)) as out:
        for block in _blocks(pa, rows, each, missing, seed):
            out.write_table(block)


def write_schema(schema: Path, file: Path) -> None:
    """To *schema*, TOML: what *file*, by `write_mixed`, suggests, but for the columns that have an order."""
    guess = sure_schema(open_table(file, Reading()), Reading())
    columns = tuple(
        column.model_copy(update={"kind": "ordinal", "vocabulary": _ORDER, "unknown": "reject"})
        if column.vocabulary is not None and set(column.vocabulary) <= set(_ORDER)
        else column
        for column in guess.columns
    )
    schema.write_text(written(replace(guess, columns=columns), str(file), {}), "utf-8")


def _writer(pa: Any, file: Path, schema: Any) -> Any:
    if file.suffix == ".parquet":
        return importlib.import_module("pyarrow.parquet").ParquetWriter(file, schema)
    return importlib.import_module("pyarrow.csv").CSVWriter(file, schema)


def _schema(pa: Any, kinds: Sequence[str]) -> Any:
    types = {"number": pa.float64(), "count": pa.int64(), "truth": pa.bool_()}
    return pa.schema([(f"c{c}", types.get(kind, pa.string())) for c, kind in enumerate(kinds)])


def _blocks(pa: Any, rows: int, kinds: Sequence[str], missing: float, seed: int) -> Iterator[Any]:
    generator = np.random.default_rng(seed)
    columns = len(kinds)
    mix = generator.standard_normal((_CAUSES, columns)) / _CAUSES**0.5
    for start in range(0, rows, _BLOCK):
        n = min(_BLOCK, rows - start)
        causes = generator.standard_normal((n, _CAUSES)) @ mix + 0.3 * generator.standard_normal((n, columns))
        gaps = generator.random((n, columns)) < missing
        gaps[:, ::10] = False
        arrays = [_column(pa, kind, c, causes[:, c], gaps[:, c], generator) for c, kind in enumerate(kinds)]
        yield pa.table(arrays, schema=_schema(pa, kinds))


def _column(pa: Any, kind: str, c: int, cause: Floats, gap: NDArray[np.bool_], generator: np.random.Generator) -> Any:
    if kind == "number":
        return pa.array(np.round(cause * 10.0 ** (c % 7), 3), mask=gap)
    if kind == "count":
        return pa.array(generator.poisson(np.exp(0.7 * cause + 1)).astype(np.int64), mask=gap)
    if kind == "truth":
        return pa.array(cause > 0, mask=gap)
    words = _ORDER if kind == "order" else [f"level {i}" for i in range(40 if c % 2 else 5)]
    index = np.rint(cause * len(words) / 5 + len(words) / 2).clip(0, len(words) - 1).astype(np.int32)
    names = pa.array(words)
    return pa.DictionaryArray.from_arrays(pa.array(index, mask=gap), names).cast(pa.string())
