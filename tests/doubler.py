"""An engine for tests of the batcher, of which it is plain what it must answer."""

from __future__ import annotations

import threading

import numpy as np

from service.calls import Rows


class Doubler:
    """Doubles rows, fails on negative numbers, remembers the batches that it ran, and is held shut by its *gate*."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[float]]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def __call__(self, key: str, rows: Rows) -> Rows:
        """One batch."""
        self.entered.set()
        self.gate.wait(10)
        x = np.asarray(rows["x"], np.float64)
        self.batches.append((key, x.tolist()))
        if (x < 0).any():
            raise ValueError("negative")
        return {"y": 2 * x}
