"""The servers under measurement: started, measured and ended, on a tiny bundle."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks.serving import start
from benchmarks.serving.bench import QUICK, Bench
from benchmarks.serving.bundles import Bundles
from benchmarks.serving.contenders import serve
from benchmarks.serving.failures import NotStarted
from benchmarks.serving.process import Process, clean_environment

WITH_A_CHILD = """
import http.server, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def started(parent: psutil.Process, word: str) -> list[psutil.Process]:
    """The descendants of *parent* that run and have *word* in their command line."""
    found = []
    for process in parent.children(recursive=True):
        try:
            if any(word in part for part in process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:  # it ended, or is a zombie
            continue
    return found


def running(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended."""
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def port() -> int:
    """One that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_part_on_starts_runs_and_renders(own_bundle: Path, tmp_path: Path, port: int) -> None:
    """The smoke of one whole part: the real service, a result, its sentence; and nothing is left running."""
    bench = Bench(QUICK, port, tmp_path, tmp_path, Bundles(tmp_path, print), print)
    result = start.measure(bench, own_bundle)
    assert len(result["seconds"]) == QUICK.starts
    assert start.render(result).startswith("2 starts with the bundle `pumps`")
    assert not started(psutil.Process(), str(own_bundle))


def test_a_server_is_ended_with_its_children(tmp_path: Path, port: int) -> None:
    """Also with those that have a session of their own, and when the measurement fails."""
    command = [sys.executable, "-c", WITH_A_CHILD, str(port)]
    process = Process(command, port, "/", clean_environment(), tmp_path, tmp_path / "log")
    family: list[psutil.Process] = []

    def measure() -> None:
        with process:
            (server,) = started(psutil.Process(), "http.server")
            family.extend([server, *server.children(recursive=True)])
            raise RuntimeError("the measurement failed")

    with pytest.raises(RuntimeError, match="the measurement failed"):
        measure()
    assert len(family) == 2
    assert not running(family)


def test_a_server_that_does_not_start_is_named_with_the_end_of_its_log(tmp_path: Path, port: int) -> None:
    """A wrong bundle here; a peer that cannot be imported is told in the same way."""
    with pytest.raises(NotStarted, match="no bundle here"), serve(tmp_path / "none", port, tmp_path / "log"):
        pass


def test_sigterm_ends_the_benchmark_and_its_servers(tmp_path: Path, port: int) -> None:
    """As Ctrl-C does: the exit status is that of an interrupted command."""
    command = [sys.executable, "-m", "benchmarks.serving", "start", "--quick", f"--port={port}"]
    command.append(f"--results={tmp_path}")
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen(command, cwd=root, env=environment, stderr=subprocess.PIPE, text=True) as benchmark:
        watched = psutil.Process(benchmark.pid)
        servers: list[psutil.Process] = []
        while not servers and benchmark.poll() is None:
            time.sleep(0.01)
            servers = started(watched, "--bundle=")
        benchmark.send_signal(signal.SIGTERM)
        _, told = benchmark.communicate(timeout=60)
    assert benchmark.returncode == 130
    assert "interrupted" in told
    psutil.wait_procs(servers, 5)
    assert not running(servers)
