"""
From the readings of a series to the rows of a model: windows of consecutive readings.

What training makes of its data and the service of a request is the same function here. How a model has them is in its
manifest (`inputs.Windows`). T readings of S sensors, n windows of W readings, C = W S features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.inputs import Windows

Floats = NDArray[np.float64]


def count(readings: int, windows: Windows) -> int:
    """n: the windows that so many readings of one run make; 0 where they are fewer than one has."""
    return max(0, (readings - windows.length) // windows.stride + 1)


def needed(rows: int, windows: Windows) -> int:
    """The least readings that make so many windows, at least one."""
    return (rows - 1) * windows.stride + windows.length


def firsts(rows: int, windows: Windows) -> NDArray[np.int64]:
    """The index of the first reading of each window: (n,)."""
    return np.arange(rows, dtype=np.int64) * windows.stride


def rows_of(readings: Floats, windows: Windows) -> Floats:
    """
    The windows of one run: (T, S) -> (n, C), in order of time, of each reading all sensors.

    With *differences* a numeric sensor's first reading stays as it is, and each later one becomes its difference from
    the one before. That map has the determinant 1, so a density of the row is one of the readings, in their own units.
    A missing reading, NaN, takes both differences that it is in. What would overflow is the largest number there is.
    """
    n, sensors = count(len(readings), windows), readings.shape[1]
    if not n:
        return np.zeros((0, windows.length * sensors))
    view = np.lib.stride_tricks.sliding_window_view(readings, windows.length, axis=0)[:: windows.stride]
    x = np.array(view.transpose(0, 2, 1), np.float64, order="C")  # (n, W, S)
    if windows.differences:
        changing = [s for s, sensor in enumerate(windows.sensors) if windows.differenced(sensor)]
        most = np.finfo(np.float64).max
        with np.errstate(over="ignore"):
            x[:, 1:, changing] = np.diff(x[:, :, changing], axis=1).clip(-most, most)
    return x.reshape(n, windows.length * sensors)
