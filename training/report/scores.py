"""The scores: calibration rows, held-out rows and anomalies beside the threshold, and whether false alarms hold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service import calibration
from service.calibrated import ALL
from training.report.drawing import ALARM, DATA, INK, MODEL, MUTED, Inline, plot, steps, within
from training.report.marginals import distance_by_chance
from training.report.material import Material
from training.report.page import Cell, Key, Panel, Section, Table, Verdict
from training.report.wording import number, percent

Floats = NDArray[np.float64]

ID, TITLE = "scores", "Anomaly scores"


def scores(material: Material, inline: Inline) -> Section:
    """Histograms with the threshold, p-values of normal rows, the table of alphas; missing without rows."""
    normal, strange = material.scores
    entry = material.entry
    if not len(normal) and entry is None:
        return Section(ID, TITLE, missing="there are neither held-out rows nor calibration rows")
    reference = np.zeros(0) if entry is None else np.asarray(material.bundle.calibration[entry.key], np.float64)
    alpha = material.manifest.scoring.alpha
    # of folds each model ranks its own: there is no one threshold, and the reference is not in order
    limit = None if entry is None or entry.folds else calibration.threshold(reference, alpha)
    panels = [_histogram(material, inline, reference, limit)]
    p = material.p_values[0]
    if (p := p[~np.isnan(p)]).size:
        panels.append(_p_values(inline, p, len(reference)))
    kind, k = material.manifest.scoring.kind, material.manifest.scoring.samples
    look = (
        f"The score {kind} with K = {k} draws, in nats: higher is more anomalous. Held-out normal rows should lie "
        f"where the calibration rows lie, anomalies to the right of {'them' if limit is None else 'the threshold'}."
    )
    keys = []
    if len(reference):
        keys.append(Key("data", f"{len(reference):,} calibration rows", "area"))
    if len(normal):
        keys.append(Key("model", f"{len(normal):,} held-out normal rows"))
    if len(strange):
        keys.append(Key("alarm", f"{len(strange):,} labelled anomalies"))
    if limit is not None:
        keys.append(Key("ink", f"threshold at alpha {alpha:g}: {number(limit)} nats", "dash"))
    note = "" if entry else "Without calibration rows there is no threshold, and the service offers no anomaly-score."
    if entry is not None and entry.folds:
        note = "Cross-conformal calibration has no threshold: p <= alpha decides, and each model ranks its own fold."
    tables = (_alphas(material),) if material.evaluation.get("false_alarms") else ()
    return Section(ID, TITLE, look, _verdicts(material), tuple(keys), tuple(panels), tables, note)


def _verdicts(material: Material) -> tuple[Verdict, ...]:
    found = list(false_alarm_verdict(material))
    _, p = material.p_values
    alpha, entry = material.manifest.scoring.alpha, material.entry
    if entry is not None and entry.rows >= calibration.rows_needed(alpha) and len(p):
        caught = float((p <= alpha).mean())
        found.append(Verdict(f"At alpha {alpha:g} {percent(caught)} of the labelled anomalies are flagged."))
    return tuple(found)


def default_alarms(material: Material) -> Mapping[str, Any] | None:
    """What was measured of false alarms on all normal rows as they are, at the default alpha or the nearest one."""
    every = material.evaluation.get("false_alarms") or []
    rows = [row for row in every if row["group"] == ALL and not row["mask_bin"]]
    alpha = material.manifest.scoring.alpha
    return min(rows, key=lambda row: abs(math.log(row["alpha"] / alpha)), default=None)


def false_alarm_verdict(material: Material) -> tuple[Verdict, ...]:
    """Whether held-out normals are flagged as often as promised, by `default_alarms`."""
    row = default_alarms(material)
    if row is None:
        return ()
    low, high = row["interval"]
    where = "inside" if row["inside"] else "outside"
    text = (
        f"At alpha {row['alpha']:g}, {percent(row['rate'], 2)} of the held-out normal rows are flagged: {where} the "
        f"90\u00a0% interval for {row['rows']:,} rows, {percent(low, 2)} to {percent(high, 2)}."
    )
    return (Verdict(text, "good" if row["inside"] else "watch"),)


def _alphas(material: Material) -> Table:
    found = material.evaluation["false_alarms"]
    bins, groups = any(row["mask_bin"] for row in found), any(row["group"] != ALL for row in found)
    rows = tuple(
        (
            *([Cell(row["group"], words=True)] if groups else []),
            *([Cell(_share(row["missing"]), words=True)] if bins else []),
            Cell(f"{row['alpha']:g}"),
            Cell(f"{row['flagged']:,}"),
            Cell(percent(row["rate"], 2)),
            *_promise(row),
        )
        for row in found
    )
    head = ("alpha", "flagged", "false alarms", "90 % interval", "the rate is")
    return Table((*(["rows"] if groups else []), *(["missing"] if bins else []), *head), rows)


def _promise(row: Mapping[str, Any]) -> tuple[Cell, Cell]:
    """The interval, and whether the rate is inside; of a group with too few calibration rows there is none."""
    if row["interval"] is None:
        return Cell("too few calibration rows", words=True), Cell(f"by {row['by']} rows", words=True)
    low, high = row["interval"]
    inside = "inside" if row["inside"] else "outside"
    return Cell(f"{percent(low, 2)} to {percent(high, 2)}"), Cell(inside, words=True)


def _share(ends: Sequence[float]) -> str:
    """A bin of the share of missing values in words."""
    return f"{percent(ends[0])} to {percent(ends[1])}" if ends[1] else "nothing"


def _histogram(material: Material, inline: Inline, reference: Floats, limit: float | None) -> Panel:
    """Densities on one axis. What lies far to the right is gathered in the last bin, and counted in words."""
    normal, strange = material.scores
    usual = np.concatenate([reference, normal])
    low, top = float(np.quantile(usual, 0.002)), float(np.quantile(usual, 0.998))
    high = max(top, top if limit is None else limit)
    high += (0.9 if len(strange) else 0.15) * max(high - low, 1e-6)
    edges = np.linspace(low, high, 41)
    figure, axes = plot("Score", "nats", "share of rows", width=4.4, height=2.3)
    tallest = 1e-9
    for values, color in ((reference, DATA), (normal, MODEL), (strange, ALARM)):
        if len(values):
            heights = np.histogram(values.clip(low, high), edges)[0] / len(values)
            steps(axes, edges, heights, color, filled=color == DATA)
            tallest = max(tallest, float(heights.max()))
    within(axes, edges, (0, tallest * 1.12), 0)
    if limit is not None:
        axes.axvline(limit, color=INK, linewidth=1, linestyle=(0, (4, 2)))
        at = (limit, tallest * 1.1)
        axes.annotate("threshold", at, (4, 0), textcoords="offset points", color=INK, fontsize=7.5, va="top")
    beyond = int((strange > high).sum())
    words = f"{beyond:,} of {len(strange):,} anomalies lie further right and are in the last bin." if beyond else ""
    alt = "Histogram of scores of calibration rows, held-out rows and anomalies, with the threshold"
    return Panel(inline(figure, alt), words, "double")


def _p_values(inline: Inline, p: Floats, calibrated: int) -> Panel:
    """The distribution of the p-values of normal rows: the diagonal, where calibration holds."""
    p = np.sort(p)
    figure, axes = plot("P-values of held-out normal rows", "p", "share of rows up to p", height=2.45)
    band = distance_by_chance(calibrated, len(p))
    axes.fill_between([0, 1], [-band, 1 - band], [band, 1 + band], color=MUTED, alpha=0.18, linewidth=0)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8)
    share = np.arange(1, len(p) + 1) / len(p)
    axes.step(
        np.concatenate([[0], p, [1]]), np.concatenate([[0], share, [1]]), where="post", color=MODEL, linewidth=1.4
    )
    within(axes, (0, 1), (0, 1), 0.01)
    off = float(np.abs(share - p).max())
    words = (
        f"On the diagonal a p-value is what it says. The largest distance is {off:.3f}; by chance it stays within "
        f"{band:.3f} (the band) 95 times in 100."
    )
    return Panel(inline(figure, "Distribution of the p-values of held-out normal rows beside the diagonal"), words)
