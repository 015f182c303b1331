"""What every part of the benchmark is given: how much to measure, where things are, and one closed-loop point."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving import answers
from benchmarks.serving.bundles import Bundles
from benchmarks.serving.process import Process
from benchmarks.serving.wire import Arrays, Body, Floats, Wire
from benchmarks.serving.wrk import Wrk

Result = dict[str, Any]
"""What a part measured, as JSON has it."""


@dataclass(frozen=True)
class Effort:
    """
    How long everything is measured. *offered*: loads in percent of the capacity. *draws*: each a power of two to 64.

    *peers*: all that are installed; else those that a bar names.
    """

    rounds: int = 3
    seconds: float = 3
    warm_s: float = 1
    in_process_s: float = 1.5
    starts: int = 10
    window_s: float = 2
    offered: tuple[int, ...] = (10, 30, 50, 70, 85, 95, 105, 130)
    bulk_s: float = 10
    delays_ms: tuple[float, ...] = (0, 0.5, 1, 2, 5)
    rows: tuple[int, ...] = (1, 4, 16, 64, 256, 1024)
    columns: tuple[int, ...] = (16, 64, 256, 1024, 4096, 16384)
    draws: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    peers: bool = True
    quick: bool = False


QUICK = Effort(
    rounds=1,
    seconds=1,
    in_process_s=0.2,
    starts=2,
    window_s=1,
    offered=(30, 90, 130),
    bulk_s=2,
    delays_ms=(0, 2),
    rows=(1, 1024),
    columns=(16, 1024),
    draws=(1, 16, 64),
    peers=False,
    quick=True,
)
"""A smoke run: every command, no figure worth keeping."""


@dataclass(frozen=True)
class Bench:
    """*folder*: where logs go. *peers*: where their environments are. *say*: progress, for a person."""

    effort: Effort
    port: int
    peers: Path
    folder: Path
    bundles: Bundles
    say: Callable[[str], None]

    def log(self, name: str) -> Path:
        """The file for the log of a server."""
        return self.folder / "logs" / f"{name.replace(' ', '-')}.log"


def rows_of(columns: int, rows: int, count: int, seed: int = 0) -> list[Floats]:
    """*count* arrays (rows, columns), uniform on [0, 1), in six digits, so that JSON and binary say the same."""
    generator = np.random.default_rng([seed, columns, rows])
    return [generator.random((rows, columns)).round(6).astype(np.float32) for _ in range(count)]


def bodies_for(rows: int) -> int:
    """How many distinct bodies are sent in turn: a cached answer helps nobody."""
    return 256 if rows == 1 else 16 if rows <= 256 else 4


@dataclass(frozen=True)
class Work:
    """Distinct bodies of one kind, and what must be answered."""

    rows: int
    bodies: tuple[Body, ...]
    expected: tuple[Arrays, ...]

    @classmethod
    def of(cls, wire: Wire, xs: Sequence[Floats], answer: Callable[[Floats], Arrays]) -> Work:
        """*xs* in the format *wire*. The first 16 are checked."""
        return cls(len(xs[0]), tuple(wire.write(x) for x in xs), tuple(answer(x) for x in xs[:16]))


def closed_loop(
    process: Process, wire: Wire, work: Work, connections: int, seconds: float, warm_s: float
) -> dict[str, float]:
    """
    One point: answers checked, warmed up, driven by wrk.

    CPU is the server's, with its children, in milliseconds a request. Raises WrongAnswer and Refused.
    """
    answers.check(process.port, wire, work.bodies[: len(work.expected)], work.expected)
    wrk = Wrk(process.port, wire.path, work.bodies)
    try:
        wrk.drive(connections, warm_s)
        before = process.cpu_s()
        load = wrk.drive(connections, seconds)
        cpu_s = process.cpu_s() - before
    finally:
        wrk.close()
    return {
        "requests_per_s": load.rate,
        "rows_per_s": load.rate * work.rows,
        "p50_ms": load.p50_ms,
        "p99_ms": load.p99_ms,
        "cpu_ms": 1000 * cpu_s / load.requests,
        "rss_mb": process.rss_mb(),
    }


def middle(points: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    """For each figure of *points*, measured several times: its median, its least and its most."""
    return {name: spread([point[name] for point in points]) for name in points[0]}


def spread(values: Sequence[float]) -> list[float]:
    """Median, least, most."""
    return [statistics.median(values), min(values), max(values)]
