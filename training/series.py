"""
Readings of sensors in the order of time, and the windows of them that a model's rows are.

No window crosses from one run to another: a run is a machine, or a time between two gaps, as a column of the data says.
A window with a reading that is labelled as an anomaly is one. Knows tables and arrays; nothing of splits. T readings, S
sensors, n windows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.inputs import Column, Inputs, Windows
from service.windows import firsts, rows_of
from training.blocks import Places, apart
from training.cells import Reading
from training.coding import read
from training.data import CLAMP, Array, Dataset, flags_of, from_arrays
from training.errors import DataError
from training.schema import Schema
from training.table_file import TableFile

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Cut(NamedTuple):
    """
    How readings are cut into windows, see `Windows`.

    *group*: the column that says which run a reading is of. *time*: the one that must not descend in a run.
    """

    length: int
    stride: int
    differences: bool = False
    group: str | None = None
    time: str | None = None

    def windows(self, sensors: tuple[Column, ...]) -> Windows:
        """Of readings of these *sensors*."""
        return Windows(sensors=sensors, length=self.length, stride=self.stride, differences=self.differences)


@dataclass(frozen=True)
class Series:
    """
    Readings, (T, S), in their order; *runs*: which run each is of, (T,).

    *strange*: (T,), true where a reading is labelled as an anomaly; None: nothing is. *schema*: of a table.
    """

    source: str
    sensors: tuple[Column, ...]
    x: Floats
    runs: NDArray[np.int64]
    strange: Flags | None = None
    schema: Schema | None = None


def schema_of(schema: Schema, cut: Cut) -> Schema:
    """
    The *schema* of a table as one of readings, whose sensors are the columns less the group and the time of *cut*.

    Raises DataError where the time is no column of numbers, a sensor holds instants, or no sensor is left.
    """
    time = next((column for column in schema.columns if column.name == cut.time), None)
    if cut.time is not None and (time is None or time.vocabulary is not None or time.kind == "binary"):
        raise DataError(f"--time {cut.time}: {schema.source} has no column of instants or numbers of this name")
    apart = tuple(name for name in (cut.group, cut.time) if name is not None)
    time = None if time is None else time.model_copy(update={"missing": False})
    sensors = tuple(column for column in schema.columns if column.name not in apart)
    if not sensors:
        raise DataError(f"{schema.source} leaves no column that could be a sensor")
    for sensor in sensors:
        if sensor.time is not None:
            raise DataError(
                f"column {sensor.name!r} holds instants, and is no sensor: name it by --time, or leave it out with "
                "use = false in a schema"
            )
    ignored = tuple(dict.fromkeys((*schema.ignored, *apart)))
    return replace(schema, columns=sensors, ignored=ignored, windows=cut.windows(sensors), group=cut.group, time=time)


def of_table(file: TableFile, schema: Schema, reading: Reading) -> Series:
    """
    The readings in *file* by *schema*, whose columns are the sensors.

    Raises DataError, naming the file, the line or row, the column and the reason; also where times descend in a run.
    """
    if schema.group is not None and schema.group not in file.names:
        raise DataError(f"{file.name}: no column {schema.group!r}, which says what run a reading is of")
    columns = schema.columns if schema.time is None else (*schema.columns, schema.time)
    x, strange = read(file, replace(schema, columns=columns), reading)
    runs = np.zeros(len(x), np.int64) if schema.group is None else _runs(file, schema.group)
    if schema.time is not None:
        _require_order(file, schema.time.name, x[:, -1], runs)
        x = np.ascontiguousarray(x[:, :-1])
    return Series(file.name, schema.columns, x, runs, strange, schema)


def of_arrays(source: str, arrays: dict[str, Array]) -> Series:
    """
    The readings in `X`, (T, S); optional `y` (1 = anomaly), `runs` (whole numbers, (T,)) and `columns` (names).

    Raises DataError where they do not belong together.
    """
    found = from_arrays(source, {name: arrays[name] for name in ("X", "columns") if name in arrays})
    if found.inputs.columns is None:
        raise DataError(f"{source}: X has shape {found.x.shape}; readings of sensors are 2-D")
    runs = arrays.get("runs", np.zeros(len(found.x), np.int64))
    if runs.shape != (len(found.x),) or runs.dtype.kind not in "iu":
        raise DataError(f"{source}: runs must be whole numbers, one for each of the {len(found.x)} readings in X")
    strange = flags_of(source, arrays["y"], len(found.x)) if "y" in arrays else None
    return Series(source, found.inputs.columns, found.x.astype(np.float64), runs.astype(np.int64), strange)


def windowed(series: Series, windows: Windows) -> Dataset:
    """
    The windows of *series* as a data set: run after run, in order of time.

    Raises DataError where no run is as long as a window, or every window has an anomaly.
    """
    rows, run, first, odd = list[Floats](), list[NDArray[np.int64]](), list[NDArray[np.int64]](), list[Flags]()
    order = np.argsort(series.runs, kind="stable")
    for at in np.split(order, np.flatnonzero(np.diff(series.runs[order])) + 1):
        found = rows_of(series.x[at], windows)
        rows.append(found)
        first.append(firsts(len(found), windows))
        run.append(np.full(len(found), series.runs[at[0]]))
        strange = np.zeros(len(at), np.int64) if series.strange is None else series.strange[at].astype(np.int64)
        before = np.concatenate([[0], np.cumsum(strange)])
        odd.append(before[first[-1] + windows.length] > before[first[-1]])
    x, anomalous = np.concatenate(rows), np.concatenate(odd)
    if not len(x):
        raise DataError(f"{series.source}: no run has the {windows.length} readings of a window")
    if anomalous.all():
        raise DataError(
            f"{series.source}: every window has a reading that is an anomaly; there is nothing to learn from"
        )
    places = Places(np.concatenate(run), np.concatenate(first), windows.length)
    strange = np.flatnonzero(anomalous)
    inputs = Inputs(
        kind="table",
        shape=(len(windows.columns),),
        dtype="float64",
        columns=windows.columns,
        clamp=CLAMP,
        windows=windows,
    )
    return Dataset(
        series.source,
        inputs,
        x[~anomalous],
        anomalies=x[strange[apart(places.take(strange))]] if len(strange) else None,
        schema=series.schema,
        places=places.take(~anomalous),
    )


def short_runs(series: Series, windows: Windows) -> int:
    """How many runs have fewer readings than a window."""
    return int((np.unique(series.runs, return_counts=True)[1] < windows.length).sum())


def _runs(file: TableFile, group: str) -> NDArray[np.int64]:
    """Which run each reading is of, by the text in column *group*. Raises DataError where one has none."""
    known: dict[str, int] = {}
    runs = []
    for start, block in file.blocks([group]):
        codes, texts = block[group].texts()
        if (codes < 0).any():
            where = file.where(start + int(np.argmax(codes < 0)))
            raise DataError(f"{file.name}: {where}, column {group!r}: the value is missing; it names the run")
        runs.append(np.array([known.setdefault(text, len(known)) for text in texts], np.int64)[codes])
    return np.concatenate(runs)


def _require_order(file: TableFile, name: str, times: Floats, runs: NDArray[np.int64]) -> None:
    """Raise DataError where a reading is earlier than the one before it of the same run."""
    order = np.argsort(runs, kind="stable")
    back = np.flatnonzero((np.diff(times[order]) < 0) & (np.diff(runs[order]) == 0))
    if len(back):
        row = int(order[back[0] + 1])
        raise DataError(
            f"{file.name}: {file.where(row)}, column {name!r}: earlier than the reading before it of the same run; "
            "readings must be in the order of time"
        )
