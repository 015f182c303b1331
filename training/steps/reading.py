"""What the steps have in common: how --data is read, by the options, by a schema or by what a bundle takes."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from training import data, schema
from training.cells import MISSING, Reading
from training.data import Dataset
from training.errors import DataError
from training.infer import Guess, Levels, guess_schema
from training.schema import Schema
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

    Raises DataError where it suggests nothing clear for a column, and for options of tables where there is none.
    """
    if not is_table(Path(options.data)):
        _refuse_options(options)
        return data.load(options.data)
    if options.schema is not None:
        if options.max_levels or options.min_level_rows:
            raise DataError("--max-levels and --min-level-rows are for columns that no --schema describes")
        known = schema.read(options.schema)
        how = reading(options, known.missing)
        return data.from_table(opened(options, how), replace(known, label=options.label or known.label), how)
    how = reading(options)
    file = opened(options, how)
    guess = guessed(options, file, how)
    if first:
        say(options, *guess.lines()[:_MOST_LINES], *_more(len(guess.notes)))
    if guess.problems:
        raise DataError(guess.problems[0])
    for name, why in guess.left_out.items() if first else ():
        warn(f"column {name!r} is left out: {why}; a schema can say otherwise (vae-train schema)")
    return data.from_table(file, guess.schema, how)


def as_known(options: Namespace, known: Schema | None) -> Dataset:
    """
    What --data holds, for a bundle or a checkpoint that has the schema *known*; None: it takes no tables.

    Its label is looked for only where there is one, unless an option names it.
    """
    if known is None or not is_table(Path(options.data)):
        _refuse_options(options)
        return data.load(options.data)
    how = reading(options, known.missing)
    file = opened(options, how)
    label = options.label or known.label
    if known.label is not None:  # of the bundle; it is no column of the model, whether it is used or not
        known = replace(known, ignored=(*known.ignored, known.label))
    if options.label is None and label not in file.names:
        label = None
    return data.from_table(file, replace(known, label=label), how)


def _refuse_options(options: Namespace) -> None:
    for name in _OF_TABLES:
        if getattr(options, name, None) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise DataError(f"{flag} is for tables, {', '.join(SUFFIXES)}; {options.data} is none")


def _more(columns: int) -> list[str]:
    return [f"and {columns - _MOST_LINES:,} more; vae-train schema shows all"] if columns > _MOST_LINES else []
