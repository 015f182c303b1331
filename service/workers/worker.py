"""
A worker: the service in one of several processes, which is handed its connections and told when to stop.

It says when it is ready and how many connections it has, does what it is told, and asks the others. Without its
supervisor it stops as at a SIGTERM. Knows the server and the channel; nothing of models.
"""

from __future__ import annotations

import asyncio
import faulthandler
import itertools
import logging
import shutil
import socket
from collections.abc import Coroutine
from types import FrameType
from typing import Any

from service.app import create_app
from service.errors import NotReady
from service.server import Server
from service.settings import Settings
from service.workers.channel import SAY_WHERE, Message, Place
from service.workers.sharing import count_as

log = logging.getLogger("service.workers.worker")

TICK_S = 0.1
"""How old what others read of this worker may be: its counts, its queue, its connections."""
HEARTBEAT_S = 0.5
"""Seconds between two signs of life to the supervisor; `worker_timeout_s` has to be several times as long."""


def work(settings: Settings, place: Place) -> int:
    """Be a worker until told to stop: the exit status."""
    form = f"%(asctime)s %(levelname)s worker {place.number} %(name)s: %(message)s"
    for handler in logging.getLogger().handlers:
        handler.setFormatter(logging.Formatter(form))
    count_as(str(place.number))
    faulthandler.register(SAY_WHERE, all_threads=True)
    server = _WorkerServer(settings, place)
    server.run(sockets=[])
    if server.orphaned:
        shutil.rmtree(place.counts, ignore_errors=True)
    return 0


class _WorkerServer(Server):
    """A server whose connections come through a channel."""

    def __init__(self, settings: Settings, place: Place) -> None:
        super().__init__(create_app(settings, place.bundle, place.counts, place.number))
        self._place = place
        self._channel = place.channel
        self._numbers = itertools.count()
        self._answers: dict[int, asyncio.Future[list[Message]]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._adopted = 0  # connections, since the beginning
        self.orphaned = False
        self._app.ask_all = self.ask

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Nothing: the supervisor had the same signal, and says what to do."""

    async def ask(self, what: str, message: Message) -> list[Message]:
        """Ask *what* of all workers, this one included: their answers."""
        number = next(self._numbers)
        answers: asyncio.Future[list[Message]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answers
        self._channel.say({"say": "ask", "what": what, "message": message, "number": number})
        return await answers

    def begin(self) -> None:
        """The application has started: take connections."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel.fileno(), self._hear)
        self._channel.say({"say": "ready", "bundle": str(self._app.bundle_path)})
        self._start(self._tick())
        self.watch()

    def _hear(self) -> None:
        handed: list[socket.socket] = []
        for message in self._channel.hear():
            if isinstance(message, socket.socket):
                handed.append(message)
            elif message["do"] == "drain":
                self._app.drain()
            elif message["do"] == "stop":
                self.should_exit = True
            elif message["do"] == "hear":
                answer = self._answers.pop(message["number"])
                if not answer.done():
                    answer.set_result(message["answers"])
            else:
                self._start(self._answer(message["do"], message["message"]))
        if handed:
            # before any is read from: what was not said to be here is handed to another worker when this one dies
            self._adopted += len(handed)
            self._tell(len(handed))
        for connection in handed:
            self._start(self._adopt(connection))
        if self._channel.ended:
            log.critical("the supervisor is gone: finishing what is in flight")
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            self.orphaned = self.should_exit = True
            for answers in self._answers.values():
                if not answers.done():
                    answers.set_exception(NotReady("the supervisor is gone"))

    async def _adopt(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self.protocol, connection)
        except OSError:  # its client has left
            connection.close()

    async def _answer(self, what: str, message: Message) -> None:
        try:
            answer = await self._app.answer(what, message)
        except Exception as error:
            log.error("%s failed", what, exc_info=error)
            answer = {"result": "failed", "reason": f"{type(error).__name__}: {error}"}
        path = str(self._app.bundle_path)
        self._channel.say({"say": "answer", "what": what, "message": answer, "bundle": path})

    async def _tick(self) -> None:
        said, due = (0, 0), 0.0
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(TICK_S)
            self._app.refresh()
            now = len(self.server_state.connections), self._adopted
            if now != said or clock() >= due:
                self._tell()
                said, due = now, clock() + HEARTBEAT_S

    def _tell(self, coming: int = 0) -> None:
        count = len(self.server_state.connections) + coming
        self._channel.say({"say": "connections", "count": count, "adopted": self._adopted})

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
