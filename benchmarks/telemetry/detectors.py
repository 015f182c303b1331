"""
What watches a series: the service with a model of windows, and simple references on the same windows.

Each says for every window which reading is its last, how rare it is, and which sensor is at fault. The references learn
from the training windows of the bundle and are calibrated on its calibration windows. T readings, S sensors, n windows
of W readings, C = W S values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from benchmarks.telemetry.machine import SENSORS
from service import calibration
from service.inputs import Windows
from service.windows import firsts, rows_of
from tests.server import Server

Floats = NDArray[np.float64]
Contributions = Callable[[Floats], Floats]
"""What each value of standardised windows has to do with their score: (n, C) -> (n, C)."""


class Watched(NamedTuple):
    """Of n windows: the index of the last reading of each, its p-value, and the sensor that surprises most."""

    last: NDArray[np.int64]
    p_values: Floats
    sensor: NDArray[np.int64]


class Detector(Protocol):
    """Watches one run."""

    def __call__(self, x: Floats) -> Watched:
        """What it says of the readings (T, S)."""
        ...


class Served:
    """A model over HTTP, sent raw readings."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def __call__(self, x: Floats) -> Watched:
        """One request."""
        found = self.ask(x)
        return Watched(
            np.array([window["last"] for window in found["windows"]]),
            np.array(found["p_values"]),
            np.array([SENSORS.index(named[0]["sensor"]) for named in found["sensors"]]),
        )

    def ask(self, x: Floats) -> dict[str, Any]:
        """The reply."""
        reply = self._server.client.post("/v1/anomaly-score", json={"series": x.tolist(), "explain": 1})
        reply.raise_for_status()
        found: dict[str, Any] = reply.json()
        return found


class Reference:
    """A score made of contributions by value, their sum or, with *largest*, the largest of them."""

    def __init__(
        self, train: Floats, kept: Floats, windows: Windows, fit: Callable[[Floats], Contributions], largest: bool
    ) -> None:
        self._center, self._scale = train.mean(axis=0), train.std(axis=0)
        self._windows, self._over = windows, np.max if largest else np.sum
        self._contributions = fit((train - self._center) / self._scale)
        parts = self._parts(kept)
        self._kept, self._usual = np.sort(self._over(parts, axis=1)), np.median(parts, axis=0)

    def __call__(self, x: Floats) -> Watched:
        """In process. A sensor is judged as the service does: by what it has above its medians among calibration."""
        parts = self._parts(rows_of(x, self._windows))
        above = (parts - self._usual).reshape(len(parts), self._windows.length, -1)
        return Watched(
            firsts(len(parts), self._windows) + self._windows.length - 1,
            calibration.p_values(self._kept, self._over(parts, axis=1)),
            self._over(above, axis=1).argmax(axis=1),
        )

    def _parts(self, rows: Floats) -> Floats:
        return self._contributions((rows - self._center) / self._scale)


def references(train: Floats, kept: Floats, windows: Windows, components: int) -> dict[str, Reference]:
    """By name, fitted to windows *train*, (n, C), calibrated on *kept*. *components*: of the PCA."""
    ways: dict[str, tuple[Callable[[Floats], Contributions], bool]] = {
        "largest z-score": (lambda _: np.abs, True),
        "norm": (lambda _: np.square, False),
        "PCA": (lambda u: _pca(u, components), False),
        "Mahalanobis": (_mahalanobis, False),
        "kNN": (_nearest, False),
    }
    return {name: Reference(train, kept, windows, *way) for name, way in ways.items()}


def _pca(u: Floats, components: int) -> Contributions:
    """The squared residuals of the reconstruction."""
    model = PCA(components, svd_solver="covariance_eigh").fit(u)
    return lambda rows: np.square(rows - model.inverse_transform(model.transform(rows)))


def _mahalanobis(u: Floats) -> Contributions:
    """Its squared distance is a sum over values of r (Sigma^-1 r); the covariance is Ledoit and Wolf's."""
    model = LedoitWolf().fit(u)

    def parts(rows: Floats) -> Floats:
        r = rows - model.location_
        found: Floats = r * (r @ model.precision_)
        return found

    return parts


def _nearest(u: Floats) -> Contributions:
    """The squared differences from the nearest training window."""
    neighbours = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(u)
    return lambda rows: np.square(rows - u[neighbours.kneighbors(rows, return_distance=False)[:, 0]])
