"""
Memory and throughput of 1, 2 and 4 workers: python -m benchmarks.workers [--bundle build/bench] [--seconds 5].

Each service in turn on the same machine, one onnxruntime thread a worker; one row in JSON by wrk, with 64 connections.
Memory after the load: PSS is a process's own pages and its part of those that it shares, so it may be added up.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import httpx

from service.bundle import open_bundle
from tests.server import Server

CONNECTIONS = 64


def main() -> None:
    """Print one row of the table for each number of workers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[1])
    parser.add_argument("--bundle", type=Path, default=Path("deploy/models/digits"))
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    given = parser.parse_args()
    golden = open_bundle(given.bundle).golden["encoder"]["x"]
    body = json.dumps({"inputs": golden[:1].tolist()})
    print(
        "| workers | requests/s | p99 | 8 connections | PSS of each worker | RSS of each | PSS of supervisor | in all |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for workers in given.workers:
        with Server(given.bundle, workers=workers) as server:
            if workers > 1:
                for number in range(1, workers):
                    server.says(f"worker {number} is ready")
            print(measured(server, workers, body, given.seconds), flush=True)


def measured(server: Server, workers: int, body: str, seconds: int) -> str:
    """One row."""
    clients = [httpx.Client(timeout=30) for _ in range(8)]
    who = Counter(
        client.post(f"{server.url}/v1/encode", content=body).headers["x-request-id"].split("-")[0] for client in clients
    )
    for client in clients:
        client.close()
    server.client.close()
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(f"wrk.method = 'POST'\nwrk.body = [==[{body}]==]\n")
        script.flush()
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", "--latency", "-s", script.name, f"{server.url}/v1/encode"]
        subprocess.run([*command, "-d2"], capture_output=True, check=True)
        told = subprocess.run([*command, f"-d{seconds}"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"99%\s+([\d.]+)(us|ms|s)\s", told)
    rate = re.search(r"Requests/sec:\s+(\S+)", told)
    if "Non-2xx" in told or "Socket errors" in told or found is None or rate is None:
        sys.exit(told)
    p99 = float(found[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[found[2]]
    pids = [int(pid) for pid in re.findall(r"worker \d+ is process (\d+)", "".join(server.log))] or [server.process.pid]
    pss, rss = [memory(pid, "Pss") for pid in pids], [memory(pid, "Rss") for pid in pids]
    boss = memory(server.process.pid, "Pss") if workers > 1 else 0.0
    cells = (
        str(workers),
        f"{float(rate[1]):,.0f}",
        f"{p99:.1f} ms",
        ":".join(map(str, who.values())),
        "/".join(f"{mb:.0f}" for mb in pss),
        "/".join(f"{mb:.0f}" for mb in rss),
        f"{boss:.0f}" if boss else "",
        f"{boss + sum(pss):.0f} MB",
    )
    return f"| {' | '.join(cells)} |"


def memory(pid: int, kind: str) -> float:
    """MB of a process: its "Pss" or "Rss"."""
    found = re.search(rf"^{kind}:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
    return int(found[1]) / 1024 if found else float("nan")


if __name__ == "__main__":
    main()
