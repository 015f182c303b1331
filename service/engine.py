"""
The engine: onnxruntime sessions of one bundle. Arrays in, arrays out.

Owns which execution provider runs (and refuses a silent fallback), how many threads, the row buckets of a GPU,
warm-up and the golden self-check. Knows nothing of requests, scores or HTTP.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import math
import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from service.bundle import Bundle
from service.errors import BundleError, EngineError

log = logging.getLogger("service.engine")

Device = Literal["auto", "cpu", "cuda", "tensorrt"]
Array = NDArray[np.generic]
RTOL = ATOL = 1e-4
RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
_CPU, _CUDA, _TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
_CUDA_OPTIONS = {
    "use_tf32": "0",  # TF32 moves a score in its third digit; thresholds do not survive that
    "arena_extend_strategy": "kSameAsRequested",  # powers of two grow without end on changing shapes
    "cudnn_conv_algo_search": "HEURISTIC",  # EXHAUSTIVE re-tunes on every new shape and differs between runs
}
_CHAINS: dict[str, list[str | tuple[str, dict[str, str]]]] = {
    "cpu": [_CPU],
    "cuda": [(_CUDA, _CUDA_OPTIONS), _CPU],
    "tensorrt": [_TENSORRT, (_CUDA, _CUDA_OPTIONS), _CPU],
}
_FIRST = {"cpu": _CPU, "cuda": _CUDA, "tensorrt": _TENSORRT}
_NUMPY = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(int64)": "int64", "tensor(bool)": "bool"}


@dataclass(frozen=True)
class Placement:
    """Where the sessions run: the device asked for, the provider that came of it, and its CPU threads."""

    requested: Device
    actual: str
    threads: int

    @property
    def device(self) -> str:
        """The hardware: cpu, or the first GPU."""
        return "cpu" if self.actual == _CPU else "cuda:0"

    @property
    def fell_back(self) -> bool:
        """Asked for auto, saw a GPU provider in this build, and runs on the CPU all the same."""
        return (
            self.requested == "auto" and self.actual == _CPU and _CUDA in load_onnxruntime().get_available_providers()
        )


class Engine:
    """
    One session for each graph.

    *graphs*: ONNX bytes by graph name. *threads*: of onnxruntime on the CPU, 0 = `available_cpus()`.
    Raises EngineError when onnxruntime cannot load a graph or the device asked for is not what runs it.
    """

    def __init__(self, graphs: Mapping[str, bytes], device: Device = "cpu", threads: int = 0) -> None:
        ort = load_onnxruntime()
        wanted = device
        if device == "auto":
            wanted = "cuda" if _CUDA in ort.get_available_providers() else "cpu"
        if _FIRST[wanted] not in ort.get_available_providers():
            raise EngineError(
                f"device {device!r} was asked for, but this onnxruntime {ort.__version__} was built without "
                f"{_FIRST[wanted]}: install the extra gpu instead of cpu, or set VAE_DEVICE=cpu"
            )
        if wanted != "cpu":
            ort.preload_dlls()
        threads = threads or available_cpus()
        self._sessions: dict[str, Any] = {}
        for name, model in graphs.items():
            self._sessions[name] = _session(ort, name, model, wanted, threads)
        actual = {session.get_providers()[0] for session in self._sessions.values()}
        provider = _FIRST[wanted] if actual == {_FIRST[wanted]} else _CPU
        if device != "auto" and provider != _FIRST[wanted]:
            raise EngineError(
                f"device {device!r} was asked for, but onnxruntime {ort.__version__} fell back to {', '.join(actual)}: "
                f"{_FIRST[wanted]} did not load (no card, no driver, or CUDA and cuDNN of another version). "
                "Set VAE_DEVICE=cpu, or auto, to run on the CPU on purpose."
            )
        self.placement = Placement(device, provider, threads)
        if self.placement.fell_back:
            log.warning("no usable GPU: VAE_DEVICE=auto runs on the CPU, though this onnxruntime was built with CUDA")
        self._buckets = provider != _CPU
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

        Raises EngineError naming the first graph and output that differ.
        """
        features = bundle.manifest.inputs.features
        for name, graph in bundle.manifest.graphs.items():
            golden = bundle.golden[name]
            got = self.run(name, {tensor.name: golden[tensor.name] for tensor in graph.inputs})
            for tensor in graph.outputs:
                off = deviation(got[tensor.name], golden[tensor.name], features, by_column=True)
                if off > 1:
                    raise EngineError(
                        f"self-check: {graph.file} output {tensor.name} is {off:.3g} times the tolerance away from "
                        f"golden.npz on {self.placement.actual}"
                    )

    def warm_up(self, bundle: Bundle, max_rows: int) -> float:
        """Run every graph once for each size that it will be run with, up to *max_rows*; the seconds that took."""
        start = time.perf_counter()
        sizes = [2**i for i in range(bucket(max_rows).bit_length())] if self._buckets else [1, max_rows]
        for name, graph in bundle.manifest.graphs.items():
            golden = bundle.golden[name]
            for rows in sizes:
                feed = {
                    tensor.name: np.resize(golden[tensor.name], (rows, *golden[tensor.name].shape[1:]))
                    if tensor.name in self._batched[name]
                    else golden[tensor.name]
                    for tensor in graph.inputs
                }
                self.run(name, feed)
        return time.perf_counter() - start


def load_onnxruntime() -> Any:
    """The module `onnxruntime`. Raises EngineError when none, or more than one, of its packages is installed."""
    check_runtimes({name for name in RUNTIMES if _installed(name)})
    return importlib.import_module("onnxruntime")


def check_runtimes(installed: Collection[str]) -> None:
    """Exactly one package may hold the module `onnxruntime`: with two, which files win is an accident of pip."""
    if not installed:
        raise EngineError(
            "no onnxruntime is installed: install the extra cpu or gpu, as in pip install 'vae-serve[cpu]'"
        )
    if len(installed) > 1:
        raise EngineError(
            f"{' and '.join(sorted(installed))} are both installed, and both hold the module onnxruntime: "
            "uninstall both, then install one of the extras cpu and gpu"
        )


def deviation(got: Array, want: Array, features: int, by_column: bool = False) -> float:
    """
    The largest difference of *got* from *want* in units of the tolerance: up to 1 is agreement, NaN is infinity.

    The tolerance is RTOL * abs(want) + ATOL * sqrt(features), in nats or in units of the output. *by_column*: with
    the largest abs(want) over the rows; a value near 0 in a column of millions is as good as its neighbours.
    """
    if got.shape != want.shape:
        return math.inf
    a, b = np.asarray(got, np.float64), np.asarray(want, np.float64)
    size = np.abs(b).max(axis=0, initial=0.0, keepdims=True) if by_column else np.abs(b)
    with np.errstate(invalid="ignore"):  # infinity less infinity: equal ones agree below, others are NaN
        off = np.abs(a - b) / (RTOL * size + ATOL * math.sqrt(features))
    return float(np.max(np.where(a == b, 0.0, np.where(np.isnan(off), math.inf, off)), initial=0.0))


def bucket(rows: int) -> int:
    """The power of two that *rows* are padded to on a GPU."""
    return 1 << (rows - 1).bit_length()


def available_cpus(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """
    The CPUs that this process may use: its affinity, and the quota of its cgroup (v2 or v1); at least 1.

    Never the host's core count: in a container with two CPUs of 64, onnxruntime would start 64 threads.
    """
    cpus = float(len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else float(os.cpu_count() or 1)
    for quota_file, period_file in (("cpu.max", None), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            words = (cgroup / quota_file).read_text().split()
            words += (cgroup / period_file).read_text().split() if period_file else []
        except OSError:
            continue
        if words[0] not in ("max", "-1"):
            cpus = min(cpus, int(words[0]) / int(words[1]))
    return max(1, math.floor(cpus))


def _session(ort: Any, name: str, model: bytes, device: str, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # idle pool threads would spin on the cores that parse the next requests
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(model, options, providers=_CHAINS[device])
    except Exception as error:  # onnxruntime raises classes of its own, none of which is documented
        raise EngineError(f"onnxruntime cannot load the graph {name} on {device}: {error}") from error


def _pad(array: Array, rows: int) -> Array:
    padded = np.zeros((rows, *array.shape[1:]), array.dtype)
    padded[: len(array)] = array
    return padded


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
