"""The columns of a table as figures show them: names, levels, units. Columns are user data. C columns."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.report.drawing import plain
from training.report.levels import level_names
from training.report.material import Material

Floats = NDArray[np.float64]

MOST_COLUMNS: Final = 9
"""Columns that have a figure of their own in a section."""


class Columns:
    """
    What is known of each of C columns, by index; features of an array are columns of numbers.

    *names*: to be cut to what there is room for. *levels*: of categories, ordinal and binary columns what they are
    called, in the order of their numbers; none of numbers. *by_level*: whether a level is expected of it, and not a
    mean or a probability. *whole*: whether its values are whole numbers.
    """

    def __init__(self, material: Material) -> None:
        inputs = material.manifest.inputs
        columns = inputs.columns or ()
        self._material = material
        self.names = [plain(name, 200) for name in inputs.names]
        self.levels: list[list[str]] = [[] for _ in self.names]
        self.by_level = [False for _ in self.names]
        self.whole = [False for _ in self.names]
        for c, column in enumerate(columns):
            self.levels[c] = level_names(column) if column.kind in ("categorical", "ordinal", "binary") else []
            self.by_level[c] = bool(material.unordered[c]) or column.kind == "ordinal"
            self.whole[c] = column.kind in ("count", "integer")

    def __len__(self) -> int:
        return len(self.names)

    def unit(self, c: int) -> str:
        """Of its values, "" where it has none."""
        columns = self._material.manifest.inputs.columns
        return plain((columns[c].unit if columns else None) or "", 20)

    def original(self, c: int, u: Floats) -> Floats:
        """Back to original units: from `Material.standardised` values that are near enough to draw."""
        center, scale = self._material.units
        found: Floats = u * scale[c] + center[c]
        return found


def cut(shown: int, total: int, which: str) -> str:
    """A sentence where not all columns are drawn, and otherwise none."""
    return f"{shown} of {total:,} columns are drawn: {which}." if shown < total else ""
