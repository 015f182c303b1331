"""
A call: one caller's rows, and the future that its answer goes to; and what of which calls a batch is made of.

Knows arrays with a common first axis, futures and times; nothing of queues or of what runs a batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.errors import DeadlineExceeded, ServiceError
from service.spent import Spent

Rows = Mapping[str, NDArray[np.generic]]
Key = TypeVar("Key", bound=Hashable)


class Call(Generic[Key]):
    """
    One caller's rows, and the future that its answer goes to. *arrived*, *deadline*: in the event loop's time.

    *taken*: rows that have left the queue. *parts*: the outputs of the chunks that came back.
    """

    __slots__ = ("answer", "arrived", "deadline", "inputs", "key", "parts", "rows", "since", "spent", "taken", "weight")

    def __init__(
        self,
        key: Key,
        inputs: Rows,
        rows: int,
        weight: int,
        arrived: float,
        deadline: float,
        answer: asyncio.Future[Rows],
        spent: Spent | None,
    ) -> None:
        self.key = key
        self.inputs = inputs
        self.rows = rows
        self.weight = weight
        self.arrived = self.since = arrived  # *since*: in the queue without having been served
        self.deadline = deadline
        self.answer = answer
        self.spent = spent
        self.taken = 0
        self.parts: list[Rows] = []

    def fail(self, error: ServiceError) -> None:
        """Settle the answer with *error*, where it is not settled yet."""
        if not self.answer.done():
            self.answer.set_exception(error)

    def expire(self) -> None:
        """The deadline has passed."""
        self.fail(DeadlineExceeded("no answer before the deadline"))


class Chunk(NamedTuple, Generic[Key]):
    """Rows *start* to *stop* of one call, in a batch."""

    call: Call[Key]
    start: int
    stop: int


def gather(batch: Sequence[Chunk[Key]]) -> Rows:
    """The rows of *batch*, one chunk behind the other; those of the call itself where it is alone and whole."""
    return _join([_slice(call.inputs, start, stop, call.rows) for call, start, stop in batch])


def scatter(batch: Sequence[Chunk[Key]], outputs: Rows, seconds: float) -> None:
    """Give each call its own rows of *outputs*, and its answer where those were the last."""
    at = 0
    for call, start, stop in batch:
        end = at + stop - start
        part = {name: array[at:end] for name, array in outputs.items()}
        at = end
        if call.spent is not None:
            call.spent.compute += seconds
        if start or stop < call.rows:
            call.parts.append(part)
            if stop < call.rows:
                continue
            part = dict(_join(call.parts))
        if not call.answer.done():
            call.answer.set_result(part)


def _slice(inputs: Rows, start: int, stop: int, rows: int) -> Rows:
    return inputs if stop - start == rows else {name: array[start:stop] for name, array in inputs.items()}


def _join(parts: list[Rows]) -> Rows:
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
