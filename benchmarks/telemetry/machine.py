"""
A pumping set that does not exist: five sensors that hang together over time, and what can go wrong with them.

It works in cycles of a rest and a load of one of three sizes, of many lengths. Speed follows that, flow follows speed,
pressure the square of it, vibration rings at a frequency of its own, the louder the faster, and temperature follows
slowly. All of it is drawn from a seed. T readings, S sensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SENSORS = ("speed", "flow", "pressure", "vibration", "temperature")
SPEED, FLOW, PRESSURE, VIBRATION, TEMPERATURE = range(5)
INTERVAL_S = 2.0
"""From one reading to the next."""

LASTS = 100
"""Readings that a fault lasts, but for the spike, which is one."""

LATE = 8
"""Readings by which pressure comes late where the phase is shifted."""

_WARM_UP = 500  # readings until temperature has forgotten where it began
_REST, _LOADS = 0.3, (0.6, 0.75, 0.9)


def readings(count: int, generator: np.random.Generator) -> Floats:
    """So many readings of normal running: (T, S), in rpm, l/s, bar, mm/s and degrees Celsius."""
    total = count + _WARM_UP
    noise = generator.standard_normal((total, 5))
    x = np.empty((total, 5))
    speed = heat = 0.6
    flow = ring = before = 0.0
    for at, demand in enumerate(_demand(total, generator)):
        speed += 0.15 * (demand - speed) + 0.004 * noise[at, SPEED]
        heat += 0.02 * (speed - heat)
        flow = 0.7 * flow + 0.3 * noise[at, FLOW]
        ring, before = 1.6 * ring - 0.9 * before + speed * noise[at, VIBRATION], ring
        x[at] = (
            1500 * speed,
            40 * speed + flow,
            5 * speed**2 + 0.05 * flow + 0.04 * noise[at, PRESSURE],
            ring,
            20 + 60 * heat + 0.1 * noise[at, TEMPERATURE],
        )
    return x[_WARM_UP:]


def _demand(count: int, generator: np.random.Generator) -> list[float]:
    """What the set is asked for at each reading: a rest of 10 to 30 readings, a load of 20 to 50, and so on."""
    demand: list[float] = []
    while len(demand) < count:
        demand += [_REST] * int(generator.integers(10, 31))
        demand += [float(generator.choice(_LOADS))] * int(generator.integers(20, 51))
    return demand[:count]


class Fault(NamedTuple):
    """
    What changes a run from one reading on, in place: *begin*(run, onset, generator).

    *sensor*: the one that is at fault. *lasts*: readings that are changed.
    """

    about: str
    sensor: int
    begin: Callable[[Floats, int, np.random.Generator], None]
    lasts: int = LASTS


def _spike(x: Floats, at: int, generator: np.random.Generator) -> None:
    x[at, PRESSURE] += 0.4 * generator.choice([-1, 1])


def _stuck(x: Floats, at: int, generator: np.random.Generator) -> None:
    x[at : at + LASTS, FLOW] = x[at - 1, FLOW]


def _drift(x: Floats, at: int, generator: np.random.Generator) -> None:
    x[at : at + LASTS, TEMPERATURE] += 8 * np.arange(1, LASTS + 1) / LASTS


def _noise(x: Floats, at: int, generator: np.random.Generator) -> None:
    x[at : at + LASTS, FLOW] += 0.8 * generator.standard_normal(LASTS)


def _uncoupled(x: Floats, at: int, generator: np.random.Generator) -> None:
    x[at : at + LASTS, PRESSURE] = readings(LASTS, generator)[:, PRESSURE]


def _late(x: Floats, at: int, generator: np.random.Generator) -> None:
    x[at : at + LASTS, PRESSURE] = x[at - LATE : at - LATE + LASTS, PRESSURE].copy()


def _detuned(x: Floats, at: int, generator: np.random.Generator) -> None:
    loud = np.abs(x[at : at + LASTS, VIBRATION]).mean() * np.sqrt(np.pi / 2)  # of a normal, its standard deviation
    x[at : at + LASTS, VIBRATION] = loud * generator.standard_normal(LASTS)


FAULTS = {
    "spike": Fault("one reading of pressure is 0.4 bar off, ten times its noise", PRESSURE, _spike, 1),
    "stuck": Fault("flow repeats its last reading", FLOW, _stuck),
    "drift": Fault("temperature rises by 8 degrees in 100 readings", TEMPERATURE, _drift),
    "noise": Fault("flow is noisier by 0.8 l/s, twice what it varies by itself", FLOW, _noise),
    "uncoupled": Fault("pressure is that of another set", PRESSURE, _uncoupled),
    "late": Fault(f"pressure comes {LATE} readings late", PRESSURE, _late),
    "detuned": Fault("vibration is as loud as before, without its frequency", VIBRATION, _detuned),
}
