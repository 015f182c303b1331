"""
From the scorer's outputs to an answer: score, p-value, threshold and decision.

Pure functions of arrays and of the bundle's calibration; what was not calibrated is refused by name. A row with missing
values is judged by calibration rows that miss about as many: a threshold of complete rows would miss most anomalies
among the others; in a bundle with groups, by those of its own. Which features a score is made of is the business of
`explanations`. Knows neither batches nor HTTP. B rows, K draws, C features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service import calibration, scores
from service.bundle import CALIBRATION, Bundle
from service.calibrated import ALL, Calibrated
from service.calls import Rows
from service.discoveries import Discoveries, discover
from service.ensemble import Ensemble, folds_of, p_values, together
from service.errors import BundleError, Unsupported, counted
from service.explanations import Explanations, FeaturePart, SensorPart
from service.groups import Grouping
from service.scored import Components, Grouped, Masked, Scored

Array = NDArray[np.generic]
Floats = NDArray[np.float64]

_CROSS = "cross-conformal calibration: each model of the ensemble ranks a row by its own score; the p-value decides"


@dataclass(frozen=True)
class Plan:
    """
    What a request asks of the scores, resolved against the bundle. *outputs*: the scorer's outputs it takes.

    *entries*, *references*, *thresholds*, *reasons* (why there is no threshold): by mask bin, the first of complete
    rows; of all groups together.
    """

    entries: tuple[Calibrated, ...]
    references: tuple[Ensemble, ...]
    alpha: float
    thresholds: tuple[float | None, ...]
    reasons: tuple[str | None, ...]
    explain: int
    components: bool
    outputs: tuple[str, ...]
    fdr: float | None = None
    maps: bool = False

    @property
    def entry(self) -> Calibrated:
        """Of complete rows."""
        return self.entries[0]

    @property
    def reason(self) -> str | None:
        """Of complete rows."""
        return self.reasons[0]

    @property
    def threshold(self) -> float | None:
        """Of complete rows."""
        return self.thresholds[0]

    @property
    def without_threshold(self) -> str | None:
        """Why rows are judged without one; None where there is one, or they are not judged."""
        return _CROSS if self.entry.folds else None


class Anomaly:
    """The scores that one bundle is calibrated for. Raises BundleError where a mask bin of one of them is not there."""

    def __init__(self, bundle: Bundle) -> None:
        manifest = bundle.manifest
        self._scoring = manifest.scoring
        self._arrays = bundle.calibration
        self._ends = np.array(manifest.mask_bins, np.float64)
        columns = manifest.inputs.columns or ()
        self._may_miss = np.array([column.missing for column in columns], np.bool_)
        self._explanations = Explanations(bundle)
        self._groups = Grouping(manifest)
        by_bin: dict[tuple[str, int], dict[int, Calibrated]] = {}
        for entry in (entry for entry in manifest.calibrated if entry.group == ALL):
            by_bin.setdefault((entry.kind, entry.samples), {})[entry.mask_bin] = entry
        for (kind, samples), bins in by_bin.items():
            if missing := [index for index in range(len(self._ends) + 1) if index not in bins]:
                raise BundleError(
                    bundle.path, CALIBRATION, f"the score {kind} with {samples} samples has no mask bin {missing[0]}"
                )
        self._entries = {key: tuple(bins[index] for index in sorted(bins)) for key, bins in by_bin.items()}
        self._references = {
            samples: tuple(
                Ensemble.of(self._arrays, manifest.members, samples, index) for index in range(len(self._ends) + 1)
            )
            for samples in {samples for _, samples in by_bin}
        }

    def plan(
        self,
        *,
        kind: str | None,
        samples: int | None,
        alpha: float | None,
        fdr: float | None = None,
        explain: int = 0,
        components: bool = False,
        maps: bool = False,
    ) -> Plan:
        """
        Resolve what a request asks: None means the bundle's default, *explain* is the number of features a row.

        *fdr*: the false-discovery rate over the rows; None: not asked for. *maps*: whether rows are wanted whole, for
        pictures. Raises Unsupported for a score that was not calibrated or has no parts by feature, for an *alpha*
        named by the caller that the calibration rows of every bin are too few for, and for an *fdr* that those of
        complete rows are too few for.
        """
        entries = self._bins(kind or self._scoring.kind, samples or self._scoring.samples)
        entry = entries[0]
        level = self._scoring.alpha if alpha is None else alpha
        thresholds = tuple(
            None if one.folds else calibration.threshold(folds_of(self._arrays, one)[0], level) for one in entries
        )
        needed = calibration.rows_needed(level)
        reasons = tuple(
            f"alpha {level:g} needs {counted(needed, 'calibration row')}; the bundle has {one.rows}{self._such(one)}"
            if one.rows < needed
            else None
            for one in entries
        )
        # A row that no alpha of its bin decides is null with the reason. A discovery has no such answer, so `fdr` is
        # refused where rows that miss nothing could never be one.
        for field, named, most in (("alpha", alpha, max(one.rows for one in entries)), ("fdr", fdr, entry.rows)):
            if named is not None and most < (needed := calibration.rows_needed(named)):
                told = f"{field} {named:g} needs {counted(needed, 'calibration row')}; the bundle has {most}"
                raise Unsupported(told, field=field, limit=1 / (most + 1), value=named, rows_needed=needed)
        outputs = scores.SCORE_OUTPUTS[entry.kind]
        if components:
            outputs += ("log_w", "log_px_z", "kl", "latent_term")
        if explain:
            outputs += (*self._explanations.outputs(entry.kind, "explain"), "lower", "upper")
        if maps:
            outputs += self._explanations.outputs(entry.kind, "kind")
            self._explanations.check_maps(entry)
        return Plan(
            entries,
            self._references[entry.samples],
            level,
            thresholds,
            reasons,
            explain,
            components,
            tuple(dict.fromkeys(outputs)),
            fdr,
            maps,
        )

    def _such(self, entry: Calibrated) -> str:
        """Which rows the calibration rows of *entry* are, where values may be missing."""
        return f" {calibration.lacking(entry.mask_bin, self._ends.tolist())}" if len(self._ends) else ""

    def judge(self, plan: Plan, x: Array, outputs: Rows) -> Scored:
        """The answer for rows *x* (B, *shape), NaN where missing, from the scorer's *outputs* for them."""
        kind = plan.entry.kind
        rate = None if plan.threshold is None else calibration.false_alarm_rate(plan.entry.rows, plan.alpha)
        shares = np.isnan(x[:, self._may_miss]).mean(axis=1) if len(self._ends) else np.zeros(len(x))
        if not len(x) or not (shares.any() or self._groups):
            explained = self._explained(plan, plan.entry, x, outputs) if plan.explain and len(x) else (None, None)
            values, p = np.zeros(0), np.zeros(0)
            if len(x):
                values, ranked = plan.references[0].score(kind, outputs, None)
                p = p_values(self._arrays, plan.entry, ranked)
            return Scored(
                scores=values,
                p_values=p,
                rate=rate,
                is_anomaly=None if plan.reason else p <= plan.alpha,
                components=Components.of(kind, values, outputs) if plan.components and len(x) else None,
                explanations=explained[0],
                sensors=explained[1],
                discoveries=_discoveries(plan, p, np.full(len(x), 1 / (plan.entry.rows + 1))),
                maps=self._explanations.maps(plan.entry, x, outputs) if plan.maps else None,
                grouped=Grouped([], np.zeros(0), np.zeros((0, 2)), []) if self._groups else None,
                reason=plan.reason,
            )
        bins, groups = calibration.mask_bins(shares, self._ends), self._groups.of(x)
        values, p, unknown = np.empty(len(x)), np.empty(len(x)), np.zeros(len(x), np.bool_)
        thresholds, rates = np.full(len(x), np.nan), np.full((len(x), 2), np.nan)
        smallest, by, whys = np.empty(len(x)), np.empty(len(x), object), np.empty(len(x), object)
        explanations: list[list[FeaturePart]] = [[] for _ in x]
        sensors: list[list[SensorPart]] = [[] for _ in x]
        reason = None
        for index, group in np.unique(np.stack([bins, groups], axis=1), axis=0).tolist():
            rows, entry = np.flatnonzero((bins == index) & (groups == group)), plan.entries[index]
            judge, why = self._groups.judge(entry, group, plan.alpha, plan.fdr)
            threshold = plan.thresholds[index]
            if judge is not entry:
                threshold = calibration.threshold(folds_of(self._arrays, judge)[0], plan.alpha)
            part = {name: array[rows] for name, array in outputs.items()}
            values[rows], ranked = plan.references[index].score(kind, part, ~np.isnan(x[rows]))
            p[rows], smallest[rows] = p_values(self._arrays, judge, ranked), 1 / (judge.rows + 1)
            by[rows], whys[rows] = judge.group, why
            if threshold is not None:
                thresholds[rows] = threshold - (together(kind, ranked) - values[rows])
                rates[rows] = calibration.false_alarm_rate(judge.rows, plan.alpha)
            if judge.rows < calibration.rows_needed(plan.alpha):
                unknown[rows] = True
                reason = reason or plan.reasons[index]
            if plan.explain:
                for row, parts, told in zip(rows, *self._explained(plan, entry, x[rows], part), strict=True):
                    explanations[row], sensors[row] = parts, told
        masked = np.flatnonzero(bins)
        return Scored(
            scores=values,
            p_values=p,
            rate=rate,
            is_anomaly=None if unknown.all() else np.ma.MaskedArray(p <= plan.alpha, unknown),
            components=Components.of(kind, values, outputs) if plan.components else None,
            explanations=explanations if plan.explain else None,
            sensors=sensors if plan.explain else None,
            masked=Masked(masked, shares[masked], thresholds[masked], rates[masked]) if shares.any() else None,
            grouped=Grouped(by.tolist(), thresholds, rates, whys.tolist()) if self._groups else None,
            reason=reason,
            discoveries=_discoveries(plan, p, smallest),
        )

    def _explained(
        self, plan: Plan, entry: Calibrated, x: Array, outputs: Rows
    ) -> tuple[list[list[FeaturePart]], list[list[SensorPart]]]:
        """The rows *x* by feature and by sensor."""
        parts, sensors = self._explanations.parts, self._explanations.sensors
        return parts(entry, x, outputs, plan.explain), sensors(entry, x, outputs, plan.explain)

    def _bins(self, kind: str, samples: int) -> tuple[Calibrated, ...]:
        """What was calibrated for a score, by mask bin."""
        if entries := self._entries.get((kind, samples)):
            return entries
        draws = {k: sorted(s for other, s in self._entries if other == k) for k, _ in self._entries}
        able = "; ".join(f"{k} with {', '.join(map(str, found))} samples" for k, found in draws.items())
        field, limit, value = ("samples", draws[kind], samples) if kind in draws else ("kind", ", ".join(draws), kind)
        raise Unsupported(
            f"the score {kind} with {samples} samples was not calibrated; calibrated are {able}",
            field=field,
            limit=limit,
            value=value,
        )


def _discoveries(plan: Plan, p_values: Floats, smallest: Floats) -> Discoveries | None:
    """What is flagged together, where that was asked for; *smallest*: what each p-value could be at least, (B,)."""
    return None if plan.fdr is None else discover(p_values, smallest, plan.fdr)
