"""
The supervisor of several workers: one port, one model directory, each worker a process with an engine of its own.

It hands connections to workers, replaces those that end or hang, passes on what one asks of all, and ends them in an
order in which no request fails. It never loads a model and never reads a request. A worker that reads the end of its
channel knows that the supervisor is gone, and ends by itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from service.settings import Settings
from service.workers.channel import SAY_WHERE, Channel, Place, Worker, Workers
from service.workers.port import Port
from service.workers.rounds import Rounds
from service.workers.sharing import Roll

log = logging.getLogger("service.workers.supervisor")

SIGNALS = signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD
STEADY_S = 60.0
"""A worker that has lived as long is replaced at once, as is one that ends the first time."""
RETRY_S, MOST_RETRY_S = 1.0, 30.0
"""One that ends again sooner waits so many seconds, and twice as many each time, up to the second figure."""
WATCH_S = 1.0
"""Seconds between two looks at whether workers live."""
LOST_S = 3.0
"""After a longer pause between them this process was stopped itself."""
LAST_WORDS_S = 1.0
"""Seconds that a worker which is to be killed gets to write where it hangs."""
STOP_S = 2.0
"""Seconds that workers get to end beyond what the settings allow requests in flight."""
NEVER = float("inf")


class Supervisor:
    """
    Runs *settings.workers* processes that do *work* and answer on *sockets*.

    *counts* is the directory that they count in.
    """

    def __init__(
        self, settings: Settings, sockets: list[socket.socket], counts: Path, work: Callable[[Place], int]
    ) -> None:
        self._settings = settings
        self._counts = counts
        self._work = work
        self._roll = Roll(counts)
        self._selector = selectors.PollSelector()
        self._workers: Workers = {}
        self._rounds = Rounds(self._workers)
        self._port = Port(sockets, self._workers, self._selector)
        self._wake, self._waker = socket.socketpair()
        self._bundle: Path | None = None  # what is served, for a worker that takes another's place
        self._due: dict[int, float] = {}  # places to be filled again, and when
        self._failures = [0] * settings.workers
        self._stopping = False
        self._close_at = self._kill_at = NEVER
        self._looked = time.monotonic()
        self._status = 0

    def run(self) -> int:
        """Serve until a signal, or until the first worker cannot start: the exit status."""
        for end in (self._wake, self._waker):
            end.setblocking(False)
        self._selector.register(self._wake, selectors.EVENT_READ, self._signalled)
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)  # which one it was is read from the socket
        signal.set_wakeup_fd(self._waker.fileno())
        try:
            self._start(0)  # alone: what keeps it from starting would keep all, and is told once
            while self._workers or self._due:
                for key, _ in self._selector.select(self._patience()):
                    key.data()
                self._reap()
                self._act()
        finally:
            signal.set_wakeup_fd(-1)
            for worker in self._workers.values():
                os.kill(worker.pid, signal.SIGKILL)
        return self._status

    def _start(self, number: int) -> None:
        ours, theirs = Channel.pair()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # else the child might answer one in our place
        pid = os.fork()
        if pid == 0:
            self._become(Place(number, theirs, self._counts, self._bundle), ours)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        theirs.close()
        worker = self._workers[number] = Worker(number, pid, ours, time.monotonic())
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._hear(worker))
        self._roll.call([os.getpid(), *(one.pid for one in self._workers.values())])
        log.info("worker %d is process %d", number, pid)

    def _become(self, place: Place, ours: Channel) -> NoReturn:
        """In the new process: be a worker, and nothing of a supervisor."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)  # a terminal sends them to all; the supervisor says what to do
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            self._port.drop()
            self._wake.close()
            self._waker.close()
            for channel in (ours, *(worker.channel for worker in self._workers.values())):
                channel.close()  # a worker reads the end of its own only when nobody else holds the other side
            status = self._work(place)
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
        except BaseException:
            log.critical("worker %d failed", place.number, exc_info=True)
        finally:
            logging.shutdown()
            os._exit(status)

    def _hear(self, worker: Worker) -> None:
        for message in worker.channel.hear():
            worker.heard = time.monotonic()
            assert isinstance(message, dict)
            if "bundle" in message:
                self._bundle = Path(message["bundle"])
            match message["say"]:
                case "ready":
                    self._ready(worker)
                case "connections":
                    worker.connections = message["count"]
                    self._port.adopted(worker, message["adopted"])
                case "ask":
                    self._rounds.ask(message["what"], message["message"], worker, message["number"])
                case "answer":
                    self._rounds.answered(message["what"], worker, message["message"])
        if worker.channel.ended and worker.channel in self._selector.get_map():
            self._selector.unregister(worker.channel)
            worker.ready = False  # it ends, or has ended

    def _ready(self, worker: Worker) -> None:
        worker.ready, worker.heard = True, time.monotonic()
        if self._port.listening:
            log.info("worker %d is ready", worker.number)
        elif not self._stopping:
            self._port.listen()
            log.info("running on %s with %d workers", self._port.url, self._settings.workers)
            for number in range(1, self._settings.workers):
                self._start(number)
        self._port.attend()

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)  # as process 1 of a container, others' orphans too
                if pid == 0:
                    break
                for worker in [one for one in self._workers.values() if one.pid == pid]:
                    self._bury(worker, os.waitstatus_to_exitcode(status))

    def _bury(self, worker: Worker, status: int) -> None:
        was_ready = worker.ready
        self._hear(worker)  # its last words
        if worker.channel in self._selector.get_map():
            self._selector.unregister(worker.channel)
        worker.channel.close()
        del self._workers[worker.number]
        self._roll.ended(worker.number)
        self._roll.call([os.getpid(), *(one.pid for one in self._workers.values())])
        self._rounds.gone(worker)
        self._port.bereaved(worker)
        if self._stopping:
            self._status = self._status or (abs(status) if was_ready else 0)
        elif not self._port.listening:
            self._status = abs(status) or 1
        else:
            steady = time.monotonic() - worker.started > STEADY_S
            failures = self._failures[worker.number] = 0 if steady else self._failures[worker.number] + 1
            wait = min(MOST_RETRY_S, RETRY_S * 2 ** (failures - 2)) if failures > 1 else 0.0
            self._due[worker.number] = time.monotonic() + wait
            self._roll.replaced()
            how = f"by signal {-status}" if status < 0 else f"with status {status}"
            log.error("worker %d (process %d) ended %s; replaced in %.0f s", worker.number, worker.pid, how, wait)

    def _patience(self) -> float | None:
        """Seconds until there is something to do though nothing happens."""
        if self._port.stuck:
            return 0.005
        watch_at = self._looked + WATCH_S if self._workers else NEVER
        nearest = min([self._close_at, self._kill_at, watch_at, *self._due.values()])
        return None if nearest == NEVER else max(0.0, nearest - time.monotonic())

    def _act(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        if self._port.stuck:
            self._port.attend()
        if self._looked + WATCH_S <= now:
            self._watch(now)
        for number in [number for number, at in self._due.items() if at <= now]:
            del self._due[number]
            self._start(number)
        if self._close_at <= now:
            self._finish()
        if self._kill_at <= now:
            self._kill_at, self._status = NEVER, self._status or 1
            for worker in self._workers.values():
                log.error("worker %d has not ended in time, and is killed", worker.number)
                os.kill(worker.pid, signal.SIGKILL)

    def _watch(self, now: float) -> None:
        """Kill workers that hang: whose event loop has said nothing for too long."""
        was_stopped, self._looked = now - self._looked > LOST_S, now
        for worker in self._workers.values():
            if was_stopped:  # and the workers too, perhaps: they get their time again
                worker.heard = now
            elif worker.kill_at <= now:
                os.kill(worker.pid, signal.SIGKILL)
            elif worker.ready and now - worker.heard > self._settings.worker_timeout_s:
                log.error(
                    "worker %d (process %d) hangs: no sign of life for %.0f s; it is killed",
                    worker.number,
                    worker.pid,
                    now - worker.heard,
                )
                worker.ready, worker.kill_at = False, now + LAST_WORDS_S
                os.kill(worker.pid, SAY_WHERE)

    def _signalled(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in self._wake.recv(4096):
                if number in (signal.SIGTERM, signal.SIGINT):
                    self._stop()
                elif number == signal.SIGHUP and not self._stopping:
                    self._rounds.ask("reload", {"asked": True})

    def _stop(self) -> None:
        """The first time in good order, the second time at once."""
        if self._stopping:
            self._kill_at = time.monotonic()
            return
        log.info("stopping %d workers", len(self._workers))
        self._stopping = True
        self._due.clear()
        for worker in self._workers.values():
            if worker.ready:
                worker.channel.say({"do": "drain"})
            else:
                os.kill(worker.pid, signal.SIGKILL)  # it has nothing in flight
        self._close_at = time.monotonic() + self._settings.drain_delay_s

    def _finish(self) -> None:
        """The time in which connections were still taken is over: workers get the last of them, and the word to end."""
        self._close_at = NEVER
        self._port.close()
        for worker in self._workers.values():
            worker.channel.say({"do": "stop"})
        self._kill_at = time.monotonic() + 2 * self._settings.drain_timeout_s + STOP_S
