"""
What is counted: false alarms of normal running, and of each fault whether it is found, how soon, and by which sensor.

A fault is found where a window that holds a changed reading is flagged; the delay is from the first changed reading to
the last reading of the first such window, so it has in it the wait for the window's end.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.telemetry.detectors import Detector, Watched
from benchmarks.telemetry.machine import LASTS, Fault, readings

Floats = NDArray[np.float64]

BEFORE = 64
"""Readings of a run before its fault begins, at least; how many more is drawn."""


class Alarms(NamedTuple):
    """
    Of normal running: the share of windows that are flagged, of how many, and alarms in 1,000 readings.

    *chance*: in how many stretches as long as a fault a window that touches them is flagged.
    """

    share: float
    windows: int
    per_thousand: float
    chance: float


class Run(NamedTuple):
    """Readings, (T, S), of which those from *onset* to before *end* are changed."""

    x: Floats
    onset: int
    end: int


class Found(NamedTuple):
    """Of one fault: the delay in readings, and the sensor that was named first. Both None: it was not found."""

    delay: int | None = None
    sensor: int | None = None


def faulty(fault: Fault, seed: tuple[int, ...], length: int, stride: int) -> Run:
    """A run with the fault, which begins anywhere in the *stride* of windows of *length* readings."""
    generator = np.random.default_rng(seed)
    onset = BEFORE + int(generator.integers(stride))
    x = readings(onset + fault.lasts + length + stride, generator)
    fault.begin(x, onset, generator)
    return Run(x, onset, onset + fault.lasts)


def watch(detector: Detector, run: Run, alpha: float) -> Found:
    """What is found of the fault in *run*."""
    watched = detector(run.x)
    length = int(watched.last[0]) + 1  # of the first window
    holds = (watched.last >= run.onset) & (watched.last - length + 1 < run.end)
    flagged = np.flatnonzero(holds & (watched.p_values <= alpha))
    if not len(flagged):
        return Found()
    first = int(flagged[0])
    return Found(int(watched.last[first]) - run.onset, int(watched.sensor[first]))


def tally(watched: list[Watched], alpha: float, count: int) -> Alarms:
    """Of normal runs of *count* readings each."""
    flags = np.concatenate([one.p_values <= alpha for one in watched])
    per_thousand = 1000 * float(flags.sum()) / (count * len(watched))
    return Alarms(float(flags.mean()), len(flags), per_thousand, _by_chance(watched, alpha))


def _by_chance(watched: list[Watched], alpha: float) -> float:
    hits = []
    for one in watched:
        length = int(one.last[0]) + 1
        apart = LASTS + length - 1  # a stretch is touched by windows that begin up to length - 1 readings before it
        for start in range(length - 1, int(one.last[-1]) + 2 - apart, apart):
            inside = (one.last >= start) & (one.last < start + apart)
            hits.append(bool((one.p_values[inside] <= alpha).any()))
    return float(np.mean(hits))
