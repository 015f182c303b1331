"""
The fields of a reply to anomaly-score, from scored rows: those that could not be scored in their places among them.

In arrays a category is its number; where a reply has words they are beside it. Knows neither bodies nor the model. n
rows, E features explained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from service import score_reply
from service.anomaly import Plan
from service.codec.fields import Fields
from service.codec.records import Records, flags
from service.codec.rows import Array
from service.codec.table import Table
from service.explanations import FeaturePart, SensorPart
from service.inputs import Inputs, Windows
from service.scored import Scored
from service.windows import firsts

COMPONENTS = tuple(score_reply.Components.model_fields)


def judged(
    plan: Plan, scored: Scored, inputs: Inputs, table: Table | None, invalid: Mapping[int, str] | None
) -> Fields:
    """
    What was found of n rows, less the *invalid* ones (their reasons by row; None: such rows were not asked for).

    *inputs*: what a row is. *table*: what says the values of columns, where the rows are of one.
    """
    features, windows = inputs.features, inputs.windows
    bad = invalid or {}
    rows = len(scored.scores) + len(bad)
    valid = [row for row in range(rows) if row not in bad]

    def spread(values: Array) -> Array:
        """The answers of the valid rows among all rows: NaN, or what is nothing of its dtype, for the others."""
        if len(valid) == rows:
            return values
        nothing = {"U": "", "O": None, "i": 0}.get(values.dtype.kind, math.nan)
        among = np.full((rows, *values.shape[1:]), nothing, values.dtype)
        among[valid] = values
        return among

    reply: Fields = {
        "kind": plan.entry.kind,
        "samples": plan.entry.samples,
        "alpha": plan.alpha,
        "threshold": plan.threshold,
        "false_alarm_rate": scored.rate,
        "scores": spread(scored.scores),
        "p_values": spread(scored.p_values),
        "is_anomaly": flags(scored.is_anomaly, valid, rows),
    }
    if windows is not None:
        first = firsts(rows, windows)
        reply["windows"] = Records({"first": first, "last": first + windows.length - 1})
    if (found := scored.discoveries) is not None:
        reply |= {
            "fdr": plan.fdr,
            "adjusted_p_values": spread(found.adjusted),
            "is_discovery": flags(found.flagged, valid, rows),
        }
        if found.least is not None:
            reply["least_discoveries"] = found.least
    if (reason := scored.reason or plan.without_threshold) is not None:
        reply["reason"] = reason
    if (masked := scored.masked) is not None:
        columns = {
            "row": np.array(valid, np.int64)[masked.row],
            "share": masked.share,
            "threshold": masked.threshold,
            "lower": masked.rate[:, 0],
            "upper": masked.rate[:, 1],
        }
        reply["missing"] = Records(columns, lists={"false_alarm_rate": ("lower", "upper")})
    if (grouped := scored.grouped) is not None:
        columns = {
            "row": np.array(valid, np.int64),
            "group": np.array(grouped.group, str),
            "threshold": grouped.threshold,
            "lower": grouped.rate[:, 0],
            "upper": grouped.rate[:, 1],
            "reason": np.array(grouped.reason, str),
        }
        why = {"reason": np.array([reason or None for reason in grouped.reason], object)}
        reply["groups"] = Records(columns, lists={"false_alarm_rate": ("lower", "upper")}, shown=why)
    if invalid is not None:
        reply["invalid"] = Records(
            {"row": np.array(list(invalid), np.int64), "reason": np.array([*invalid.values()], str)}
        )
    if plan.components:
        parts = asdict(scored.components) if scored.components else dict.fromkeys(COMPONENTS, np.zeros(0))
        reply["components"] = {name: spread(parts[name]) for name in COMPONENTS}
    if plan.explain:
        explained = scored.explanations or []
        told = _explanations(explained, min(plan.explain, features), windows)
        counts = np.array([len(parts) for parts in explained], np.int64)
        short = bool((counts < min(plan.explain, features)).any())
        reply["explanations"] = Records(
            {name: spread(column) for name, column in told.items()},
            frozenset(bad),
            {"interval": ("lower", "upper")},
            {name: spread(column) for name, column in _words(explained, told, table).items()},
            spread(counts).astype(np.int64) if short else None,
        )
    if plan.explain and windows is not None:
        by_sensor = _sensors(scored.sensors or [], min(plan.explain, len(windows.sensors)))
        reply["sensors"] = Records({name: spread(column) for name, column in by_sensor.items()}, frozenset(bad))
    if (maps := scored.maps) is not None:
        reply["maps"] = {name: spread(array) for name, array in vars(maps).items()}
    return reply


def _explanations(explained: list[list[FeaturePart]], features: int, windows: Windows | None) -> dict[str, Array]:
    """The parts of each row in columns: (n, E) each; NaN, or no name, where a row has fewer parts."""
    shape = len(explained), features
    parts = [part for row in explained for part in row]
    there = np.arange(features) < np.array([len(row) for row in explained], np.int64)[:, None]

    def column(values: list[Any], nothing: Array) -> Array:
        among = np.full(shape, nothing)
        among[there] = values
        return among

    names = np.array([part.feature for part in parts], str)
    columns: dict[str, Array] = {"feature": column([*names], np.zeros((), names.dtype))}
    if windows is not None:
        sensors = np.array([windows.sensors[part.index % len(windows.sensors)].name for part in parts], str)
        columns["sensor"] = column([*sensors], np.zeros((), sensors.dtype))
        columns["lag"] = column([windows.lag(part.index) for part in parts], np.zeros((), np.int64))
    for name in ("nats", "p_value", "observed", "expected"):
        columns[name] = column([getattr(part, name) for part in parts], np.array(math.nan))  # None: NaN
    for index, name in enumerate(("lower", "upper")):
        ends = [math.nan if part.interval is None else part.interval[index] for part in parts]
        columns[name] = column(ends, np.array(math.nan))
    return columns


def _sensors(explained: list[list[SensorPart]], sensors: int) -> dict[str, Array]:
    """The parts of the sensors of each window in columns: (n, E) each."""
    columns = {
        "sensor": np.array([[part.sensor for part in row] for row in explained], str),
        "nats": np.array([[part.nats for part in row] for row in explained], np.float64),
        "excess": np.array([[part.excess for part in row] for row in explained], np.float64),  # None: NaN
    }
    return {name: column.reshape(len(explained), sensors) for name, column in columns.items()}


def _words(explained: list[list[FeaturePart]], told: Mapping[str, Array], table: Table | None) -> dict[str, Array]:
    """
    What explanations say instead of numbers where a column's values are words: (n, E) each, of any object.

    Empty where no such column is explained.
    """
    if table is None or not any(part.index in table.worded for row in explained for part in row):
        return {}
    columns = np.full(told["nats"].shape, -1)
    for row, parts in enumerate(explained):
        columns[row, : len(parts)] = [part.index for part in parts]
    lower, upper = told["lower"], told["upper"]
    said = {name: told[name].astype(object) for name in ("observed", "expected")}
    ends = {"lower": lower.astype(object), "upper": upper.astype(object)}
    for index in np.unique(columns[columns >= 0]):
        if index in table.worded:
            cells = columns == index
            for name, words in (*said.items(), *ends.items()):
                words[cells] = table.values(int(index), told[name][cells])
    pairs = zip(lower.ravel().tolist(), ends["lower"].ravel().tolist(), ends["upper"].ravel().tolist(), strict=True)
    shown = (None if math.isnan(number) else [low, high] for number, low, high in pairs)
    return {**said, "interval": np.fromiter(shown, np.dtype(object), columns.size).reshape(columns.shape)}
