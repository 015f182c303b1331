"""
From the scorer's outputs to an answer: score, p-value, threshold, decision, parts and explanations.

Pure functions of arrays and of the bundle's calibration; what was not calibrated is refused by name. Knows neither
batches nor HTTP. B rows, K draws, C features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service import calibration, scores
from service.bundle import Bundle
from service.errors import Unsupported
from service.manifest import Calibrated
from service.queues import Rows

Array = NDArray[np.generic]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """What a request asks of the scores, resolved against the bundle. *outputs*: the scorer's outputs it takes."""

    entry: Calibrated
    alpha: float
    threshold: float | None
    reason: str | None
    explain: int
    components: bool
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class FeaturePart:
    """One feature's part in the score of one row, and what was expected of it in original units."""

    feature: str
    nats: float
    p_value: float | None
    observed: float
    expected: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Components:
    """The parts of B scores, in nats: (B,) each. *latent*: the score less the parts of all features."""

    reconstruction: Floats
    kl: Floats
    latent: Floats
    effective_samples: Floats


@dataclass(frozen=True)
class Scored:
    """B scored rows. *rate* and *is_anomaly* are None where the plan has no threshold."""

    scores: Floats
    p_values: Floats
    rate: tuple[float, float] | None
    is_anomaly: NDArray[np.bool_] | None
    components: Components | None
    explanations: list[list[FeaturePart]] | None


class Anomaly:
    """The scores that one bundle is calibrated for."""

    def __init__(self, bundle: Bundle) -> None:
        self._scoring = bundle.manifest.scoring
        self._arrays = bundle.calibration
        self._entries: dict[tuple[str, int], Calibrated] = {
            (entry.kind, entry.samples): entry for entry in bundle.manifest.calibrated
        }
        self._names = bundle.manifest.inputs.names

    def plan(
        self, *, kind: str | None, samples: int | None, alpha: float | None, explain: int = 0, components: bool = False
    ) -> Plan:
        """
        Resolve what a request asks: None means the bundle's default, *explain* is the number of features a row.

        Raises Unsupported for a score that was not calibrated or has no parts by feature, and for an *alpha* named
        by the caller that the calibration rows are too few for.
        """
        entry = self._entry(kind or self._scoring.kind, samples or self._scoring.samples)
        level = self._scoring.alpha if alpha is None else alpha
        threshold = calibration.threshold(self._sorted(entry), level)
        reason = None
        if threshold is None:
            needed = calibration.rows_needed(level)
            reason = f"alpha {level:g} needs {needed} calibration rows; the bundle has {entry.rows}"
            if alpha is not None:
                raise Unsupported(reason, field="alpha", limit=1 / (entry.rows + 1), value=alpha, rows_needed=needed)
        outputs = scores.SCORE_OUTPUTS[entry.kind]
        if components:
            outputs += ("log_w", "log_px_z", "kl", "latent_term")
        if explain:
            if entry.kind not in scores.FEATURE_OUTPUTS:
                able = ", ".join(scores.FEATURE_OUTPUTS)
                raise Unsupported(f"{entry.kind} has no parts by feature; those that have: {able}", field="explain")
            outputs += (scores.FEATURE_OUTPUTS[entry.kind], "expected", "lower", "upper")
        return Plan(entry, level, threshold, reason, explain, components, tuple(dict.fromkeys(outputs)))

    def judge(self, plan: Plan, x: Array, outputs: Rows) -> Scored:
        """The answer for rows *x* (B, *shape), from the scorer's *outputs* for them."""
        entry = plan.entry
        values = scores.score(entry.kind, outputs) if len(x) else np.zeros(0)
        return Scored(
            scores=values,
            p_values=calibration.p_values(self._sorted(entry), values),
            rate=None if plan.threshold is None else calibration.false_alarm_rate(entry.rows, plan.alpha),
            is_anomaly=None if plan.threshold is None else values > plan.threshold,
            components=_components(entry.kind, outputs) if plan.components and len(x) else None,
            explanations=self._explain(plan, x, outputs) if plan.explain and len(x) else None,
        )

    def _sorted(self, entry: Calibrated) -> Floats:
        return np.asarray(self._arrays[entry.key], np.float64)

    def _entry(self, kind: str, samples: int) -> Calibrated:
        if entry := self._entries.get((kind, samples)):
            return entry
        draws = {k: sorted(s for other, s in self._entries if other == k) for k, _ in self._entries}
        able = "; ".join(f"{k} with {', '.join(map(str, found))} samples" for k, found in draws.items())
        field, value = ("samples", samples) if kind in draws else ("kind", kind)
        raise Unsupported(
            f"the score {kind} with {samples} samples was not calibrated; calibrated are {able}",
            field=field,
            value=value,
        )

    def _explain(self, plan: Plan, x: Array, outputs: Rows) -> list[list[FeaturePart]]:
        """For each row its most surprising features: the rarest part for that feature first, then the largest."""
        nats = outputs[scores.FEATURE_OUTPUTS[plan.entry.kind]]
        p = None
        if (grid := self._arrays.get(plan.entry.features_key)) is not None:
            ranks = np.asarray(self._arrays[f"{plan.entry.features_key}/ranks"], np.int64)
            p = calibration.feature_p_values(np.asarray(grid, np.float32), ranks, plan.entry.rows, nats)
        observed = x.reshape(len(x), -1)
        explained = []
        for row in range(len(x)):
            order = np.argsort(-nats[row], kind="stable") if p is None else np.lexsort((-nats[row], p[row]))
            explained.append(
                [
                    FeaturePart(
                        feature=self._names[c],
                        nats=float(nats[row, c]),
                        p_value=None if p is None else float(p[row, c]),
                        observed=float(observed[row, c]),
                        expected=float(outputs["expected"][row, c]),
                        interval=(float(outputs["lower"][row, c]), float(outputs["upper"][row, c])),
                    )
                    for c in order[: plan.explain]
                ]
            )
        return explained


def _components(kind: str, outputs: Rows) -> Components:
    kl = scores.score("kl", outputs)
    log_w = np.asarray(outputs["log_w"], np.float64)
    weights = np.exp(log_w - log_w.max(axis=1, keepdims=True))
    latent = {
        "nll": np.asarray(outputs["latent_term"], np.float64),
        "neg_elbo": kl,
        "reconstruction": np.zeros_like(kl),
        "kl": kl,
    }
    effective = np.square(weights.sum(axis=1)) / np.square(weights).sum(axis=1)
    return Components(scores.score("reconstruction", outputs), kl, latent[kind], effective)
