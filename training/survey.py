"""
What is in each column of a table, seen from top to bottom, a block of rows at a time.

Knows numbers and texts; what they suggest is the question of infer.py. n rows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from training.cells import Cells, Codes, Floats, Reading, instant
from training.table_file import TableFile

MOST_LEVELS: Final = 100_000
"""Different texts of a column that are counted; beyond that they are only known to be many."""

_COMMA = re.compile(r"[+-]?\d+,\d+")


@dataclass
class SeenNumbers:
    """
    A column in which every value is a number.

    *low*, *high*, *total* and *squares* are of the values; *distinct* are the first three different ones. *whole*: all
    are whole. *steps*: each is the one before plus 1; *rises*: none is less than the one before. *infinite*: the first
    row that holds an infinity, and its text.
    """

    rows: int = 0
    missing: int = 0
    low: float = np.inf
    high: float = -np.inf
    total: float = 0.0
    squares: float = 0.0
    distinct: list[float] = field(default_factory=list)
    whole: bool = True
    steps: bool = True
    rises: bool = True
    infinite: tuple[int, str] | None = None
    _last: float | None = None

    @property
    def there(self) -> int:
        """How many rows have a value."""
        return self.rows - self.missing

    def add(self, first: int, cells: Cells, values: Floats) -> None:
        """The next rows, from row *first* on: (n,), NaN where missing."""
        observed = values[~np.isnan(values)]
        self.rows += len(values)
        self.missing += len(values) - len(observed)
        if not len(observed):
            return
        self.low, self.high = min(self.low, float(observed.min())), max(self.high, float(observed.max()))
        if np.isinf([self.low, self.high]).any():
            if self.infinite is None:
                at = int(np.argmax(np.isinf(values)))
                self.infinite = first + at, cells.text(at)
            return
        with np.errstate(over="ignore"):
            self.total += float(observed.sum())
            self.squares += float(np.square(observed).sum())
        self.whole = self.whole and bool((observed == np.rint(observed)).all())
        before = observed[0] - 1 if self._last is None else self._last
        steps = np.diff(observed, prepend=before)
        self.steps = self.steps and bool((steps == 1).all())
        self.rises = self.rises and bool((steps >= 0).all())
        self._last = float(observed[-1])
        while len(self.distinct) < 3:
            observed = observed[~np.isin(observed, self.distinct)]
            if not len(observed):
                break
            self.distinct.append(float(observed[0]))


@dataclass
class SeenTexts:
    """
    A column in which a value at least is no number.

    *levels*: the texts, and how many rows have each; *many*: they are more than MOST_LEVELS, and not kept. *instants*:
    all are ISO 8601 dates, from *low* to *high*, as texts *ends*; *rises*: none is before the one above it. *numbers*,
    *commas*: how many rows hold a number nevertheless, and how many one with a decimal comma. *stranger*: the first row
    that holds no number, and its text.
    """

    rows: int = 0
    missing: int = 0
    levels: dict[str, int] = field(default_factory=dict)
    many: bool = False
    instants: bool = True
    low: float = np.inf
    high: float = -np.inf
    ends: tuple[str, str] = ("", "")
    rises: bool = True
    numbers: int = 0
    commas: int = 0
    stranger: tuple[int, str] | None = None
    _last: float = -np.inf

    @property
    def there(self) -> int:
        """How many rows have a value."""
        return self.rows - self.missing

    def add(self, first: int, cells: Cells, reading: Reading) -> None:
        """The next rows, from row *first* on."""
        codes, distinct = cells.texts()
        observed = codes[codes >= 0]
        counts = np.bincount(observed, minlength=len(distinct)).tolist()
        self.rows += len(codes)
        self.missing += len(codes) - len(observed)
        strange = np.array([reading.number(text) is None for text in distinct], bool)
        if self.stranger is None and strange.any():
            at = int(np.argmax((codes >= 0) & strange[codes]))
            self.stranger = first + at, distinct[int(codes[at])]
        for text, rows, no_number in zip(distinct, counts, strange, strict=True):
            if not self.many:
                self.levels[text] = self.levels.get(text, 0) + rows
            if not no_number:
                self.numbers += rows
            elif _COMMA.fullmatch(text):
                self.commas += rows
        if len(self.levels) > MOST_LEVELS:
            self.many, self.levels = True, {}
        if self.instants and len(observed):
            self._see_instants(distinct, observed)

    def _see_instants(self, distinct: list[str], codes: Codes) -> None:
        times = [instant(text) for text in distinct]
        known = [when for when in times if when is not None]
        if len(known) < len(times):
            self.instants = False
            return
        low, high = int(np.argmin(known)), int(np.argmax(known))
        if known[low] < self.low:
            self.low, self.ends = known[low], (distinct[low], self.ends[1])
        if known[high] > self.high:
            self.high, self.ends = known[high], (self.ends[0], distinct[high])
        order = np.array(known)[codes]
        self.rises = self.rises and bool((np.diff(order, prepend=self._last) >= 0).all())
        self._last = float(order[-1])


Seen = SeenNumbers | SeenTexts


def survey(file: TableFile, names: Sequence[str], reading: Reading) -> dict[str, Seen]:
    """
    What is in the columns *names* of *file*.

    A column that turns out to be texts after its first block is read a second time, as texts from the start.
    """
    found: dict[str, Seen] = {}
    again, late = list(names), set[str]()
    while again:
        seen: dict[str, Seen] = {name: SeenTexts() if name in late else SeenNumbers() for name in again}
        late = set()
        for first, block in file.blocks(again):
            for name, cells in block.items():
                so_far = seen[name]
                if isinstance(so_far, SeenNumbers):
                    values = cells.numbers()
                    if values is not None:
                        so_far.add(first, cells, values)
                        continue
                    if so_far.there:
                        late.add(name)
                    so_far = seen[name] = SeenTexts(so_far.rows, so_far.missing)
                if name not in late:
                    so_far.add(first, cells, reading)
        found |= seen
        again = [name for name in again if name in late]
    return {name: found[name] for name in names}
