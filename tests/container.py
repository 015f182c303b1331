"""
An image's root file system, run as a container engine would run it, with no engine: read-only, as the image's user.

Mount and PID namespaces of its own, no capabilities, no new privileges; the network and the cgroup are the host's.
Needs Linux, root, and docker or buildah to unpack the image.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

# $1: the root, $2: what to mount at /models or nothing, $3: UID, $4: GID, and then the command
_ENTER = """
mount --bind "$1" "$1"
mount --rbind /dev "$1/dev"
if [ -n "$2" ]; then mount --bind "$2" "$1/models"; mount -o remount,bind,ro "$1/models"; fi
mount -o remount,bind,ro "$1"
mount -t proc -o ro proc "$1/proc"
root=$1 user=$3 group=$4
shift 4
exec chroot "$root" /usr/bin/setpriv --reuid "$user" --regid "$group" --clear-groups \
    --inh-caps=-all --bounding-set=-all --no-new-privs -- "$@"
"""


class Image:
    """The image *name* of *engine* (docker or buildah), unpacked; in the body of a `with` its *root* is there."""

    def __init__(self, engine: str, name: str) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="image-"))
        if engine == "buildah":
            self.config: dict[str, Any] = json.loads(_out("buildah", "inspect", "--type", "image", name))["Docker"][
                "config"
            ]
            made = _out("buildah", "from", "--pull-never", name)
            _out("cp", "--archive", f"{_out('buildah', 'mount', made)}/.", str(self.root))
            _out("buildah", "rm", made)
        else:
            self.config = json.loads(_out("docker", "image", "inspect", name))[0]["Config"]
            made = _out("docker", "create", name)
            _out("sh", "-c", 'docker export "$0" | tar --extract --directory "$1"', made, str(self.root))
            _out("docker", "rm", made)
        (self.root / "models").mkdir(exist_ok=True)  # engines make the mount points

    def __enter__(self) -> Self:
        """Unpacked already."""
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Remove the unpacked files."""
        shutil.rmtree(self.root)


class Container:
    """
    *command* (else the image's entry point) running in *image*, with *models* at /models and *env* beside the image's.

    Its output is in `log`. In the body of a `with` it runs; at the end it is killed if it still does.
    """

    def __init__(self, image: Image, command: Sequence[str] = (), models: Path | None = None, **env: str) -> None:
        config = image.config
        user, group = config["User"].split(":")
        variables = dict(line.split("=", 1) for line in config["Env"])
        argv = list(command) or [*config["Entrypoint"], *(config["Cmd"] or [])]
        unshare = ["unshare", "--mount", "--pid", "--fork", "--propagation=private"]
        where = [str(image.root), str(models.resolve()) if models else "", user, group]
        self.process = subprocess.Popen(
            [*unshare, "sh", "-euc", _ENTER, "sh", *where, *argv],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={"HOME": "/nonexistent", **variables, **env},
        )
        self.log: list[str] = []
        self._started = time.monotonic()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process that is number 1 inside, by its number outside."""
        parent = self.process.pid
        return int(Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0])

    def status(self) -> dict[str, str]:
        """/proc/PID/status of the process inside."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return {name: value.strip() for name, value in (line.split(":", 1) for line in lines)}

    def until(self, text: str, seconds: float = 60) -> float:
        """Wait for *text* in the log: the seconds since the start. Raises AssertionError where it does not come."""
        while not any(text in line for line in self.log):
            if self.process.poll() is not None or time.monotonic() > self._started + seconds:
                raise AssertionError(f"no {text!r} in:\n" + "".join(self.log))
            time.sleep(0.005)
        return time.monotonic() - self._started

    def signal(self, sig: signal.Signals) -> None:
        """Send *sig* to the process inside, and to no other."""
        os.kill(self.pid, sig)

    def wait(self, seconds: float = 60) -> int:
        """Wait for the end: the exit status."""
        status = self.process.wait(seconds)
        self._reader.join(5)
        return status

    def __enter__(self) -> Self:
        """Started already."""
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Kill it if it still runs."""
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)  # unshare ends with it; killed itself, it would leave it running
        self.wait()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log.append(line)


def _out(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
