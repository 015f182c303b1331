"""
From the scorer's outputs to an answer: score, p-value, threshold, decision and parts.

Pure functions of arrays and of the bundle's calibration; what was not calibrated is refused by name. A row with missing
values is judged by calibration rows that miss about as many: a threshold of complete rows would miss most anomalies
among the others. Which features a score is made of is the business of `explanations`. Knows neither batches nor HTTP.
B rows, K draws, C features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service import calibration, scores
from service.bundle import CALIBRATION, Bundle
from service.calls import Rows
from service.discoveries import Discoveries, discover
from service.errors import BundleError, Unsupported, counted
from service.explanations import Explanations, FeaturePart, Maps, SensorPart
from service.manifest import Calibrated
from service.reference import Reference

Array = NDArray[np.generic]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """
    What a request asks of the scores, resolved against the bundle. *outputs*: the scorer's outputs it takes.

    *entries*, *references*, *thresholds*, *reasons* (why there is no threshold): by mask bin, the first of complete
    rows.
    """

    entries: tuple[Calibrated, ...]
    references: tuple[Reference, ...]
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


@dataclass(frozen=True)
class Components:
    """The parts of B scores, in nats: (B,) each. *latent*: the score less the parts of all features."""

    reconstruction: Floats
    kl: Floats
    latent: Floats
    effective_samples: Floats


@dataclass(frozen=True)
class Masked:
    """
    The m rows of a request that miss values: (m,) each, *rate* (m, 2). NaN where their bin has no threshold.

    *row*: which rows they are. *share*: of missing values, among the columns that may be missing. *threshold*: that of
    the bin, less what the missing features add to the score of a normal row, where the score has not that in it.
    """

    row: NDArray[np.int64]
    share: Floats
    threshold: Floats
    rate: Floats


@dataclass(frozen=True)
class Scored:
    """
    B scored rows. *rate*: of complete rows, None where the plan has no threshold for them.

    *is_anomaly* is masked for rows whose bin has no threshold, and None where no bin has one. *masked* is None, and
    *reason* too, where no row misses a value. *reason*: why a threshold is not there that a row needs. *discoveries*:
    None where the plan has no false-discovery rate.
    """

    scores: Floats
    p_values: Floats
    rate: tuple[float, float] | None
    is_anomaly: NDArray[np.bool_] | None
    components: Components | None
    explanations: list[list[FeaturePart]] | None
    masked: Masked | None = None
    reason: str | None = None
    discoveries: Discoveries | None = None
    maps: Maps | None = None
    sensors: list[list[SensorPart]] | None = None


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
        by_bin: dict[tuple[str, int], dict[int, Calibrated]] = {}
        for entry in manifest.calibrated:
            by_bin.setdefault((entry.kind, entry.samples), {})[entry.mask_bin] = entry
        for (kind, samples), bins in by_bin.items():
            if missing := [index for index in range(len(self._ends) + 1) if index not in bins]:
                raise BundleError(
                    bundle.path, CALIBRATION, f"the score {kind} with {samples} samples has no mask bin {missing[0]}"
                )
        self._entries = {key: tuple(bins[index] for index in sorted(bins)) for key, bins in by_bin.items()}
        self._references = {
            samples: tuple(Reference.of(self._arrays, samples, index) for index in range(len(self._ends) + 1))
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
        pictures. Raises Unsupported for a score that was not calibrated or has no parts by feature, and for an *alpha*
        named by the caller, or an *fdr*, that the calibration rows are too few for.
        """
        entries = self._bins(kind or self._scoring.kind, samples or self._scoring.samples)
        entry = entries[0]
        level = self._scoring.alpha if alpha is None else alpha
        thresholds = tuple(calibration.threshold(self._sorted(one), level) for one in entries)
        needed = calibration.rows_needed(level)
        reasons = tuple(
            f"alpha {level:g} needs {counted(needed, 'calibration row')}; the bundle has {one.rows}"
            if threshold is None
            else None
            for one, threshold in zip(entries, thresholds, strict=True)
        )
        if reasons[0] is not None and alpha is not None:
            raise Unsupported(reasons[0], field="alpha", limit=1 / (entry.rows + 1), value=alpha, rows_needed=needed)
        if fdr is not None and entry.rows < (needed := calibration.rows_needed(fdr)):
            told = f"fdr {fdr:g} needs {counted(needed, 'calibration row')}; the bundle has {entry.rows}"
            raise Unsupported(told, field="fdr", limit=1 / (entry.rows + 1), value=fdr, rows_needed=needed)
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

    def judge(self, plan: Plan, x: Array, outputs: Rows) -> Scored:
        """The answer for rows *x* (B, *shape), NaN where missing, from the scorer's *outputs* for them."""
        kind = plan.entry.kind
        rate = None if plan.threshold is None else calibration.false_alarm_rate(plan.entry.rows, plan.alpha)
        shares = np.isnan(x[:, self._may_miss]).mean(axis=1) if len(self._ends) else np.zeros(len(x))
        if not shares.any():
            explained = self._explained(plan, plan.entry, x, outputs) if plan.explain and len(x) else (None, None)
            values = plan.references[0].score(kind, outputs, None)[0] if len(x) else np.zeros(0)
            p_values = calibration.p_values(self._sorted(plan.entry), values)
            return Scored(
                scores=values,
                p_values=p_values,
                rate=rate,
                is_anomaly=None if plan.threshold is None else values > plan.threshold,
                components=_components(kind, values, outputs) if plan.components and len(x) else None,
                explanations=explained[0],
                sensors=explained[1],
                discoveries=_discoveries(plan, p_values, np.zeros(len(x), np.int64)),
                maps=self._explanations.maps(plan.entry, x, outputs) if plan.maps else None,
            )
        bins = calibration.mask_bins(shares, self._ends)
        values, p_values, decided = np.empty(len(x)), np.empty(len(x)), np.zeros(len(x), np.bool_)
        thresholds, rates = np.full(len(x), np.nan), np.full((len(x), 2), np.nan)
        explanations: list[list[FeaturePart]] = [[] for _ in x]
        sensors: list[list[SensorPart]] = [[] for _ in x]
        reason = None
        for index in np.unique(bins):
            rows, entry, threshold = np.flatnonzero(bins == index), plan.entries[index], plan.thresholds[index]
            part = {name: array[rows] for name, array in outputs.items()}
            values[rows], whole = plan.references[index].score(kind, part, ~np.isnan(x[rows]))
            p_values[rows] = calibration.p_values(self._sorted(entry), whole)
            if threshold is not None:
                decided[rows] = whole > threshold
                thresholds[rows] = threshold - (whole - values[rows])
                rates[rows] = calibration.false_alarm_rate(entry.rows, plan.alpha)
            reason = reason or plan.reasons[index]
            if plan.explain:
                for row, parts, told in zip(rows, *self._explained(plan, entry, x[rows], part), strict=True):
                    explanations[row], sensors[row] = parts, told
        unknown = np.isnan(thresholds)
        masked = np.flatnonzero(bins)
        return Scored(
            scores=values,
            p_values=p_values,
            rate=rate,
            is_anomaly=None if unknown.all() else np.ma.MaskedArray(decided, unknown),
            components=_components(kind, values, outputs) if plan.components else None,
            explanations=explanations if plan.explain else None,
            sensors=sensors if plan.explain else None,
            masked=Masked(masked, shares[masked], thresholds[masked], rates[masked]),
            reason=reason,
            discoveries=_discoveries(plan, p_values, bins),
        )

    def _explained(
        self, plan: Plan, entry: Calibrated, x: Array, outputs: Rows
    ) -> tuple[list[list[FeaturePart]], list[list[SensorPart]]]:
        """The rows *x* by feature and by sensor."""
        parts, sensors = self._explanations.parts, self._explanations.sensors
        return parts(entry, x, outputs, plan.explain), sensors(entry, x, outputs, plan.explain)

    def _sorted(self, entry: Calibrated) -> Floats:
        return np.asarray(self._arrays[entry.key], np.float64)

    def _bins(self, kind: str, samples: int) -> tuple[Calibrated, ...]:
        """What was calibrated for a score, by mask bin."""
        if entries := self._entries.get((kind, samples)):
            return entries
        draws = {k: sorted(s for other, s in self._entries if other == k) for k, _ in self._entries}
        able = "; ".join(f"{k} with {', '.join(map(str, found))} samples" for k, found in draws.items())
        field, value = ("samples", samples) if kind in draws else ("kind", kind)
        raise Unsupported(
            f"the score {kind} with {samples} samples was not calibrated; calibrated are {able}",
            field=field,
            value=value,
        )


def _discoveries(plan: Plan, p_values: Floats, bins: NDArray[np.int64]) -> Discoveries | None:
    """What is flagged together of rows of these mask *bins*, (B,), where that was asked for."""
    if plan.fdr is None:
        return None
    rows = np.array([entry.rows for entry in plan.entries], np.float64)
    return discover(p_values, 1 / (rows[bins] + 1), plan.fdr)


def _components(kind: str, values: Floats, outputs: Rows) -> Components:
    """The parts of the scores *values*, (B,). A kind without parts by feature is latent as a whole."""
    kl = scores.score("kl", outputs)
    log_w = np.asarray(outputs["log_w"], np.float64)
    weights = np.exp(log_w - log_w.max(axis=1, keepdims=True))
    latent = {
        "nll": np.asarray(outputs["latent_term"], np.float64),
        "neg_elbo": kl,
        "reconstruction": np.zeros_like(kl),
    }
    effective = np.square(weights.sum(axis=1)) / np.square(weights).sum(axis=1)
    return Components(scores.score("reconstruction", outputs), kl, latent.get(kind, values), effective)
