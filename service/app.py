"""
The application: wiring, start and stop.

`create_app` gives one ASGI callable: the hot routes of api.py in front, FastAPI (web.py) behind them with everything
else. Knows every part; computes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from service.api import ROUTES, V1
from service.errors import NotReady, ReloadRefused, StartError, counted
from service.http.cold import Cold
from service.http.crowd import Crowd
from service.http.exchange import Endpoint, Exchange, Flight, Refused
from service.http.headers import Scope
from service.http.keys import LOOK_S
from service.http.vigil import Receive, Send
from service.loader import Loaded, load
from service.metrics import Metrics
from service.oip.endpoint import OIP
from service.oip.routes import PREFIX
from service.reload import Reloader
from service.served import Served
from service.settings import Settings
from service.statistics import Statistics
from service.turns import Turns
from service.web import COLD_ROUTES, make_web

log = logging.getLogger("service.app")

COUNT_S = 1.0  # that the statistics of all workers are waited for
Ask = Callable[[str, dict[str, Any]], Awaitable[list[dict[str, Any]]]]


class App:
    """
    The service as one ASGI application. Not ready until its lifespan has opened the bundle.

    *bundle*: the one to begin with, instead of that of the settings; *counts*: the directory that several workers count
    in, as the worker *number*. *ask_all(what, message)* asks all of them, this one included, for what `answer` gives.
    """

    def __init__(
        self, settings: Settings, bundle: Path | None = None, counts: Path | None = None, number: int = 0
    ) -> None:
        self.settings = settings
        self.ask_all: Ask | None = None
        self._first = bundle or settings.bundle
        self.metrics = Metrics(counts)
        self.crowd = Crowd(settings.max_connections, settings.max_unread_bytes, self.metrics.connection_ended)
        self.metrics.watch_connections(lambda: len(self.crowd))
        self.exchange = Exchange(settings, self.metrics)
        self.served: Served | None = None
        self._reloader: Reloader | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._statistics = Statistics(counts and counts / "statistics" / f"{number}.json")
        self._oip = OIP(self, self._statistics, settings.max_body_bytes, self.exchange.bodies)
        turns = Turns()
        self._hot: dict[str, Endpoint] = {
            **{route.path: V1(route.op, self, self._statistics, turns) for route in ROUTES},
            **self._oip.endpoints,
        }
        self._web = make_web(self, self._oip)
        self._cold = Cold(self._web, self.exchange, self.metrics, self._route_of)
        self.metrics.watch_queue(lambda: self.served.vae.waiting() if self.served else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or live through the lifespan."""
        if scope["type"] == "http":
            endpoint = self._endpoint(scope)
            if endpoint is not None:
                await self.exchange.answer(endpoint, scope, receive, send)
            else:
                await self._cold(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await self._web(scope, receive, send)

    def turn_away(self, scope: Scope) -> Refused | None:
        """The reply to a request for which the queue has no room now; None: this is to be called with it."""
        endpoint = self._endpoint(scope)
        return None if endpoint is None or self.exchange.draining else self.exchange.turn_away(endpoint, scope)

    def _endpoint(self, scope: Scope) -> Endpoint | None:
        """What answers a request in front of FastAPI."""
        if scope["method"] != "POST":
            return None
        return self._hot.get(scope["path"]) or self._oip.endpoint(scope["path"])

    @property
    def ready(self) -> bool:
        """Whether new requests should be sent here."""
        return self.served is not None and not self.exchange.draining

    def drain(self) -> None:
        """SIGTERM came: say so in /health/ready and close connections after their replies; go on answering."""
        self.exchange.draining = True
        self.metrics.ready(False)
        log.info("draining: %s in flight", counted(self.exchange.in_flight, "request"))

    def model(self) -> dict[str, Any]:
        """What /v1/model says: the manifest, what runs it, and the limits of a request."""
        served = self.served
        if served is None:
            raise NotReady("no model is ready yet")
        return {
            **served.described(),
            "limits": {
                "max_request_rows": self.settings.max_request_rows,
                "max_body_bytes": self.settings.max_body_bytes,
                "request_timeout_s": self.settings.request_timeout_s,
            },
        }

    def report(self) -> bytes | None:
        """The bundle's report page, where it has one."""
        served = self.served
        if served is None:
            raise NotReady("no model is ready yet")
        return served.report

    @property
    def bundle_path(self) -> Path:
        """Where what is served was read from."""
        return self._serving().vae.bundle.path

    async def reload(self, asked: bool = True) -> dict[str, Any]:
        """Take the newest version now: what came of it, in all workers. Raises ReloadRefused, or NotReady."""
        if self._reloader is None:
            raise NotReady("no model is ready yet")
        if self.exchange.draining:
            raise NotReady("the server is draining")
        before = self._serving().model
        if self.ask_all is None:
            answers = [await self.answer("reload", {"asked": asked})]
            before = answers[0]["before"]  # not before a look that was under way and took a version
        else:
            answers = await self.ask_all("reload", {"asked": asked})
        told: dict[str, Any] = {"before": before, "model": self._serving().model}
        if self.ask_all is not None:
            told["workers"] = answers
        for answer in answers:
            if answer.get("reason") is not None:
                raise ReloadRefused(answer["reason"], **told)
        swapped = any(answer["result"] == "swapped" for answer in answers)
        return {"result": "swapped" if swapped else "unchanged", **told}

    async def answer(self, what: str, message: dict[str, Any]) -> dict[str, Any]:
        """This worker's answer to what one asks of all."""
        if what == "statistics":
            self._statistics.keep()
            return {"result": "kept"}
        if what != "reload" or self._reloader is None:
            raise AssertionError(f"nobody answers {what}. This is a bug.")
        return (await self._reloader.reload(message["asked"]))._asdict()

    async def statistics(self) -> Statistics:
        """The counts of all workers as they are now; of one that does not answer soon, as they were."""
        if self.ask_all is not None:
            with contextlib.suppress(TimeoutError, NotReady):
                await asyncio.wait_for(self.ask_all("statistics", {}), COUNT_S)
        return self._statistics.of_all()

    def refresh(self) -> None:
        """Tell the other workers what was counted here; for a worker, now and then."""
        self.metrics.refresh()
        self._statistics.keep()

    def reload_soon(self) -> None:
        """SIGHUP came: take the newest version; the log says what came of it."""
        self._start(self._reload_and_tell())

    def _route_of(self, path: str) -> str:
        """The label in the metrics of a request that FastAPI answers: one of few."""
        if path in COLD_ROUTES or path in self._hot:
            return path
        return PREFIX if path.startswith(PREFIX) else "other"

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            self._open()
        except StartError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        except Exception as error:
            log.critical("the service cannot start", exc_info=error)
            await send({"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"})
            return
        await send({"type": "lifespan.startup.complete"})
        try:
            await receive()
        except asyncio.CancelledError:  # a second signal: there is no time for the rest
            return
        for task in self._tasks:
            task.cancel()
        if self.served is not None:
            await self.served.vae.close(self.settings.drain_timeout_s)
        await send({"type": "lifespan.shutdown.complete"})

    def _open(self) -> None:
        settings = self.settings
        self.exchange.keys.open()
        loaded = load(self._first, settings)
        gc.collect()
        gc.freeze()  # what lives from here on is not searched again: p99 at 64 connections 29 -> 15 ms
        gc.set_threshold(10_000)  # requests make hardly any cycles; looking for them less often saves 7 % of their cost
        self._take(loaded)
        self._reloader = Reloader(settings, self._serving, self._take, self.metrics.reloaded)
        if self.exchange.keys.file is not None:
            self._start(self._look_at_keys())
        if settings.reload_interval_s:
            self._start(self._reloader.watch(settings.reload_interval_s, self._reload_found))

    def _take(self, loaded: Loaded) -> None:
        """Serve *loaded* from now on. Requests that came before finish on what was served then."""
        bundle, placement = loaded.bundle, loaded.engine.placement
        new = Served.of(loaded, self.settings, self.metrics, self._statistics)
        old, self.served = self.served, new
        if old is not None:
            self._oip.catalog()  # that of the old version would keep it in memory
            self._start(self._retire(old, self.exchange.turn()))
        manifest = bundle.manifest
        self.metrics.serves(manifest.name, manifest.version, bundle.bundle_id, loaded.seconds)
        self.metrics.watch_drift(None if new.drift is None else new.drift.log_martingale)
        self.metrics.provider_info.labels(placement.requested, placement.actual, placement.device).set(1)
        self.metrics.ready(not self.exchange.draining)
        log.info(
            "serving %s version %d (%s) from %s on %s with %s, %sready in %.2f s",
            manifest.name,
            manifest.version,
            bundle.bundle_id[:12],
            bundle.path,
            placement.actual,
            counted(placement.threads, "thread"),
            "" if old is None else f"in the place of version {old.manifest.version}, ",
            loaded.seconds,
        )

    def _serving(self) -> Served:
        assert self.served is not None
        return self.served

    async def _retire(self, old: Served, flight: Flight) -> None:
        """Let go of what was served, its thread and its memory, when the requests of its time are answered."""
        await flight.landed()
        await old.vae.close(self.settings.drain_timeout_s)
        version = old.manifest.version
        del old
        gc.collect()  # a few milliseconds: what was there at the start is frozen
        log.info("version %d is let go of", version)

    async def _reload_and_tell(self) -> None:
        with contextlib.suppress(ReloadRefused):  # logged where it was refused
            told = await self.reload()
            log.info("asked to reload: %s, version %s is served", told["result"], told["model"]["version"])

    async def _reload_found(self) -> None:
        with contextlib.suppress(ReloadRefused, NotReady):
            await self.reload(asked=False)

    async def _look_at_keys(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await asyncio.to_thread(self.exchange.keys.look)

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def create_app(settings: Settings, bundle: Path | None = None, counts: Path | None = None, number: int = 0) -> App:
    """The service for *settings*, to be run by an ASGI server; the rest as `App` has it."""
    return App(settings, bundle, counts, number)
