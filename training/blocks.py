"""
Who sees which window: runs of readings are cut into blocks of time, and the blocks are dealt out by seed.

Windows that overlap share readings, and windows that follow each other are alike. So none is dealt out by itself: each
part has whole blocks, with a window's length of readings that nobody sees between two parts. Windows of calibration and
test do not overlap, so that each is as good as one more row. Knows places in time; nothing of values.
"""

from __future__ import annotations

import itertools
import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.errors import DataError
from training.split import MIN_ROWS, MOST_HELD_OUT, Fractions, Rows, Split

BLOCKS: Final = 20
"""Blocks that the readings are cut into, where these are long enough."""

LEAST_WINDOWS: Final = 4
"""Windows' lengths of readings in a block, at least."""

_PARTS = ("train", "validation", "calibration", "test")


class Places(NamedTuple):
    """Where n windows of *length* readings are: the *run* of each, and its *first* reading in that, (n,) each."""

    run: Rows
    first: Rows
    length: int

    def take(self, rows: NDArray[np.generic]) -> Places:
        """The places of some windows."""
        return Places(self.run[rows], self.first[rows], self.length)


class _Stretch(NamedTuple):
    """Readings of one run that lie in one part: from *start* to before *stop*."""

    run: int
    start: int
    stop: int


def split_windows(places: Places, fractions: Fractions, seed: int) -> Split:
    """
    Deal windows out by *seed*: row numbers by part, ascending and disjoint; some are in none.

    Raises DataError where the readings are too few for the fractions.
    """
    blocks = _blocks(places)
    shares = {name: float(getattr(fractions, name)) for name in _PARTS[1:]}
    wanted = 1 + sum(share > 0 for share in shares.values())
    if len(blocks) < wanted:
        raise DataError(
            f"the readings make {len(blocks)} blocks of {LEAST_WINDOWS} windows' length; at least {wanted} are needed, "
            "one for each part: a shorter --window, or more readings"
        )
    part = _dealt([block.stop - block.start for block in blocks], shares, seed)
    found: dict[str, list[Rows]] = {name: [] for name in _PARTS}
    for name, stretch in _joined(blocks, part, places.length):
        inside = (places.run == stretch.run) & (places.first >= stretch.start)
        found[name].append(np.flatnonzero(inside & (places.first + places.length <= stretch.stop)))
    rows = {name: np.sort(np.concatenate([np.zeros(0, np.int64), *some])) for name, some in found.items()}
    for name in ("calibration", "test"):
        rows[name] = rows[name][apart(places.take(rows[name]))]
    for name in _PARTS[1:]:
        rows[name] = rows[name][:: max(1, math.ceil(len(rows[name]) / MOST_HELD_OUT))]
        if not len(rows[name]) and shares[name]:
            raise DataError(f"no window is left for {name} between blocks of other parts: more readings are needed")
    if len(rows["train"]) < MIN_ROWS:
        raise DataError(f"{len(rows['train'])} windows are left to train on; at least {MIN_ROWS} are needed")
    return Split(**rows)


def apart(places: Places) -> Rows:
    """Which windows to keep so that no two of a run share a reading: the first of each, and so on: (m,)."""
    kept: list[int] = []
    order = np.lexsort((places.first, places.run))
    last: tuple[int, int] | None = None
    for row in order.tolist():
        run, first = int(places.run[row]), int(places.first[row])
        if last is None or run != last[0] or first >= last[1]:
            kept.append(row)
            last = run, first + places.length
    return np.sort(np.array(kept, np.int64))


def _blocks(places: Places) -> list[_Stretch]:
    """Each run cut into blocks of about equal length: a twentieth of all readings, and 4 windows' length at least."""
    runs = np.unique(places.run)
    length = {int(run): int(places.first[places.run == run].max()) + places.length for run in runs}
    size = max(LEAST_WINDOWS * places.length, math.ceil(sum(length.values()) / BLOCKS))
    blocks = []
    for run, readings in length.items():
        ends = np.linspace(0, readings, max(1, readings // size) + 1).astype(int).tolist()
        blocks += [_Stretch(run, start, stop) for start, stop in itertools.pairwise(ends)]
    return blocks


def _dealt(sizes: list[int], shares: dict[str, float], seed: int) -> list[str]:
    """The part of each block: as near to the *shares* of all readings as whole blocks go, one block at least."""
    part = ["train"] * len(sizes)
    order = np.random.default_rng([seed, 1]).permutation(len(sizes)).tolist()
    for name, share in shares.items():
        target, got = share * sum(sizes), 0.0
        while share and order and (not got or got + sizes[order[-1]] / 2 <= target):
            part[order[-1]] = name
            got += sizes[order.pop()]
    if "train" not in part:
        raise DataError("the validation, calibration and test fractions leave no block to train on")
    return part


def _joined(blocks: list[_Stretch], part: list[str], gap: int) -> list[tuple[str, _Stretch]]:
    """Neighbours of one part as one; behind the boundary to another part a *gap* of readings is left out."""
    joined: list[tuple[str, _Stretch]] = []
    for name, block in zip(part, blocks, strict=True):
        before = joined[-1] if joined and joined[-1][1].run == block.run else None
        if before is not None and before[0] == name:
            joined[-1] = name, before[1]._replace(stop=block.stop)
        else:
            joined.append((name, block if before is None else block._replace(start=block.start + gap)))
    return joined
