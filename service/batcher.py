"""
The batcher: many calls become few batches.

Knows rows and futures; nothing of VAEs, ONNX or HTTP. Its state belongs to one event loop; only `run` is called
elsewhere, in a thread of its own, one batch at a time.

A batch is whatever waits when `run` is free: no timer by default. The key of the call that has waited longest
decides who can join; calls join first in, first out, up to `max_batch_rows`. A call over that limit is cut into
chunks, and goes to the end of its queue between two of them. A row has a weight (a score with K draws weighs K),
and limits count rows times weight.

No caller can harm another, and none waits for ever: every future is settled on every path, be it an answer, an
error of `run`, the deadline, a full queue or shutdown. Calls whose caller is gone or whose deadline has passed are
dropped when the batch is formed, so they cost nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.errors import DeadlineExceeded, InferenceFailed, NotReady, Overloaded, ServiceError
from service.spent import SPENT, Spent

log = logging.getLogger("service.batcher")

Rows = Mapping[str, NDArray[np.generic]]
Key = TypeVar("Key", bound=Hashable)
Key_contra = TypeVar("Key_contra", bound=Hashable, contravariant=True)


class Observer(Protocol[Key_contra]):
    """Hears what the batcher did; times in seconds."""

    def waited(self, key: Key_contra, seconds: float) -> None:
        """A call's first rows left the queue after *seconds*."""

    def ran(self, key: Key_contra, rows: int, seconds: float) -> None:
        """One batch of *rows* was run in *seconds*."""


class Waiting(NamedTuple):
    """What waits under one key: its rows, and the seconds that the oldest call has waited."""

    rows: int
    oldest_s: float


class _Call(Generic[Key]):
    """One caller's rows, and the future that its answer goes to."""

    __slots__ = ("answer", "arrived", "deadline", "inputs", "key", "parts", "rows", "since", "spent", "taken", "weight")

    def __init__(
        self, key: Key, inputs: Rows, *, weight: int, now: float, deadline: float, answer: asyncio.Future[Rows]
    ) -> None:
        self.key = key
        self.inputs = inputs
        self.rows = len(next(iter(inputs.values())))
        self.weight = weight
        self.arrived = self.since = now  # *since*: in the queue without having been served
        self.answer = answer
        self.spent = SPENT.get() or Spent()
        self.taken = 0  # rows that have left the queue
        self.parts: list[Rows] = []
        self.deadline = deadline  # in the loop's time
        timer = answer.get_loop().call_at(deadline, self.expire)
        answer.add_done_callback(lambda _: timer.cancel())

    def expire(self) -> None:
        if not self.answer.done():
            waited = self.deadline - self.arrived
            self.answer.set_exception(DeadlineExceeded(f"no answer within {waited:.3f} s", limit=waited))


class _Chunk(NamedTuple, Generic[Key]):
    """Rows *start* to *stop* of one call, in a batch."""

    call: _Call[Key]
    start: int
    stop: int


class Batcher(Generic[Key]):
    """
    Runs calls in batches; to be made inside a running event loop.

    *run(key, inputs)* gets arrays with a common first axis and returns arrays with the same first axis.
    """

    def __init__(
        self,
        run: Callable[[Key, Rows], Rows],
        observer: Observer[Key],
        max_batch_rows: int,
        max_queue_rows: int,
        max_batch_delay_s: float = 0.0,
    ) -> None:
        self._run = run
        self._observer = observer
        self._max_batch_rows = max_batch_rows
        self._max_queue_rows = max_queue_rows
        self._max_batch_delay_s = max_batch_delay_s
        self._queues: dict[Key, deque[_Call[Key]]] = {}
        self._batch: list[_Chunk[Key]] = []  # what runs
        self._queued = 0  # rows times weight that wait
        self._rate = math.nan  # rows times weight a second, smoothed: for Retry-After alone
        self._wake, self._full, self._idle = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self._task = asyncio.create_task(self._serve(), name="batcher")

    def admit(self, weight: int) -> None:
        """
        Raise what a call of *weight* (all its rows times their weight) would be refused with now; else nothing.

        For callers that can tell before the work of parsing. A call larger than the whole queue is possible when
        nothing waits.
        """
        if self._closed:
            raise NotReady("the server is shutting down")
        if self._queued and self._queued + weight > self._max_queue_rows:
            seconds = self._queued / self._rate if self._rate > 0 else 1.0
            raise Overloaded(
                f"{self._queued} rows wait (a scored row counts once for each draw), and {weight} more would pass "
                f"the limit of {self._max_queue_rows}",
                retry_after_s=max(1, math.ceil(seconds)),
                limit=self._max_queue_rows,
                value=self._queued + weight,
            )

    def submit(self, key: Key, inputs: Rows, deadline: float, weight: int = 1) -> asyncio.Future[Rows]:
        """
        Queue *inputs*, arrays with a common first axis of at least one row; the future gets those rows' outputs.

        Only calls with equal *key* share a batch. Cancel the future to leave. It fails with DeadlineExceeded at
        *deadline* (in the loop's time), with InferenceFailed when `run` raised, with NotReady at shutdown.
        Raises Overloaded or NotReady at once.
        """
        rows = len(next(iter(inputs.values())))
        self.admit(rows * weight)
        now = self._loop.time()
        call = _Call(key, inputs, weight=weight, now=now, deadline=deadline, answer=self._loop.create_future())
        self._queues.setdefault(key, deque()).append(call)
        self._queued += rows * weight
        if self._queued >= self._max_batch_rows:
            self._full.set()
        self._idle.clear()
        self._wake.set()
        return call.answer

    def waiting(self) -> dict[Key, Waiting]:
        """What waits now, by key."""
        now = self._loop.time()
        return {
            key: Waiting(sum(call.rows - call.taken for call in queue), now - min(call.arrived for call in queue))
            for key, queue in self._queues.items()
        }

    async def close(self, timeout_s: float) -> None:
        """Refuse new calls, finish those that wait for at most *timeout_s*, fail the rest with NotReady."""
        self._closed = True
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            log.warning("shutdown: calls still wait after %.1f s; they are told so", timeout_s)
        self._task.cancel()
        await asyncio.wait([self._task])
        self._fail_all(NotReady("the server shut down before the answer"))
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _serve(self) -> None:
        while True:
            await self._wake.wait()
            try:
                if self._max_batch_delay_s:
                    await self._linger()
                if self._form():
                    await self._run_batch(self._batch)
                else:
                    self._wake.clear()
                    self._idle.set()
            except Exception:
                log.critical("the batcher failed, and goes on: this is a bug", exc_info=True)
                self._fail_all(InferenceFailed("the batcher failed"))

    async def _linger(self) -> None:
        """Give others the time to join, until the batch is full or its oldest call has waited the delay."""
        oldest = min((queue[0].since for queue in self._queues.values()), default=0.0)
        left = oldest + self._max_batch_delay_s - self._loop.time()
        if left > 0 and not self._closed:
            self._full.clear()
            if self._queued < self._max_batch_rows:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._full.wait()

    def _form(self) -> bool:
        """Take the next batch off the queues; False when nothing alive waits."""
        now = self._loop.time()
        self._batch = []  # an idle server holds on to nobody's rows
        while self._queues:
            key = min(self._queues, key=lambda key: self._queues[key][0].since)
            queue = self._queues[key]
            chunks = self._batch = []
            room = self._max_batch_rows
            while queue:
                call = queue[0]
                left = call.rows - call.taken
                if call.answer.done() or now >= call.deadline:
                    call.expire()
                    self._queued -= left * call.weight
                    queue.popleft()
                    continue
                if chunks and left * call.weight > room:
                    break
                rows = min(left, max(1, room // call.weight))  # one row must run, however heavy
                if call.taken == 0:
                    self._observer.waited(key, now - call.arrived)
                    call.spent.queue += now - call.arrived
                chunks.append(_Chunk(call, call.taken, call.taken + rows))
                call.taken += rows
                call.since = now
                room -= rows * call.weight
                self._queued -= rows * call.weight
                queue.popleft()
                if call.taken < call.rows:
                    queue.append(call)
                if room <= 0 or call.taken < call.rows:
                    break
            if not queue:
                del self._queues[key]
            if chunks:
                return True
        return False

    async def _run_batch(self, batch: list[_Chunk[Key]]) -> None:
        key = batch[0].call.key
        rows = sum(stop - start for _, start, stop in batch)
        try:
            outputs, seconds = await self._loop.run_in_executor(self._thread, self._compute, key, batch, rows)
        except Exception as error:
            log.error("a batch of %d rows for %s failed", rows, key, exc_info=error)
            told = error if isinstance(error, ServiceError) else InferenceFailed("the model could not be run")
            _fail((chunk.call for chunk in batch), told)
            return
        self._observer.ran(key, rows, seconds)
        rate = rows * batch[0].call.weight / max(seconds, 1e-6)
        self._rate = rate if math.isnan(self._rate) else 0.9 * self._rate + 0.1 * rate
        at = 0
        for call, start, stop in batch:
            part = {name: array[at : at + stop - start] for name, array in outputs.items()}
            at += stop - start
            call.parts.append(part)
            call.spent.compute += seconds
            if stop == call.rows and not call.answer.done():
                call.answer.set_result(part if start == 0 else _join(call.parts))

    def _compute(self, key: Key, batch: list[_Chunk[Key]], rows: int) -> tuple[Rows, float]:
        """In the engine's thread: gather the rows, run them; the outputs and the seconds of the run."""
        inputs = _join([{name: a[start:stop] for name, a in call.inputs.items()} for call, start, stop in batch])
        begun = time.perf_counter()
        outputs = self._run(key, inputs)
        seconds = time.perf_counter() - begun
        for name, array in outputs.items():
            if len(array) != rows:
                raise RuntimeError(f"{name} has {len(array)} rows for a batch of {rows}. This is a bug.")
        return outputs, seconds

    def _fail_all(self, error: ServiceError) -> None:
        for calls in ([chunk.call for chunk in self._batch], *self._queues.values()):
            _fail(calls, error)
        self._queues.clear()
        self._queued = 0


def _fail(calls: Iterable[_Call[Key]], error: ServiceError) -> None:
    for call in calls:
        if not call.answer.done():
            call.answer.set_exception(error)


def _join(parts: list[Rows]) -> Rows:
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
