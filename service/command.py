"""Read the settings, run the server."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError
from pydantic_settings import CliSettingsSource, SettingsError

from service.app import create_app
from service.server import Server
from service.settings import Settings
from service.workers.supervisor import Supervisor
from service.workers.worker import work

log = logging.getLogger("service")


def run(argv: Sequence[str]) -> int:
    """Run the service with the flags *argv* until a signal: the exit status."""
    try:
        settings = read_settings(argv)
    except (ValidationError, SettingsError) as error:
        print(f"vae-serve: {_told(error)}", file=sys.stderr)
        return 2
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    for name in sorted(name for name in os.environ if name.startswith("VAE_")):
        if name.removeprefix("VAE_").lower() not in Settings.model_fields:
            log.warning("%s is not a setting of this service; vae-serve --help lists them", name)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):  # macOS refuses its own limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a connection is a file, and 1,024 are few
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # while the newest version is being opened anyway
    if settings.workers > 1:
        return supervise(settings)
    server = Server(create_app(settings))
    server.run()
    return 0 if server.started else 1


def supervise(settings: Settings) -> int:
    """Run several workers until a signal: the exit status."""
    # in memory where the system has a place for that: every request counts there, and a container's root is read-only
    place = next((directory for directory in ("/dev/shm", None) if directory and os.access(directory, os.W_OK)), None)
    try:
        with tempfile.TemporaryDirectory(prefix="vae-serve-", dir=place) as counts:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = counts
            return Supervisor(settings, Path(counts), functools.partial(work, settings)).run()
    except OSError as error:
        log.critical("several workers cannot be run: %s", error)
        return 1


def read_settings(argv: Sequence[str]) -> Settings:
    """Settings from *argv*, then from the environment, then the defaults."""
    source: CliSettingsSource[Settings] = CliSettingsSource(Settings, cli_prog_name="vae-serve", cli_kebab_case=True)
    return Settings(_cli_settings_source=source(args=list(argv)))


def _told(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}; given: {e['input']!r}" for e in error.errors())
