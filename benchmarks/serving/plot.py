"""The picture of latency against offered load, as SVG: the same bytes for the same figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

Curves = Mapping[str, Mapping[str, Sequence[Sequence[float]]]]

_COLOURS = ("#0072b2", "#999999", "#d55e00", "#009e73", "#cc79a7", "#56b4e9")


def draw(curves: Curves, file: Path) -> None:
    """One panel for each percentile, a line for each server, the range of the rounds as its shade."""
    settings: Any = {"svg.hashsalt": "bench", "svg.fonttype": "none", "font.size": 9, "font.family": "sans-serif"}
    with mpl.rc_context(settings):
        figure = Figure(figsize=(11, 3.6), layout="constrained")
        axes = figure.subplots(1, 3, sharey=True)
        for panel, percentile in zip(axes, ("p50", "p95", "p99"), strict=True):
            for colour, (name, found) in zip(_COLOURS, curves.items(), strict=False):
                offered, median, least, most = zip(*found[percentile], strict=True)
                panel.plot(offered, median, marker="o", markersize=3, color=colour, label=name)
                panel.fill_between(offered, least, most, color=colour, alpha=0.2, linewidth=0)
            panel.set(xscale="log", yscale="log", title=percentile, xlabel="offered, requests/s")
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            for axis in (panel.xaxis, panel.yaxis):
                axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
                axis.set_minor_formatter(NullFormatter())
            panel.grid(visible=True, which="major", linewidth=0.4, alpha=0.6)
        axes[0].set_ylabel("latency from the instant due, ms")
        axes[0].legend(frameon=False)
        figure.savefig(file, format="svg", metadata={"Date": None})
