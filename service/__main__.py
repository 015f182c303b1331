"""`vae-serve`: read the settings, run uvicorn, drain on SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

import uvicorn
from pydantic import ValidationError
from pydantic_settings import CliSettingsSource, SettingsError

from service.app import App, create_app
from service.settings import Settings

log = logging.getLogger("service")

LAST_REQUEST_S = 0.5  # for connections that were accepted before the port was closed to send their request


class Server(uvicorn.Server):
    """
    uvicorn, with a shutdown in which nobody's request fails.

    SIGTERM: /health/ready says 503 and each reply closes its connection, for `drain_delay_s` in which requests are
    still taken; then no new connections, and what is in flight gets `drain_timeout_s`. A second signal ends at once.
    """

    def __init__(self, app: App) -> None:
        settings = app.settings
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # nothing here asks for the client's address or scheme
                timeout_keep_alive=settings.keep_alive_s,
                timeout_graceful_shutdown=round(settings.drain_timeout_s),
                backlog=2048,
            )
        )
        self._app = app
        self._signals = 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop; unlike uvicorn's, the signal is not raised again afterwards, so the process exits with 0."""
        self._signals += 1
        self.should_exit = True
        if self._signals > 1 and sig in (signal.SIGINT, signal.SIGTERM):
            self.force_exit = True

    async def shutdown(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """Drain, then stop as uvicorn does."""
        self._app.drain()
        await self._wait(self._app.settings.drain_delay_s, lambda: False)
        for server in self.servers:
            server.close()
        # uvicorn would now cut the connections that have no request yet, also those whose request is on its way
        await self._wait(LAST_REQUEST_S, lambda: not self.server_state.connections)
        await super().shutdown()

    async def _wait(self, seconds: float, enough: Callable[[], bool]) -> None:
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end and not self.force_exit and not enough():  # noqa: ASYNC110 - uvicorn has no events
            await asyncio.sleep(0.02)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service until a signal; the exit status."""
    try:
        settings = read_settings(sys.argv[1:] if argv is None else argv)
    except (ValidationError, SettingsError) as error:
        print(f"vae-serve: {_told(error)}", file=sys.stderr)
        return 2
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    for name in sorted(name for name in os.environ if name.startswith("VAE_")):
        if name.removeprefix("VAE_").lower() not in Settings.model_fields:
            log.warning("%s is not a setting of this service; vae-serve --help lists them", name)
    server = Server(create_app(settings))
    server.run()
    return 0 if server.started else 1


def read_settings(argv: Sequence[str]) -> Settings:
    """Settings from *argv*, then from the environment, then the defaults."""
    source: CliSettingsSource[Settings] = CliSettingsSource(Settings, cli_prog_name="vae-serve", cli_kebab_case=True)
    return Settings(_cli_settings_source=source(args=list(argv)))


def _told(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}; given: {e['input']!r}" for e in error.errors())


if __name__ == "__main__":
    raise SystemExit(main())
