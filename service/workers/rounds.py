"""
What one worker asks of all, itself included: they answer one after the other, and it hears every answer.

One round of a kind at a time. Knows who is asked; nothing of what.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from service.workers.channel import Message, Worker, Workers

REFUSED = "refused"
"""An answer with this result ends a round: what one refuses the others need not try."""


@dataclass
class _Round:
    what: str
    asker: Worker | None
    number: int
    message: Message
    left: deque[Worker]
    answers: list[Message] = field(default_factory=list)
    asked: Worker | None = None


class Rounds:
    """The rounds among *workers*."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._waiting: dict[str, deque[_Round]] = {}

    def ask(self, what: str, message: Message, asker: Worker | None = None, number: int = 0) -> None:
        """Ask *what* of all that are ready; *asker*, where there is one, hears the answers under its *number*."""
        ready = deque(worker for worker in self._workers.values() if worker.ready)
        waiting = self._waiting.setdefault(what, deque())
        waiting.append(_Round(what, asker, number, message, ready))
        if len(waiting) == 1:
            self._go_on(waiting[0])

    def answered(self, what: str, worker: Worker, answer: Message) -> None:
        """*worker* answered."""
        waiting = self._waiting.get(what)
        if waiting and waiting[0].asked is worker:
            one = waiting[0]
            one.answers.append({"worker": worker.number, **answer})
            if answer.get("result") == REFUSED:
                one.left.clear()
            self._go_on(one)

    def gone(self, worker: Worker) -> None:
        """*worker* will not answer any more."""
        for what in self._waiting:
            self.answered(what, worker, {"result": "gone"})

    def _go_on(self, one: _Round) -> None:
        while one.left:
            one.asked = one.left.popleft()
            if self._workers.get(one.asked.number) is one.asked:
                one.asked.channel.say({"do": one.what, "message": one.message})
                return
        one.asked = None
        waiting = self._waiting[one.what]
        waiting.popleft()
        if one.asker is not None:
            one.asker.channel.say({"do": "hear", "number": one.number, "answers": one.answers})
        if waiting:
            self._go_on(waiting[0])
