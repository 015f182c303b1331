"""
What each step of a `vae-train fit` takes: CPU time, and the largest resident set while it lasted.

Watches the command from outside: its lines say where it is, the kernel what it has taken. Linux only.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

STEPS: Final = {
    "fitting ": "fit",
    "making the ONNX ": "export",
    "checking that ": "parity",
    "calibrating on ": "calibrate",
    "evaluating on ": "evaluate",
    "making the report": "report, write",
    "wrote ": "end",
}
"""How the first line of a step begins, and the step. What is before the first is `FIRST`."""

FIRST: Final = "start, read, deal"


@dataclass(frozen=True)
class Step:
    """*cpu_s*: of all threads, user and system. *peak*: bytes, the largest resident set."""

    name: str
    cpu_s: float
    peak: int


@dataclass(frozen=True)
class Fit:
    """*steps* in their order. *wall_s*: of them all. *said*: what it warned of."""

    steps: tuple[Step, ...]
    wall_s: float
    said: str

    @property
    def cpu_s(self) -> float:
        """Of all steps."""
        return sum(step.cpu_s for step in self.steps)

    @property
    def peak(self) -> int:
        """Bytes: the largest resident set of the whole command."""
        return max(step.peak for step in self.steps)


def measured(options: Sequence[str], environment: Mapping[str, str] | None = None) -> Fit:
    """Run `vae-train fit` with *options*. Raises RuntimeError, with its words, where it fails."""
    command = [sys.executable, "-m", "training", "fit", *options]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        began, wall, steps, name, before = time.perf_counter(), 0.0, list[Step](), FIRST, 0.0
        for line in child.stdout:
            following = next((step for start, step in STEPS.items() if line.startswith(start)), None)
            if following is not None and following != name:  # of an ensemble each fold is told
                cpu_s, peak = _taken(child.pid)
                steps.append(Step(name, cpu_s - before, peak))
                name, before, wall = following, cpu_s, time.perf_counter() - began
        said = child.stderr.read()  # a few lines, far fewer than a pipe holds
    if child.returncode:
        raise RuntimeError(f"vae-train fit ended with {child.returncode}: {said}")
    return Fit(tuple(steps), wall, said)


def _taken(pid: int) -> tuple[float, int]:
    """CPU seconds since its start, and the peak in bytes since this was asked the last time."""
    proc = Path("/proc") / str(pid)
    fields = (proc / "stat").read_text().rpartition(")")[2].split()
    peak = next(line for line in (proc / "status").read_text().splitlines() if line.startswith("VmHWM"))
    (proc / "clear_refs").write_text("5")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), 1024 * int(peak.split()[1])
