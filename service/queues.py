"""
What waits for the engine: calls, in a queue for each key, and how a batch is taken off them.

The key of the call that has waited longest decides who can join a batch; calls join first in, first out. A call over
the limit of a batch is cut into chunks, and goes behind all that have come while one of them ran. A row has a weight (a
score with K draws weighs K), and limits count rows times weight. Knows calls and times; nothing of what runs a batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple

from service.calls import Call, Chunk, Key


class Waiting(NamedTuple):
    """What waits under one key: its rows, and the seconds that the oldest call has waited."""

    rows: int
    oldest_s: float


class Queues(Generic[Key]):
    """Calls that wait; *work* is what they amount to, rows times weight. *chunk*: rows of a call to run at a time."""

    def __init__(self, max_batch_rows: int, chunk: Callable[[Call[Key]], int]) -> None:
        self._max_batch_rows = max_batch_rows
        self._chunk = chunk
        self._queues: dict[Key, deque[Call[Key]]] = {}
        self._cut: Call[Key] | None = None  # a chunk of it was taken last, and it has more
        self.work = 0

    def __bool__(self) -> bool:
        """Whether any call waits, be it alive or not."""
        return bool(self._queues) or self._cut is not None

    def __iter__(self) -> Iterator[Call[Key]]:
        """Every call that waits."""
        for queue in self._queues.values():
            yield from queue
        if self._cut is not None:
            yield self._cut

    def push(self, call: Call[Key]) -> None:
        """To the end of its queue."""
        self._append(call)
        self.work += call.rows * call.weight

    def oldest(self) -> float:
        """When the call that has waited longest was queued, or served last; infinity where none waits."""
        cut = float("inf") if self._cut is None else self._cut.since
        return min((queue[0].since for queue in self._queues.values()), default=cut)

    def waiting(self, now: float) -> dict[Key, Waiting]:
        """What waits, by key."""
        found: dict[Key, Waiting] = {}
        for call in self:
            rows, oldest_s = found.get(call.key, (0, 0.0))
            found[call.key] = Waiting(rows + call.rows - call.taken, max(oldest_s, now - call.arrived))
        return found

    def form(self, now: float) -> list[Chunk[Key]]:
        """Take the next batch off the queues, all of one key; empty when nobody alive waits."""
        if self._cut is not None:
            self._cut.since = now
            self._append(self._cut)
            self._cut = None
        while self._queues:
            if len(self._queues) == 1:
                key = next(iter(self._queues))
            else:
                key = min(self._queues, key=lambda key: self._queues[key][0].since)
            queue = self._queues[key]
            batch = self._take(queue, now)
            if not queue:
                del self._queues[key]
            if batch:
                return batch
        return []

    def clear(self) -> list[Call[Key]]:
        """Take every call off the queues."""
        calls = list(self)
        self._queues.clear()
        self._cut = None
        self.work = 0
        return calls

    def _append(self, call: Call[Key]) -> None:
        queue = self._queues.get(call.key)
        if queue is None:
            queue = self._queues[call.key] = deque()
        queue.append(call)

    def _take(self, queue: deque[Call[Key]], now: float) -> list[Chunk[Key]]:
        """A batch from the head of *queue*; those whose caller is gone or whose deadline has passed are dropped."""
        batch: list[Chunk[Key]] = []
        room = self._max_batch_rows
        while queue:
            call = queue[0]
            left = call.rows - call.taken
            weight = call.weight
            if call.answer.done() or now >= call.deadline:
                call.expire()
                self.work -= left * weight
                queue.popleft()
                continue
            if batch and left * weight > room:
                break
            whole = not call.taken and left * weight <= room
            rows = left if whole else min(left, self._chunk(call))
            if not call.taken and call.spent is not None:
                call.spent.queue += now - call.arrived
            batch.append(Chunk(call, call.taken, call.taken + rows))
            call.taken += rows
            room -= rows * weight
            self.work -= rows * weight
            queue.popleft()
            if rows < left:
                self._cut = call
            if room <= 0 or rows < left:
                break
        return batch
