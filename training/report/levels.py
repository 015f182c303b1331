"""Columns of few named levels: their names, how they are counted and compared, and their bars. n rows, V levels."""

from __future__ import annotations

from typing import Final

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from service.inputs import Column
from training.report.drawing import DATA, INK, MODEL, plain, plot
from training.support import levels_of_column

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

_MOST_BARS: Final = 9
_REPETITIONS = 200


def level_names(column: Column) -> list[str]:
    """The levels in the order of their numbers; "another one" is the one beyond the vocabulary."""
    names = list(column.vocabulary or ("0", "1"))
    return names + ["another one"] * (levels_of_column(column) - len(names))


def counts(values: Floats, levels: int) -> Counts:
    """How often each level is there; NaN is a missing value: (n,) -> (V,)."""
    index = np.clip(np.rint(values[~np.isnan(values)]), 0, levels - 1).astype(np.int64)
    return np.bincount(index, minlength=levels)


def shares(values: Floats, levels: int) -> Floats:
    """How large a part each level is of what is not missing: (n,) -> (V,)."""
    found = counts(values, levels)
    return found / max(1, int(found.sum()))


def total_variation(a: Floats, b: Floats) -> float:
    """Half the sum of what two distributions over the same levels differ by, 0 to 1: (V,), (V,)."""
    return float(np.abs(a - b).sum() / 2)


def chance(a: Counts, b: Counts, seed: int) -> float:
    """
    The total variation that two samples of one distribution stay within 95 times in 100.

    By dealing the rows of both anew, as a permutation test does: it grows with the number of levels, and with how many
    of them are seen once. *a*, *b*: how often each level is in each sample, (V,).
    """
    rows, others = int(a.sum()), int(b.sum())
    if not rows or not others:
        return 1.0
    both = (a + b)[a + b > 0]
    dealt = np.random.default_rng([seed, 15]).multivariate_hypergeometric(both, rows, _REPETITIONS, method="marginals")
    return float(np.quantile(np.abs(dealt / rows - (both - dealt) / others).sum(axis=1) / 2, 0.95))


def named_right(observed: Floats, expected: Floats) -> tuple[float, float, float]:
    """
    How often the expected level is the one observed, how often the most frequent one is, and how much that explains.

    The last is Goodman and Kruskal's lambda (1954), the share of the errors of always naming the most frequent level
    that are not made: for levels what the share of the variance is for numbers. (n,), (n,); NaN is a missing value.
    """
    there = ~np.isnan(observed)
    if not there.any():
        return 0.0, 0.0, 0.0
    right = float((observed[there] == expected[there]).mean())
    most = float(np.unique(observed[there], return_counts=True)[1].max() / there.sum())
    return right, most, (right - most) / (1 - most) if most < 1 else 0.0


def bars(title: str, names: list[str], data: Floats, model: Floats, *, in_order: bool) -> Figure:
    """
    A bar a level: *data* as areas, *model* as outlines, (V,) each; the most frequent levels, and the rest as one.

    *in_order*: of the levels, where they have one; else the most frequent is first.
    """
    common = np.argsort(-(data + model), kind="stable")
    kept = common if len(common) <= _MOST_BARS else common[: _MOST_BARS - 1]
    kept = np.sort(kept) if in_order else kept
    rest = np.setdiff1d(common, kept)
    words = [plain(names[v], 15) for v in kept]
    heights = [data[kept], model[kept]]
    if len(rest):
        words.append(f"{len(rest):,} others")
        heights = [np.append(h, whole[rest].sum()) for h, whole in zip(heights, (data, model), strict=True)]
    figure, axes = plot(title, "share of the rows", "", width=3.3, height=max(1.3, 0.65 + 0.17 * len(words)), left=1.05)
    places = np.arange(len(words), dtype=np.float64)
    axes.barh(places, heights[0], 0.7, color=DATA, alpha=0.3)
    axes.barh(places, heights[1], 0.7, fill=False, edgecolor=MODEL, linewidth=1.4)
    axes.set_yticks(places, words, color=INK)
    axes.set_ylim(len(words) - 0.5, -0.5)
    axes.set_xlim(0, max(1e-9, 1.04 * max(float(h.max()) for h in heights)))
    return figure
