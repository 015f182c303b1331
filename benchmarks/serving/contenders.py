"""
The servers that are measured: how each is started, and what it speaks.

All do the same work: `encoder.onnx` of one bundle on one onnxruntime thread, in one worker, batching with the least
delay that they allow. A peer has a virtual environment of its own under `build/peers` (`make bench-peers`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.serving.machine import ROOT
from benchmarks.serving.process import Process, clean_environment
from benchmarks.serving.wire import Wire, plain_json, raw, tensor_binary, tensor_json

SERVERS = Path(__file__).resolve().parent / "servers"
PINNED = Path(__file__).resolve().parent / "peers"
"""For each peer a file of requirements, and for some a sitecustomize that lets them start here."""

OURS = "vae-serve"


@dataclass(frozen=True)
class Contender:
    """
    One server. *peer*: the name of its environment, None for this project's own. *package*: whose version is told.

    *command* gets the environment's `bin` and the port. Its environment variables have BENCH_MODEL, the encoder's file.
    """

    name: str
    command: Callable[[Path, int], list[str]]
    ready: str
    json: Wire
    binary: Wire | None = None
    peer: str | None = None
    package: str | None = None
    environment: Callable[[int], dict[str, str]] = lambda port: {}
    cwd: Path = SERVERS

    def missing(self, peers: Path) -> str | None:
        """Why it cannot be measured here; None where it can."""
        if self.peer is None or (self.bin(peers) / "python").exists():
            return None
        return f"not installed: no environment {self.peer} (`make bench-peers`)"

    def bin(self, peers: Path) -> Path:
        """Where its programs are."""
        return peers / self.peer / "bin" if self.peer else Path(sys.executable).parent

    def version(self, peers: Path) -> str:
        """Its name with the version that is installed."""
        if self.package is None:
            return self.name
        return f"{self.name} {_version(self.bin(peers) / 'python', self.package)}"

    def process(self, bundle: Path, port: int, peers: Path, log: Path) -> Process:
        """It, on *bundle*, not started yet."""
        environment = clean_environment(BENCH_MODEL=str(bundle / "encoder.onnx"), **self.environment(port))
        command = self.command(self.bin(peers).absolute(), port)
        return Process(command, port, self.ready, environment, self.cwd, log)


def serve(bundle: Path, port: int, log: Path, **settings: object) -> Process:
    """This project's service on *bundle*, not started yet; *settings* as flags."""
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    command = [sys.executable, "-m", "service", f"--bundle={bundle}", f"--port={port}", "--threads=1"]
    environment = clean_environment(PYTHONPATH=str(ROOT))
    return Process([*command, "--log-level=warning", *flags], port, "/health/ready", environment, ROOT, log)


@dataclass(frozen=True)
class Ours(Contender):
    """This project's service: the only one that opens the bundle, and not one file of it."""

    def process(self, bundle: Path, port: int, peers: Path, log: Path) -> Process:
        """It, as `serve` starts it."""
        return serve(bundle, port, log)


def _python(script: str) -> Callable[[Path, int], list[str]]:
    return lambda programs, port: [str(programs / "python"), script, str(port)]


def _uvicorn(app: str) -> Callable[[Path, int], list[str]]:
    quiet = ["--log-level", "warning", "--no-access-log"]
    return lambda programs, port: [str(programs / "python"), "-m", "uvicorn", app, "--port", str(port), *quiet]


CONTENDERS: tuple[Contender, ...] = (
    Ours(
        OURS,
        _uvicorn(""),
        "/health/ready",
        plain_json("/v1/encode"),
        tensor_binary("/v2/models/encode/infer"),
    ),
    Contender("floor", _uvicorn("floor:app"), "/", plain_json("/encode"), raw("/encode")),
    Contender("FastAPI by hand", _uvicorn("by_hand:app"), "/docs", plain_json("/encode"), package="fastapi"),
    Contender(
        "mosec",
        lambda programs, port: [
            *(str(programs / "python"), "mosec_server.py"),
            *("--address", "127.0.0.1", "--port", str(port)),
        ],
        "/",
        plain_json("/inference"),
        peer="mosec",
        package="mosec",
    ),
    Contender(
        "Triton by pytriton",
        _python("triton_server.py"),
        "/v2/models/encode/ready",
        tensor_json("/v2/models/encode/infer"),
        tensor_binary("/v2/models/encode/infer"),
        peer="triton",
        package="nvidia-pytriton",
    ),
    Contender(
        "LitServe",
        _python("litserve_server.py"),
        "/health",
        plain_json("/encode"),
        peer="litserve",
        package="litserve",
    ),
    Contender(
        "BentoML",
        lambda programs, port: [
            *(str(programs / "bentoml"), "serve", "bentoml_server:Encoder"),
            *("--host", "127.0.0.1", "--port", str(port)),
        ],
        "/readyz",
        plain_json("/encode"),
        peer="bentoml",
        package="bentoml",
        environment=lambda port: {"BENTOML_DO_NOT_TRACK": "True"},
    ),
    Contender(
        "MLServer",
        lambda programs, port: [str(programs / "mlserver"), "start", "."],
        "/v2/models/encode/ready",
        tensor_json("/v2/models/encode/infer"),
        peer="mlserver",
        package="mlserver",
        environment=lambda port: {
            "MLSERVER_HOST": "127.0.0.1",
            "MLSERVER_HTTP_PORT": str(port),
            "MLSERVER_GRPC_PORT": str(port + 1),
            "MLSERVER_METRICS_PORT": str(port + 2),
            "MLSERVER_PARALLEL_WORKERS": "0",
            "MLSERVER_DEBUG": "false",
        },
        cwd=SERVERS / "mlserver",
    ),
)
"""Each uses up to three ports from the one that it is given."""

FLOOR, MOSEC, TRITON = "floor", "mosec", "Triton by pytriton"


def named(name: str) -> Contender:
    """One of CONTENDERS."""
    return next(contender for contender in CONTENDERS if contender.name == name)


@cache
def _version(python: Path, package: str) -> str:
    code = "import importlib.metadata, json, sys; print(json.dumps(importlib.metadata.version(sys.argv[1])))"
    ran = subprocess.run([python, "-c", code, package], capture_output=True, text=True, check=False)
    return str(json.loads(ran.stdout)) if ran.returncode == 0 else "(version unknown)"
