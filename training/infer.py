"""
What a column is, by what was seen of it: its kind, its vocabulary, or why it is left out.

It guesses, and says what it guessed; a schema that was edited says what is. Nothing here is ordinal: texts do not tell
that they have an order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from service.inputs import Column
from training.cells import Reading, number_text
from training.coding import unread
from training.errors import DataError
from training.schema import Schema
from training.survey import MOST_LEVELS, Seen, SeenNumbers, SeenTexts, survey
from training.table_file import TableFile

MAX_LEVELS: Final = 1000
LEVEL_ROWS: Final = 5

_TRUTHS = {"true", "false"}
_MOST_COUNT = 1e6  # above that a normal is as good
_EPOCHS = (1e8, 4.2e9)  # seconds: 1973 to 2103
_TIME_NAME = re.compile(r"(^|[^a-z])(time|timestamp|ts|date|datetime|epoch|unix)([^a-z]|$)|_at$")
_LABEL_NAME = re.compile(
    r"y|(.*[^a-z])?(is)?(label|target|class|anomal(y|ous)|outlier|abnormal|fault|failure|fraud|attack)([^a-z].*)?"
)
_INDEX_ROWS = 20


@dataclass(frozen=True)
class Levels:
    """*most*: levels of a categorical column. *rows*: of a level; those with fewer are together "another one"."""

    most: int = MAX_LEVELS
    rows: int = LEVEL_ROWS


@dataclass(frozen=True)
class Found:
    """
    A guess at one column.

    *column*: what it is taken for; None: it is left out. *note*: what was seen, in words. *problem*: why nobody but the
    user can say what it is; *row*: the row, from 0, that shows it.
    """

    note: str
    column: Column | None = None
    problem: str | None = None
    row: int | None = None


def infer(name: str, seen: Seen, instants: bool, levels: Levels) -> Found:
    """
    The guess at column *name*, of which *seen* was seen. *instants*: the file stores dates in it.

    A column without any value, or of numbers with a few texts among them, is a problem.
    """
    if not seen.there:
        return Found("no value in any row", problem="every value is missing: leave it out with use = false in a schema")
    found = _numbers(name, seen, instants) if isinstance(seen, SeenNumbers) else _texts(name, seen, levels)
    if not seen.missing or found.column is None:
        return found
    column = found.column.model_copy(update={"missing": True})
    return Found(f"{found.note}; {seen.missing:,} of {seen.rows:,} values missing", column)


def _numbers(name: str, seen: SeenNumbers, instants: bool) -> Found:
    if seen.infinite is not None:
        row, text = seen.infinite
        return Found("infinite values", problem=f"{text!r} is not a finite number", row=row)
    low, high = number_text(seen.low), number_text(seen.high)
    if instants:
        ends = [str(np.datetime64(int(seconds), "s")) for seconds in (seen.low, seen.high)]
        return Found(f"dates, {ends[0]} to {ends[1]}{_rising(seen)}", Column(name=name, time="iso8601"))
    if seen.low == seen.high:
        return Found(f"constant: always {low}", Column(name=name))
    return _whole_numbers(name, seen, low, high) if seen.whole else Found(f"{low} to {high}", Column(name=name))


def _whole_numbers(name: str, seen: SeenNumbers, low: str, high: str) -> Found:
    if seen.steps and seen.low in (0, 1) and not seen.missing and seen.rows >= _INDEX_ROWS:
        return Found(f"{low} to {high} by ones: it numbers the rows")
    if len(seen.distinct) == 2:
        words = None if sorted(seen.distinct) == [0, 1] else tuple(map(number_text, sorted(seen.distinct)))
        return Found(f"{low} and {high}", Column(name=name, kind="binary", vocabulary=words))
    if _EPOCHS[0] <= seen.low and seen.high <= _EPOCHS[1] and _TIME_NAME.search(name.lower()):
        return Found(f"times, {low} to {high} s since 1970{_rising(seen)}", Column(name=name, time="epoch"))
    if _looks_like_counts(seen):
        return Found(f"counts up to {high}, mean {seen.total / seen.there:.3g}", Column(name=name, kind="count"))
    return Found(f"whole numbers, {low} to {high}", Column(name=name))


def _rising(seen: Seen) -> str:
    """A word on times that only rise: what comes later is beyond all that was learned."""
    return "; they only rise, so later rows will look anomalous" if seen.rises and seen.low < seen.high else ""


def _looks_like_counts(seen: SeenNumbers) -> bool:
    """
    Whole numbers from 0 on with a long tail upwards, spread as widely as a Poisson's or more widely.

    So neither marks from 0 to 5, nor codes, nor whole numbers spread evenly.
    """
    if not (seen.low == 0 and seen.high <= _MOST_COUNT):
        return False
    mean = seen.total / seen.there
    variance = seen.squares / seen.there - mean**2
    return variance >= 0.75 * mean and mean <= 0.45 * seen.high


def _texts(name: str, seen: SeenTexts, levels: Levels) -> Found:
    if seen.instants:
        return Found(f"dates, {seen.ends[0]} to {seen.ends[1]}{_rising(seen)}", Column(name=name, time="iso8601"))
    row, text = seen.stranger or (0, "")
    if 2 * seen.commas >= seen.there:
        return Found("decimal commas", problem=f"{text!r} has a decimal comma: --decimal comma reads it", row=row)
    if 2 * seen.numbers >= seen.there:
        others = (
            f"{text!r} is not a number, and {seen.numbers:,} of {seen.there:,} values are: mend it, make it a word for "
            "a missing value with --missing, or say in a schema what the column is"
        )
        return Found("numbers, and texts among them", problem=others, row=row)
    if not seen.many and {level.lower() for level in seen.levels} <= _TRUTHS and len(seen.levels) <= 2:
        return Found("true and false", Column(name=name, kind="binary"))
    if len(seen.levels) == 2:
        words = tuple(sorted(seen.levels))
        return Found(_rows_of(words, seen), Column(name=name, kind="binary", vocabulary=words))
    return _categories(name, seen, levels)


def _categories(name: str, seen: SeenTexts, levels: Levels) -> Found:
    kept = tuple(sorted(level for level, rows in seen.levels.items() if rows >= levels.rows or len(seen.levels) == 1))
    rare = len(seen.levels) - len(kept)
    held = sum(seen.levels[level] for level in kept)
    if seen.many or 2 * held < seen.there:
        many = f"more than {MOST_LEVELS:,}" if seen.many else f"{len(seen.levels):,}"
        most = f"most of them in fewer than {levels.rows}"
        return Found(f"{many} different texts in {seen.there:,} rows, {most}: an identifier, or free text")
    if len(kept) > levels.most:
        return Found(f"{len(kept):,} categories, more than --max-levels {levels.most:,}")
    column = Column(name=name, kind="categorical", vocabulary=kept, unknown="other" if rare else "reject")
    others = f"; {rare:,} rare ones together are another one" if rare else ""
    return Found(_rows_of(kept, seen) + others, column)


def _rows_of(words: Iterable[str], seen: SeenTexts) -> str:
    words = tuple(words)
    if len(words) == 1 and len(seen.levels) == 1:
        return f"constant: always {words[0]!r}"
    shown = ", ".join(f"{word!r} {seen.levels[word]:,}" for word in words[:5])
    return f"{len(words):,} categories: {shown}{', ...' if len(words) > 5 else ''}"


def looks_like_label(column: Column) -> bool:
    """Whether *column*, by its name and by being 0 or 1, seems to say which rows are anomalies."""
    zero_or_one = column.kind == "binary" and column.vocabulary is None
    return zero_or_one and _LABEL_NAME.fullmatch(column.name.lower()) is not None


@dataclass(frozen=True)
class Guess:
    """
    A schema that was inferred.

    *notes*: what was seen of each column. *left_out*: why a column is ignored. *problems*: what the user must decide,
    each a whole line; the schema ignores these columns.
    """

    schema: Schema
    notes: dict[str, str]
    left_out: dict[str, str]
    problems: tuple[str, ...]

    def lines(self) -> list[str]:
        """One line a column: its kind and what was seen."""
        kinds = {column.name: column.kind for column in self.schema.columns}
        return [f"{name}: {kinds.get(name, 'left out')}: {note}" for name, note in self.notes.items()]


def guess_schema(file: TableFile, reading: Reading, label: str | None = None, levels: Levels | None = None) -> Guess:
    """The schema of *file*, but for its column *label*. Raises DataError where no column is left."""
    if label is not None and label not in file.names:
        raise DataError(f"{file.name}: no column {label!r}, which is to be the label")
    readable = [name for name in file.names if name != label and name not in file.unread]
    if not readable and not file.unread:
        raise DataError(f"{file.name}: no column but the label")
    seen = survey(file, readable, reading)
    found = {name: infer(name, seen[name], name in file.instants, levels or Levels()) for name in readable}
    found |= {
        name: Found(f"of type {kind}", problem=unread(kind)) for name, kind in file.unread.items() if name != label
    }
    found = {name: found[name] for name in file.names if name in found}
    columns = tuple(guess.column for guess in found.values() if guess.column is not None)
    problems = []
    for name, guess in found.items():
        if guess.problem is not None:
            where = "" if guess.row is None else f"{file.where(guess.row)}, "
            problems.append(f"{file.name}: {where}column {name!r}: {guess.problem}")
    left_out = {name: guess.note for name, guess in found.items() if guess.column is None and guess.problem is None}
    if not columns and not problems:
        name, why = next(iter(left_out.items()))
        raise DataError(f"{file.name}: every column is left out: {name!r}, for one, holds {why}")
    ignored = tuple(name for name, guess in found.items() if guess.column is None)
    notes = {name: guess.problem or guess.note for name, guess in found.items()}
    schema = Schema(columns, ignored, label, reading.missing, "the inferred schema")
    return Guess(schema, notes, left_out, tuple(problems))
