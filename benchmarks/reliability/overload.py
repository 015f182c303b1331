"""
Goodput, rejections and health from half of what the service can do to five times as much.

The request is bound by the engine: a score of 64 rows with K = 64 draws. The load is open-loop: callers do not wait for
each other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from benchmarks.reliability.setting import SCORE, Result, Setting, digits, percentiles, verdict
from benchmarks.serving.machine import ROOT
from benchmarks.serving.open_loop import drive, poisson, request
from benchmarks.serving.process import Process, clean_environment
from benchmarks.serving.tables import table
from benchmarks.serving.wire import Body

OFFERED = (0.5, 0.8, 1, 1.5, 2, 3, 5)
POINT_S, LAST_S = 8.0, 60.0
CONNECTIONS = 256
REJECTED_MS, HEALTHY_MS, GOODPUT = 50.0, 100.0, 0.9


def measure(setting: Setting) -> Result:
    """One point for each offered load, the last for a minute."""
    x = digits(64).astype(int).tolist()
    body = Body(json.dumps({"inputs": x, "samples": 64}).encode(), {"Content-Type": "application/json"})
    requests = [request(SCORE, body)]
    points = []
    with _apart(setting) as server:
        capacity = _capacity(server.port, requests, setting)
        for offered in OFFERED:
            seconds = setting.scale * (LAST_S if offered == OFFERED[-1] else POINT_S)
            points.append({"offered": offered, **_point(server, requests, offered * capacity, seconds)})
            setting.say(f"offered {offered:g} times capacity: {points[-1]['goodput_per_s']:.0f} a second answered")
    return {"capacity_per_s": capacity, "points": points}


@contextmanager
def _apart(setting: Setting) -> Iterator[Process]:
    """The service on a CPU of its own, generator and prober on the others: what they take is not the service's."""
    cpus = sorted(os.sched_getaffinity(0))
    try:
        os.sched_setaffinity(0, cpus[:1])  # its threads are started with the affinity that it has then
        with setting.serve("overload") as server:
            os.sched_setaffinity(0, cpus[1:] or cpus)
            yield server
    finally:
        os.sched_setaffinity(0, cpus)


def render(result: Mapping[str, Any]) -> str:
    """As the page has it."""
    points, capacity = result["points"], result["capacity_per_s"]
    peak = max(capacity, *(point["goodput_per_s"] for point in points))
    rows = [
        [
            f"{point['offered']:g} ({point['offered'] * capacity:.0f}/s)",
            f"{point['goodput_per_s']:.0f}",
            f"{point['goodput_per_s'] / peak:.0%}",
            f"{point['goodput_per_s'] / point['cpu_share']:.0f} ({point['cpu_share']:.0%})",
            f"{point['answered_ms']['p50']:.0f} / {point['answered_ms']['p99']:.0f} ms",
            f"{point['rejected_ms']['count']:,}",
            "{p50:.1f} / {p99:.1f} / {max:.0f} ms".format(**point["rejected_ms"]),
            f"{point['health_ms']['p99']:.1f} / {point['health_ms']['max']:.0f} ms",
            f"{point['late_ms']:.1f} ms",
        ]
        for point in points
    ]
    last = points[-1]
    retry = sorted(last["retry_after_s"])
    waited = last["answered_ms"]["p99"] / 1000
    others = [status for point in points for status in point["statuses"] if status not in ("200", "429")]
    bars = [
        ["goodput at 5 times capacity", f"{last['goodput_per_s'] / peak:.0%} of its peak", f">= {GOODPUT:.0%}",
         verdict(last["goodput_per_s"] >= GOODPUT * peak)],
        ["rejections at 5 times capacity, p99", f"{last['rejected_ms']['p99']:.1f} ms", f"<= {REJECTED_MS:g} ms",
         verdict(last["rejected_ms"]["p99"] <= REJECTED_MS)],
        ["`/health/ready` meanwhile, p99", f"{last['health_ms']['p99']:.1f} ms", f"<= {HEALTHY_MS:g} ms",
         verdict(last["health_ms"]["p99"] <= HEALTHY_MS)],
        ["anything but 200 and 429", ", ".join(others) or "none", "none", verdict(not others)],
    ]  # fmt: skip
    head = [
        "offered",
        "answered/s",
        "of the peak",
        "by CPU second (CPUs used)",
        "answers, p50 / p99",
        "rejected",
        "rejections, p50 / p99 / most",
        "health, p99 / most",
        "generator late, p99",
    ]
    return (
        f"Capacity, by a closed loop of 8: {capacity:.0f} requests a second. {LAST_S:g} s at 5 times capacity, "
        f"{POINT_S:g} s at each of the others; {CONNECTIONS} connections.\n\n{table(head, rows)}\n\n"
        f"{table(['what', 'measured', 'bar', 'verdict'], bars)}\n\n"
        f"`Retry-After` at 5 times capacity: {', '.join(f'{value} s' for value in retry) or 'never'}; 99 of 100 that "
        f"were answered had waited less than {waited:.2f} s."
    )


def _capacity(port: int, requests: list[bytes], setting: Setting) -> float:
    """Requests a second that eight callers get answered who wait for their answers."""
    count, seconds = 32, 0.0
    while seconds < min(3.0, 4 * setting.scale):
        outcome = drive(port, requests, np.zeros(count), 8)
        seconds = float(outcome.done.max())
        rate = count / seconds
        count = max(32, int(rate * 4 * setting.scale))
    return rate


def _point(server: Process, requests: list[bytes], rate: float, seconds: float) -> Result:
    due = poisson(rate, seconds, seed=1)
    status = np.zeros(len(due), np.int16)
    retry: set[int] = set()

    def hear(number: int, reply: bytes) -> None:
        status[number] = int(reply[9:12])
        if status[number] == 429:
            at = reply.lower().index(b"retry-after:")
            retry.add(int(reply[at + 12 :].split(b"\r\n", 1)[0]))

    command = [sys.executable, "-m", "benchmarks.reliability.prober", str(server.port), str(seconds)]
    environment = clean_environment(PYTHONPATH=str(ROOT))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as prober:
        try:
            before = server.cpu_s()
            outcome = drive(server.port, requests, due, CONNECTIONS, hear)
            cpu_s = server.cpu_s() - before
            told, _ = prober.communicate(timeout=60)
        except BaseException:
            prober.kill()
            raise
    good, bad = status == 200, status == 429
    time.sleep(1)  # the queue is empty again
    return {
        "goodput_per_s": int(good.sum()) / float(outcome.done.max()),
        "cpu_share": cpu_s / float(outcome.done.max()),
        "answered_ms": percentiles(outcome.latency_ms[good]),
        "rejected_ms": percentiles(outcome.latency_ms[bad]),
        "health_ms": percentiles(json.loads(told)),
        "late_ms": outcome.figures()["late_ms"],
        "statuses": {str(code): int((status == code).sum()) for code in np.unique(status)},
        "retry_after_s": sorted(retry),
    }
