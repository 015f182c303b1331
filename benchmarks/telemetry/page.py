"""What was counted, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median_low

from benchmarks.telemetry.delays import Alarms, Found
from benchmarks.telemetry.machine import FAULTS, INTERVAL_S, LASTS, SENSORS

HOUR_S = 3600


def alarms(found: dict[str, Alarms], alpha: float) -> Iterator[str]:
    """The table of false alarms, a line a detector."""
    yield (f"| detector | alpha | flagged of normal windows | false alarms an hour | one or more in {LASTS} readings |")
    yield "| --- | --- | --- | --- | --- |"
    for name, one in found.items():
        hourly = one.per_thousand / 1000 * HOUR_S / INTERVAL_S
        yield f"| {name} | {alpha:g} | {one.share:.2%} of {one.windows:,} | {hourly:.1f} | {one.chance:.0%} |"


def delays(by_fault: dict[str, list[Found]]) -> Iterator[str]:
    """The table of one detector, a line a fault."""
    yield "| fault | found | delay, readings: median (range) | delay, s: median (range) | sensor named first |"
    yield "| --- | --- | --- | --- | --- |"
    for name, found in by_fault.items():
        late, named = _delays(found), _named(found)
        cells = [_range(late, 1), _range(late, INTERVAL_S), ", ".join(f"{s} {n}" for s, n in named.items())]
        right = SENSORS[FAULTS[name].sensor]
        yield f"| {name}: {FAULTS[name].about} | {len(late)} of {len(found)} | {' | '.join(cells)} (right: {right}) |"


def beside(found: dict[str, dict[str, list[Found]]]) -> Iterator[str]:
    """The table of all detectors, a line a fault: the share found, the median delay in readings, the share named."""
    yield f"| fault | {' | '.join(found)} |"
    yield "| --- |" + " --- |" * len(found)
    for fault in FAULTS:
        cells = [_cell(by_fault[fault], FAULTS[fault].sensor) for by_fault in found.values()]
        yield f"| {fault} | {' | '.join(cells)} |"


def better(found: dict[str, dict[str, list[Found]]], ours: str) -> Iterator[str]:
    """A line for each fault that another detector finds more of than *ours*, or as many sooner."""
    lines = []
    for fault in FAULTS:
        own = _order(found[ours][fault])
        ahead = [name for name, by_fault in found.items() if name != ours and _order(by_fault[fault]) > own]
        if ahead:
            lines.append(f"- {fault}: {', '.join(ahead)}")
    yield (
        f"More are found than by {ours}, or as many with a smaller median delay, of:"
        if lines
        else (f"No other detector finds more of any fault than {ours}, or as many with a smaller median delay.")
    )
    if lines:
        yield ""
        yield from lines


def _order(found: list[Found]) -> tuple[int, float]:
    late = _delays(found)
    return len(late), -median_low(late) if late else 0


def _delays(found: list[Found]) -> list[int]:
    return [one.delay for one in found if one.delay is not None]


def _named(found: list[Found]) -> dict[str, int]:
    """How often each sensor is named, the most often first."""
    named = [SENSORS[one.sensor] for one in found if one.sensor is not None]
    return {name: named.count(name) for name in sorted(set(named), key=lambda name: (-named.count(name), name))}


def _range(late: list[int], unit: float) -> str:
    if not late:
        return ""
    low, middle, high = (f"{unit * value:g}" for value in (min(late), median_low(late), max(late)))
    return f"{middle} ({low} to {high})"


def _cell(found: list[Found], sensor: int) -> str:
    late = _delays(found)
    if not late:
        return "0%"
    right = sum(one.sensor == sensor for one in found) / len(late)
    return f"{len(late) / len(found):.0%}, {median_low(late)}, {right:.0%}"
