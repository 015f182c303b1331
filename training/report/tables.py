"""The pictures of a table's model: observed beside expected, samples beside data. Columns are user data. C columns."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.report.drawing import DATA, MODEL, MUTED, Inline, dots, plain, plot, steps, within
from training.report.material import Material
from training.report.page import Cell, Key, Panel, Section, Table, Verdict
from training.report.wording import percent

Floats = NDArray[np.float64]

MOST_COLUMNS: Final = 9
"""Columns that have a figure of their own in a section."""

_MOST_ROWS = 30
_DOTS = 300


class Tables:
    """Draws the sections of one table's model that go column by column."""

    def __init__(self, material: Material, inline: Inline) -> None:
        self._material, self._inline = material, inline
        self._names = [plain(name, 200) for name in material.manifest.inputs.names]

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
        varies = np.flatnonzero(spread > 1e-18)
        order = varies[np.argsort(share[varies], kind="stable")]
        chosen = _ends(order)
        some = np.sort(np.random.default_rng([material.seed, 13]).permutation(len(rows))[:_DOTS])
        panels = [self._scatter(c, u[some, c], v[some, c], float(share[c]), float(inside[c])) for c in chosen]
        look = (
            "Each dot is a held-out row: its value across, what the model expects after seeing the row upwards. On the "
            "diagonal the two agree; a flat cloud is a column that the latents do not carry."
        )
        note = _cut(len(chosen), len(self._names), "the worst explained and the best explained")
        if len(varies) < len(self._names):
            still = len(self._names) - len(varies)
            note += f" Left out, because {'it does' if still == 1 else 'they do'} not vary in these rows: {still}."
        table = self._explained(order, share, inside)
        keys = (Key("model", "held-out rows", "dot"), Key("muted", "observed = expected"))
        verdicts = self._said(order, share, inside)
        return replace(
            section, look=look, verdicts=verdicts, keys=keys, panels=tuple(panels), tables=table, note=note.strip()
        )

    def samples(self, section: Section, z: Floats) -> Section:
        """Each column's distribution in draws of the model beside that in the data, with their distance."""
        material = self._material
        if not len(material.rows):
            return replace(section, missing="there are no held-out rows to compare samples with")
        real = material.standardised(material.rows.reshape(len(material.rows), -1))
        made = material.standardised(material.draw(z, 14))
        far = np.array([kolmogorov_smirnov(real[:, c], made[:, c]) for c in range(real.shape[1])])
        varies = np.flatnonzero(np.fmax.reduce(real) > np.fmin.reduce(real))  # any noise is far from a constant
        if not len(varies):
            return replace(section, missing="no column varies in the held-out rows")
        order = varies[np.argsort(-far[varies], kind="stable")]
        chosen = order[:MOST_COLUMNS]
        panels = tuple(self._marginals(int(c), real[:, c], made[:, c], float(far[c])) for c in chosen)
        look = (
            "Rows made up by the model (a draw of the prior, decoded, with the noise of p(x|z)) beside held-out rows, "
            "one "
            "column at a time. The distance is Kolmogorov and Smirnov's: 0 is the same distribution, 1 has nothing in "
            "common."
        )
        chance = 1.358 * float(np.sqrt(1 / len(real) + 1 / len(made)))
        beyond = int((far[varies] > chance).sum())
        worst = ", ".join(f"{plain(self._names[c], 36)} {far[c]:.2f}" for c in order[:3])
        text = (
            f"{beyond} of {len(varies):,} columns are further off than chance would put them 5 times in 100 "
            f"({chance:.2f}); "
            f"the furthest: {worst}."
        )
        keys = (Key("data", f"{len(real):,} held-out rows", "area"), Key("model", f"{len(made):,} samples"))
        note = _cut(len(chosen), len(far), "those that are furthest off")
        note += " The service's sample answers with the mean of p(x|z), which has less spread than these draws."
        verdicts = (Verdict(text, "good" if np.median(far[varies]) <= 0.1 and far[varies].max() <= 0.3 else "watch"),)
        return replace(section, look=look, verdicts=verdicts, keys=keys, panels=panels, note=note.strip())

    def _scatter(self, c: int, u: Floats, v: Floats, share: float, inside: float) -> Panel:
        there = ~np.isnan(u)
        x, y = self._units(c, u[there]), self._units(c, v[there])
        figure, axes = plot(self._names[c], "observed", "expected", width=3.3, height=2.5, left=0.55)
        low, high = np.quantile(np.concatenate([x, y]), [0.005, 0.995])
        within(axes, (low, high), (low, high), 0.06)
        axes.plot(axes.get_xlim(), axes.get_xlim(), color=MUTED, linewidth=0.8)
        dots(axes, x, y, MODEL)
        words = f"{percent(share)} of the variance explained, {percent(inside)} inside the 95\u00a0% interval"
        return Panel(self._inline(figure, f"{self._names[c]}: observed against expected, {words}"), words)

    def _marginals(self, c: int, real: Floats, made: Floats, far: float) -> Panel:
        real = real[~np.isnan(real)]
        low, high = np.quantile(real, [0.003, 0.997])
        room = 0.35 * (high - low) or 0.5
        edges = np.linspace(low - room, high + room, 33)
        figure, axes = plot(self._names[c], self._unit(c), "", width=3.3, height=2.1, left=0.2)
        axes.yaxis.set_visible(False)
        axes.spines["left"].set_visible(False)
        heights = [np.histogram(values, edges)[0] / len(values) for values in (real, made)]
        at = self._units(c, edges)
        steps(axes, at, heights[0], DATA, filled=True)
        steps(axes, at, heights[1], MODEL)
        within(axes, (at[0], at[-1]), (0, max(float(h.max()) for h in heights)), 0.02)
        words = f"distance {far:.2f}"
        return Panel(self._inline(figure, f"{self._names[c]}: samples beside held-out rows, {words}"), words)

    def _said(self, order: NDArray[np.int64], share: Floats, inside: Floats) -> tuple[Verdict, ...]:
        if not len(order):
            return (Verdict("No column varies in these rows.", "watch"),)
        typical, whole = float(np.median(share[order])), float(inside[order].mean())
        found = [
            Verdict(
                f"Of the typical column's variance, {percent(typical)} is explained.",
                "good" if typical > 0.5 else "watch",
            )
        ]
        low = int(order[np.argmin(inside[order])])
        text = (
            f"The 95\u00a0% intervals hold {percent(whole, 1)} of the values, least in {plain(self._names[low], 36)} "
            f"({percent(inside[low], 1)}). The model has seen the row, so more than 95\u00a0% is usual."
        )
        found.append(Verdict(text, "good" if whole >= 0.93 else "watch"))
        return tuple(found)

    def _explained(self, order: NDArray[np.int64], share: Floats, inside: Floats) -> tuple[Table, ...]:
        """All columns in two figures each, when the panels do not show them all."""
        if len(order) <= MOST_COLUMNS:
            return ()
        rows = tuple(
            (
                Cell(plain(self._names[c], 32)),
                Cell(percent(share[c]), share=float(np.clip(share[c], 0, 1))),
                Cell(percent(inside[c], 1)),
            )
            for c in order[:_MOST_ROWS]
        )
        caption = "Worst explained first." + (
            f" {_MOST_ROWS} of {len(order):,} columns." if len(order) > _MOST_ROWS else ""
        )
        return (
            Table(("column", "variance explained", "in the 95\u00a0% interval"), rows, caption=caption, after=True),
        )

    def _units(self, c: int, u: Floats) -> Floats:
        """Back to original units, from values that are near enough to draw."""
        columns = self._material.manifest.inputs.columns
        if columns is None:
            return u
        center, scale = columns[c].center, columns[c].scale
        found: Floats = u * (1.0 if scale is None else scale) + (0.0 if center is None else center)
        return found

    def _unit(self, c: int) -> str:
        columns = self._material.manifest.inputs.columns
        return plain((columns[c].unit if columns else None) or "", 20)


def kolmogorov_smirnov(a: Floats, b: Floats) -> float:
    """The largest difference of the two empirical distribution functions, 0 to 1; NaN is a missing value."""
    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    if not len(a):
        return 0.0
    at = np.concatenate([a, b])
    one, other = (np.searchsorted(np.sort(x), at, side="right") / len(x) for x in (a, b))
    return float(np.abs(one - other).max())


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


def _cut(shown: int, total: int, which: str) -> str:
    return f"{shown} of {total:,} columns are drawn: {which}." if shown < total else ""
