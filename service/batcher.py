"""
The batcher: many calls become few batches.

Knows rows and futures; nothing of VAEs, ONNX or HTTP. Its state belongs to one event loop; only `run` may be called
elsewhere, in a thread of its own, one batch at a time.

A batch is whatever waits when `run` is free: no timer by default. How it is taken off the queues is in queues.py. A
batch that is expected to be short is run in the event loop, because the hop to the thread and back costs more than such
a batch. Longer ones run in the thread, and the loop stays free.

No caller can harm another, and none waits for ever: every future is settled on every path, be it an answer, an
error of `run`, the deadline, a full queue or shutdown. The calls of a batch that failed are run again, each by itself,
so that only those fail whose rows are at fault. Calls whose caller is gone or whose deadline has passed are dropped
when the batch is formed, so they cost nothing.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

from service.admission import Admission
from service.calls import Call, Chunk, Key, Rows, gather, scatter
from service.errors import InferenceFailed, NotReady, ServiceError
from service.pace import Pace
from service.queues import Queues, Waiting
from service.spent import SPENT

log = logging.getLogger("service.batcher")

Key_contra = TypeVar("Key_contra", bound=Hashable, contravariant=True)
_COMPANY_S = 1.0  # after the last call that is not over the limit of a batch another one is looked for so long
_LONE_S = 0.025  # who comes after that waits for no longer, however large the chunk that runs


class Observer(Protocol[Key_contra]):
    """Hears what the batcher did; times in seconds."""

    def ran(self, key: Key_contra, rows: int, seconds: float) -> None:
        """One batch of *rows* was run in *seconds*."""


class Batcher(Generic[Key]):
    """
    Runs calls in batches; to be made inside a running event loop.

    *run(key, inputs)* gets arrays with a common first axis and returns arrays with the same first axis. *max_inline_s*:
    a batch that is expected to take no longer runs in the event loop; 0: none does. *max_chunk_rows*: what is run at a
    time, where a whole batch would not run in the loop, of a call over the limit of a batch, while others come that are
    not over it: who comes meanwhile waits for that. *max_lone_rows*: what is run at a time of such a call while nobody
    else comes, where that is expected to take a short time. By default both are as much as a batch.
    """

    def __init__(
        self,
        run: Callable[[Key, Rows], Rows],
        observer: Observer[Key],
        max_batch_rows: int,
        max_queue_rows: int,
        max_batch_delay_s: float = 0.0,
        max_inline_s: float = 0.0,
        max_chunk_rows: int | None = None,
        max_lone_rows: int | None = None,
    ) -> None:
        self._run = run
        self._observer = observer
        self._max_batch_rows = max_batch_rows
        self._max_batch_delay_s = max_batch_delay_s
        self._max_inline_s = max_inline_s
        self._max_chunk_rows = max_chunk_rows or max_batch_rows
        self._max_lone_rows = max_lone_rows or max_batch_rows
        self._queues: Queues[Key] = Queues(max_batch_rows, self._chunk)
        self._batch: list[Chunk[Key]] = []  # what runs, or will in the next turn
        self._company_until = -math.inf
        self._alone: deque[Chunk[Key]] = deque()  # what failed together, and is to run one by one
        self._pace: Pace[Key] = Pace()
        self._admission = Admission(self._queues, self._pace, max_queue_rows)
        self._turn: asyncio.Handle | None = None  # of `_take_turn`, while it is to come
        self._lingering = False
        self._alarm: asyncio.TimerHandle | None = None  # of `_expire`
        self._alarm_at = math.inf  # at or before the first deadline
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")

    def admit(self) -> None:
        """Raise what a call would be refused with now, before the work of parsing; else nothing."""
        self._require_open()
        self._admission.admit()

    def _require_open(self) -> None:
        if self._closed:
            raise NotReady("the server is shutting down")

    def submit(self, key: Key, inputs: Rows, deadline: float, weight: int = 1) -> asyncio.Future[Rows]:
        """
        Queue *inputs*, arrays with a common first axis of at least one row; the future gets those rows' outputs.

        Only calls with equal *key* share a batch. Cancel the future to leave. It fails with DeadlineExceeded at
        *deadline* (in the loop's time), with InferenceFailed when `run` raised, with NotReady at shutdown.
        Raises Overloaded or NotReady at once.
        """
        rows = len(next(iter(inputs.values())))
        self._require_open()
        self._admission.check(rows * weight)
        answer: asyncio.Future[Rows] = self._loop.create_future()
        now = time.monotonic()
        if rows * weight <= self._max_batch_rows:
            self._company_until = now + _COMPANY_S
        self._queues.push(Call(key, inputs, rows, weight, now, deadline, answer, SPENT.get()))
        if deadline < self._alarm_at:
            self._set_alarm(deadline)
        if not self._batch:
            self._call_turn()
        return answer

    def waiting(self) -> dict[Key, Waiting]:
        """What waits now, by key."""
        return self._queues.waiting(time.monotonic())

    async def close(self, timeout_s: float) -> None:
        """Refuse new calls, finish those that wait for at most *timeout_s*, fail the rest with NotReady."""
        self._closed = True
        if self._lingering:
            self._call_turn()
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            log.warning("shutdown: calls still wait after %.1f s; they are told so", timeout_s)
        for handle in (self._turn, self._alarm):
            if handle is not None:
                handle.cancel()
        self._fail_all(NotReady("the server shut down before the answer"))
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _call_turn(self) -> None:
        """A call came or a batch is done: take a turn as soon as those who are on their way here have come, too."""
        self._idle.clear()
        if self._turn is None:
            self._turn = self._loop.call_soon(self._take_turn)
        elif self._lingering and (self._closed or self._queues.work >= self._max_batch_rows):
            self._turn.cancel()
            self._lingering = False
            self._turn = self._loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        """
        Form the next batch, if any, and run it; and short ones after it, for twice *max_inline_s*.

        What would take longer than is left of that has the next turn, when the answers to the calls before it are on
        their way: also what runs in the thread, since those were written after it now and then.
        """
        self._turn = None
        self._lingering = False
        enough = time.monotonic() + 2 * self._max_inline_s
        first = True
        try:
            while self._batch or not self._linger():
                batch = self._batch = self._batch or self._next_batch()
                if not batch:
                    self._idle.set()
                    return
                key = batch[0].call.key
                rows = sum([stop - start for _, start, stop in batch])
                work = rows * batch[0].call.weight
                expected = self._pace.expected(key, work)
                if not first and time.monotonic() + expected > enough:
                    self._call_turn()
                    return
                first = False
                if expected > self._max_inline_s:
                    future = self._loop.run_in_executor(self._thread, self._compute, key, batch, rows)
                    future.add_done_callback(functools.partial(self._came_back, key, rows, work))
                    return
                self._settle(key, rows, work, functools.partial(self._compute, key, batch, rows))
                if not self._waits:
                    self._idle.set()
                    return
        except Exception:
            self._went_wrong()

    @property
    def _waits(self) -> bool:
        return bool(self._alone or self._queues)

    def _next_batch(self) -> list[Chunk[Key]]:
        while self._alone:
            chunk = self._alone.popleft()
            if not chunk.call.answer.done():
                return [chunk]
        return self._queues.form(time.monotonic())

    def _chunk(self, call: Call[Key]) -> int:
        """How many rows of a call over the limit of a batch to run at a time: one at least, however heavy it is."""
        whole = max(1, self._max_batch_rows // call.weight)
        if time.monotonic() > self._company_until:
            batches = int(_LONE_S / max(self._pace.expected(call.key, whole * call.weight), 1e-9))
            return max(whole, min(self._max_lone_rows // call.weight, whole * batches))
        rows = max(1, self._max_chunk_rows // call.weight)
        return rows if 2 * self._pace.expected(call.key, rows * call.weight) > self._max_inline_s else whole

    def _linger(self) -> bool:
        """Give others the time to join, until the batch is full or its oldest call has waited the delay."""
        if not self._max_batch_delay_s or self._closed or self._queues.work >= self._max_batch_rows:
            return False
        left = self._queues.oldest() + self._max_batch_delay_s - time.monotonic()
        self._lingering = 0 < left < math.inf
        if self._lingering:
            self._turn = self._loop.call_later(left, self._take_turn)
        return self._lingering

    def _compute(self, key: Key, batch: list[Chunk[Key]], rows: int) -> tuple[Rows, float]:
        """Gather the rows, run them; the outputs and the seconds of the run."""
        inputs = gather(batch)
        begun = time.perf_counter()
        outputs = self._run(key, inputs)
        seconds = time.perf_counter() - begun
        for name, array in outputs.items():
            if len(array) != rows:
                raise RuntimeError(f"{name} has {len(array)} rows for a batch of {rows}. This is a bug.")
        return outputs, seconds

    def _came_back(self, key: Key, rows: int, work: int, future: asyncio.Future[tuple[Rows, float]]) -> None:
        """The thread is done with the batch."""
        try:
            self._settle(key, rows, work, future.result)
            self._loop.call_soon(self._call_turn)  # a round later: who has come in this one joins the next batch
        except asyncio.CancelledError:  # shutdown: `close` has told the callers
            self._batch = []
        except Exception:
            self._went_wrong()

    def _settle(self, key: Key, rows: int, work: int, result: Callable[[], tuple[Rows, float]]) -> None:
        """Give the callers of the batch what *result* returns or raises."""
        batch = self._batch
        try:
            outputs, seconds = result()
        except Exception as error:
            log.error("a batch of %d rows for %s failed", rows, key, exc_info=error)
            if len(batch) > 1:
                self._alone.extend(batch)
            elif batch:
                told = error if isinstance(error, ServiceError) else InferenceFailed("the model could not be run")
                batch[0].call.fail(told)
        else:
            self._observer.ran(key, rows, seconds)
            self._pace.ran(key, work, seconds)
            scatter(batch, outputs, seconds)
        self._batch = []  # an idle server holds on to nobody's rows

    def _set_alarm(self, at: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm, self._alarm_at = self._loop.call_at(at, self._expire), at

    def _expire(self) -> None:
        """A deadline may have passed: tell whom it concerns, and wait for the next one."""
        now, first = time.monotonic(), math.inf
        self._alarm, self._alarm_at = None, math.inf
        for call in (*self._queues, *(chunk.call for chunk in (*self._batch, *self._alone))):
            if call.deadline <= now:
                call.expire()
            elif not call.answer.done():
                first = min(first, call.deadline)
        if first < math.inf:
            self._set_alarm(first)

    def _went_wrong(self) -> None:
        log.critical("the batcher failed, and goes on: this is a bug", exc_info=True)
        self._fail_all(InferenceFailed("the batcher failed"))
        self._idle.set()

    def _fail_all(self, error: ServiceError) -> None:
        for call in (*self._queues.clear(), *(chunk.call for chunk in (*self._batch, *self._alone))):
            call.fail(error)
        self._batch = []
        self._alone.clear()
