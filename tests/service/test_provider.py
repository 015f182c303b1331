"""What runs the graphs: which onnxruntime, which provider, how many threads; and no silent fallback."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.bundle import Bundle, open_bundle
from service.engine import Engine
from service.errors import EngineError
from service.provider import RUNTIMES, available_cpus, check_runtimes, load_onnxruntime

HERE = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
cpu_build = pytest.mark.skipif(
    "CUDAExecutionProvider" in load_onnxruntime().get_available_providers(), reason="this onnxruntime has CUDA"
)


@pytest.fixture(scope="module")
def bundle(table_bundle: Path) -> Bundle:
    """The table bundle, opened."""
    return open_bundle(table_bundle)


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "200000 100000\n"}, 2.0),
        ({"cpu.max": "100000 100000\n"}, 1.0),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "20000 100000\n"}, 0.2),
        ({"cpu.max": "1000 100000\n"}, 0.01),
        ({"cpu.max": "6400000 100000\n"}, 64.0),
        ({"cpu.max": "max 100000\n"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1.0),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "50000\n"}, 3.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "100000\n"}, math.inf),
        ({}, math.inf),
    ],
)
def test_the_threads_are_no_more_than_the_quota_of_the_container(
    tmp_path: Path, files: dict[str, str], quota: float
) -> None:
    """Of cgroup v2 and v1; unlimited, absent, and fractions: rounded down, to one at least, and never past affinity."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_cpus(tmp_path) == max(1, math.floor(min(quota, HERE)))


def test_one_onnxruntime_is_enough_and_both_or_none_are_an_error_that_says_what_to_do() -> None:
    """Two packages hold one module: which files win would be an accident."""
    for name in RUNTIMES:
        check_runtimes({name})
    with pytest.raises(EngineError, match=r"no onnxruntime is installed: install the extra cpu or gpu"):
        check_runtimes(set())
    with pytest.raises(EngineError, match=r"onnxruntime and onnxruntime-gpu are both installed.*uninstall both"):
        check_runtimes(set(RUNTIMES))


@cpu_build
@pytest.mark.parametrize(
    ("device", "provider"), [("cuda", "CUDAExecutionProvider"), ("tensorrt", "TensorrtExecutionProvider")]
)
def test_a_gpu_that_this_onnxruntime_was_not_built_for_is_an_error_that_says_what_to_do(
    bundle: Bundle, device: Any, provider: str
) -> None:
    """Who asks for a GPU never gets the CPU in silence."""
    with pytest.raises(EngineError, match=f"'{device}' .* without {provider}: .* extra gpu .* VAE_DEVICE=cpu"):
        Engine(bundle.graphs, device)


@cpu_build
def test_auto_runs_on_the_cpu_when_the_build_has_no_cuda_and_that_is_no_fallback(bundle: Bundle) -> None:
    """Nothing better was there to fall back from."""
    placement = Engine(bundle.graphs, "auto", threads=1).placement
    assert (placement.requested, placement.actual, placement.device) == ("auto", "CPUExecutionProvider", "cpu")
    assert not placement.fell_back


def test_the_threads_are_those_asked_for_or_those_there_are(bundle: Bundle) -> None:
    """0 means all that this process may use."""
    assert Engine(bundle.graphs, threads=1).placement.threads == 1
    assert Engine(bundle.graphs).placement.threads == available_cpus()


def test_onnxruntime_keeps_its_telemetry_off(table_bundle: Path, tmp_path: Path) -> None:
    """A session leaves no device ID and no event store at home; nor is anything there to be sent."""
    code = (
        "import sys, pathlib; from service.engine import Engine; from service.bundle import open_bundle\n"
        "Engine.open(open_bundle(pathlib.Path(sys.argv[1])), 'cpu', 1)"
    )
    # onnxruntime is silent by itself where it takes the environment for a CI's: so none of ours
    environment = {"HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    subprocess.run([sys.executable, "-c", code, str(table_bundle)], env=environment, check=True)
    assert not list(tmp_path.rglob("*"))
