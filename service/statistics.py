"""
What was done since the start, by operation, in the form of the Open Inference Protocol's statistics extension.

Counts and nanoseconds as they were measured, of all routes together; stages come from the metrics. Knows no HTTP.
"""

from __future__ import annotations

import time
from typing import Any

from service.metrics import Metrics


class Statistics:
    """Counts requests and batches. Its state belongs to the event loop."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._requests: dict[tuple[str, bool], list[int]] = {}
        self._batches: dict[str, dict[int, list[int]]] = {}
        self._last_ms: dict[str, int] = {}

    def answered(self, op: str, ok: bool, seconds: float) -> None:
        """A request for *op* was answered, or (not *ok*) refused or failed, after *seconds*."""
        _add(self._requests.setdefault((op, ok), [0, 0]), seconds)
        self._last_ms[op] = time.time_ns() // 10**6

    def ran(self, op: str, rows: int, seconds: float) -> None:
        """One batch of *rows* was run in *seconds*."""
        _add(self._batches.setdefault(op, {}).setdefault(rows, [0, 0]), seconds)

    def of(self, op: str, version: str) -> dict[str, Any]:
        """
        One entry of "model_stats".

        compute_infer is counted by batch, compute_input (parsing) and compute_output (writing) by request; for
        single batch sizes only compute_infer is known.
        """
        batches = self._batches.get(op, {})
        infer = [sum(counted[i] for counted in batches.values()) for i in (0, 1)]
        return {
            "name": op,
            "version": version,
            "last_inference": self._last_ms.get(op, 0),
            "inference_count": int(self._sample("vae_rows_total", op=op)),
            "execution_count": infer[0],
            "inference_stats": {
                "success": _entry(*self._requests.get((op, True), (0, 0))),
                "fail": _entry(*self._requests.get((op, False), (0, 0))),
                "queue": self._stage("queue", op),
                "compute_input": self._stage("parse", op),
                "compute_infer": _entry(*infer),
                "compute_output": self._stage("serialize", op),
                "cache_hit": _entry(0, 0),
                "cache_miss": _entry(0, 0),
            },
            "response_stats": {},
            "batch_stats": [
                {
                    "batch_size": rows,
                    "compute_input": _entry(0, 0),
                    "compute_infer": _entry(*counted),
                    "compute_output": _entry(0, 0),
                }
                for rows, counted in sorted(batches.items())
            ],
            "memory_usage": [],
        }

    def _stage(self, stage: str, op: str) -> dict[str, int]:
        name = "vae_stage_duration_seconds"
        seconds = self._sample(f"{name}_sum", stage=stage, op=op)
        return _entry(int(self._sample(f"{name}_count", stage=stage, op=op)), round(seconds * 1e9))

    def _sample(self, name: str, **labels: str) -> float:
        return self._metrics.registry.get_sample_value(name, labels) or 0.0


def _add(counted: list[int], seconds: float) -> None:
    counted[0] += 1
    counted[1] += round(seconds * 1e9)


def _entry(count: int, ns: int) -> dict[str, int]:
    return {"count": count, "ns": ns}
