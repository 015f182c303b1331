"""
The provider policy against the real onnxruntime-gpu, on a machine without a card: `make gpu-wheel-check`.

That build lists CUDA as available and then runs on the CPU without an error; this is the case that VAE_DEVICE is
for. Not part of `make test`: the wheel has 256 MB and must be alone in its environment.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx

from service.bundle import open_bundle
from service.engine import Engine
from service.errors import EngineError
from service.provider import Device, load_onnxruntime


def check(what: str, holds: bool, seen: object) -> None:
    """Print one line; end with status 1 when it does not hold."""
    print(f"{'ok  ' if holds else 'FAIL'} {what}: {seen}", flush=True)
    if not holds:
        raise SystemExit(1)


def main(path: Path) -> None:
    """Each rule of the policy once."""
    logging.basicConfig(level=logging.WARNING, format="     log: %(message)s", stream=sys.stdout)
    ort, bundle = load_onnxruntime(), open_bundle(path)
    available = ort.get_available_providers()
    check("this build lists CUDA as available", "CUDAExecutionProvider" in available, available)

    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(
        bundle.graphs["encoder"], options, providers=["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    fallen = session.get_providers()
    if "CUDAExecutionProvider" in fallen:
        print("this machine has a card: there is no fallback to check here")
        return
    check("onnxruntime alone falls back without an error", fallen == ["CPUExecutionProvider"], fallen)

    refused_devices: tuple[Device, ...] = ("cuda", "tensorrt")
    for device in refused_devices:
        try:
            Engine.open(bundle, device)
            check(f"device {device} is refused", False, "it started")
        except EngineError as error:
            check(f"device {device} is refused", "fell back" in str(error), error)
    on_cpu: tuple[tuple[Device, bool], ...] = (("auto", True), ("cpu", False))
    for device, fell_back in on_cpu:
        placement = Engine.open(bundle, device).placement
        holds = (placement.actual, placement.fell_back) == ("CPUExecutionProvider", fell_back)
        check(f"device {device} runs on the CPU and says so", holds, placement)

    command = [sys.executable, "-m", "service", f"--bundle={path}", "--port=8137"]
    refused = subprocess.run([*command, "--device=cuda"], capture_output=True, text=True, timeout=60, check=False)
    told = [line for line in refused.stderr.splitlines() if "was asked for" in line]
    check("the service does not start with device cuda", refused.returncode != 0 and bool(told), told)
    server = subprocess.Popen([*command, "--device=auto", "--log-level=error"], env={**os.environ})
    try:
        end = time.monotonic() + 60
        while True:
            try:
                ready = httpx.get("http://127.0.0.1:8137/health/ready").json()
                break
            except httpx.TransportError:
                if time.monotonic() > end:
                    check("the service starts with device auto", False, "not within 60 s")
                time.sleep(0.1)
        check("/health/ready says that auto fell back", ready["execution"]["fell_back"], ready)
        metric = 'vae_execution_provider_info{actual="CPUExecutionProvider",device="cpu",requested="auto"} 1.0'
        check("and so do the metrics", metric in httpx.get("http://127.0.0.1:8137/metrics").text, metric)
    finally:
        server.terminate()
        server.wait(20)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
