"""
onnxruntime in this process: what the answers are compared with, and what the speed is.

One thread, the same graph, none of the service's code.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.serving.wire import Arrays, Floats

Feeds = Mapping[str, NDArray[Any]]


class InProcess:
    """One ONNX file on one thread of the CPU."""

    def __init__(self, file: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self.shape: tuple[int, ...] = tuple(self._session.get_inputs()[0].shape[1:])
        """Of one row."""
        self.columns = math.prod(self.shape)

    def run(self, feeds: Feeds, outputs: Sequence[str] | None = None) -> Arrays:
        """Every output, or those of *outputs*, by name."""
        names = list(outputs or [tensor.name for tensor in self._session.get_outputs()])
        return dict(zip(names, self._session.run(names, dict(feeds)), strict=True))

    def codes(self, x: Floats) -> Arrays:
        """Every output for rows *x* of an encoder."""
        return self.run({"x": x})

    def seconds(self, feeds: Sequence[Feeds], seconds: float, outputs: Sequence[str] | None = None) -> float:
        """Of one run, on average: *feeds* in turn, for *seconds* after a warm-up of a tenth of that."""
        names = list(outputs) if outputs else None
        self._turn(feeds, seconds / 10, names)
        runs, taken = self._turn(feeds, seconds, names)
        return taken / runs

    def _turn(self, feeds: Sequence[Feeds], seconds: float, names: list[str] | None) -> tuple[int, float]:
        start = now = time.perf_counter()
        runs = 0
        while now - start < seconds:
            self._session.run(names, feeds[runs % len(feeds)])
            runs += 1
            now = time.perf_counter()
        return runs, now - start


def nll(log_w: NDArray[Any]) -> NDArray[np.float64]:
    """(B,) from (B, K): the negative importance-weighted bound, -log mean_k w (Burda et al. 2016, eq. 8)."""
    bound: NDArray[np.float64] = np.logaddexp.reduce(log_w.astype(np.float64), axis=1) - np.log(log_w.shape[1])
    return -bound
