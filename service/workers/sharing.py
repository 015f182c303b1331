"""
Counts over workers: what each counts is in files that all of them can read, so any of them can tell the sum.

prometheus_client's multiprocess mode. Files are named for a worker's place and not for its process: one that takes the
place of another goes on counting where that one ended, so no count goes down and the files do not become more.
"""

from __future__ import annotations

import functools
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, values
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

PIDS = "pids"
RESTARTS = "vae_worker_restarts", "Workers that ended and were replaced."
P_VALUE = "vae_anomaly_p_value"
VERSIONS = 2
"""Of so many, the newest, p-values are told: of what was served before too, so that its last rows are scraped."""

_TICK, _PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")


def count_as(place: str) -> None:
    """From now on instruments of this process count in the files of *place*, in $PROMETHEUS_MULTIPROC_DIR."""
    values.ValueClass = values.MultiProcessValue(lambda: place)


class Shared(Collector):
    """The instruments of all workers that count in *directory*, and their processes, as one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterator[Metric]:
        """Sums of counters and histograms; of each gauge what its mode says. Versions no longer served are left out."""
        for family in MultiProcessCollector(None, str(self._directory)).collect():
            if family.name == "vae_model_info":
                family.samples = [sample for sample in family.samples if sample.value]
            if family.name == P_VALUE:
                told = sorted({int(sample.labels["version"]) for sample in family.samples})[-VERSIONS:]
                family.samples = [one for one in family.samples if int(one.labels["version"]) in told]
            yield family
        yield from _processes([int(pid) for pid in (self._directory / PIDS).read_text().split()])


class Roll:
    """The supervisor's part: which processes there are, and how often one was replaced."""

    def __init__(self, directory: Path) -> None:
        count_as("supervisor")
        self._directory = directory
        self._restarts = Counter(*RESTARTS, registry=CollectorRegistry())

    def call(self, pids: list[int]) -> None:
        """The processes there are now, the supervisor's first."""
        new = self._directory / f"{PIDS}.new"
        new.write_text(" ".join(map(str, pids)))
        new.replace(self._directory / PIDS)

    def ended(self, place: int) -> None:
        """The worker in *place* is no more: what it was doing is no longer done."""
        mark_process_dead(place, str(self._directory))

    def replaced(self) -> None:
        """Count one that was."""
        self._restarts.inc()


class _Stat(NamedTuple):
    """What /proc/<pid>/stat says: CPU seconds, own and of children that were reaped; start; bytes of memory."""

    own: float
    children: float
    start: float
    virtual: float
    resident: float


def _processes(pids: list[int]) -> Iterator[Metric]:
    """
    The supervisor and its workers under the names that Prometheus has for one process.

    CPU seconds are those of all, ended workers included, and never go down: the kernel adds a child's to its parent's
    when it is reaped. Memory is the sum (what processes share counts in each), files the most that any has open.
    """
    while True:
        supervisor = _stat(pids[0])
        workers = [stat for stat in map(_stat, pids[1:]) if stat is not None]
        again = _stat(pids[0])
        if supervisor is None or again is None:  # it was killed: its workers are on their way out
            return
        if again.children == supervisor.children:  # else one was reaped between two readings
            break
    every = [again, *workers]
    seconds = again.children + sum(stat.own for stat in every)
    yield CounterMetricFamily("process_cpu_seconds", "CPU of the supervisor and all workers, ended ones too.", seconds)
    for name, text, value in (
        (
            "process_resident_memory_bytes",
            "Supervisor and workers; what they share counts in each.",
            sum(stat.resident for stat in every),
        ),
        ("process_virtual_memory_bytes", "Supervisor and workers.", sum(stat.virtual for stat in every)),
        ("process_start_time_seconds", "Of the supervisor, since 1970.", again.start),
        ("process_open_fds", "The most that one process has open.", float(max(map(_open_files, pids)))),
        ("process_max_fds", "That one process may have open.", float(resource.getrlimit(resource.RLIMIT_NOFILE)[0])),
    ):
        yield GaugeMetricFamily(name, text, value)


def _stat(pid: int) -> _Stat | None:
    """See proc(5); None for a process that is gone."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    user, system, children_user, children_system = (int(word) / _TICK for word in words[11:15])
    start = _boot() + int(words[19]) / _TICK
    return _Stat(user + system, children_user + children_system, start, float(words[20]), float(words[21]) * _PAGE)


@functools.cache
def _boot() -> float:
    """When the machine started, in seconds since 1970."""
    lines = Path("/proc/stat").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("btime ")))


def _open_files(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0
