"""
FastAPI's part: the routes that need not be fast, and the documentation of all (openapi.py).

The hot routes are answered in front of it (app.py). Computes nothing.
"""

from __future__ import annotations

import functools
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Protocol

import orjson
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from service.api import ROUTES
from service.descriptions import Live, ModelReply, Ready, ReloadReply
from service.errors import NoReport, NotReady, ReloadRefused, ServiceError, named
from service.http.exchange import Exchange
from service.http.head import Head
from service.http.refusals import documented, internal_error, refuse
from service.metrics import Metrics
from service.oip import routes as oip_routes
from service.oip.endpoint import OIP
from service.openapi import document

VERSION = version("vae-serve")
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
COLD_ROUTES = (
    "/v1/model",
    "/v1/model/report",
    "/v1/admin/reload",
    "/health/live",
    "/health/ready",
    "/metrics",
    "/docs",
    "/openapi.json",
    *oip_routes.COLD_ROUTES,
)
# the report comes with a bundle, perhaps from somebody else: it may show itself, and do nothing
REPORT_HEADERS = {
    "Content-Security-Policy": "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class Service(Protocol):
    """What the routes here tell of."""

    metrics: Metrics
    exchange: Exchange

    @property
    def ready(self) -> bool:
        """Whether new requests should be sent here."""

    def model(self) -> dict[str, Any]:
        """What /v1/model says. Raises NotReady."""

    def report(self) -> bytes | None:
        """The bundle's report, an HTML page, where it has one. Raises NotReady."""

    async def reload(self) -> dict[str, Any]:
        """Take the newest version now: what came of it. Raises ReloadRefused or NotReady."""


def make_web(service: Service, oip: OIP) -> FastAPI:
    """The FastAPI application behind the hot routes of *service*, and of its models in *oip*."""
    web = FastAPIOffline(  # the assets of /docs come from a package, not from a CDN
        redoc_url=None,
        static_url="/docs/assets",
        redirect_slashes=False,
        title="vae-serve",
        version=VERSION,
        description="Serves one variational autoencoder: encode, decode, sample, interpolate, reconstruct, score.",
    )

    web.add_middleware(Head)

    @web.get(
        "/v1/model",
        operation_id="model",
        tags=["model"],
        summary="What is served",
        response_model=ModelReply,
        responses=documented("/v1", NotReady),
    )
    def model() -> dict[str, Any]:
        """The bundle's manifest, the execution provider, the limits of a request."""
        return service.model()

    @web.get(
        "/v1/model/report",
        operation_id="report",
        tags=["model"],
        summary="The report on the model",
        response_class=HTMLResponse,
        response_description="One HTML file, which may load nothing and run nothing.",
        responses=documented("/v1", NoReport, NotReady),
    )
    def report() -> Response:
        """The page that training made of this model: its fit, reconstructions, latents and scores."""
        page = service.report()
        if page is None:
            raise NoReport(
                "this bundle has no report; vae-train fit writes one, and vae-train report makes one of any bundle"
            )
        return HTMLResponse(page, headers=REPORT_HEADERS)

    @web.post(
        "/v1/admin/reload",
        operation_id="reload",
        tags=["model"],
        summary="Take the newest version",
        response_model=ReloadReply,
        response_model_exclude_none=True,
        responses=documented("/v1", ReloadRefused, NotReady),
    )
    async def reload() -> dict[str, Any]:
        """Look for a newer version now, and serve it if it is fit to be served; answered when that is done."""
        return await service.reload()

    @web.get(
        "/health/live",
        operation_id="health_live",
        tags=["monitoring"],
        summary="Liveness",
        response_model=Live,
        responses=documented("/health"),
    )
    def live() -> dict[str, bool]:
        """200 while the process answers at all."""
        return {"live": True}

    @web.get(
        "/health/ready",
        operation_id="health_ready",
        tags=["monitoring"],
        summary="Readiness",
        response_model=Ready,
        response_model_exclude_unset=True,
        responses={503: {"model": Ready, "description": "Starting, or draining."}, **documented("/health")},
    )
    async def ready(response: Response) -> dict[str, Any]:
        """200 after verification, warm-up and self-check; 503 before, and from SIGTERM on."""
        body: dict[str, Any] = {"ready": service.ready, "draining": service.exchange.draining}
        if service.ready:
            body["execution"] = service.model()["execution"]
        response.status_code = 200 if service.ready else 503
        return body

    @web.get(
        "/metrics",
        operation_id="metrics",
        tags=["monitoring"],
        summary="Metrics",
        response_class=PlainTextResponse,
        response_description="Prometheus' text format, version 0.0.4.",
        responses=documented("/metrics"),
    )
    async def metrics() -> Response:  # on the event loop, because the queues that it counts belong to it
        """For Prometheus to scrape: docs/running.md says what each metric is."""
        return Response(service.metrics.exposition(), media_type=METRICS_TYPE)

    for path in (*(route.path for route in ROUTES), *oip_routes.INFER):
        web.add_route(path, _never, methods=["POST"], include_in_schema=False)
    web.include_router(oip_routes.make_routes(oip, VERSION))

    # FastAPI's own route would make the document on the event loop, and hold it for more than 0.1 s
    web.router.routes = [route for route in web.routes if getattr(route, "path", None) != web.openapi_url]
    made = functools.cache(lambda: orjson.dumps(document(web)))

    @web.get("/openapi.json", include_in_schema=False)
    def openapi() -> Response:
        return Response(made(), media_type="application/json")

    @web.exception_handler(ServiceError)
    async def service_error(request: Request, error: ServiceError) -> Response:
        return _refusal(request, error)

    @web.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        told = ServiceError(f"{named(request.method)} {named(request.scope['path'])}: {error.detail}")
        told.status, told.type, told.title = (
            error.status_code,
            f"http-{error.status_code}",
            HTTPStatus(error.status_code).phrase,
        )
        headers = dict(error.headers or {})
        if headers.get("Allow") == "GET":
            headers["Allow"] = "GET, HEAD"
        return _refusal(request, told, headers)

    @web.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Response:
        return _refusal(request, internal_error())  # uvicorn logs what it was

    return web


async def _never(request: Request) -> Response:
    """Hot routes are entered here for the 405 of other methods; their POST is answered in front of FastAPI."""
    raise AssertionError(f"{request.url.path} is answered in front of FastAPI. This is a bug.")


def _refusal(request: Request, error: ServiceError, headers: Any = None) -> Response:
    status, media_type, body = refuse(request.scope["path"], error, request.state.request_id)
    return Response(body, status, headers, media_type=media_type)
