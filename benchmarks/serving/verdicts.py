"""The bars and aims of the service, and what the last results say of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.serving import bulk, scoring, tables, throughput
from benchmarks.serving.bench import spread
from benchmarks.serving.contenders import FLOOR, MOSEC, TRITON

Results = Mapping[str, Mapping[str, Any]]
"""By part: what it measured."""


@dataclass(frozen=True)
class Bar:
    """
    One line of the table. *part*: whose result it is read from, by *read*: one value a round, None where there is none.

    *more*: whether more is better. *aim* is harder than *bar*; None where there is only a bar.
    """

    what: str
    part: str
    read: Callable[[Mapping[str, Any]], list[float] | None]
    bar: float
    aim: float | None
    more: bool = True
    unit: str = "times"


def _ratio(point: str, figure: str, beside: str) -> Callable[[Mapping[str, Any]], list[float] | None]:
    return lambda result: throughput.ratio(result, point, figure, beside)


_ONE, _MANY, _BINARY = "json 1 1", "json 1 64", "binary 64 8"

BARS = (
    Bar(
        "1 row, JSON, 64 connections: requests/s over Triton's",
        "throughput",
        _ratio(_MANY, "requests_per_s", TRITON),
        2.5,
        None,
    ),
    Bar("the same over mosec's", "throughput", _ratio(_MANY, "requests_per_s", MOSEC), 1.6, None),
    Bar("the same over the floor's", "throughput", _ratio(_MANY, "requests_per_s", FLOOR), 0.6, 0.8),
    Bar(
        "1 row, JSON, 1 connection: p50 over the floor's",
        "throughput",
        _ratio(_ONE, "p50_ms", FLOOR),
        1.6,
        1.25,
        more=False,
    ),
    Bar(
        "64 rows, binary, 8 connections: rows/s over Triton's",
        "throughput",
        _ratio(_BINARY, "rows_per_s", TRITON),
        2.5,
        None,
    ),
    Bar("the same over onnxruntime in process", "throughput", _ratio(_BINARY, "rows_per_s", "in process"), 0.6, 0.8),
    Bar(
        "anomaly-score, 64 rows, binary, K = 16, 8 connections: rows/s over `scorer.onnx` in process",
        "scoring",
        scoring.ratios,
        0.8,
        0.9,
    ),
    Bar(
        "p99 of single rows beside a binary bulk caller",
        "bulk",
        bulk.multiples,
        3,
        2,
        more=False,
        unit="batches' times",
    ),
    Bar(
        "the same beside a JSON bulk caller, less the parse of one of its bodies",
        "bulk",
        bulk.multiples_past_parse,
        3,
        2,
        more=False,
        unit="batches' times",
    ),
    Bar(
        "ready after the start of the process",
        "start",
        lambda result: list(result["seconds"]),
        2,
        1,
        more=False,
        unit="s",
    ),
)


def verdict(value: float, bar: float, aim: float | None, more: bool) -> str:
    """Met or missed, and by what share of the bar or aim."""

    def short(limit: float) -> float:
        return (limit - value if more else value - limit) / limit

    if short(bar) > 0:
        return f"**missed** by {_share(short(bar))}"
    if aim is None:
        return "met"
    return f"met; aim missed by {_share(short(aim))}" if short(aim) > 0 else "met, and the aim"


def _share(missed: float) -> str:
    return f"{missed:.0%}" if missed >= 0.01 else "less than 1%"


def render(results: Results) -> str:
    """The table of all bars; a line whose part has no result, or whose peer was not there, says so."""
    rows = []
    for one in BARS:
        sign = ">=" if one.more else "<="
        limits = [f"{sign} {one.bar:g} {one.unit}", f"{sign} {one.aim:g}" if one.aim is not None else ""]
        values = one.read(results[one.part]) if one.part in results else None
        if values is None:
            rows.append([one.what, "not measured", *limits, ""])
        else:
            middle = spread(values)
            found = tables.middle(middle, "{:.2f}")
            rows.append([one.what, f"{found} {one.unit}", *limits, verdict(middle[0], one.bar, one.aim, one.more)])
    return tables.table(["what", "measured", "bar", "aim", "verdict"], rows)
