"""From the start of the process to the first 200 of /health/ready: the shipped bundle, warm caches of files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.serving import tables
from benchmarks.serving.bench import Bench, Result, spread
from benchmarks.serving.bundles import SHIPPED
from benchmarks.serving.contenders import serve


def measure(bench: Bench, bundle: Path = SHIPPED) -> Result:
    """Seconds of each start, polled every 5 ms; one start before them is not counted."""
    seconds = []
    for turn in range(bench.effort.starts + 1):
        bench.say(f"start {turn} of {bench.effort.starts}")
        with serve(bundle, bench.port, bench.log("start"), drain_delay_s=0) as process:
            seconds.append(process.started_s)
    return {"seconds": seconds[1:], "bundle": bundle.parent.name}


def render(result: Mapping[str, Any]) -> str:
    """One sentence."""
    seconds = result["seconds"]
    found = tables.middle(spread(seconds), "{:.2f}")
    return f"{len(seconds)} starts with the bundle `{result['bundle']}`: {found} s."
