"""Debian's Prometheus in a process of its own, with the configuration that is shipped."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import pytest
import yaml

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "deploy/prometheus"
SCRAPE_S = 1


def needs(program: str) -> pytest.MarkDecorator:
    """Skip where *program*, of Debian's package prometheus, is not installed."""
    reason = f"the program {program} is not installed (Debian: apt-get install prometheus)"
    return pytest.mark.skipif(shutil.which(program) is None, reason=reason)


def promtool(*words: str, stdin: str = "") -> str:
    """What it says; fails where it is not content."""
    ran = subprocess.run(["promtool", *words], cwd=ROOT, input=stdin, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for *condition*, and fail after *seconds*."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


class Prometheus:
    """
    `prometheus` with deploy/prometheus; in the body of a `with` it scrapes *targets*.

    Changed in its copy of the configuration: the targets, which are in another network; the intervals of scrapes and
    rules, from 15 s to 1 s, because a test does not wait for minutes.
    """

    def __init__(self, directory: Path, targets: list[str]) -> None:
        config = yaml.safe_load((SHIPPED / "prometheus.yml").read_text())
        config["global"] |= dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), f"{SCRAPE_S}s")
        config["scrape_configs"][0]["static_configs"] = [{"targets": targets}]
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        for name in config["rule_files"]:
            shutil.copy(SHIPPED / name, directory / name)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self._log = (directory / "prometheus.log").open("w+")
        self.process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address={address}",
                "--log.level=warn",
            ],
            stdout=subprocess.DEVNULL,
            stderr=self._log,
            env={**os.environ, "GOMAXPROCS": "1"},
        )
        self.client = httpx.Client(base_url=f"http://{address}", timeout=10)

    def get(self, path: str, **parameters: object) -> Any:
        """The data of one answer of the HTTP API, /api/v1/*path*."""
        answer = self.client.get(f"/api/v1/{path}", params={k: str(v) for k, v in parameters.items()})
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def query(self, expr: str, at: float) -> list[tuple[dict[str, str], float]]:
        """The labels and value of each sample of an instant query at *at*, seconds since 1970."""
        data = self.get("query", query=expr, time=at)
        assert data["resultType"] == "vector", f"{expr} is a {data['resultType']}"
        return [(sample["metric"], float(sample["value"][1])) for sample in data["result"]]

    def __enter__(self) -> Self:
        try:
            until(self._ready)
        except AssertionError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.client.close()
        self.process.terminate()
        self.process.wait(10)
        self._log.close()

    def _ready(self) -> bool:
        if self.process.poll() is not None:
            self._log.seek(0)
            raise AssertionError("prometheus ended:\n" + self._log.read())
        try:
            return self.client.get("/-/ready").status_code == 200
        except httpx.ConnectError:
            return False
