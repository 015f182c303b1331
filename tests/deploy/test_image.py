"""The image without building it: the Dockerfile against the project; its health check against the real service."""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from tests.server import Server

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
LINES = [(line.split()[0], line.partition(" ")[2]) for line in DOCKERFILE.splitlines() if line and line[0] != "#"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def last_stage() -> dict[str, str]:
    """The instructions of the stage that is built by default, the last of each kind."""
    start = max(number for number, (word, _) in enumerate(LINES) if word == "FROM")
    return dict(LINES[start:])


def test_the_image_runs_as_a_numbered_user_and_takes_signals_itself() -> None:
    """A number, so that Kubernetes can see that it is not root; exec form, so that no shell keeps the signal."""
    stage = last_stage()
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", stage["USER"])
    assert stage["STOPSIGNAL"] == "SIGTERM"
    assert stage["ENTRYPOINT"] == '["/opt/entrypoint.sh"]'
    script = (ROOT / "deploy/entrypoint.sh").read_text()
    assert script.splitlines()[-1] == 'exec vae-serve "$@"'
    assert os.access(ROOT / "deploy/entrypoint.sh", os.X_OK)


def test_the_image_brings_no_model() -> None:
    """One is mounted where VAE_BUNDLE says; the port that is exposed is the one that is listened on."""
    env = dict(word.split("=", 1) for word in shlex.split(last_stage()["ENV"]))
    assert env["VAE_BUNDLE"] == "/models"
    assert env["VAE_HOST"] == "0.0.0.0"
    assert env["VAE_PORT"] == last_stage()["EXPOSE"]


def test_the_label_and_the_extras_are_the_projects() -> None:
    """The version is written twice, and is one; each EXTRA that is taken exists."""
    label = re.search(r'image\.version="([^"]+)"', DOCKERFILE)
    assert label is not None
    assert label[1] == PROJECT["version"]
    taken = re.search(r'case "\$EXTRA" in (\w+)\) \S+ ;; (\w+)\)', DOCKERFILE)
    assert taken is not None
    assert {*taken.groups(), "training"} <= set(PROJECT["optional-dependencies"])


def test_the_context_is_what_the_dockerfile_copies() -> None:
    """Everything is ignored but what is named, and nothing named is left over."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    named = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copied = {
        source
        for word, rest in LINES
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    assert named == copied
    assert all((ROOT / source).exists() for source in copied)
    assert not any(fnmatch.fnmatch(".env", name) for name in named)


def health(port: int | str) -> subprocess.CompletedProcess[str]:
    """The health check as the engine runs it."""
    return subprocess.run(
        [sys.executable, str(ROOT / "deploy/healthcheck.py")],
        env={"VAE_PORT": str(port), "http_proxy": "http://192.0.2.1:9"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_the_health_check_knows_kubernetes_word_of_a_service_from_a_port() -> None:
    """As the service does: it asks the default port, where somebody may answer or nobody."""
    ran = health("tcp://10.0.0.7:80")
    assert ran.returncode == 0 or ran.stdout.startswith("127.0.0.1:8000 does not answer") or "503" in ran.stdout
    assert "Traceback" not in ran.stderr


def test_the_health_check_passes_while_the_service_is_ready_and_not_while_it_drains() -> None:
    """It says what was answered, for `docker inspect`; a proxy of the environment is not asked."""
    with Server(ROOT / "deploy/models/digits", drain_delay_s=5) as server:
        port = int(server.url.rsplit(":", 1)[1])
        ready = health(port)
        assert (ready.returncode, ready.stdout[:3]) == (0, "200")
        assert '"ready":true' in ready.stdout
        server.process.terminate()
        while not any("draining" in line for line in server.log):
            time.sleep(0.01)
        draining = health(port)
        assert (draining.returncode, draining.stdout[:3]) == (1, "503")
    gone = health(port)
    assert gone.returncode == 1
    assert "does not answer" in gone.stdout
    assert not gone.stderr


@pytest.mark.parametrize(("variable", "device"), [(None, "cuda"), ("", "cuda"), ("auto", "auto")])
def test_the_entry_point_takes_the_images_device_unless_told(variable: str | None, device: str, tmp_path: Path) -> None:
    """And hands on its arguments; seen with a vae-serve that prints what it got."""
    (tmp_path / "device").write_text("cuda\n")
    fake = tmp_path / "vae-serve"
    fake.write_text('#!/bin/sh\necho "$VAE_DEVICE" "$@"\n')
    fake.chmod(0o755)
    script = (ROOT / "deploy/entrypoint.sh").read_text().replace("/opt/device", str(tmp_path / "device"))
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"} | ({} if variable is None else {"VAE_DEVICE": variable})
    ran = subprocess.run(
        ["sh", "-c", script, "entrypoint.sh", "--port", "1 2"], env=env, capture_output=True, text=True, check=True
    )
    assert ran.stdout == f"{device} --port 1 2\n"
