"""Samples of a table's model beside data, column by column. Columns are user data. C columns, n rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.report.columns import MOST_COLUMNS, Columns, cut
from training.report.drawing import DATA, MODEL, Inline, plain, plot, steps, within
from training.report.levels import bars, chance, counts, shares, total_variation
from training.report.material import Material
from training.report.page import Key, Panel, Section, Verdict

Floats = NDArray[np.float64]

_KOLMOGOROV: Final = 1.358
"""The 95 % quantile of the Kolmogorov distribution, the limit of sqrt(n m / (n + m)) D (Smirnov 1948)."""


class Marginals:
    """Draws the distribution of each column of one table's model."""

    def __init__(self, material: Material, inline: Inline) -> None:
        self._material, self._inline = material, inline
        self._columns = Columns(material)

    def samples(self, section: Section, z: Floats) -> Section:
        """Each column's distribution in draws of the model beside that in the data, with their distance."""
        material = self._material
        if not len(material.rows):
            return replace(section, missing="there are no held-out rows to compare samples with")
        if not material.draws:
            why = "this bundle has no graph that draws from p(x|z): vae-train export writes one with it"
            return replace(section, missing=why)
        real = material.rows.reshape(len(material.rows), -1).astype(np.float64)
        made = material.draw(z, 14)
        far, within_chance = (np.array(found) for found in zip(*self._distances(real, made), strict=True))
        off = np.where(far > within_chance, far, 0.0)
        varies = np.flatnonzero(np.fmax.reduce(real) > np.fmin.reduce(real))  # any noise is far from a constant
        if not len(varies):
            return replace(section, missing="no column varies in the held-out rows")
        order = varies[np.argsort(-(far - within_chance)[varies], kind="stable")]
        chosen = order[:MOST_COLUMNS]
        panels = tuple(self._marginals(int(c), real[:, c], made[:, c], float(far[c])) for c in chosen)
        look = (
            "Rows made up by the model (a draw of the prior, and for it one of p(x|z), each column of its own family) "
            "beside held-out rows, one column at a time. The distance is Kolmogorov and Smirnov's, of categories the "
            "total variation: 0 is the same distribution, 1 has nothing in common."
        )
        worst = ", ".join(f"{plain(self._columns.names[c], 36)} {far[c]:.2f}" for c in order[:3])
        limits = f"{within_chance[varies].min():.2f}"
        if within_chance[varies].max() > within_chance[varies].min() + 0.005:
            limits += f" to {within_chance[varies].max():.2f}, by column"
        text = (
            f"{int((off[varies] > 0).sum())} of {len(varies):,} columns are further off than chance would put them 5 "
            f"times in 100 ({limits}); the furthest: {worst}."
        )
        keys = (Key("data", f"{len(real):,} held-out rows", "area"), Key("model", f"{len(made):,} samples"))
        note = cut(len(chosen), len(far), "those that are furthest off")
        note += " The service's sample answers with the mean of p(x|z), which has less spread than these draws."
        if np.isnan(real).any():
            note += " Samples are complete; of the held-out rows only what is there is counted."
        verdicts = (Verdict(text, "good" if np.median(off[varies]) <= 0.1 and off[varies].max() <= 0.3 else "watch"),)
        return replace(section, look=look, verdicts=verdicts, keys=keys, panels=panels, note=note.strip())

    def _distances(self, real: Floats, made: Floats) -> Iterator[tuple[float, float]]:
        """Of each column how far samples are from the data, and what chance stays within 95 times in 100."""
        for c in range(real.shape[1]):
            if self._material.unordered[c]:
                seen = [counts(values[:, c], len(self._columns.levels[c])) for values in (real, made)]
                a, b = (each / max(1, int(each.sum())) for each in seen)
                yield total_variation(a, b), chance(seen[0], seen[1], self._material.seed)
            else:
                there = int((~np.isnan(real[:, c])).sum())
                yield kolmogorov_smirnov(real[:, c], made[:, c]), distance_by_chance(max(1, there), len(made))

    def _marginals(self, c: int, real: Floats, made: Floats, far: float) -> Panel:
        real, words = real[~np.isnan(real)], f"distance {far:.2f}"
        alt = f"{self._columns.names[c]}: samples beside held-out rows, {words}"
        if names := self._columns.levels[c]:
            data, model = (shares(values, len(names)) for values in (real, made))
            figure = bars(self._columns.names[c], names, data, model, in_order=not self._material.unordered[c])
            return Panel(self._inline(figure, alt), words)
        figure, axes = plot(self._columns.names[c], self._columns.unit(c), "", width=3.3, height=2.1, left=0.2)
        axes.yaxis.set_visible(False)
        axes.spines["left"].set_visible(False)
        at = self._edges(c, real)
        heights = [np.histogram(values, at)[0] / len(values) for values in (real, made)]
        steps(axes, at, heights[0], DATA, filled=True)
        steps(axes, at, heights[1], MODEL)
        within(axes, (at[0], at[-1]), (0, max(float(h.max()) for h in heights)), 0.02)
        return Panel(self._inline(figure, alt), words)

    def _edges(self, c: int, real: Floats) -> Floats:
        """Of the bars of a histogram: 32 of them, or fewer of which each is of as many whole numbers."""
        low, high = np.quantile(real, [0.003, 0.997])
        if self._columns.whole[c]:
            room = np.ceil(0.35 * (high - low)) + 1
            width = max(1.0, np.ceil((high - low + 2 * room) / 32))
            first, last = np.floor(low - room) - 0.5, high + room
            if np.fmin.reduce(real) >= 0:
                first = max(first, -0.5)
            edges: Floats = np.arange(first, last + width, width)
            return edges
        room = 0.35 * (high - low) or 0.5 * float(self._material.units[1][c])
        return np.linspace(low - room, high + room, 33)


def kolmogorov_smirnov(a: Floats, b: Floats) -> float:
    """The largest difference of the two empirical distribution functions, 0 to 1; NaN is a missing value."""
    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    if not len(a):
        return 0.0
    at = np.concatenate([a, b])
    one, other = (np.searchsorted(np.sort(x), at, side="right") / len(x) for x in (a, b))
    return float(np.abs(one - other).max())


def distance_by_chance(rows: int, others: int) -> float:
    """The `kolmogorov_smirnov` that two samples of one distribution, of so many rows, stay within 95 times in 100."""
    return _KOLMOGOROV * math.sqrt(1 / rows + 1 / others)
