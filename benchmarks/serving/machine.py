"""What figures depend on besides the code: the machine, its load, versions, the commit, the day."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]

QUIET = 0.5
"""The load average, over the last minute, that a quiet machine has at most."""

PACKAGES = ("onnxruntime", "numpy", "uvicorn", "uvloop", "httptools", "orjson", "pysimdjson", "fastapi")


def describe() -> dict[str, Any]:
    """As JSON has it."""
    return {
        "cpu": _cpu(),
        "cores": _cores(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": _python(),
        "packages": {name: version(name) for name in PACKAGES},
        "commit": _commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "load": round(os.getloadavg()[0], 2),
    }


def words(*packages: str) -> str:
    """The machine and the versions of *packages*, for a command that prints its figures."""
    versions = [f"{name} {version(name)}" for name in packages]
    return ", ".join((f"{_cores()} cores ({_cpu()})", _python(), *versions))


def caption(machine: Mapping[str, Any], quick: bool) -> str:
    """When a section was measured, in one line, with a warning where its figures are not to be trusted."""
    words = [f"Measured {machine['date']} at commit `{machine['commit']}`"]
    if machine["load"] > QUIET:
        words.append("**on a machine that was not quiet**")
    if quick:
        words.append("**in a quick run**")
    return ", ".join(words) + "."


def sentence(machine: Mapping[str, Any], quick: bool) -> str:
    """One paragraph for the page, with a warning where the figures are not to be trusted."""
    packages = machine["packages"]
    text = (
        f"Measured {machine['date']} at commit {machine['commit']}: {machine['cores']} cores ({machine['cpu']}), "
        f"{machine['memory_gb']:g} GB, {machine['system']}, {machine['python']}, "
        f"onnxruntime {packages['onnxruntime']}, numpy {packages['numpy']}, uvicorn {packages['uvicorn']}; "
        f"load average {machine['load']:g} at the start."
    )
    if machine["load"] > QUIET:
        text += (
            f"\n\n**The machine was not quiet**: its load average was {machine['load']:g} before anything was "
            f"started, and a quiet one has at most {QUIET:g}. These figures are not to be quoted."
        )
    if quick:
        text += "\n\n**A quick run**: it shows that the commands work, not how fast anything is."
    return text


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _python() -> str:
    return f"{platform.python_implementation()} {platform.python_version()}"


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = {line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")}
    return ", ".join(sorted(names)) or platform.processor() or platform.machine()


def _commit() -> str:
    """The commit, "-dirty" where a file differs from it, less the page and its picture, which are written here."""
    written = (":!benchmarks/README.md", ":!benchmarks/latency.svg")
    commit = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *written)
    return f"{commit or 'unknown'}{'-dirty' if changed else ''}"


def _git(*words: str) -> str:
    try:
        ran = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return ran.stdout.strip()
