"""Read the settings, run the server."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import logging
import os
import resource
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError
from pydantic_settings import CliSettingsSource, SettingsError

from service.allocator import keep_freed_memory
from service.app import create_app
from service.environment import PREFIX, mistakes, service_links
from service.errors import StartError
from service.server import Server
from service.settings import Settings
from service.sockets import bind
from service.workers.supervisor import Supervisor
from service.workers.worker import work

log = logging.getLogger("service")

FAILED, WRONG = 1, 2
"""Exit statuses: the port cannot be had, or workers did not end in order; settings that are wrong. 3 is uvicorn's."""


def run(argv: Sequence[str]) -> int:
    """Run the service with the flags *argv* until a signal: the exit status."""
    links = {name: os.environ[name] for name in service_links(os.environ)}
    for name in links:
        del os.environ[name]  # they are no settings, whatever they are called
    try:
        settings = read_settings(argv)
    except (ValidationError, SettingsError) as error:
        return _wrong(_told(error))
    if wrong := mistakes(os.environ, Settings.model_fields):
        return _wrong("; ".join(wrong))
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    for name, value in links.items():
        if name.removeprefix(PREFIX).lower() in Settings.model_fields:
            log.warning("%s=%s is Kubernetes' word of a Service, and no setting: it is not read", name, value)
    if not (settings.api_keys.get_secret_value() or settings.api_keys_file or _is_loopback(settings.host)):
        log.warning("there are no API keys: whoever reaches %s, port %d may use this", settings.host, settings.port)
    keep_freed_memory(os.environ)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):  # macOS refuses its own limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a connection is a file, and 1,024 are few
    try:
        sockets = bind(settings.host, settings.port)
        if settings.workers > 1:
            return supervise(settings, sockets)
    except StartError as error:
        log.critical("%s", error)
        return FAILED
    server = Server(create_app(settings))
    server.run(sockets)
    return 0 if server.started else FAILED


def supervise(settings: Settings, sockets: list[socket.socket]) -> int:
    """Run several workers on *sockets* until a signal: the exit status. Raises StartError."""
    # in memory where the system has a place for that: every request counts there, and a container's root is read-only
    place = next((directory for directory in ("/dev/shm", None) if directory and os.access(directory, os.W_OK)), None)
    try:
        counts = tempfile.TemporaryDirectory(prefix="vae-serve-", dir=place)
    except OSError as error:
        raise StartError(f"several workers need a directory to count in: {error}") from error
    with counts as directory:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        return Supervisor(settings, sockets, Path(directory), functools.partial(work, settings)).run()


def read_settings(argv: Sequence[str]) -> Settings:
    """Settings from *argv*, then from the environment, then the defaults."""
    source: CliSettingsSource[Settings] = CliSettingsSource(Settings, cli_prog_name="vae-serve", cli_kebab_case=True)
    return Settings(_cli_settings_source=source(args=list(argv)))


def _is_loopback(host: str) -> bool:
    """Whether *host* can be reached from this machine alone; a name that is not known to be counts as not."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _wrong(told: str) -> int:
    print(f"vae-serve: {told}; vae-serve --help lists all settings", file=sys.stderr)
    return WRONG


def _told(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    # of keys, not what was given
    return "; ".join(
        f"{'.'.join(map(str, e['loc']))}: {e['msg']}" + ("" if "api_keys" in e["loc"] else f"; given: {e['input']!r}")
        for e in error.errors()
    )
