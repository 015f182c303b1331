"""What every part is given: where things are, the service to start, requests with the answers that they must get."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.serving.machine import ROOT
from benchmarks.serving.open_loop import request
from benchmarks.serving.process import Process, clean_environment
from benchmarks.serving.wire import Body

BUNDLE = ROOT / "deploy/models/digits"
ENCODE = "/v1/encode"
SCORE = "/v1/anomaly-score"
ROWS = 256

Result = dict[str, Any]
"""What a part found, as JSON has it."""


@dataclass(frozen=True)
class Setting:
    """*scale*: 1 in a whole run, less in a smoke run. *requests*: of the long part. *seeds*: of the document."""

    port: int
    folder: Path
    scale: float
    requests: int
    seeds: tuple[int, ...]
    say: Callable[[str], None]

    def some(self, count: int, least: int = 1) -> int:
        """*count*, less in a smoke run."""
        return max(least, round(count * self.scale))

    def serve(self, name: str, **settings: object) -> Process:
        """The service on the shipped example, with one onnxruntime thread, and *settings* as flags."""
        flags = [f"--{setting.replace('_', '-')}={value}" for setting, value in settings.items()]
        command = [sys.executable, "-m", "service", f"--bundle={BUNDLE}", f"--port={self.port}", "--threads=1", *flags]
        log = self.folder / "logs" / f"{name}.log"
        return Process(command, self.port, "/health/ready", clean_environment(PYTHONPATH=str(ROOT)), ROOT, log)


def digits(count: int = ROWS) -> NDArray[np.float64]:
    """*count* distinct rows of the example, (count, 8, 8): whole numbers from 0 to 16."""
    return np.random.default_rng(0).integers(0, 17, (count, 8, 8)).astype(np.float64)


def encode_body(x: NDArray[np.float64]) -> bytes:
    """The JSON of a request to encode one row."""
    return json.dumps({"inputs": [x.astype(int).tolist()]}).encode()


def encode_requests() -> tuple[list[bytes], NDArray[np.float32]]:
    """ROWS distinct requests, and mu of each, (ROWS, 16), by onnxruntime in this process."""
    x = digits()
    session = onnxruntime.InferenceSession(BUNDLE / "1/encoder.onnx", providers=["CPUExecutionProvider"])
    (mu,) = session.run(["mu"], {session.get_inputs()[0].name: x.astype(np.float32)})
    kind = {"Content-Type": "application/json"}
    return [request(ENCODE, Body(encode_body(row), kind)) for row in x], mu


def same(found: NDArray[Any], expected: NDArray[Any]) -> NDArray[np.bool_]:
    """Row by row, whether *found* is *expected*, as far as floats of different batches agree."""
    close = np.isclose(found, expected, rtol=1e-4, atol=1e-4 * np.sqrt(64))
    return np.asarray(close.reshape(len(close), -1).all(axis=1))


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and most of *values*, with their count."""
    if not len(values):
        return {"count": 0, "p50": 0.0, "p99": 0.0, "max": 0.0}
    p50, p99 = np.percentile(values, (50, 99))
    return {"count": len(values), "p50": float(p50), "p99": float(p99), "max": float(np.max(values))}


def verdict(good: bool) -> str:
    """As a table has it."""
    return "met" if good else "**missed**"
