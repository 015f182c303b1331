"""
What the features of a scored row have to do with its score: their parts in nats, and which surprise most.

A part is held against the parts that the same feature had in the calibration rows. Knows neither decisions nor HTTP.
B rows, C features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service import calibration
from service.bundle import Bundle
from service.calibrated import Calibrated
from service.calls import Rows
from service.errors import Unsupported
from service.scores import FEATURE_OUTPUTS

Array = NDArray[np.generic]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FeaturePart:
    """
    One feature's part in the score of one row, and what was expected of it, as numbers in original units.

    *index*: which feature. *interval*: None for categories, of which no two are the ends of anything.
    """

    index: int
    feature: str
    nats: float
    p_value: float | None
    observed: float
    expected: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class SensorPart:
    """
    What all readings of one sensor in a window have to do with its score.

    *excess*: how many nats they have above their medians among the calibration rows; None where these are not known.
    """

    sensor: str
    nats: float
    excess: float | None


@dataclass(frozen=True)
class Maps:
    """
    B rows whole, as pictures want them: (B, *shape) each. *expected*: in original units.

    *excess*: how many nats each feature has above its median among the calibration rows.
    """

    inputs: Array
    expected: Array
    excess: Floats


class Explanations:
    """Of the rows of one bundle."""

    def __init__(self, bundle: Bundle) -> None:
        inputs = bundle.manifest.inputs
        self._arrays = bundle.calibration
        self._names = inputs.names
        self._masked = inputs.masked
        self._windows = inputs.windows
        columns = inputs.columns or ()
        self._categories = frozenset(at for at, column in enumerate(columns) if column.kind == "categorical")

    def outputs(self, kind: str, field: str) -> tuple[str, ...]:
        """
        The scorer's outputs that they are made of, but for the ends of intervals.

        Raises Unsupported for a *kind* of score without parts, with the *field* that asked for them.
        """
        if kind not in FEATURE_OUTPUTS:
            able = ", ".join(FEATURE_OUTPUTS)
            raise Unsupported(
                f"{kind} has no parts by feature; those that have: {able}",
                field=field,
                limit=able,
                value=f"kind {kind}",
            )
        return FEATURE_OUTPUTS[kind], "expected"

    def parts(self, entry: Calibrated, x: Array, outputs: Rows, most: int) -> list[list[FeaturePart]]:
        """
        For each row of *x*, (B, *shape), its *most* surprising features: the rarest part for that feature first.

        Of parts that are as rare the largest. *outputs*: the scorer's for these rows. A missing value has no part.
        """
        nats = outputs[FEATURE_OUTPUTS[entry.kind]]
        p = None
        if (known := self._calibrated(entry)) is not None:
            p = calibration.feature_p_values(*known, entry.rows, nats)
        observed = x.reshape(len(x), -1)
        explained = []
        for row in range(len(x)):
            order = np.argsort(-nats[row], kind="stable") if p is None else np.lexsort((-nats[row], p[row]))
            if self._masked:
                order = order[~np.isnan(observed[row, order])]
            explained.append(
                [
                    FeaturePart(
                        index=int(c),
                        feature=self._names[c],
                        nats=float(nats[row, c]),
                        p_value=None if p is None else float(p[row, c]),
                        observed=float(observed[row, c]),
                        expected=float(outputs["expected"][row, c]),
                        interval=None
                        if c in self._categories
                        else (float(outputs["lower"][row, c]), float(outputs["upper"][row, c])),
                    )
                    for c in order[:most]
                ]
            )
        return explained

    def sensors(self, entry: Calibrated, x: Array, outputs: Rows, most: int) -> list[list[SensorPart]]:
        """
        For each window of *x*, (B, C), its *most* surprising sensors: the largest excess first, or else the most nats.

        Nothing for rows that are no windows. A missing reading has no part.
        """
        if self._windows is None:
            return [[] for _ in x]
        names = [sensor.name for sensor in self._windows.sensors]
        nats = np.asarray(outputs[FEATURE_OUTPUTS[entry.kind]], np.float64)
        excess = None
        if (known := self._calibrated(entry)) is not None:
            above = nats - calibration.feature_medians(*known, entry.rows)
            excess = np.where(np.isnan(x) | np.isnan(above), 0.0, above).reshape(len(x), -1, len(names)).sum(axis=1)
        total = nats.reshape(len(x), -1, len(names)).sum(axis=1)
        order = np.argsort(-total if excess is None else -excess, axis=1, kind="stable")[:, :most]
        return [
            [
                SensorPart(names[s], float(total[row, s]), None if excess is None else float(excess[row, s]))
                for s in order[row]
            ]
            for row in range(len(x))
        ]

    def check_maps(self, entry: Calibrated) -> None:
        """Raise Unsupported where the bundle does not know what is usual for each feature."""
        if entry.features_key not in self._arrays:
            raise Unsupported(
                f"the bundle has no calibration by pixel of {entry.kind} with {entry.samples} samples, which a map is "
                "drawn from",
                field="samples",
                value=entry.samples,
            )

    def maps(self, entry: Calibrated, x: Array, outputs: Rows) -> Maps:
        """Rows *x*, (B, *shape), as maps; none is allowed. *outputs*: the scorer's for them. See `check_maps`."""
        if not len(x):
            return Maps(x, x, x.astype(np.float64))
        known = self._calibrated(entry)
        assert known is not None, "check_maps was not asked. This is a bug."
        nats = np.asarray(outputs[FEATURE_OUTPUTS[entry.kind]], np.float64)
        excess = nats - calibration.feature_medians(*known, entry.rows)
        return Maps(x, outputs["expected"].reshape(x.shape), excess.reshape(x.shape))

    def _calibrated(self, entry: Calibrated) -> tuple[NDArray[np.float32], NDArray[np.int64]] | None:
        """The grid and the ranks of `calibration.feature_grid`, where the bundle has them."""
        if (grid := self._arrays.get(entry.features_key)) is None:
            return None
        ranks = self._arrays[f"{entry.features_key}/ranks"]
        return np.asarray(grid, np.float32), np.asarray(ranks, np.int64)
