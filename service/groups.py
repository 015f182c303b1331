"""
Groups: rows that are judged by calibration rows of their own kind, by the value of one column.

Where a group has too few calibration rows for what was asked, its rows are judged by all of their mask bin, and that is
said. Knows the manifest and rows; no scores. B rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service import calibration
from service.calibrated import ALL, Calibrated, Groups
from service.inputs import Inputs
from service.manifest import Manifest

Array = NDArray[np.generic]
Indices = NDArray[np.int64]

NONE, UNKNOWN = -1, -2
"""The indices of rows whose value of the column is missing, and of those that have a value of no group."""


def groups_of(x: Array, inputs: Inputs, groups: Groups) -> Indices:
    """The group of each row, by index: (B, C) -> (B,)."""
    value = np.asarray(x[:, inputs.names.index(groups.column)], np.float64)
    known = np.asarray(range(len(groups.names)) if groups.values is None else groups.values, np.float64)
    at = np.searchsorted(known, value).clip(max=len(known) - 1)
    return np.where(np.isnan(value), NONE, np.where(known[at] == value, at, UNKNOWN))


class Grouping:
    """What *manifest* is calibrated for by group; without groups all rows are NONE."""

    def __init__(self, manifest: Manifest) -> None:
        self._inputs, self._groups = manifest.inputs, manifest.groups
        self.names = () if manifest.groups is None else manifest.groups.names
        index = {name: at for at, name in enumerate(self.names)}
        self._entries = {
            (entry.kind, entry.samples, index[entry.group], entry.mask_bin): entry
            for entry in manifest.calibrated
            if entry.group != ALL
        }

    def __bool__(self) -> bool:
        return self._groups is not None

    def of(self, x: Array) -> Indices:
        """The group of each row, by index: (B, *shape) -> (B,)."""
        return np.full(len(x), NONE) if self._groups is None else groups_of(x, self._inputs, self._groups)

    def judge(self, entry: Calibrated, group: int, alpha: float, fdr: float | None = None) -> tuple[Calibrated, str]:
        """
        By which calibration rows a *group* is judged, and why it is not by its own; nothing where it is.

        *entry*: of all rows, of the score and the mask bin that it is about. A group judges its rows where it has rows
        enough for *alpha*, and for *fdr* where there is one.
        """
        if self._groups is None:
            return entry, ""
        if group < 0:
            column = self._groups.column
            return entry, f"{column} is missing" if group == NONE else f"no group has this value of {column}"
        own = self._entries.get((entry.kind, entry.samples, group, entry.mask_bin))
        lacking = "that lack about as many values" if entry.mask_bin else ""
        if own is None:
            return entry, " ".join(filter(None, (self.names[group], "has no calibration rows", lacking)))
        for name, level in (("alpha", alpha), ("fdr", fdr)):
            if level is not None and own.rows < (needed := calibration.rows_needed(level)):
                have = " ".join(filter(None, (f"{own.group} has {own.rows} calibration rows", lacking)))
                return entry, f"{have}; {name} {level:g} needs {needed}"
        return own, ""
