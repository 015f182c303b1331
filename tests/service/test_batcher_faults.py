"""
Any mix of calls, departures, deadlines, errors and shutdown, against the batcher; and the same against broken batchers.

One trial says what every caller must get. hypothesis looks for one that the batcher fails; then faults that batchers of
the field have, or had, are put into it one by one, and a trial must find each.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service import admission, batcher, calls, queues
from service.calls import Rows
from service.errors import DeadlineExceeded, InferenceFailed, NotReady, Overloaded
from tests.doubler import Doubler

Fate = Literal["stay", "leave at once", "leave", "come too late", "run out of time", "fail"]
PATIENCE_S = 0.5  # what is not settled by then never is


@dataclass(frozen=True)
class Caller:
    """One call: so many rows of a weight under a key; *pause*: the event loop gets a turn before the next one comes."""

    rows: int
    key: str
    fate: Fate
    weight: int
    pause: bool


@dataclass(frozen=True)
class Trial:
    """Calls, and the limits under which they come. *held*: the engine is busy until all have come."""

    callers: list[Caller]
    max_batch_rows: int
    max_queue_rows: int
    max_inline_s: float
    max_chunk_rows: int
    lone_batches: int
    held: bool


class Observer:
    """Hears of batches; *bug*: fails at the next."""

    bug = False

    def ran(self, key: object, rows: int, seconds: float) -> None:
        """A batch was run."""
        if self.bug:
            self.bug = False
            raise RuntimeError("a bug of the observer")


Make = Callable[..., "batcher.Batcher[str]"]


def verdicts(make: Make, together: list[Trial]) -> list[str | None]:
    """
    What goes wrong in each trial with the batcher that *make* makes; None: nothing.

    All at a time, each with batchers of its own: most of a trial is waiting.
    """

    async def all_of_them() -> list[str | None]:
        return await asyncio.gather(*(_verdict(make, trial) for trial in together))

    return asyncio.run(all_of_them())


async def _verdict(make: Make, trial: Trial) -> str | None:
    chunk, lone = min(trial.max_chunk_rows, trial.max_batch_rows), trial.lone_batches * trial.max_batch_rows
    limits = 0.0, trial.max_inline_s, chunk, lone
    engine, idle = Doubler(), Doubler()
    observer = Observer()
    busy = make(engine, Observer(), trial.max_batch_rows, trial.max_queue_rows, *limits)
    after = make(idle, observer, trial.max_batch_rows, 1000, *limits)
    try:
        return await _calls(busy, engine, trial) or await _aftermath(after, idle, observer)
    finally:
        engine.gate.set()
        await busy.close(0)
        await after.close(0)


async def _calls(served: batcher.Batcher[str], engine: Doubler, trial: Trial) -> str | None:
    """Everybody gets the own rows or the error that the own fate is, soon; no limit is passed, no work wasted."""
    loop = asyncio.get_running_loop()
    if trial.held:
        engine.gate.clear()
        served.submit("first1", {"x": np.array([0.5])}, loop.time() + 10).add_done_callback(_looked_at)
        await asyncio.sleep(0.01)
    here: list[tuple[list[float], Caller, asyncio.Future[Rows]]] = []
    for number, caller in enumerate(trial.callers):
        values = [1.0 + 100 * number + row for row in range(caller.rows)]
        if caller.fate == "fail":
            values[-1] = -values[-1]
        patience = {"come too late": -1.0, "run out of time": 0.05}.get(caller.fate, 10.0)
        key = f"{caller.key}{caller.weight}"
        try:
            answer = served.submit(key, {"x": np.array(values)}, loop.time() + patience, caller.weight)
        except Overloaded:
            continue
        answer.add_done_callback(_looked_at)
        here.append((values, caller, answer))
        queued = sum(waiting.rows * int(key[-1]) for key, waiting in served.waiting().items())
        if queued > max(trial.max_queue_rows, caller.rows * caller.weight):
            return f"{queued} rows wait"
        if caller.fate == "leave at once":
            answer.cancel()
        elif caller.fate == "leave":
            loop.call_soon(answer.cancel)
        if caller.pause:
            await asyncio.sleep(0)
    if trial.held:
        loop.call_later(0.08, engine.gate.set)
    if here and (await asyncio.wait([answer for *_, answer in here], timeout=PATIENCE_S))[1]:
        return "somebody waits for ever"
    for values, caller, answer in here:
        if wrong := _wrong(values, caller, answer, trial.held):
            return wrong
    return _waste(engine, here, trial)


def _wrong(values: list[float], caller: Caller, answer: asyncio.Future[Rows], held: bool) -> str | None:
    """What is wrong with one caller's answer."""
    if answer.cancelled():
        return None if caller.fate.startswith("leave") else f"{caller.fate}: cancelled"
    error = answer.exception()
    if error is None:
        if caller.fate in ("fail", "come too late") or (held and caller.fate == "run out of time"):
            return f"{caller.fate}: answered"
        return None if answer.result()["y"].tolist() == [2 * value for value in values] else "not the caller's own rows"
    fates: dict[type[BaseException], tuple[Fate, ...]] = {
        DeadlineExceeded: ("come too late", "run out of time"),
        InferenceFailed: ("fail",),
    }
    return None if caller.fate in fates.get(type(error), ()) else f"{caller.fate}: {error!r}"


def _waste(engine: Doubler, here: list[tuple[list[float], Caller, asyncio.Future[Rows]]], trial: Trial) -> str | None:
    """What was run that should not have been: of whole calls no more than a batch, also where chunks may be longer."""
    longest = max([0, *(len(values) * caller.weight for values, caller, _ in here)])
    most = trial.max_batch_rows * (1 if longest <= trial.max_batch_rows else trial.lone_batches)
    ran = {value for _, rows in engine.batches for value in rows}
    for values, caller, _ in here:
        if caller.fate in ("leave at once", "come too late") and ran & set(values):
            return f"{caller.fate}: computed anyway"
    for key, rows in engine.batches:
        if len(rows) > 1 and len(rows) * int(key[-1]) > most:
            return f"a batch of {len(rows)} rows of weight {key[-1]}"
    return None


async def _aftermath(served: batcher.Batcher[str], engine: Doubler, observer: Observer) -> str | None:
    """A bug hits those who wait and nobody after them; deadlines are kept, and shutdown is told, by a busy engine."""
    loop = asyncio.get_running_loop()

    def submit(value: float, key: str, patience: float = 10.0) -> asyncio.Future[Rows]:
        answer = served.submit(key, {"x": np.array([value])}, loop.time() + patience)
        answer.add_done_callback(_looked_at)
        return answer

    observer.bug = True
    done, waiting = await asyncio.wait([submit(1, "a1"), submit(2, "b1")], timeout=PATIENCE_S)
    if waiting:
        return "somebody waits for ever after a bug"
    if not all(isinstance(answer.exception(), InferenceFailed) for answer in done):
        return "a bug was not told"
    (answer,), waiting = await asyncio.wait([submit(3, "a1")], timeout=PATIENCE_S) or (set(), set())
    if waiting or answer.exception() or answer.result()["y"].tolist() != [6]:
        return "a bug outlived itself"
    engine.gate.clear()
    answers = [submit(1, "slow1"), submit(2, "slow1"), submit(3, "other1")]
    await asyncio.sleep(0.01)
    done, waiting = await asyncio.wait([submit(4, "late1", 0.06), submit(5, "late1", 0.03)], timeout=PATIENCE_S)
    if waiting or not all(isinstance(answer.exception(), DeadlineExceeded) for answer in done):
        return "a deadline was not kept"
    closing = asyncio.create_task(served.close(0.05))
    _, waiting = await asyncio.wait(answers, timeout=PATIENCE_S)
    engine.gate.set()
    await closing
    if waiting:
        return "somebody waits for ever after shutdown"
    return None if all(isinstance(answer.exception(), NotReady) for answer in answers) else "shutdown was not told"


def _looked_at(answer: asyncio.Future[Rows]) -> None:
    """Or asyncio complains of an error that nobody asked for, when a broken batcher is gone."""
    if not answer.cancelled():
        answer.exception()


callers = st.builds(
    Caller,
    rows=st.integers(1, 12),
    key=st.sampled_from("ab"),
    fate=st.sampled_from(
        ["stay", "stay", "stay", "leave at once", "leave", "come too late", "run out of time", "fail"]
    ),
    weight=st.integers(1, 3),
    pause=st.booleans(),
)
trials = st.builds(
    Trial,
    callers=st.lists(callers, min_size=1, max_size=20),
    max_batch_rows=st.integers(1, 10),
    max_queue_rows=st.integers(1, 60),
    max_inline_s=st.sampled_from([0.0, 10.0]),
    max_chunk_rows=st.sampled_from([1, 2, 10]),
    lone_batches=st.sampled_from([1, 2]),
    held=st.booleans(),
)


@settings(max_examples=20, deadline=None)
@given(together=st.lists(trials, min_size=4, max_size=4))
def test_every_caller_gets_exactly_the_own_rows_or_the_own_error(together: list[Trial]) -> None:
    """Whatever the sizes, orders, departures, deadlines and errors, in the loop or in the thread."""
    assert verdicts(batcher.Batcher, together) == [None] * 4


CALLS, QUEUES, ADMISSION, BATCHER = "calls.py", "queues.py", "admission.py", "batcher.py"
FAULTS: dict[str, tuple[str, str, str]] = {
    "rows are swapped": (CALLS, "array[at:end]", "array[::-1][at:end]"),
    "the chunks of a call are put together in the wrong order": (
        CALLS,
        "_join(call.parts)",
        "_join(call.parts[::-1])",
    ),
    "an error of the engine leaves a future unset": (BATCHER, "batch[0].call.fail(told)", "pass"),
    "one bad request fails the batch": (
        BATCHER,
        "if len(batch) > 1:",
        "for chunk in batch: chunk.call.fail(told)\n            if 0:",
    ),
    "a cancelled caller breaks its neighbours": (CALLS, "if not call.answer.done():", "if True:"),
    "an exception ends the loop": (BATCHER, "            self._went_wrong()\n", "            raise\n"),
    "requests are counted instead of rows at the door": (
        BATCHER,
        "self._admission.check(rows * weight)",
        "self._admission.check(1)",
    ),
    "requests are counted instead of rows in a batch": (QUEUES, "room -= rows * weight", "room -= 1"),
    "weights do not count": (QUEUES, "left * weight <= room", "left <= room"),
    "the queue has no end": (ADMISSION, "queued + weight > most", "False"),
    "departed callers are computed anyway": (QUEUES, "if call.answer.done() or now >= call.deadline:", "if False:"),
    "a chunk is lost at the limit of the batch": (QUEUES, "            if rows < left:\n", "            if False:\n"),
    "deadlines are measured on the wall clock": (BATCHER, "time.monotonic()", "time.time()"),
    "deadlines are only looked at when a batch is formed": (BATCHER, "self._set_alarm(deadline)", "pass"),
    "only the first deadline is kept": (BATCHER, "        if first < math.inf:\n", "        if False:\n"),
    "shutdown leaves callers waiting": (BATCHER, "self._fail_all(NotReady(", "(NotReady("),
    "what waits when a bug strikes is forgotten": (BATCHER, "(*self._queues.clear(), *", "(*[], *"),
    "a call that comes while the engine runs is forgotten": (
        BATCHER,
        "bool(self._alone or self._queues)",
        "bool(self._alone)",
    ),
}


def broken(file: str, right: str, wrong: str) -> Make:
    """The batcher with a fault: *right* in the source of *file* replaced by *wrong*."""
    modules: dict[str, ModuleType] = {}
    for name, module in ((CALLS, calls), (QUEUES, queues), (ADMISSION, admission), (BATCHER, batcher)):
        source = Path(str(module.__file__)).read_text("utf-8")
        if name == file:
            assert right in source, f"{right!r} is not in {file} any more: the fault must be put elsewhere"
            source = source.replace(right, wrong)
        made = modules[name] = ModuleType(f"broken_{name.removesuffix('.py')}")
        sys.modules[made.__name__] = made  # where NamedTuple looks for it
        exec(compile(source, name, "exec"), made.__dict__)
    of_calls = {name: vars(modules[CALLS])[name] for name in ("Call", "Chunk", "gather", "scatter")}
    vars(modules[QUEUES]).update({name: of_calls[name] for name in ("Call", "Chunk")})
    parts = {"Queues": modules[QUEUES].Queues, "Admission": modules[ADMISSION].Admission}
    vars(modules[BATCHER]).update({**of_calls, **parts})
    make: Make = modules[BATCHER].Batcher
    return make


def some_trial(seed: int) -> Trial:
    """One of many trials."""
    draw = random.Random(seed)
    fates: list[Fate] = ["stay", "stay", "stay", "leave at once", "leave", "come too late", "run out of time", "fail"]
    return Trial(
        [
            Caller(draw.randint(1, 12), draw.choice("ab"), draw.choice(fates), draw.randint(1, 3), draw.random() < 0.3)
            for _ in range(draw.randint(5, 20))
        ],
        max_batch_rows=draw.randint(2, 10),
        max_queue_rows=draw.choice([10, 30, 1000]),
        max_inline_s=draw.choice([0.0, 10.0]),
        max_chunk_rows=draw.choice([1, 2, 10]),
        lone_batches=draw.choice([1, 2]),
        held=draw.random() < 0.7,
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_batchers_have_is_caught(fault: str) -> None:
    """A property that cannot fail proves nothing."""
    make = broken(*FAULTS[fault])
    trials_ = ([some_trial(seed) for seed in range(first, first + 4)] for first in range(0, 200, 4))
    assert any(any(verdicts(make, together)) for together in trials_), f"nothing shows that {fault}"


def test_the_trials_that_catch_the_faults_find_none_in_the_batcher() -> None:
    """Loaded in the same way as the broken ones."""
    make = broken(BATCHER, "Batcher", "Batcher")
    found: dict[int, str | None] = {}
    for first in range(0, 40, 4):
        seeds = range(first, first + 4)
        found |= zip(seeds, verdicts(make, [some_trial(seed) for seed in seeds]), strict=True)
    assert {seed: wrong for seed, wrong in found.items() if wrong} == {}
