"""The batcher: many calls become few batches, nobody harms a neighbour, nobody waits for ever."""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
import time
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from service.batcher import Batcher
from service.calls import Rows
from service.errors import DeadlineExceeded, InferenceFailed, NotReady, Overloaded
from service.spent import SPENT, Spent
from tests.doubler import Doubler


class Silent:
    """An observer that keeps what it hears."""

    def __init__(self) -> None:
        self.runs: list[int] = []

    def ran(self, key: object, rows: int, seconds: float) -> None:
        self.runs.append(rows)


class Bench:
    """One batcher on one engine, as the tests use it."""

    def __init__(self, engine: Callable[[str, Rows], Rows], **limits: Any) -> None:
        self.observer = limits.pop("observer", None) or Silent()
        limits = {"max_batch_rows": 8, "max_queue_rows": 1000, **limits}
        self.batcher: Batcher[str] = Batcher(engine, self.observer, **limits)

    def submit(self, *values: float, key: str = "k", timeout_s: float = 10.0, weight: int = 1) -> asyncio.Future[Rows]:
        deadline = asyncio.get_running_loop().time() + timeout_s
        return self.batcher.submit(key, {"x": np.array(values, np.float64)}, deadline, weight)


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run *test* in an event loop of its own, for at most 20 seconds."""

    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(bounded())


def y(outputs: Rows) -> list[float]:
    """The answer as a list."""
    return list(outputs["y"].tolist())


async def busy(engine: Doubler, bench: Bench) -> asyncio.Future[Rows]:
    """Hold the engine in a batch of one row, so that what is submitted next has to wait."""
    engine.gate.clear()
    first = bench.submit(0.0, key="first")
    await asyncio.to_thread(engine.entered.wait, 10)
    return first


def test_calls_that_wait_while_the_engine_is_busy_share_one_batch() -> None:
    """A batch is what waits when the engine is free; each caller gets its own rows back."""

    async def test() -> None:
        engine = Doubler()
        bench = Bench(engine)
        first = await busy(engine, bench)
        calls = [bench.submit(1, 2), bench.submit(3), bench.submit(4, 5, 6)]
        engine.gate.set()
        assert [y(await call) for call in (first, *calls)] == [[0], [2, 4], [6], [8, 10, 12]]
        assert engine.batches[1:] == [("k", [1, 2, 3, 4, 5, 6])]
        assert bench.observer.runs == [1, 6]
        await bench.batcher.close(1)

    run(test)


def test_a_task_is_told_what_its_calls_spent() -> None:
    """The wait of each, and the whole time of the batches that its rows were in: once for each chunk."""

    async def test() -> None:
        engine = Doubler()
        bench = Bench(engine, max_batch_rows=2)

        async def request(spent: Spent, *values: float) -> None:
            SPENT.set(spent)
            await bench.submit(*values)

        first = await busy(engine, bench)
        mine, others = Spent("k"), Spent("k")
        requests = [asyncio.create_task(request(mine, 1, 2, 3)), asyncio.create_task(request(others, 4))]
        await asyncio.sleep(0.05)
        engine.gate.set()
        await asyncio.gather(first, *requests)
        assert 0.04 <= mine.queue <= others.queue
        assert engine.batches[1:] == [("k", [1, 2]), ("k", [4, 3])]
        assert 0 < others.compute < mine.compute
        assert SPENT.get() is None
        await bench.batcher.close(1)

    run(test)


def test_a_batch_never_passes_its_limit_and_keeps_the_order_of_arrival() -> None:
    """What does not fit waits for the next batch, in front of what came later."""

    async def test() -> None:
        engine = Doubler()
        bench = Bench(engine, max_batch_rows=4)
        await busy(engine, bench)
        calls = [bench.submit(1, 2, 3), bench.submit(4, 5), bench.submit(6)]
        engine.gate.set()
        await asyncio.gather(*calls)
        assert [rows for _, rows in engine.batches[1:]] == [[1, 2, 3], [4, 5, 6]]
        await bench.batcher.close(1)

    run(test)


def test_calls_with_different_keys_never_share_a_batch_and_the_oldest_goes_first() -> None:
    """Operations do not mix, and none starves another."""

    async def test() -> None:
        engine = Doubler()
        bench = Bench(engine)
        await busy(engine, bench)
        calls = [bench.submit(1, key="a"), bench.submit(2, key="b"), bench.submit(3, key="a")]
        engine.gate.set()
        await asyncio.gather(*calls)
        assert engine.batches[1:] == [("a", [1, 3]), ("b", [2])]
        await bench.batcher.close(1)

    run(test)


@pytest.mark.parametrize("key", ["bulk", "other"])
def test_who_comes_while_a_chunk_runs_is_served_before_the_next_one(key: str) -> None:
    """Under the same key or another: nobody waits for two chunks of one call."""

    async def test() -> None:
        engine = Doubler()
        bench = Bench(engine, max_batch_rows=2)
        engine.gate.clear()
        bulk = bench.submit(1, 2, 3, 4, 5, 6, key="bulk")
        await asyncio.to_thread(engine.entered.wait, 10)
        single = bench.submit(9, key=key)
        assert {name: waiting.rows for name, waiting in bench.batcher.waiting().items()} == (
            {"bulk": 5} if key == "bulk" else {"bulk": 4, "other": 1}
        )
        engine.gate.set()
        assert (y(await single), y(await bulk)) == ([18], [2, 4, 6, 8, 10, 12])
        assert engine.batches == [("bulk", [1, 2]), (key, [9]), ("bulk", [3, 4]), ("bulk", [5, 6])]
        await bench.batcher.close(1)

    run(test)


def test_a_call_over_the_batch_limit_is_cut_and_others_get_their_turn_between_its_chunks() -> None:
    """A bulk caller delays the others by one chunk, not by its whole request."""

    async def test() -> None:
        engine = Doubler()
        bench = Bench(engine, max_batch_rows=4)
        await busy(engine, bench)
        bulk, small = bench.submit(*range(1, 11)), bench.submit(100)
        other = bench.submit(200, key="other")
        engine.gate.set()
        assert y(await bulk) == [2 * i for i in range(1, 11)]
        assert (y(await small), y(await other)) == ([200], [400])
        assert [rows for _, rows in engine.batches[1:]] == [[1, 2, 3, 4], [100], [200], [5, 6, 7, 8], [9, 10]]
        await bench.batcher.close(1)

    run(test)


def test_chunks_may_be_less_than_a_batch() -> None:
    """Also the last ones; who comes while one runs waits for less. What fits a batch is not cut."""

    async def test() -> None:
        engine = Doubler()
        bench = Bench(engine, max_batch_rows=4, max_chunk_rows=2)
        await busy(engine, bench)
        bulk, small = bench.submit(*range(1, 8)), bench.submit(11, 12, 13)
        engine.gate.set()
        await asyncio.gather(bulk, small)
        assert [rows for _, rows in engine.batches[1:]] == [[1, 2], [11, 12, 13], [3, 4], [5, 6], [7]]
        await bench.batcher.close(1)

    run(test)


def test_chunks_are_whole_batches_until_somebody_comes_who_would_wait_for_them() -> None:
    """Smaller ones cost capacity; a call that fits a batch is what they are for, and the first one has come."""

    async def test() -> None:
        engine = Doubler()
        bench = Bench(engine, max_batch_rows=4, max_chunk_rows=2)
        await bench.submit(*range(1, 9))
        assert [rows for _, rows in engine.batches] == [[1, 2, 3, 4], [5, 6, 7, 8]]
        engine.gate.clear()
        engine.entered.clear()
        bulk = bench.submit(*range(1, 13))
        await asyncio.to_thread(engine.entered.wait, 10)
        small = bench.submit(100)
        engine.gate.set()
        await asyncio.gather(bulk, small)
        assert [rows for _, rows in engine.batches[2:]] == [[1, 2, 3, 4], [100], [5, 6], [7, 8], [9, 10], [11, 12]]
        await bench.batcher.close(1)

    run(test)


def test_chunks_are_longer_than_a_batch_while_nobody_comes_who_would_wait_for_them() -> None:
    """Once it is known how long a batch of that weight takes; shorter once somebody came whose call fits a batch."""

    async def test() -> None:
        engine = Doubler()
        bench = Bench(engine, max_batch_rows=4, max_chunk_rows=2, max_lone_rows=8)
        await bench.submit(*range(1, 14))
        await bench.submit(*range(5), weight=3)
        assert [rows for _, rows in engine.batches] == [[1, 2, 3, 4], [*range(5, 13)], [13], [0], [1, 2], [3, 4]]
        await bench.submit(100)
        await bench.submit(*range(1, 6))
        assert [rows for _, rows in engine.batches[6:]] == [[100], [1, 2], [3, 4], [5]]
        await bench.batcher.close(1)

    run(test)


def test_chunks_are_no_longer_than_a_batch_where_whoever_comes_would_wait_long() -> None:
    """A batch of 15 milliseconds is enough at a time."""

    async def test() -> None:
        engine = Doubler()

        def slow(key: str, inputs: Rows) -> Rows:
            time.sleep(0.015)
            return engine(key, inputs)

        bench = Bench(slow, max_batch_rows=4, max_lone_rows=8)
        await bench.submit(*range(1, 14))
        assert [rows for _, rows in engine.batches] == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13]]
        await bench.batcher.close(1)

    run(test)


def test_chunks_are_whole_batches_where_those_are_short() -> None:
    """Half of a short batch takes more than half its time, and nobody waits long for either."""

    async def test() -> None:
        engine = Doubler()
        bench = Bench(engine, max_batch_rows=4, max_chunk_rows=2, max_inline_s=10.0)
        await bench.submit(0)
        await bench.submit(*range(1, 13))
        assert [rows for _, rows in engine.batches[1:]] == [[1, 2], [3, 4, 5, 6], [7, 8, 9, 10], [11, 12]]
        await bench.batcher.close(1)

    run(test)


def test_a_heavy_row_counts_for_its_weight_and_one_always_runs() -> None:
    """A row with K draws weighs K; one that weighs more than a batch still runs, alone."""

    async def test() -> None:
        engine = Doubler()
        bench = Bench(engine, max_batch_rows=8)
        await busy(engine, bench)
        calls = [bench.submit(1, 2, 3, weight=4), bench.submit(4, key="heavy", weight=100)]
        engine.gate.set()
        await asyncio.gather(*calls)
        assert [rows for _, rows in engine.batches[1:]] == [[1, 2], [4], [3]]
        await bench.batcher.close(1)

    run(test)


def test_a_cancelled_call_does_not_disturb_its_neighbours_and_costs_nothing() -> None:
    """Callers batched with one that gave up get their own rows; its rows are never run."""

    async def test() -> None:
        engine = Doubler()
        bench = Bench(engine)
        await busy(engine, bench)
        before, gone, after = bench.submit(1), bench.submit(2), bench.submit(3)
        gone.cancel()
        engine.gate.set()
        assert (y(await before), y(await after)) == ([2], [6])
        assert engine.batches[1:] == [("k", [1, 3])]
        await bench.batcher.close(1)

    run(test)


def test_a_call_cancelled_while_its_batch_runs_does_not_disturb_its_neighbours() -> None:
    """The answer of a caller that left during the run goes nowhere, and only its own."""

    async def test() -> None:
        engine = Doubler()
        bench = Bench(engine)
        await busy(engine, bench)
        before, gone, after = bench.submit(1), bench.submit(2), bench.submit(3)
        engine.entered.clear()
        engine.gate.set()
        engine.gate.clear()
        await asyncio.to_thread(engine.entered.wait, 5)
        await asyncio.sleep(0.01)
        gone.cancel()
        engine.gate.set()
        assert (y(await before), y(await after)) == ([2], [6])
        await bench.batcher.close(1)

    run(test)


def test_a_deadline_is_kept_even_when_the_engine_hangs() -> None:
    """The caller is told in time; the late answer is thrown away and the batcher goes on."""

    async def test() -> None:
        engine = Doubler()
        bench = Bench(engine)
        engine.gate.clear()
        hung, waiting = bench.submit(1, timeout_s=0.05), bench.submit(2, key="b", timeout_s=0.05)
        for call in (hung, waiting):
            with pytest.raises(DeadlineExceeded, match="no answer before the deadline"):
                await call
        engine.gate.set()
        assert y(await bench.submit(3)) == [6]
        assert ("b", [2]) not in engine.batches
        await bench.batcher.close(1)

    run(test)


def test_a_deadline_that_has_passed_already_is_told_as_no_time_at_all() -> None:
    """A request may spend all of it on its way here."""

    async def test() -> None:
        bench = Bench(Doubler())
        with pytest.raises(DeadlineExceeded, match="no answer before the deadline"):
            await bench.submit(1, timeout_s=-1)
        await bench.batcher.close(1)

    run(test)


def test_an_error_of_the_engine_reaches_the_call_whose_rows_are_at_fault_and_no_other() -> None:
    """Those that were in its batch are run again by themselves; the batcher outlives what it runs."""

    async def test() -> None:
        engine = Doubler()
        bench = Bench(engine)
        await busy(engine, bench)
        before, bad, beside, other = bench.submit(7), bench.submit(-1), bench.submit(1), bench.submit(2, key="other")
        gone = bench.submit(3)
        asyncio.get_running_loop().call_later(0.05, engine.gate.set)
        asyncio.get_running_loop().call_later(0.02, gone.cancel)
        with pytest.raises(InferenceFailed):
            await bad
        assert [y(await call) for call in (before, beside, other)] == [[14], [2], [4]]
        assert engine.batches[1:] == [("k", [7, -1, 1]), ("k", [7]), ("k", [-1]), ("k", [1]), ("other", [2])]
        assert y(await bench.submit(5)) == [10]
        await bench.batcher.close(1)

    run(test)


def test_an_engine_that_fails_on_everything_fails_everybody_and_each_once() -> None:
    """A batch that failed is run again call by call, and no further."""

    async def test() -> None:
        engine = Doubler()
        bench = Bench(engine, max_batch_rows=4)
        await busy(engine, bench)
        calls = [bench.submit(-1, -2, -3), bench.submit(-4), bench.submit(-5, -6, -7, -8, -9)]
        engine.gate.set()
        for call in calls:
            with pytest.raises(InferenceFailed):
                await call
        assert [rows for _, rows in engine.batches[1:]] == [[-1, -2, -3, -4], [-1, -2, -3], [-4], [-5, -6, -7, -8]]
        await bench.batcher.close(1)

    run(test)


def test_the_rest_of_a_cut_call_is_not_run_after_one_of_its_chunks_failed() -> None:
    """A call whose answer is settled costs nothing more."""

    async def test() -> None:
        engine = Doubler()
        bench = Bench(engine, max_batch_rows=2)
        with pytest.raises(InferenceFailed):
            await bench.submit(-1, 2, 3, 4)
        assert y(await bench.submit(5)) == [10]
        assert engine.batches == [("k", [-1, 2]), ("k", [5])]
        await bench.batcher.close(1)

    run(test)


def test_a_fault_of_the_batcher_itself_hits_those_who_wait_and_nobody_after_them() -> None:
    """A bug is told to its callers; the loop outlives it."""

    class Faulty(Silent):
        def ran(self, key: object, rows: int, seconds: float) -> None:
            super().ran(key, rows, seconds)
            if len(self.runs) == 1:
                raise RuntimeError("a bug")

    async def test() -> None:
        engine = Doubler()
        bench = Bench(engine, observer=Faulty())
        calls = [bench.submit(1), bench.submit(2), bench.submit(3, key="other")]
        for call in calls:
            with pytest.raises(InferenceFailed):
                await call
        assert y(await bench.submit(4)) == [8]
        assert bench.batcher.waiting() == {}
        await bench.batcher.close(1)

    run(test)


def test_an_engine_that_loses_rows_is_an_error_not_a_wrong_answer() -> None:
    """Outputs with another number of rows than the inputs are nobody's."""

    async def test() -> None:
        bench = Bench(lambda key, rows: {"y": rows["x"][:-1]})
        with pytest.raises(InferenceFailed):
            await bench.submit(1, 2)
        await bench.batcher.close(1)

    run(test)


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    """Rows are counted, not calls; what waits is not touched, and the queue opens again."""

    async def test() -> None:
        engine = Doubler()
        bench = Bench(engine, max_queue_rows=5)
        await busy(engine, bench)
        calls = [bench.submit(1, 2, 3), bench.submit(4)]
        with pytest.raises(Overloaded, match=r"4 rows waiting .* 2 more would pass the limit of 5") as refused:
            bench.submit(5, 6)
        assert refused.value.retry_after_s >= 1
        assert bench.batcher.waiting()["k"].rows == 4
        engine.gate.set()
        await asyncio.gather(*calls)
        assert y(await bench.submit(7, 8)) == [14, 16]
        await bench.batcher.close(1)

    run(test)


def test_a_queue_that_was_full_lets_nobody_in_before_an_eighth_is_free() -> None:
    """Else nearly every body would be parsed to be refused; a large call that is refused alone shuts out nobody."""

    async def test() -> None:
        engine = Doubler()
        bench = Bench(engine, max_queue_rows=16, max_batch_rows=1)
        await busy(engine, bench)
        calls = [bench.submit(n) for n in range(14)]
        with pytest.raises(Overloaded):
            bench.submit(*range(3))
        bench.batcher.admit()
        calls.append(bench.submit(14))
        with pytest.raises(Overloaded, match=r"15 rows waiting .* and 2 more would pass the limit of 16"):
            bench.submit(15, 16)
        with pytest.raises(Overloaded, match=r"15 rows waiting .*; the queue of 16 was full") as refused:
            bench.batcher.admit()
        assert refused.value.retry_after_s >= 1
        calls.pop().cancel()
        engine.gate.set()
        await calls[0]
        bench.batcher.admit()
        await asyncio.gather(*calls)
        await bench.batcher.close(1)

    run(test)


def test_a_call_larger_than_the_queue_is_taken_when_nothing_waits() -> None:
    """A limit on waiting is not a limit on the size of a request."""

    async def test() -> None:
        bench = Bench(Doubler(), max_queue_rows=3)
        assert y(await bench.submit(1, 2, 3, 4, 5)) == [2, 4, 6, 8, 10]
        await bench.batcher.close(1)

    run(test)


def test_closing_finishes_what_waits_and_refuses_what_comes() -> None:
    """No request in flight fails at shutdown."""

    async def test() -> None:
        engine = Doubler()
        bench = Bench(engine)
        first = await busy(engine, bench)
        waiting = bench.submit(1)
        closing = asyncio.ensure_future(bench.batcher.close(5))
        await asyncio.sleep(0.01)
        with pytest.raises(NotReady):
            bench.submit(2)
        engine.gate.set()
        await closing
        assert (y(await first), y(await waiting)) == ([0], [2])

    run(test)


def test_closing_tells_those_it_cannot_wait_for() -> None:
    """When the engine hangs at shutdown, its callers get an error, not silence."""

    async def test() -> None:
        engine = Doubler()
        bench = Bench(engine)
        first = await busy(engine, bench)
        waiting = bench.submit(1)
        await bench.batcher.close(0.02)
        for call in (first, waiting):
            with pytest.raises(NotReady):
                await call
        engine.gate.set()

    run(test)


def test_a_delay_lets_others_join_but_a_full_batch_does_not_wait() -> None:
    """max_batch_delay holds the first call for company, and no longer than needed."""

    async def test() -> None:
        engine = Doubler()
        bench = Bench(engine, max_batch_rows=3, max_batch_delay_s=5.0)
        first = bench.submit(1)
        await asyncio.sleep(0.01)
        assert engine.batches == []
        others = [bench.submit(2), bench.submit(3)]
        assert [y(await call) for call in (first, *others)] == [[2], [4], [6]]
        assert engine.batches == [("k", [1, 2, 3])]
        await bench.batcher.close(0.01)

    run(test)


def test_an_idle_batcher_holds_on_to_nobodys_rows() -> None:
    """What a caller sent and got is free once the answer is out, however long the next caller takes to come."""

    async def test() -> None:
        bench = Bench(Doubler())
        rows = np.ones(3)
        kept = weakref.ref(rows)
        deadline = asyncio.get_running_loop().time() + 10
        await bench.batcher.submit("k", {"x": rows}, deadline)
        del rows
        await asyncio.sleep(0.1)
        gc.collect()
        assert kept() is None
        await bench.batcher.close(1)

    run(test)


class Placed(Doubler):
    """A doubler that remembers in which thread each batch ran, and takes its time for rows of 100 and more."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[int] = []
        self.seconds = 0.0

    def __call__(self, key: str, rows: Rows) -> Rows:
        self.threads.append(threading.get_ident())
        time.sleep(self.seconds)
        if (rows["x"] >= np.float64(100)).any():
            time.sleep(0.05)
        return super().__call__(key, rows)


def test_a_batch_that_is_expected_to_be_short_runs_in_the_event_loop_and_no_other_does() -> None:
    """The hop to a thread costs more than a small model; a run that is long, or unknown, must not stop the loop."""

    async def test() -> None:
        engine = Placed()
        bench = Bench(engine, max_inline_s=0.02)
        here = threading.get_ident()
        for value in (1.0, 2.0, 3.0):
            assert y(await bench.submit(value)) == [2 * value]
        assert [thread == here for thread in engine.threads] == [False, True, True]
        for value in (100.0, 101.0, 102.0):
            assert y(await bench.submit(value, key="slow")) == [2 * value]
        assert [thread == here for thread in engine.threads[3:]] == [False, False, False]
        await bench.batcher.close(1)

    run(test)


def test_short_batches_follow_one_another_until_the_loop_is_needed_again() -> None:
    """A turn of the loop costs what it costs; but whoever else waits for the loop has it after twice *max_inline_s*."""

    async def test() -> None:
        engine = Placed()
        bench = Bench(engine, max_batch_rows=1, max_inline_s=0.02)
        for value in (1.0, 2.0):
            await bench.submit(value)
        calls = [bench.submit(float(value)) for value in range(9)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert all(call.done() for call in calls)
        assert [y(await call) for call in calls] == [[2 * value] for value in range(9)]
        engine.seconds = 0.015
        calls = [bench.submit(float(value)) for value in range(9)]
        turns = 0
        while not all(call.done() for call in calls):
            before = sum(call.done() for call in calls)
            await asyncio.sleep(0)
            assert sum(call.done() for call in calls) - before <= 3
            turns += 1
        assert turns >= 3
        await bench.batcher.close(1)

    run(test)


def test_answers_are_on_their_way_before_a_long_batch_begins() -> None:
    """On few processors its thread takes the place of the loop that has answers to write."""

    async def test() -> None:
        engine = Placed()
        bench = Bench(engine, max_inline_s=0.02)
        for value in (1.0, 2.0):
            await bench.submit(value)
        here = threading.get_ident()
        short, long = bench.submit(3), bench.submit(4, key="new")
        assert y(await short) == [6]
        time.sleep(0.05)  # noqa: ASYNC251  as long as the answer takes to be written
        assert engine.threads[-1] == here
        assert y(await long) == [8]
        assert engine.threads[-1] != here
        await bench.batcher.close(1)

    run(test)


def test_without_leave_no_batch_runs_in_the_event_loop() -> None:
    """A GPU's runs are short for the CPU, and the loop would wait for them."""

    async def test() -> None:
        engine = Placed()
        bench = Bench(engine)
        for value in (1.0, 2.0, 3.0):
            await bench.submit(value)
        assert threading.get_ident() not in engine.threads
        await bench.batcher.close(1)

    run(test)


def test_an_error_of_the_engine_in_the_event_loop_is_told_like_any_other() -> None:
    """And the next call is answered."""

    async def test() -> None:
        bench = Bench(Placed(), max_inline_s=10)
        await bench.submit(1)
        with pytest.raises(InferenceFailed):
            await bench.submit(-1)
        assert y(await bench.submit(5)) == [10]
        await bench.batcher.close(1)

    run(test)


def test_each_of_many_deadlines_is_kept_in_whatever_order_they_come() -> None:
    """One timer serves all calls: a later call with an earlier deadline must not wait for it."""

    async def test() -> None:
        engine = Doubler()
        bench = Bench(engine, max_batch_rows=1)
        first = await busy(engine, bench)
        order: list[int] = []
        calls = [bench.submit(i, timeout_s=timeout_s) for i, timeout_s in enumerate((0.3, 0.1, 9.0, 0.2))]
        for i, call in enumerate(calls):
            call.add_done_callback(functools.partial(_note, order, i))
        for i in (0, 1, 3):
            with pytest.raises(DeadlineExceeded):
                await calls[i]
        assert order == [1, 3, 0]
        engine.gate.set()
        assert (y(await first), y(await calls[2])) == ([0], [4])
        await bench.batcher.close(1)

    run(test)


def _note(order: list[int], i: int, _: object) -> None:
    order.append(i)
