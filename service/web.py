"""
FastAPI's part: the documentation of every route, and the routes that need not be fast.

The hot routes are answered in front of it (app.py) and only documented here. Computes nothing.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Protocol

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from service.api import ROUTES, ROW_FIELDS, Route
from service.errors import ServiceError
from service.http import media
from service.http.exchange import Exchange
from service.http.refusals import internal_error, refuse
from service.messages import Problem
from service.metrics import Metrics
from service.oip import routes as oip_routes
from service.oip.endpoint import OIP
from service.operations import TASKS

VERSION = version("vae-serve")
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
COLD_ROUTES = (
    "/v1/model",
    "/v1/model/report",
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

_PROBLEM: dict[str, Any] = {
    "description": "A problem document (RFC 9457)",
    "content": {"application/problem+json": {"schema": Problem.model_json_schema()}},
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

    @web.get("/v1/model", tags=["model"], responses={503: _PROBLEM})
    def model() -> dict[str, Any]:
        """What is served: the bundle's manifest, the execution provider, the limits of a request."""
        return service.model()

    @web.get(
        "/v1/model/report",
        tags=["model"],
        response_class=HTMLResponse,
        responses={404: {**_PROBLEM, "description": "The bundle has no report."}, 503: _PROBLEM},
    )
    def report() -> Response:
        """The page that training made of this model: its fit, reconstructions, latents and scores."""
        page = service.report()
        if page is None:
            raise HTTPException(
                404, "this bundle has no report; vae-train fit writes one, and vae-train report makes one of any bundle"
            )
        return HTMLResponse(page, headers=REPORT_HEADERS)

    @web.get("/health/live", tags=["operation"])
    def live() -> dict[str, bool]:
        """200 while the process answers at all."""
        return {"live": True}

    @web.get("/health/ready", tags=["operation"], responses={503: {"description": "Starting, or draining."}})
    async def ready() -> JSONResponse:
        """200 after verification, warm-up and self-check; 503 before, and from SIGTERM on."""
        body: dict[str, Any] = {"ready": service.ready, "draining": service.exchange.draining}
        if service.ready:
            body["execution"] = service.model()["execution"]
        return JSONResponse(body, 200 if service.ready else 503)

    @web.get("/metrics", tags=["operation"], response_class=PlainTextResponse)
    async def metrics() -> Response:  # on the event loop, because the queues that it counts belong to it
        """Prometheus' text format."""
        return Response(service.metrics.exposition(), media_type=METRICS_TYPE)

    for route in ROUTES:
        _document(web, route)
    web.include_router(oip_routes.make_routes(oip, VERSION))

    @web.exception_handler(ServiceError)
    async def service_error(request: Request, error: ServiceError) -> Response:
        return _refusal(request, error)

    @web.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        told = ServiceError(f"{request.method} {request.url.path}: {error.detail}")
        told.status, told.type, told.title = error.status_code, f"http-{error.status_code}", str(error.detail)
        return _refusal(request, told, error.headers)

    @web.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Response:
        return _refusal(request, internal_error())  # uvicorn logs what it was

    return web


def _document(web: FastAPI, route: Route) -> None:
    """
    Enter a hot route in FastAPI's routes, for OpenAPI and for the 405 of other methods.

    A POST never comes here: the hot route in front has answered it.
    """

    async def endpoint(body: Any) -> None:
        raise AssertionError(f"{route.path} is answered in front of FastAPI. This is a bug.")

    endpoint.__annotations__ = {"body": route.request, "return": None}
    binary = {"schema": {"type": "string", "format": "binary"}}
    takes = {} if ROW_FIELDS[route.op] is None else {media.NPY: binary}
    errors = sorted({error.status for error in ServiceError.__subclasses__()} - {499})
    web.add_api_route(
        route.path,
        endpoint,
        methods=["POST"],
        response_model=route.reply,
        response_model_exclude_unset=True,
        name=route.op,
        operation_id=route.op,
        tags=["operations"],
        summary=TASKS[route.op].about,
        description=(route.reply.__doc__ or "").strip(),
        responses={200: {"content": {media.NPZ: binary, media.NPY: binary}}, **dict.fromkeys(errors, _PROBLEM)},
        openapi_extra={"requestBody": {"content": takes}},
    )


def _refusal(request: Request, error: ServiceError, headers: Any = None) -> Response:
    status, media_type, body = refuse(request.url.path, error, request.state.request_id)
    return Response(body, status, headers, media_type=media_type)
