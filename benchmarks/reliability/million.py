"""A million requests, each answer checked against onnxruntime in this process, and the memory meanwhile."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from benchmarks.reliability.setting import Result, Setting, encode_requests, same, verdict
from benchmarks.serving.open_loop import drive

BLOCK = 10_000
CONNECTIONS = 64
WARM = 0.2
"""The share of requests after which the slope begins: before, pools and caches fill."""
FLAT_MB = 1.0
"""Growth by a million requests that counts as flat."""


def measure(setting: Setting) -> Result:
    """Closed loop, in blocks of requests on new connections; single rows of 256 kinds in turn."""
    requests, mu = encode_requests()
    found = np.empty((BLOCK, *mu.shape[1:]), np.float64)
    status = np.empty(BLOCK, np.int16)

    def hear(number: int, reply: bytes) -> None:
        status[number] = int(reply[9:12])
        if status[number] == 200:
            found[number] = orjson.loads(reply[reply.index(b"\r\n\r\n") + 4 :])["mu"][0]

    expected = np.resize(np.arange(len(requests)), BLOCK)
    wrong = refused = done = 0
    memory: list[tuple[int, float]] = []
    with setting.serve("million") as server:
        start = time.perf_counter()
        while done < setting.requests:
            found.fill(np.nan)
            drive(server.port, requests, np.zeros(BLOCK), CONNECTIONS, hear)
            refused += int((status != 200).sum())
            wrong += int((~same(found, mu[expected]) & (status == 200)).sum())
            done += BLOCK
            memory.append((done, server.rss_mb()))
            if done % 100_000 == 0:
                setting.say(f"{done:,} requests, {wrong} wrong, {memory[-1][1]:.1f} MB")
        seconds = time.perf_counter() - start
    counts, mb = np.array([point for point in memory if point[0] >= WARM * done]).T
    slope = float(np.polyfit(counts / 1e6, mb, 1)[0]) if len(counts) > 1 else 0.0
    return {
        "requests": done,
        "wrong": wrong,
        "refused": refused,
        "seconds": seconds,
        "first_mb": memory[0][1],
        "warm_mb": float(mb[0]),
        "last_mb": memory[-1][1],
        "slope_mb": slope,
    }


def render(result: Mapping[str, Any]) -> str:
    """As the page has it."""
    good = not result["wrong"] and not result["refused"] and result["slope_mb"] <= FLAT_MB
    return (
        f"{result['requests']:,} requests (one row, JSON, {CONNECTIONS} connections) in {result['seconds']:.0f} s, "
        f"{result['requests'] / result['seconds']:,.0f} a second with the checks: {result['wrong']} wrong, "
        f"{result['refused']} not answered. Resident memory {result['first_mb']:.1f} MB after the first {BLOCK:,}, "
        f"{result['warm_mb']:.1f} MB at a fifth, {result['last_mb']:.1f} MB at the end; slope from a fifth on "
        f"{result['slope_mb']:+.2f} MB a million. None wrong, and flat (at most {FLAT_MB:g} MB a million): "
        f"{verdict(good)}."
    )
