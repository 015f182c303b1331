"""The reconstructions of a table's model: observed beside expected, column by column. Columns are user data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from training.report.columns import MOST_COLUMNS, Columns, cut
from training.report.drawing import MODEL, MUTED, Inline, dots, plain, plot, within
from training.report.levels import bars, named_right, shares
from training.report.material import Material
from training.report.page import Cell, Key, Panel, Section, Table, Verdict
from training.report.wording import percent

Floats = NDArray[np.float64]

_MOST_ROWS = 30
_DOTS = 300
_DOTS_SAY = (
    "Each dot is a held-out row: its value across, what the model expects after seeing the row upwards. On the "
    "diagonal the two agree; a flat cloud is a column that the latents do not carry."
)
_BARS_SAY = (
    "Of columns of named levels the area is how many rows have a level, the outline in how many of these the model "
    "expects it after seeing the row."
)
_LAMBDA = (
    "What is explained of a category is the share of the errors of always naming the most frequent level that the "
    "model does not make (Goodman and Kruskal's lambda); of all else, of the variance."
)


class Tables:
    """Draws the sections of one table's model that go column by column."""

    def __init__(self, material: Material, inline: Inline) -> None:
        self._material, self._inline = material, inline
        self._columns = Columns(material)

    def reconstructions(self, section: Section) -> Section:
        """Observed against expected, the worst explained columns first; how often the 95 % intervals hold."""
        material = self._material
        rows = material.rows.reshape(len(material.rows), -1)
        expected, lower, upper = material.expected(material.rows)
        observed = rows.astype(np.float64)
        inside = _mean((observed >= lower) & (observed <= upper), observed)
        u, v = material.standardised(observed), material.standardised(expected)
        spread = _mean(np.square(u - _mean(u, u)), u)
        share = 1 - _mean(np.square(u - v), u) / np.where(spread > 0, spread, 1)
        for c in np.flatnonzero(material.unordered):
            inside[c], _, share[c] = named_right(observed[:, c], expected[:, c])
        varies = np.flatnonzero(spread > 1e-18)
        order = varies[np.argsort(share[varies], kind="stable")]
        chosen = _ends(order)
        dealt = np.random.default_rng([material.seed, 13]).permutation(len(rows))
        panels = [
            self._found(c, observed[:, c], expected[:, c], float(share[c]), float(inside[c]))
            if self._columns.by_level[c]
            else self._scatter(c, u[dealt, c], v[dealt, c], float(share[c]), float(inside[c]))
            for c in chosen
        ]
        look = ""
        keys: tuple[Key, ...] = ()
        if not all(self._columns.by_level):
            look = _DOTS_SAY
            keys += (Key("model", "held-out rows", "dot"), Key("muted", "observed = expected"))
        if any(self._columns.by_level):
            look = f"{look} {_BARS_SAY}".strip()
            keys += (Key("data", "rows of a level", "area"), Key("model", "of these, expected to be of it"))
        note = cut(len(chosen), len(self._columns), "the worst explained and the best explained")
        if len(varies) < len(self._columns):
            still = len(self._columns) - len(varies)
            note += f" Left out, because {'it does' if still == 1 else 'they do'} not vary in these rows: {still}."
        if material.unordered.any():
            note += f" {_LAMBDA}"
        table = self._explained(order, share, inside)
        verdicts = self._said(order, share, inside)
        return replace(
            section, look=look, verdicts=verdicts, keys=keys, panels=tuple(panels), tables=table, note=note.strip()
        )

    def _scatter(self, c: int, u: Floats, v: Floats, share: float, inside: float) -> Panel:
        """Of the rows, in the order dealt, the first that have the column: one that few have is drawn as well."""
        there = np.flatnonzero(~np.isnan(u))[:_DOTS]
        x, y = self._columns.original(c, u[there]), self._columns.original(c, v[there])
        figure, axes = plot(self._columns.names[c], "observed", "expected", width=3.3, height=2.5, left=0.55)
        low, high = np.quantile(np.concatenate([x, y]), [0.005, 0.995])
        within(axes, (low, high), (low, high), 0.06)
        axes.plot(axes.get_xlim(), axes.get_xlim(), color=MUTED, linewidth=0.8)
        dots(axes, x, y, MODEL)
        words = f"{percent(share)} of the variance explained, {percent(inside)} inside the 95\u00a0% interval"
        return Panel(self._inline(figure, f"{self._columns.names[c]}: observed against expected, {words}"), words)

    def _found(self, c: int, observed: Floats, expected: Floats, share: float, inside: float) -> Panel:
        """Of named levels: how many rows have each, and in how many of these it is expected."""
        names, there = self._columns.levels[c], ~np.isnan(observed)
        right = np.where(there & (observed == expected), observed, np.nan)
        data = shares(observed, len(names))
        model = shares(right, len(names)) * float((~np.isnan(right)).sum() / max(1, there.sum()))
        figure = bars(self._columns.names[c], names, data, model, in_order=not self._material.unordered[c])
        words = f"{percent(share)} of the variance explained, {percent(inside)} inside the 95\u00a0% interval"
        if self._material.unordered[c]:
            words = f"{percent(inside)} named right, {percent(float(data.max()))} by always naming the most frequent"
        return Panel(self._inline(figure, f"{self._columns.names[c]}: levels observed and expected, {words}"), words)

    def _said(self, order: NDArray[np.int64], share: Floats, inside: Floats) -> tuple[Verdict, ...]:
        if not len(order):
            return (Verdict("No column varies in these rows.", "watch"),)
        categories = self._material.unordered[order]
        numbers, names = order[~categories], order[categories]
        found = []
        if len(numbers):
            typical, whole = float(np.median(share[numbers])), float(inside[numbers].mean())
            text = f"Of the typical column's variance, {percent(typical)} is explained."
            found.append(Verdict(text, "good" if typical > 0.5 else "watch"))
            low = int(numbers[np.argmin(inside[numbers])])
            name = plain(self._columns.names[low], 36)
            text = (
                f"The 95\u00a0% intervals hold {percent(whole, 1)} of the values, least in {name} "
                f"({percent(inside[low], 1)}). The model has seen the row, so more than 95\u00a0% is usual."
            )
            found.append(Verdict(text, "good" if whole >= 0.93 else "watch"))
        if len(names):
            typical, low = float(np.median(share[names])), int(names[np.argmin(share[names])])
            text = (
                f"Of the typical category column, {percent(typical)} is explained; the least in "
                f"{plain(self._columns.names[low], 36)} ({percent(share[low])}, {percent(inside[low])} named right)."
            )
            found.append(Verdict(text, "good" if typical > 0.5 else "watch"))
        return tuple(found)

    def _explained(self, order: NDArray[np.int64], share: Floats, inside: Floats) -> tuple[Table, ...]:
        """All columns in two figures each, when the panels do not show them all."""
        if len(order) <= MOST_COLUMNS:
            return ()
        rows = tuple(
            (
                Cell(plain(self._columns.names[c], 32)),
                Cell(percent(share[c]), share=float(np.clip(share[c], 0, 1))),
                Cell(percent(inside[c], 1)),
            )
            for c in order[:_MOST_ROWS]
        )
        caption = "Worst explained first." + (
            f" {_MOST_ROWS} of {len(order):,} columns." if len(order) > _MOST_ROWS else ""
        )
        return (Table(("column", self._explains(), self._holds()), rows, caption=caption, after=True),)

    def _explains(self) -> str:
        return "explained" if self._material.unordered.any() else "variance explained"

    def _holds(self) -> str:
        return f"in the 95\u00a0% interval{', or named right' if self._material.unordered.any() else ''}"


def _mean(values: NDArray[np.generic], like: Floats) -> Floats:
    """The mean of each column over the rows where *like* is not NaN: (n, C), (n, C) -> (C,)."""
    there = ~np.isnan(like)
    total: Floats = np.where(there, values.astype(np.float64), 0.0).sum(axis=0)
    mean: Floats = total / np.maximum(1, there.sum(axis=0))
    return mean


def _ends(order: NDArray[np.int64]) -> list[int]:
    """All of *order*, or MOST_COLUMNS from its two ends."""
    if len(order) <= MOST_COLUMNS:
        return [int(c) for c in order]
    best = MOST_COLUMNS // 2
    return [int(c) for c in (*order[: MOST_COLUMNS - best], *order[-best:])]
