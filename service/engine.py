"""
The engine: onnxruntime sessions of one bundle. Arrays in, arrays out.

Owns the row buckets of a GPU, warm-up and the golden self-check; what the sessions run on is `provider`'s decision.
Knows nothing of requests, scores or HTTP.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from service.bundle import Bundle
from service.errors import BundleError, EngineError
from service.provider import Device, Placement, open_sessions

log = logging.getLogger("service.engine")

Array = NDArray[np.generic]
Opener = Callable[[Mapping[str, bytes], Device, int], tuple[Placement, dict[str, Any]]]
RTOL = ATOL = 1e-4
ORIGINAL_UNITS = ("mean", "lower", "upper", "expected", "x")
"""Outputs that are rows; the others are in nats, or standardised."""

_NUMPY = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(int64)": "int64", "tensor(bool)": "bool"}


class Engine:
    """
    One session for each graph.

    *graphs*: ONNX bytes by graph name. *threads*: of onnxruntime on the CPU, 0 = `available_cpus()`. *opened*: what
    opens the sessions. Raises EngineError when onnxruntime cannot load a graph or the device asked for is not what
    runs it.
    """

    def __init__(
        self, graphs: Mapping[str, bytes], device: Device = "cpu", threads: int = 0, opened: Opener = open_sessions
    ) -> None:
        self.placement, self._sessions = opened(graphs, device, threads)
        self._buckets = self.placement.on_gpu
        self._batched = {
            name: {tensor.name for tensor in session.get_inputs() if tensor.shape and tensor.shape[0] == "batch"}
            for name, session in self._sessions.items()
        }
        self._outputs = {
            name: [tensor.name for tensor in session.get_outputs()] for name, session in self._sessions.items()
        }

    @classmethod
    def open(cls, bundle: Bundle, device: Device = "cpu", threads: int = 0, max_rows: int = 256) -> Self:
        """
        An engine that has proven itself on this machine: tensors as the manifest says, golden vectors, warm-up.

        Raises BundleError when the graphs are not those of the manifest, EngineError when the answers are wrong.
        """
        engine = cls(bundle.graphs, device, threads)
        engine.check_tensors(bundle)
        engine.self_check(bundle)
        seconds = engine.warm_up(bundle, max_rows)
        log.info(
            "engine ready: %s, %d threads, warmed in %.2f s", engine.placement.actual, engine.placement.threads, seconds
        )
        return engine

    def run(self, graph: str, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """
        Run one graph on B rows: *inputs* by tensor name, *outputs* the tensors wanted (all by default).

        Thread-safe.
        """
        names = list(outputs) if outputs is not None else self._outputs[graph]
        session = self._sessions[graph]
        if not self._buckets:
            return dict(zip(names, session.run(names, inputs), strict=True))
        batched = self._batched[graph]
        rows = next(len(value) for name, value in inputs.items() if name in batched)
        padded = {k: _pad(v, bucket(rows)) if k in batched else v for k, v in inputs.items()}
        results = session.run(names, padded)
        return {name: result[:rows] for name, result in zip(names, results, strict=True)}

    def padding(self, rows: int) -> int:
        """How many rows of padding a batch of *rows* is run with: none on the CPU."""
        return bucket(rows) - rows if self._buckets else 0

    def check_tensors(self, bundle: Bundle) -> None:
        """Raise BundleError where a graph's tensors are not those that the manifest names."""
        for name, graph in bundle.manifest.graphs.items():
            session = self._sessions[name]
            for listed, real in ((graph.inputs, session.get_inputs()), (graph.outputs, session.get_outputs())):
                want = [(t.name, t.dtype, list(t.shape)) for t in listed]
                have = [(t.name, _NUMPY.get(t.type, t.type), list(t.shape)) for t in real]
                if want != have:
                    raise BundleError(bundle.path, graph.file, f"holds the tensors {have}; the manifest names {want}")

    def self_check(self, bundle: Bundle) -> None:
        """
        Replay the golden vectors of *bundle*: every output of every graph, within RTOL and ATOL * sqrt(C).

        Of a row that is in scales of the columns, where the manifest names them: a column of millions about 0 has no
        more digits than another, and one of millionths no fewer. Raises EngineError naming the first graph and output
        that differ.
        """
        inputs = bundle.manifest.inputs
        scales = np.array([1.0 if column.scale is None else column.scale for column in inputs.columns or ()])
        for name, graph in bundle.manifest.graphs.items():
            golden = bundle.golden[name]
            try:
                got = self.run(name, {tensor.name: golden[tensor.name] for tensor in graph.inputs})
            except Exception as error:  # onnxruntime raises classes of its own, none of which is documented
                raise EngineError(f"self-check: {graph.file} cannot run the inputs of golden.npz: {error}") from error
            for tensor in graph.outputs:
                unit = scales if tensor.name in ORIGINAL_UNITS and len(scales) else 1.0
                off = deviation(got[tensor.name], golden[tensor.name], inputs.features, by_column=True, unit=unit)
                if off > 1:
                    raise EngineError(
                        f"self-check: {graph.file} output {tensor.name} is {off:.3g} times the tolerance away from "
                        f"golden.npz on {self.placement.actual}"
                    )

    def warm_up(self, bundle: Bundle, max_rows: int) -> float:
        """
        Run every graph once for each size that it will be run with, up to *max_rows*; the seconds that took.

        The scorer with each K that is calibrated, a row counting K times.
        """
        start = time.perf_counter()
        calibrated = sorted({entry.samples for entry in bundle.manifest.calibrated})
        for name, graph in bundle.manifest.graphs.items():
            golden = bundle.golden[name]
            for draws in calibrated if name == "scorer" else (1,):
                most = max(1, max_rows // draws)
                fixed = {**golden, "eps": bundle.eps[:draws]} if name == "scorer" else golden
                for rows in [2**i for i in range(bucket(most).bit_length())] if self._buckets else sorted({1, most}):
                    feed = {
                        tensor.name: np.resize(golden[tensor.name], (rows, *golden[tensor.name].shape[1:]))
                        if tensor.name in self._batched[name]
                        else fixed[tensor.name]
                        for tensor in graph.inputs
                    }
                    self.run(name, feed)
        return time.perf_counter() - start


def deviation(
    got: Array, want: Array, features: int, by_column: bool = False, unit: float | NDArray[np.float64] = 1.0
) -> float:
    """
    The largest difference of *got* from *want* in units of the tolerance: up to 1 is agreement, NaN is infinity.

    The tolerance is RTOL * abs(want) + ATOL * sqrt(features) * *unit*, in nats or in units of the output. *by_column*:
    with the largest abs(want) over the rows; a value near 0 in a column of millions is as good as its neighbours.
    """
    if got.shape != want.shape:
        return math.inf
    a, b = np.asarray(got, np.float64), np.asarray(want, np.float64)
    size = np.abs(b).max(axis=0, initial=0.0, keepdims=True) if by_column else np.abs(b)
    with np.errstate(invalid="ignore"):  # infinity less infinity: equal ones agree below, others are NaN
        off = np.abs(a - b) / (RTOL * size + ATOL * math.sqrt(features) * unit)
    return float(np.max(np.where(a == b, 0.0, np.where(np.isnan(off), math.inf, off)), initial=0.0))


def bucket(rows: int) -> int:
    """The power of two that *rows* are padded to on a GPU."""
    return 1 << (rows - 1).bit_length()


def _pad(array: Array, rows: int) -> Array:
    padded = np.zeros((rows, *array.shape[1:]), array.dtype)
    padded[: len(array)] = array
    return padded
