"""
What was done since the start, by operation, in the form of the Open Inference Protocol's statistics extension.

Counts and nanoseconds as they were measured, of all routes together. A request is counted at once, at its end: tools
take the differences of these counts, and stop where they do not agree. Knows no HTTP.
"""

from __future__ import annotations

import time
from typing import Any

from service.spent import Spent


class _Counted:
    """One operation: requests, and the sums of their seconds."""

    def __init__(self) -> None:
        self.rows = self.good = self.bad = 0
        self.last = self.good_s = self.bad_s = 0.0
        self.parse_s = self.queue_s = self.compute_s = self.serialize_s = 0.0
        self.batches: dict[int, tuple[int, float]] = {}


class Statistics:
    """Counts requests and batches. Its state belongs to the event loop."""

    def __init__(self) -> None:
        self._ops: dict[str, _Counted] = {}

    def answered(self, op: str, seconds: float, spent: Spent | None) -> None:
        """A request for *op* was answered, or refused or failed (None), *seconds* after its headers came."""
        counted = self._of(op)
        counted.last = time.time()
        if spent is None:
            counted.bad += 1
            counted.bad_s += seconds
            return
        counted.good += 1
        counted.good_s += seconds
        counted.rows += spent.rows
        counted.parse_s += spent.parse
        counted.queue_s += spent.queue
        counted.compute_s += spent.compute
        counted.serialize_s += spent.serialize

    def ran(self, op: str, rows: int, seconds: float) -> None:
        """One batch of *rows* was run in *seconds*."""
        batches = self._of(op).batches
        count, total = batches.get(rows, (0, 0.0))
        batches[rows] = count + 1, total + seconds

    def of(self, op: str, version: str) -> dict[str, Any]:
        """
        One entry of "model_stats".

        A request counts the whole time of the batches that its rows were in. Of batches by their size only the time
        of the model is known.
        """
        counted = self._of(op)
        return {
            "name": op,
            "version": version,
            "last_inference": int(counted.last * 1000),
            "inference_count": counted.rows,
            "execution_count": sum(count for count, _ in counted.batches.values()),
            "inference_stats": {
                "success": _entry(counted.good, counted.good_s),
                "fail": _entry(counted.bad, counted.bad_s),
                "queue": _entry(counted.good, counted.queue_s),
                "compute_input": _entry(counted.good, counted.parse_s),
                "compute_infer": _entry(counted.good, counted.compute_s),
                "compute_output": _entry(counted.good, counted.serialize_s),
                "cache_hit": _entry(0, 0),
                "cache_miss": _entry(0, 0),
            },
            "response_stats": {},
            "batch_stats": [
                {
                    "batch_size": rows,
                    "compute_input": _entry(0, 0),
                    "compute_infer": _entry(*batch),
                    "compute_output": _entry(0, 0),
                }
                for rows, batch in sorted(counted.batches.items())
            ],
            "memory_usage": [],
        }

    def _of(self, op: str) -> _Counted:
        counted = self._ops.get(op)
        if counted is None:
            counted = self._ops[op] = _Counted()
        return counted


def _entry(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": round(seconds * 1e9)}
