"""
A data set in memory: rows in original units and dtype, what one row is (`Inputs`), and a hash of it all.

`load` takes `.csv`, `.tsv`, `.parquet`, `.npy`, `.npz`, MNIST's idx files, or the word `sklearn:digits`. A missing
value of a table is NaN. Rows labelled as anomalies are kept apart from the first line on: nothing is ever fitted or
calibrated on them. Knows nothing of splits or models.
"""

from __future__ import annotations

import hashlib
import importlib
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from service.errors import counted
from service.inputs import Column, Inputs
from training.blocks import Places
from training.cells import Reading
from training.coding import coded
from training.errors import DataError
from training.idx import read_idx, read_idx_directory
from training.infer import guess_schema
from training.schema import Schema
from training.table_file import TableFile, is_table, open_table

Array = NDArray[np.generic]

CLAMP: Final = 100.0
"""Standard deviations from the mean beyond which inputs are taken as being that far: scores stay finite."""

DIGITS: Final = "sklearn:digits"
_CHANNELS = (1, 3, 4)
_PIECE_ROWS = 2**14


@dataclass(frozen=True)
class Dataset:
    """
    Rows of one kind.

    *x*: (n, *shape), normal as far as anybody said. *labels*: (n,) classes, for reports only.
    *anomalies*, *test*: rows like those of *x*; *test* is given where the source has its own test split.
    *schema*: how the rows of a CSV or Parquet file were read; None for all else. *places*: of windows, where those of
    *x* are in time.
    """

    source: str
    inputs: Inputs
    x: Array
    labels: Array | None = None
    anomalies: Array | None = None
    test: Array | None = None
    test_labels: Array | None = None
    schema: Schema | None = None
    places: Places | None = None

    @property
    def hash(self) -> str:
        """SHA-256 of dtype, shape and values of all rows, in order."""
        digest = hashlib.sha256()
        for part in (self.x, self.anomalies, self.test):
            if part is not None:
                digest.update(f"{part.dtype.str} {part.shape} ".encode())
                digest.update(np.ascontiguousarray(part).view(np.uint8).reshape(-1).data)
        return digest.hexdigest()


def load(source: str, schema: Schema | None = None, reading: Reading | None = None) -> Dataset:
    """
    The data set at *source*: a path, or `sklearn:digits`. *schema*: of a CSV or Parquet file; None: what it suggests.

    Raises DataError, naming the file, the row, the column and the reason.
    """
    if source == DIGITS:
        return _digits()
    path = Path(source)
    if not path.exists():
        hint = f"; of scikit-learn's sets there is {DIGITS}" if source.startswith("sklearn:") else ""
        raise DataError(f"{source}: no such file or directory{hint}")
    if path.is_dir():
        name = path.resolve().name
        x, labels, test, test_labels = read_idx_directory(path)
        inputs = image_inputs(name, x)
        for images in (x, test):
            if images is not None:
                _require_finite(name, images, inputs)
        return Dataset(name, inputs, x, labels, test=test, test_labels=test_labels)
    if is_table(path):
        reading = reading or Reading()
        reading = reading if schema is None else replace(reading, missing=schema.missing)
        file = open_table(path, reading)
        return from_table(file, schema or sure_schema(file, reading), reading)
    if path.suffix.lower() in (".npy", ".npz"):
        return from_arrays(path.name, read_numpy(path))
    if "idx" in path.name:
        return from_arrays(path.name, {"X": read_idx(path)})
    raise DataError(f"{source}: not a .csv, .tsv, .parquet, .npy, .npz or idx file, nor a directory of idx files")


def sure_schema(file: TableFile, reading: Reading) -> Schema:
    """What *file* suggests. Raises DataError where that is not clear."""
    guess = guess_schema(file, reading)
    if guess.problems:
        raise DataError(guess.problems[0])
    return guess.schema


def from_table(file: TableFile, schema: Schema, reading: Reading) -> Dataset:
    """The rows of *file* by *schema*. Raises DataError, naming the file, the line or row, the column and the reason."""
    x, anomalies = coded(file, schema, reading)
    inputs = Inputs(kind="table", shape=(len(schema.columns),), dtype="float64", columns=schema.columns, clamp=CLAMP)
    return Dataset(file.name, inputs, x, anomalies=anomalies, schema=schema)


def from_arrays(source: str, arrays: dict[str, Array]) -> Dataset:
    """
    The data set in `X`; optional `y` (1 = anomaly), `labels` (classes) and `columns` (names).

    2-D arrays are tables, 3-D and 4-D ones images. Raises DataError where they do not belong together.
    """
    if "X" not in arrays:
        raise DataError(f"{source}: holds {', '.join(sorted(arrays)) or 'nothing'}; the rows must be called X")
    x = arrays["X"]
    if x.dtype == bool:
        x = x.astype(np.uint8)
    if x.dtype.kind not in "iuf":
        raise DataError(f"{source}: X is of type {x.dtype}, not numbers")
    if x.ndim not in (2, 3, 4):
        raise DataError(f"{source}: X has shape {x.shape}; rows of a table are 2-D, images 3-D or 4-D")
    if min(x.shape) == 0:
        raise DataError(f"{source}: X has shape {x.shape}: no values")
    if x.ndim == 2:
        names = [str(name) for name in arrays.get("columns", np.array([f"x{i}" for i in range(x.shape[1])]))]
        inputs = table_inputs(_column_names(source, names, x.shape[1]), _gaps(x))
    else:
        inputs = image_inputs(source, x)
    _require_finite(source, x, inputs)
    anomalous = flags_of(source, arrays["y"], len(x)) if "y" in arrays else np.zeros(len(x), bool)
    labels = arrays.get("labels")
    if labels is not None and labels.shape != (len(x),):
        raise DataError(f"{source}: labels has shape {labels.shape}; X has {counted(len(x), 'row')}")
    if not anomalous.any():
        return Dataset(source, inputs, x, labels)
    kept = None if labels is None else labels[~anomalous]
    return Dataset(source, inputs, x[~anomalous], kept, anomalies=x[anomalous])


def table_inputs(names: list[str], missing: NDArray[np.bool_] | None = None) -> Inputs:
    """A row of numbers by name, float64. *missing*: (C,), which of them may be missing; None: none."""
    columns = tuple(Column(name=name, missing=missing is not None and bool(missing[c])) for c, name in enumerate(names))
    return Inputs(kind="table", shape=(len(names),), dtype="float64", columns=columns, clamp=CLAMP)


def image_inputs(source: str, x: Array) -> Inputs:
    """An image, float32, by its shape: (n, H, W), (n, H, W, channels) or (n, channels, H, W); pixels as they are."""
    layout: Literal["HW", "HWC", "CHW"]
    if x.ndim == 3:
        layout = "HW"
    elif x.shape[-1] in _CHANNELS:
        layout = "HWC"
    elif x.shape[1] in _CHANNELS:
        layout = "CHW"
    else:
        raise DataError(f"{source}: X has shape {x.shape}; no axis has 1, 3 or 4 channels")
    return Inputs(kind="image", shape=x.shape[1:], dtype="float32", layout=layout, range=_range(x), clamp=CLAMP)


def _range(x: Array) -> tuple[float, float] | None:
    """The lowest and highest value that a pixel can have, where its type or its values tell."""
    low, high = float(x.min()), float(x.max())
    if x.dtype.kind == "f" or (low, high) == (0.0, 1.0):
        return (0.0, 1.0) if low >= 0 and high <= 1 else None
    return (0.0, 255.0) if low >= 0 and high <= 255 else None


def _digits() -> Dataset:
    found = importlib.import_module("sklearn.datasets").load_digits()  # slow to import, and for this only
    x, labels = found.images.astype(np.uint8), found.target.astype(np.uint8)
    inputs = Inputs(kind="image", shape=(8, 8), dtype="float32", layout="HW", range=(0.0, 16.0), clamp=CLAMP)
    return Dataset(DIGITS, inputs, x, labels)


def read_numpy(path: Path) -> dict[str, Array]:
    """The arrays in a .npy or .npz file, one alone as X. Raises DataError where they are not plain ones."""
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"X": loaded}
            found = {name: loaded[name] for name in loaded.files}
    except (ValueError, OSError, EOFError, MemoryError, zlib.error, zipfile.BadZipFile) as error:
        reason = "objects (pickle), or no numpy file at all" if "pickle" in str(error) else error
        raise DataError(f"{path.name}: not a file of plain numpy arrays: {reason}") from None
    for name, array in found.items():
        if not isinstance(array, np.ndarray):
            raise DataError(f"{path.name}: {name} is not a numpy array")
    return found


def _column_names(source: str, names: list[str], count: int) -> list[str]:
    if len(names) != count:
        raise DataError(f"{source}: columns has {counted(len(names), 'name')}; X has {counted(count, 'column')}")
    for i, name in enumerate(names):
        if not name or name in names[:i]:
            raise DataError(
                f"{source}: column {i} {f'is called {name!r}, as one before it' if name else 'has no name'}"
            )
    return names


def flags_of(source: str, y: Array, rows: int) -> NDArray[np.bool_]:
    """Which of so many *rows* are anomalies, (n,), by *y*. Raises DataError where it is neither 0 nor 1, or all are."""
    if y.shape != (rows,):
        raise DataError(f"{source}: y has shape {y.shape}; X has {counted(rows, 'row')}")
    if not np.isin(y, (0, 1)).all():
        raise DataError(
            f"{source}: y must be 0 (normal) or 1 (anomaly); row {int(np.argmin(np.isin(y, (0, 1))))} is not"
        )
    flags: NDArray[np.bool_] = y.astype(bool)
    if flags.all():
        raise DataError(f"{source}: y says that every row is an anomaly; there is nothing to learn from")
    return flags


def _gaps(x: Array) -> NDArray[np.bool_]:
    """Which columns have missing values, NaN: (n, C) -> (C,)."""
    gaps = np.zeros(x.shape[1], bool)
    for start in range(0, len(x), _PIECE_ROWS):
        gaps |= np.isnan(x[start : start + _PIECE_ROWS]).any(axis=0)
    return gaps


def _require_finite(source: str, x: Array, inputs: Inputs) -> None:
    """Refuse infinity, NaN in an image, and what becomes infinite in the dtype of the model; a piece at a time."""
    if x.dtype.kind != "f":
        return
    flat = x.reshape(len(x), -1)
    step = max(1, 2**22 // flat.shape[1])
    for start in range(0, len(flat), step):
        piece = flat[start : start + step]
        with np.errstate(over="ignore"):
            wrong = ~np.isfinite(piece.astype(inputs.dtype, copy=False))
        if inputs.kind == "table":
            wrong &= ~np.isnan(piece)
        if wrong.any():
            row, c = divmod(int(np.argmax(wrong)), flat.shape[1])
            value, what = piece[row, c], "column" if inputs.kind == "table" else "pixel"
            reason = f"too large for {inputs.dtype}" if np.isfinite(value) else "not a finite number"
            raise DataError(f"{source}: row {start + row}, {what} {inputs.names[c]!r}: {value!s} is {reason}")
