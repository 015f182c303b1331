"""
Ask /health/ready on one connection, every 50 ms: python -m benchmarks.reliability.prober PORT SECONDS.

In a process of its own, because a busy one would measure itself. Prints a list of milliseconds.
"""

from __future__ import annotations

import http.client
import json
import sys
import time

EVERY_S = 0.05


def main(port: int, seconds: float) -> list[float]:
    """How long each took."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    took: list[float] = []
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        connection.request("GET", "/health/ready")
        reply = connection.getresponse()
        reply.read()
        if reply.status != 200:
            raise SystemExit(f"/health/ready answered {reply.status}")
        took.append(1000 * (time.perf_counter() - start))
        time.sleep(max(0.0, EVERY_S - took[-1] / 1000))
    connection.close()
    return took


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), float(sys.argv[2]))))
