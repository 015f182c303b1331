"""
What runs the graphs: which onnxruntime is installed, which execution provider it really uses, on how many threads.

The one place for the provider policy: with cuda or tensorrt asked for, a session that fell back to the CPU is an
error; auto falls back and says so. Knows sessions, not what is in them.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import math
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from service.errors import EngineError

log = logging.getLogger("service.provider")

Device = Literal["auto", "cpu", "cuda", "tensorrt"]
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


@dataclass(frozen=True)
class Placement:
    """
    Where the sessions run: the device asked for, the provider that came of it, and its CPU threads.

    *fell_back*: auto was asked for, this build has a GPU provider, and the CPU runs the sessions all the same.
    """

    requested: Device
    actual: str
    threads: int
    fell_back: bool = False

    @property
    def device(self) -> str:
        """The hardware: cpu, or the first GPU."""
        return "cpu" if self.actual == _CPU else "cuda:0"

    @property
    def on_gpu(self) -> bool:
        """Whether rows are best padded to few sizes."""
        return self.actual != _CPU


def open_sessions(graphs: Mapping[str, bytes], device: Device, threads: int) -> tuple[Placement, dict[str, Any]]:
    """
    An onnxruntime session for each graph, and where they run. *threads*: on the CPU, 0 = `available_cpus()`.

    Raises EngineError when a graph cannot be loaded, or the device asked for is not what runs it.
    """
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
    sessions = {name: _session(ort, name, model, wanted, threads) for name, model in graphs.items()}
    actual = {session.get_providers()[0] for session in sessions.values()}
    provider = _FIRST[wanted] if actual == {_FIRST[wanted]} else _CPU
    if device != "auto" and provider != _FIRST[wanted]:
        raise EngineError(
            f"device {device!r} was asked for, but onnxruntime {ort.__version__} fell back to {', '.join(actual)}: "
            f"{_FIRST[wanted]} did not load (no card, no driver, or CUDA and cuDNN of another version). "
            "Set VAE_DEVICE=cpu, or auto, to run on the CPU on purpose."
        )
    placement = Placement(device, provider, threads, fell_back=wanted != "cpu" and provider == _CPU)
    if placement.fell_back:
        log.warning("no usable GPU: VAE_DEVICE=auto runs on the CPU, though this onnxruntime was built with CUDA")
    return placement, sessions


def load_onnxruntime() -> Any:
    """The module `onnxruntime`. Raises EngineError when none, or more than one, of its packages is installed."""
    check_runtimes({name for name in RUNTIMES if _installed(name)})
    # from 1.29 on it sends events over the network and keeps a device ID under $HOME; this must be set before it loads
    os.putenv("ORT_DISABLE_TELEMETRY", "1")
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


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
