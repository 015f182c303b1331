"""Hostile connections in numbers: what they take of the service's memory, and what callers beside them notice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from benchmarks import memory
from benchmarks.reliability.callers import Callers
from benchmarks.reliability.setting import Result, Setting, percentiles, verdict
from benchmarks.serving.machine import ROOT
from benchmarks.serving.process import clean_environment
from benchmarks.serving.tables import table

IDLE, SLOW, UPLOADS, INVALID = 10_000, 1_000, 200, 16
BODY = 32 * 2**20
UPLOADED = 8 * 2**20
PATIENCE_S = 5
PROBED_S = 8.0
NEIGHBOURS = 4
IDLE_KB, PEAK_MB, HEALTHY_MS = 32.0, 1024.0, 100.0

Harm = Callable[[int, int], Awaitable[Counter[str]]]
Streams = list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]


def measure(setting: Setting) -> Result:
    """Each kind against a service of its own, with callers whose answers are checked."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    scenes: tuple[tuple[str, int, Harm, dict[str, object]], ...] = (
        ("idle", setting.some(IDLE), _idle, {"max_connections": 2 * IDLE}),
        ("slow headers", setting.some(SLOW), _slow_headers, {"keep_alive_s": PATIENCE_S}),
        ("slow uploads", setting.some(UPLOADS, 20), _slow_uploads, {}),
        ("invalid in the last byte", setting.some(INVALID, 4), _invalid, {}),
    )
    found: Result = {}
    try:
        for name, count, harm, settings in scenes:
            found[name] = _scene(setting, name, count, harm, settings)
            setting.say(f"{name}: {found[name]}")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return found


def render(result: Mapping[str, Any]) -> str:
    """As the page has it."""
    what = {
        "idle": "connections that send nothing",
        "slow headers": f"connections that send a byte of a header a second, with a patience of {PATIENCE_S} s",
        "slow uploads": f"uploads that stop after {UPLOADED >> 20} of {BODY >> 20} MiB",
        "invalid in the last byte": f"JSON bodies of {BODY >> 20} MiB that are invalid in their last byte",
    }
    rows = []
    for name, scene in result.items():
        health = scene["health_ms"]
        told = ", ".join(f"{count:,} {outcome}" for outcome, count in scene["outcomes"].items())
        each = 1024 * (scene["peak_mb"] - scene["before_mb"]) / scene["count"]
        rows.append(
            [
                f"{scene['count']:,} {what[name]}",
                told,
                f"{scene['before_mb']:.0f} to {scene['peak_mb']:.0f} MB ({each:,.0f} KB each)",
                f"{health['p50']:.1f} / {health['p99']:.1f} / {health['max']:.0f} ms",
                f"{scene['neighbours'].get('right', 0):,} right, {_others(scene['neighbours'])} else",
            ]
        )
    idle = result["idle"]
    each = 1024 * (idle["peak_mb"] - idle["before_mb"]) / idle["count"]
    peak = max(scene["peak_mb"] for scene in result.values())
    harmed = sum(_others(scene["neighbours"]) for scene in result.values())
    slow = result["slow headers"]
    bars = [
        ["neighbours' answers that were not right", str(harmed), "0", verdict(not harmed)],
        ["memory at most", f"{peak:.0f} MB", f"<= {PEAK_MB:g} MB", verdict(peak <= PEAK_MB)],
        ["an idle connection", f"{each:.1f} KB", f"<= {IDLE_KB:g} KB", verdict(each <= IDLE_KB)],
        ["`/health/ready` beside idle connections, p99", f"{idle['health_ms']['p99']:.1f} ms", f"<= {HEALTHY_MS:g} ms",
         verdict(idle["health_ms"]["p99"] <= HEALTHY_MS)],
        ["slow headers that were closed", f"{slow['outcomes'].get('closed', 0):,}", f"{slow['count']:,}",
         verdict(slow["outcomes"].get("closed", 0) == slow["count"])],
    ]  # fmt: skip
    head = ["what", "became of them", "resident memory", "health, p50 / p99 / most", "neighbours"]
    return f"{table(head, rows)}\n\n{table(['what', 'measured', 'bar', 'verdict'], bars)}"


def _others(outcomes: Mapping[str, int]) -> int:
    return sum(count for name, count in outcomes.items() if name != "right")


def _scene(setting: Setting, name: str, count: int, harm: Harm, settings: dict[str, object]) -> Result:
    with setting.serve(f"connections-{name.replace(' ', '-')}", **settings) as server:
        with Callers(server.port, NEIGHBOURS):
            time.sleep(1)  # what the neighbours take is there before
        before = server.rss_mb()
        memory.forget_peak(server.process().pid)
        command = [sys.executable, "-m", "benchmarks.reliability.prober", str(server.port), str(PROBED_S)]
        environment = clean_environment(PYTHONPATH=str(ROOT))
        with (
            Callers(server.port, NEIGHBOURS) as neighbours,
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as prober,
        ):
            try:
                start = time.perf_counter()
                outcomes = asyncio.run(_with(harm, server.port, count))
                seconds = time.perf_counter() - start
                told, _ = prober.communicate(timeout=90)
            except BaseException:
                prober.kill()
                raise
        return {
            "count": count,
            "outcomes": dict(outcomes),
            "seconds": seconds,
            "before_mb": before,
            "peak_mb": memory.peak(server.process().pid) / 2**20,
            "health_ms": percentiles(json.loads(told)),
            "neighbours": dict(neighbours.outcomes),
        }


async def _with(harm: Harm, port: int, count: int) -> Counter[str]:
    return await harm(port, count)


async def _idle(port: int, count: int) -> Counter[str]:
    async with _connected(port, count):
        await asyncio.sleep(PROBED_S)
    return Counter({"connected": count})


async def _slow_headers(port: int, count: int) -> Counter[str]:
    async with _connected(port, count) as streams:
        for _, writer in streams:
            writer.write(b"GET /health/live HTTP/1.1\r\nX: ")
        for _ in range(2 * PATIENCE_S):
            await asyncio.sleep(1)
            for reader, writer in streams:
                if not reader.at_eof() and not writer.is_closing():
                    writer.write(b"y")
        closed = sum(reader.at_eof() or writer.is_closing() for reader, writer in streams)
    return Counter({"closed": closed})


async def _slow_uploads(port: int, count: int) -> Counter[str]:
    head = f"POST /v1/encode HTTP/1.1\r\nHost: x\r\nContent-Length: {BODY}\r\n\r\n".encode()
    chunk = bytes(UPLOADED)
    outcomes: Counter[str] = Counter()
    async with _connected(port, count) as streams:

        async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(head + chunk)
            try:
                await asyncio.wait_for(writer.drain(), 20)
                told = await asyncio.wait_for(reader.readline(), PROBED_S)
            except TimeoutError:
                outcomes["waiting"] += 1
            except OSError:
                outcomes["closed"] += 1
            else:
                outcomes[f"status {told.split()[1].decode()}"] += 1

        await asyncio.gather(*(send(*stream) for stream in streams))
    return outcomes


async def _invalid(port: int, count: int) -> Counter[str]:
    row = b"[" + b",".join([b"[" + b",".join([b"1.25"] * 8) + b"]"] * 8) + b"]"
    rows = (BODY - 100) // (len(row) + 1)
    body = b'{"inputs": [' + b",".join([row] * rows) + b"}"
    head = b"POST /v1/encode HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    outcomes: Counter[str] = Counter()
    async with _connected(port, count) as streams:

        async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                writer.write(head + body)
                await writer.drain()
                told = await asyncio.wait_for(reader.readline(), 60)
                outcomes[f"status {told.split()[1].decode()}"] += 1
            except OSError:
                outcomes["closed"] += 1

        await asyncio.gather(*(send(*stream) for stream in streams))
    return outcomes


@contextlib.asynccontextmanager
async def _connected(port: int, count: int) -> AsyncIterator[Streams]:
    streams: Streams = []
    try:
        for start in range(0, count, 200):  # the kernel's queue of connections that nobody took yet is finite
            several = range(min(200, count - start))
            streams += await asyncio.gather(*(asyncio.open_connection("127.0.0.1", port) for _ in several))
        yield streams
    finally:
        for _, writer in streams:
            writer.transport.abort()
        await asyncio.sleep(0)
