"""
What was done since the start, by operation, in the form of the Open Inference Protocol's statistics extension.

Counts and nanoseconds as they were measured, of all routes together. A request is counted at once, at its end: tools
take the differences of these counts, and stop where they do not agree. Of several workers each keeps its counts in a
file beside the others', so that any of them can tell the sum. Knows no HTTP.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import orjson

from service.spent import Spent


class _Counted:
    """One operation: requests, and the sums of their seconds."""

    def __init__(self) -> None:
        self.rows = self.good = self.bad = 0
        self.last = self.good_s = self.bad_s = 0.0
        self.parse_s = self.queue_s = self.compute_s = self.serialize_s = 0.0
        self.batches: dict[int, tuple[int, float]] = {}

    def state(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return {**vars(self), "batches": [[rows, *batch] for rows, batch in self.batches.items()]}

    def add(self, state: dict[str, Any]) -> None:
        """What another counted, too."""
        for name, value in state.items():
            if name == "batches":
                for rows, count, seconds in value:
                    self.ran(rows, count, seconds)
            elif name == "last":
                self.last = max(self.last, value)
            else:
                setattr(self, name, getattr(self, name) + value)

    def ran(self, rows: int, count: int, seconds: float) -> None:
        """So many batches of *rows* were run in *seconds*, together."""
        counted, total = self.batches.get(rows, (0, 0.0))
        self.batches[rows] = counted + count, total + seconds


class Statistics:
    """
    Counts requests and batches. Its state belongs to the event loop.

    *file*: where one of several workers keeps its counts; it begins with those of the one whose place it takes.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._ops: dict[str, _Counted] = {}
        self._file = file
        self._kept = True
        if file is not None:
            file.parent.mkdir(exist_ok=True)
            if file.exists():
                self._add(file)

    def keep(self) -> None:
        """Write the counts into the file where they have changed, for the other workers."""
        if self._file is not None and not self._kept:
            self._kept = True
            new = self._file.with_suffix(".new")
            new.write_bytes(orjson.dumps({op: counted.state() for op, counted in self._ops.items()}))
            new.replace(self._file)

    def of_all(self) -> Statistics:
        """The sum over all workers, of what they have kept."""
        if self._file is None:
            return self
        self.keep()
        every = Statistics()
        for file in self._file.parent.glob("*.json"):
            every._add(file)
        return every

    def answered(self, op: str, seconds: float, spent: Spent | None) -> None:
        """A request for *op* was answered, or refused or failed (None), *seconds* after its headers came."""
        counted = self._of(op)
        self._kept = False
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
        self._kept = False
        self._of(op).ran(rows, 1, seconds)

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

    def _add(self, file: Path) -> None:
        for op, state in orjson.loads(file.read_bytes()).items():
            self._of(op).add(state)

    def _of(self, op: str) -> _Counted:
        counted = self._ops.get(op)
        if counted is None:
            counted = self._ops[op] = _Counted()
        return counted


def _entry(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": round(seconds * 1e9)}
