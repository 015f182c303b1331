"""`vae-serve`: ends at a SIGTERM from its first moment on, and at no SIGHUP; the rest is in command.py."""

from __future__ import annotations

import signal
import sys
from types import FrameType


def main() -> int:
    """Run the service until a signal: the exit status."""
    # as process 1 of a container, SIGTERM would be ignored for the 0.3 s that the imports take
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it reloads: the newest version is being opened anyway
    from service.command import run  # noqa: PLC0415  for the reason above

    return run(sys.argv[1:])


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    raise SystemExit(main())
