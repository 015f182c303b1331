"""What the steps have in common: how --data is read, by the options, by a schema or by what a bundle takes."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from service.errors import counted
from service.inputs import Windows
from training import data, schema, series
from training.cells import MISSING, Reading
from training.data import Dataset
from training.errors import DataError
from training.infer import Guess, Levels, guess_schema, looks_like_label
from training.schema import Schema
from training.series import Cut, Series
from training.steps.said import say, warn
from training.table_file import SUFFIXES, TableFile, is_table, open_table

_CHARACTERS = {"comma": ",", "semicolon": ";", "tab": "\t", "point": "."}
_OF_TABLES = ("delimiter", "decimal", "missing", "label", "schema", "max_levels", "min_level_rows")
_MOST_LINES = 100


def reading(options: Namespace, missing: tuple[str, ...] = MISSING) -> Reading:
    """How texts are read, by the options; *missing*: the words where the options have none."""
    return Reading(
        delimiter=None if options.delimiter is None else _CHARACTERS[options.delimiter],
        decimal="," if options.decimal == "comma" else ".",
        missing=missing if options.missing is None else options.missing,
    )


def opened(options: Namespace, how: Reading) -> TableFile:
    """The table that --data names. Raises DataError where it is none, or there is nothing."""
    path = Path(options.data)
    if not path.exists():
        raise DataError(f"{path}: no such file or directory")
    if not is_table(path):
        raise DataError(f"{path}: schemas are of tables: {', '.join(SUFFIXES)}")
    return open_table(path, how)


def guessed(options: Namespace, file: TableFile, how: Reading) -> Guess:
    """The schema that *file* suggests, by the options."""
    levels = Levels(options.max_levels or Levels.most, options.min_level_rows or Levels.rows)
    return guess_schema(file, how, options.label, levels)


def to_fit(options: Namespace, first: bool = True) -> Dataset:
    """
    What --data holds, for a fit: a table by --schema, or by what it suggests, which the *first* process tells.

    Rows are windows of its rows where the options say so. Raises DataError where it suggests nothing clear for a
    column, and for options of tables where there is none.
    """
    cut = _cut(options)
    if not is_table(Path(options.data)):
        _refuse_options(options)
        if cut is None:
            return data.load(options.data)
        if cut.group is not None or cut.time is not None:
            raise DataError("--group and --time are columns of tables; in .npz, runs says which run a reading is of")
        return _windows(options, _arrays(options), cut, first)
    if options.schema is not None:
        if options.max_levels or options.min_level_rows:
            raise DataError("--max-levels and --min-level-rows are for columns that no --schema describes")
        known = schema.read(options.schema)
        how = reading(options, known.missing)
        known = replace(known, label=options.label or known.label)
        return _table(options, opened(options, how), known, how, cut, first)
    how = reading(options)
    file = opened(options, how)
    guess = guessed(options, file, how)
    if first:
        say(options, *guess.lines()[:_MOST_LINES], *_more(len(guess.notes)))
    if guess.problems:
        raise DataError(guess.problems[0])
    apart = () if cut is None else (cut.group, cut.time)
    for name, why in guess.left_out.items() if first else ():
        if name not in apart:
            warn(f"column {name!r} is left out: {why}; a schema can say otherwise (vae-train schema)")
    return _table(options, file, guess.schema, how, cut, first)


def as_known(options: Namespace, known: Schema | None) -> Dataset:
    """
    What --data holds, for a bundle or a checkpoint that has the schema *known*; None: it takes no tables.

    Its label is looked for only where there is one, unless an option names it.
    """
    if known is None or not is_table(Path(options.data)):
        _refuse_options(options)
        if known is None or known.windows is None:
            return data.load(options.data)
        return series.windowed(_arrays(options), known.windows)
    how = reading(options, known.missing)
    file = opened(options, how)
    label = options.label or known.label
    if known.label is not None:  # of the bundle; it is no column of the model, whether it is used or not
        known = replace(known, ignored=(*known.ignored, known.label))
    if options.label is None and label not in file.names:
        label = None
    known = replace(known, label=label)
    if known.windows is None:
        return data.from_table(file, known, how)
    return series.windowed(series.of_table(file, known, how), known.windows)


def _cut(options: Namespace) -> Cut | None:
    """How readings are cut into windows; None: rows are rows."""
    if options.window is None:
        return None
    stride = options.stride or max(1, options.window // 4)
    return Cut(options.window, stride, options.differences, options.group, options.time)


def _table(options: Namespace, file: TableFile, known: Schema, how: Reading, cut: Cut | None, first: bool) -> Dataset:
    apart = () if cut is None else (cut.group, cut.time)
    suspects = [column.name for column in known.columns if looks_like_label(column) and column.name not in apart]
    if first and suspects and known.label is None:
        warn(
            f"column {suspects[0]!r} is learned from, and every request needs it; if it says which rows are anomalies: "
            f"--label {suspects[0]}"
        )
    if cut is None:
        return data.from_table(file, known, how)
    return _windows(options, series.of_table(file, series.schema_of(known, cut), how), cut, first)


def _arrays(options: Namespace) -> Series:
    path = Path(options.data)
    if path.suffix.lower() not in (".npy", ".npz") or not path.is_file():
        raise DataError(f"{options.data}: windows are made of readings in {', '.join(SUFFIXES)}, .npy or .npz")
    return series.of_arrays(path.name, data.read_numpy(path))


def _windows(options: Namespace, readings: Series, cut: Cut, first: bool) -> Dataset:
    """The windows of *readings*, of which the *first* process tells how many there are."""
    windows: Windows = cut.windows(readings.sensors)
    found = series.windowed(readings, windows)
    if first:
        runs = len(set(readings.runs.tolist()))
        n = len(found.x) + (0 if found.anomalies is None else len(found.anomalies))
        say(options, f"{n:,} windows of {cut.length} readings, one every {cut.stride}, in {counted(runs, 'run')}")
        if short := series.short_runs(readings, windows):
            warn(f"{counted(short, 'run')} of {runs} with fewer than {cut.length} readings: no window is made of them")
    return found


def _refuse_options(options: Namespace) -> None:
    for name in _OF_TABLES:
        if getattr(options, name, None) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise DataError(f"{flag} is for tables, {', '.join(SUFFIXES)}; {options.data} is none")


def _more(columns: int) -> list[str]:
    return [f"and {columns - _MOST_LINES:,} more; vae-train schema shows all"] if columns > _MOST_LINES else []
