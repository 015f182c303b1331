"""The real service in a process of its own, on a free port of the loopback interface."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx


class Server:
    """`python -m service` with *settings* as flags and *environment* added; in the body of a `with` it is ready."""

    def __init__(self, bundle: Path, environment: Mapping[str, str] | None = None, **settings: object) -> None:
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("VAE_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service", f"--bundle={bundle}", "--port=0", "--threads=1", *flags],
            stderr=subprocess.PIPE,
            text=True,
            env={**inherited, **(environment or {})},
            process_group=0,
        )
        self.log: list[str] = []
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._listening.wait(30):
            self.process.kill()
            raise AssertionError("the service did not start:\n" + "".join(self.log))
        self.client = httpx.Client(base_url=self.url, timeout=30)

    @property
    def url(self) -> str:
        """Where it listens."""
        found = re.search(r"running on (http://\S+)", "".join(self.log))
        assert found is not None, "".join(self.log)
        return found[1]

    def stop(self, sig: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end: the exit status."""
        self.process.send_signal(sig)
        return self.process.wait(30)

    def metric(self, name: str, /, **labels: str) -> float:
        """One sample of /metrics; 0 where it is not there."""
        for line in self.client.get("/metrics").text.splitlines():
            found = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
            if found and found[1] == name and dict(re.findall(r'(\w+)="([^"]*)"', found[2] or "")) == labels:
                return float(found[3])
        return 0.0

    def says(self, *words: str, seconds: float = 30) -> str:
        """Wait for a line of the log with all *words*: that line."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for line in self.log:
                if all(word in line for word in words):
                    return line
            time.sleep(0.02)
        raise AssertionError(f"no line with {words} in the log:\n" + "".join(self.log))

    def __enter__(self) -> Self:
        """Ready already."""
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """End it, if the test has not."""
        self.client.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self._reader.join(5)
        if self.process.stderr is not None:
            self.process.stderr.close()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if "running on" in line:
                self._listening.set()
        self._listening.set()
