"""
One server under measurement: a process with its children, on a port of the loopback interface.

Starts it, waits until it answers, counts its CPU time, and ends all of it whatever happens. Knows nothing of models.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from benchmarks.serving.failures import NotStarted

START_S = 90.0
STOP_S = 20.0
POLL_S = 0.005
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Process:
    """In the body of a `with` *command* answers GET *ready* with 200. Its log is in *log*."""

    def __init__(
        self, command: Sequence[str], port: int, ready: str, environment: Mapping[str, str], cwd: Path, log: Path
    ) -> None:
        self.port, self.ready, self.log = port, ready, log
        self._command, self._environment, self._cwd = list(command), dict(environment), cwd
        self._popen: subprocess.Popen[bytes] | None = None
        self._known: dict[int, psutil.Process] = {}
        self.started_s = 0.0
        """Seconds from the start of the process to its first 200."""

    def __enter__(self) -> Self:
        """Start it, and wait."""
        wait_for_port(self.port)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        try:
            with self.log.open("wb") as log, _undisturbed():
                self._popen = subprocess.Popen(
                    self._command,
                    cwd=self._cwd,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C comes to the benchmark alone, which then ends this
                )
            while not _answers(self.port, self.ready):
                if self._popen.poll() is not None:
                    raise NotStarted(f"ended with {self._popen.returncode}: {self._tail()}")
                if time.perf_counter() - start > START_S:
                    raise NotStarted(f"did not answer GET {self.ready} in {START_S:g} s: {self._tail()}")
                time.sleep(POLL_S)
            self.started_s = time.perf_counter() - start
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """End it."""
        self.stop()

    def process(self) -> psutil.Process:
        """The process itself; for inside the `with`."""
        assert self._popen is not None
        return psutil.Process(self._popen.pid)

    def cpu_s(self) -> float:
        """CPU seconds, user and system, of the process and its children so far."""
        total = 0.0
        for process in self._tree():
            try:
                times = process.cpu_times()
                total += times.user + times.system
            except psutil.NoSuchProcess:
                continue
        return total

    def rss_mb(self) -> float:
        """Resident memory of the process and its children; what they share counts more than once."""
        total = 0
        for process in self._tree():
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total / 2**20

    def stop(self) -> None:
        """SIGTERM, and after STOP_S SIGKILL, to every process of it. A Ctrl-C waits until that is done."""
        with _undisturbed():
            if self._popen is None:
                return
            tree = self._tree()
            for process in tree:
                _send(process, signal.SIGTERM)
            _, alive = psutil.wait_procs(tree, STOP_S)
            for process in alive:
                _send(process, signal.SIGKILL)
            psutil.wait_procs(alive, 5)
            self._popen.wait()
            self._popen = None

    def _tree(self) -> list[psutil.Process]:
        """The process and its descendants, also those whose parent has ended since they were first seen."""
        if self._popen is None:
            return []
        for pid in [self._popen.pid, *self._known]:
            try:
                process = self._known.setdefault(pid, psutil.Process(pid))
                self._known.update({child.pid: child for child in process.children(recursive=True)})
            except psutil.NoSuchProcess:
                continue
        return [process for process in self._known.values() if process.is_running()]

    def _tail(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return " / ".join(lines[-3:]) or "no output"


def wait_for_port(port: int, seconds: float = 15.0) -> None:
    """Until nobody listens on *port*. Raises NotStarted where somebody goes on to."""
    end = time.perf_counter() + seconds
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return
            except OSError as error:
                if time.perf_counter() > end:
                    raise NotStarted(f"port {port} is taken ({error}); --port names another") from error
        time.sleep(0.1)


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without what would set the service, or keep Python from caching its bytecode."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("VAE_") and name != "PYTHONDONTWRITEBYTECODE"
    }
    return {**kept, "OMP_NUM_THREADS": "1", **more}


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _send(process: psutil.Process, sig: signal.Signals) -> None:
    try:
        process.send_signal(sig)
    except psutil.NoSuchProcess:
        return


@contextmanager
def _undisturbed() -> Iterator[None]:
    """
    Put off SIGINT and SIGTERM until the body is over.

    By handlers and not by a mask, which a process that is started in the body would inherit.
    """
    came: list[int] = []
    before = {sig: signal.signal(sig, lambda number, frame: came.append(number)) for sig in _SIGNALS}
    try:
        yield
    finally:
        for sig, handler in before.items():
            signal.signal(sig, handler)
        for number in came[:1]:
            signal.raise_signal(number)
