"""
Closed-loop load by wrk: each connection sends its next request when it has its reply.

One thread, distinct bodies in turn. Knows HTTP and nothing of models.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.failures import Refused
from benchmarks.serving.wire import Body

MISSING = "wrk is not installed, and closed-loop points need it: `apt-get install wrk` (Debian, Ubuntu)"

_SCRIPT = """
local requests, turn = {}, 0
init = function()
  for k = 1, %(count)d do
    local file = io.open("%(folder)s/" .. k, "rb")
    requests[k] = wrk.format("POST", "%(path)s", {%(headers)s}, file:read("*all"))
    file:close()
  end
end
request = function()
  turn = turn %% %(count)d + 1
  return requests[turn]
end
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format('\\n{"requests": %%d, "seconds": %%f, "errors": %%d, "p50_ms": %%f, "p99_ms": %%f}\\n',
    summary.requests, summary.duration / 1e6, e.connect + e.read + e.write + e.timeout + e.status,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
"""


@dataclass(frozen=True)
class Load:
    """What wrk saw."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


def installed() -> bool:
    """Whether there is a wrk."""
    return shutil.which("wrk") is not None


class Wrk:
    """Ready to post *bodies* in turn to *path* on *port*; they must have the same headers."""

    def __init__(self, port: int, path: str, bodies: Sequence[Body]) -> None:
        if not installed():
            raise Refused(MISSING)
        if any(body.headers != bodies[0].headers for body in bodies):
            raise ValueError("the bodies have different headers")
        self._url = f"http://127.0.0.1:{port}{path}"
        self._folder = tempfile.TemporaryDirectory(prefix="bench-wrk-")
        folder = Path(self._folder.name)
        for k, body in enumerate(bodies, 1):
            (folder / str(k)).write_bytes(body.content)
        self._script = folder / "post.lua"
        self._script.write_text(_script(folder, path, bodies[0].headers, len(bodies)))

    def drive(self, connections: int, seconds: float) -> Load:
        """Load for *seconds*, rounded up to whole ones. Raises Refused where any request failed."""
        whole = max(1, round(seconds + 0.49))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{whole}s", "--timeout", "30s", "-s", str(self._script)]
        ran = subprocess.run([*command, self._url], capture_output=True, text=True, check=False)
        if ran.returncode != 0:
            raise Refused(f"wrk ended with {ran.returncode}: {ran.stderr.strip() or ran.stdout.strip()}")
        found = json.loads(ran.stdout.strip().splitlines()[-1])
        if found.pop("errors") or not found["requests"]:
            raise Refused(f"requests to {self._url} failed:\n{ran.stdout}")
        return Load(**found)

    def close(self) -> None:
        """Forget the bodies."""
        self._folder.cleanup()


def _script(folder: Path, path: str, headers: Mapping[str, str], count: int) -> str:
    written = ", ".join(f'["{name}"] = "{value}"' for name, value in headers.items())
    return _SCRIPT % {"folder": folder, "path": path, "headers": written, "count": count}
