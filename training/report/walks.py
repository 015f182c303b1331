"""What the columns of a table do along ways through the latent space. L latents, C columns."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from service.latent import normal_quantile
from training.report.columns import Columns
from training.report.drawing import CLASSES, INK, Inline, plain, plot, within
from training.report.material import Material
from training.report.page import Cell, Key, Panel, Section, Table, Verdict
from training.report.paths import ALPHAS, Path
from training.report.wording import number, signed

Floats = NDArray[np.float64]

STEPS: Final = np.linspace(-2.5, 2.5, 21)
_LINES = 5
_MOST_LATENTS = 12
_MOST_COLUMNS = 24
_MOST_GRIDS = 9
_NO_LINES = "all columns are categories, which have no values in between"


class Walks:
    """Draws the sections of one table's model that move through the latent space."""

    def __init__(self, material: Material, inline: Inline) -> None:
        self._material, self._inline = material, inline
        self._columns = Columns(material)
        self._names = self._columns.names
        self._ordered = np.flatnonzero(~material.unordered)

    def interpolations(self, section: Section, paths: list[Path]) -> Section:
        """The columns that move most between two rows: straight lines and great circles."""
        if not len(self._ordered):
            return replace(section, missing=_NO_LINES)
        panels = []
        for path in paths:
            straight, circle = self._decoded(path.lerp), self._decoded(path.slerp)
            chosen = self._first(np.abs(straight[-1] - straight[0]), _LINES)
            figure, axes = self._lines(f"{path.start} to {path.stop}", "share of the way", ALPHAS, circle, chosen)
            for n, c in enumerate(chosen):
                axes.plot(ALPHAS, straight[:, c], color=CLASSES[n], linewidth=1, linestyle=(0, (3, 2)))
            names = ", ".join(plain(self._names[c], 24) for c in chosen)
            panels.append(Panel(self._inline(figure, f"From {path.start} to {path.stop}: {names}, lerp and slerp")))
        look = (
            f"From one held-out row to another: the {min(_LINES, len(self._ordered))} columns that change most, in "
            "standard deviations. Steady lines are a smooth space; a bump on the way is a kind of row between the two."
        )
        keys = (Key("ink", "slerp, a great circle"), Key("ink", "lerp, a straight line", "dash"))
        return replace(section, look=look, keys=keys, panels=tuple(panels))

    def traversals(self, section: Section) -> Section:
        """What each latent moves: a map of all, and lines for the first."""
        material, names = self._material, self._names
        latents = material.order[:_MOST_LATENTS]
        moves, panels, said = [], [], []
        ends: list[tuple[Floats, Floats]] = []
        for n, j in enumerate(latents):
            z = np.zeros((len(STEPS), material.manifest.latent.dim))
            z[:, j] = STEPS
            decoded = self._decoded(z)
            ends.append((self._at(decoded, -2.0), self._at(decoded, 2.0)))
            moves.append(np.where(material.unordered, 0.0, ends[-1][1] - ends[-1][0]))
            if n >= 6 or not len(self._ordered):
                continue
            chosen = self._first(np.ptp(decoded, axis=0), _LINES)
            detail = f" ({material.kl[j]:.2f} nats)" if len(material.rows) else ""
            figure, _ = self._lines(f"z{j}{detail}", f"z{j}", STEPS, decoded, chosen)
            moved = ", ".join(f"{plain(names[c], 36)} {signed(moves[-1][c])}" for c in chosen[:3])
            panels.append(Panel(self._inline(figure, f"z{j} moves {moved}")))
            said.append(Verdict(f"z{j} from \u22122 to 2 moves {moved} (standard deviations)."))
        look = (
            f"One latent moves from {number(STEPS[0])} to {STEPS[-1]:g}, all others stay at 0: what the columns do is "
            "what that "
            "latent means. Lines are the columns that move most, at most five, in standard deviations."
        )
        note = (
            f"{len(latents)} of {len(material.order)} latents are shown, the most informative first."
            if len(latents) < len(material.order)
            else ""
        )
        return replace(
            section,
            look=look,
            verdicts=tuple(said),
            panels=tuple(panels),
            tables=(*self._map(latents, np.array(moves)), *self._changes(latents, ends)),
            note=note,
        )

    def grid(self, section: Section) -> Section:
        """Each column over the plane of two latents, at the quantiles of the prior."""
        if not len(self._ordered):
            return replace(section, missing=_NO_LINES)
        side = 21
        at = normal_quantile((np.arange(side) + 0.5) / side)
        z = np.column_stack([np.tile(at, side), np.repeat(at, side)])
        decoded = self._decoded(z)
        chosen = self._first(np.ptp(decoded, axis=0), _MOST_GRIDS)
        panels = []
        for c in chosen:
            values = decoded[:, c].reshape(side, side)
            figure, axes = plot(self._names[c], "z0", "z1", width=3.0, height=2.8)
            if np.ptp(values) > 1e-6:
                levels = MaxNLocator(8).tick_values(values.min(), values.max())
                widths = np.linspace(0.5, 1.7, len(levels))
                lines = axes.contour(at, at, values, levels=levels, colors=[INK], linewidths=widths)
                axes.clabel(lines, fontsize=6.5, fmt="%.3g")
            within(axes, at, at, 0)
            panels.append(Panel(self._inline(figure, f"{self._names[c]} over the latent plane")))
        look = (
            "Each column over the whole latent plane, in standard deviations from its mean, as contour lines: thicker "
            "is "
            "higher, dashed is below the mean. Close lines are where a small step changes much."
        )
        note = ""
        if len(chosen) < len(self._names):
            note = f"{len(chosen)} of {len(self._names):,} columns are drawn: those that change most."
        return replace(section, look=look, panels=tuple(panels), note=note)

    def _lines(self, title: str, x: str, at: Floats, values: Floats, chosen: NDArray[np.int64]) -> tuple[Figure, Axes]:
        """Lines with their names at the right, spread so that none covers another."""
        figure, axes = plot(title, x, "standard deviations", width=3.6, height=2.4)
        low, high = float(values[:, chosen].min()), float(values[:, chosen].max())
        room = max(high - low, 0.1)
        within(axes, at, (low, high), 0.05)
        longest = max(len(plain(self._names[c], 16)) for c in chosen)
        axes.set_xlim(at[0], at[-1] + (0.12 + 0.034 * longest) * (at[-1] - at[0]))
        axes.set_xticks([at[0], (at[0] + at[-1]) / 2, at[-1]])
        places = _spread([float(values[-1, c]) for c in chosen], 0.105 * room)
        for n, c in enumerate(chosen):
            axes.plot(at, values[:, c], color=CLASSES[n], linewidth=1.5)
            axes.plot(
                [at[-1], at[-1] + 0.04 * (at[-1] - at[0])], [values[-1, c], places[n]], color=CLASSES[n], linewidth=0.7
            )
            axes.text(
                at[-1] + 0.055 * (at[-1] - at[0]),
                places[n],
                plain(self._names[c], 16),
                color=INK,
                fontsize=7,
                va="center",
            )
        axes.set_ylim(min(low, *places) - 0.06 * room, max(high, *places) + 0.06 * room)
        return figure, axes

    def _map(self, latents: list[int], moves: Floats) -> tuple[Table, ...]:
        """Columns by latents: the move from -2 to 2, as colour and number; nothing where all are categories."""
        if not len(self._ordered):
            return ()
        order = self._first(np.abs(moves).max(axis=0), _MOST_COLUMNS)
        most = max(float(np.abs(moves).max()), 1e-9)
        rows = tuple(
            (
                Cell(plain(self._names[c], 28)),
                *(Cell(signed(move), tint=0.75 * float(move) / most) for move in moves[:, c]),
            )
            for c in order
        )
        caption = (
            "How far each column moves, in standard deviations, as a latent goes from \u22122 to 2; "
            "orange is up, blue is down."
        )
        if len(order) < len(self._ordered):
            caption += f" {len(order)} of {len(self._ordered):,} columns: those that move most."
        return (Table(("column", *(f"z{j}" for j in latents)), rows, caption=caption, after=True, map=True),)

    def _changes(self, latents: list[int], ends: list[tuple[Floats, Floats]]) -> tuple[Table, ...]:
        """Categories by latents: the most probable one at -2 and at 2, where it changes."""
        categories = np.flatnonzero(self._material.unordered).tolist()
        changing = [c for c in categories if any(start[c] != stop[c] for start, stop in ends)]
        if not changing:
            return ()
        rows = tuple(
            (Cell(plain(self._names[c], 28)), *(Cell(self._change(c, *both), words=True) for both in ends))
            for c in changing[:_MOST_COLUMNS]
        )
        caption = "The most probable category at \u22122 and at 2, where it is another one."
        if len(rows) < len(categories):
            caption += f" {len(rows)} of {len(categories):,} columns of categories."
        return (Table(("category", *(f"z{j}" for j in latents)), rows, caption=caption, after=True),)

    def _change(self, c: int, start: Floats, stop: Floats) -> str:
        names = self._columns.levels[c]
        one, other = (plain(names[int(end[c])], 14) for end in (start, stop))
        return f"{one} \u2192 {other}" if start[c] != stop[c] else ""

    def _first(self, size: Floats, most: int) -> NDArray[np.int64]:
        """The columns with the largest of *size*, (C,); no categories, whose numbers say nothing."""
        found: NDArray[np.int64] = self._ordered[np.argsort(-size[self._ordered], kind="stable")[:most]]
        return found

    def _decoded(self, z: Floats) -> Floats:
        return self._material.standardised(self._material.decode(z))

    @staticmethod
    def _at(decoded: Floats, z: float) -> Floats:
        found: Floats = decoded[int(np.argmin(np.abs(STEPS - z)))]
        return found


def _spread(places: list[float], least: float) -> list[float]:
    """Places at least *least* apart, in the same order, as near to where they were as a sweep brings them."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    found = [places[i] for i in order]
    for i in range(1, len(found)):
        found[i] = max(found[i], found[i - 1] + least)
    shift = sum(found) / len(found) - sum(places) / len(places)
    spread = [0.0] * len(places)
    for value, i in zip(found, order, strict=True):
        spread[i] = value - shift
    return spread
