"""
The routes of the Open Inference Protocol that need not be fast.

Every answer but 200 is `{"error": ...}` (http/refusals.py). Computes nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter

from service.errors import NotReady, UnknownModel
from service.http.refusals import documented
from service.oip import descriptions
from service.oip.endpoint import OIP

COLD_ROUTES = ("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/stats", "/v2/repository/index")
PREFIX = "/v2/models"
"""The label in the metrics of all routes that name a model, infer apart."""
INFER = ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer")
"""Answered by oip/endpoint.py, in front of all this."""
TAG = "inference-protocol"
EXTENSIONS = ("binary_tensor_data", "statistics", "model_configuration")
Answer = Callable[[str, str | None], Awaitable[dict[str, Any]]]
"""What is told of a model, in a version or (None) in the one that is served."""


def make_routes(oip: OIP, version: str) -> APIRouter:
    """The routes under /v2 of *oip*; *version* is the server's."""
    router = APIRouter(prefix="/v2", tags=[TAG])
    always = documented("/v2")
    ready_alone = documented("/v2", NotReady)
    of_a_model = documented("/v2", UnknownModel, NotReady)

    def server() -> dict[str, Any]:
        """The server, and the extensions of the protocol that it has."""
        return {"name": "vae-serve", "version": version, "extensions": EXTENSIONS}

    router.add_api_route(
        "",
        server,
        operation_id="v2_server_metadata",
        summary="The server",
        response_model=descriptions.ServerMetadata,
        responses=always,
    )
    router.add_api_route("/", server, include_in_schema=False)

    @router.get(
        "/health/live",
        operation_id="v2_server_live",
        summary="Liveness",
        response_model=descriptions.ServerLive,
        responses=always,
    )
    def live() -> dict[str, bool]:
        """200 while the process answers at all."""
        return {"live": True}

    @router.get(
        "/health/ready",
        operation_id="v2_server_ready",
        summary="Readiness",
        response_model=descriptions.ServerReady,
        responses=ready_alone,
    )
    def ready() -> dict[str, bool]:
        """200 when inference requests are answered; 503 before, and from SIGTERM on."""
        oip.check_ready()
        return {"ready": True, "live": True}

    @router.get(
        "/models/stats",
        operation_id="v2_statistics",
        summary="Statistics of every model",
        response_model=descriptions.ModelStatistics,
        responses=ready_alone,
    )
    async def every_models_statistics() -> dict[str, Any]:
        """What was done since the start, in counts and nanoseconds, over all routes of each operation."""
        counted, catalog = await oip.service.statistics(), oip.catalog()
        return {"model_stats": [counted.of(op, catalog.version) for op in catalog.models]}

    @router.post(
        "/repository/index",
        operation_id="v2_repository_index",
        summary="The models",
        response_model=list[descriptions.IndexedModel],
        responses=ready_alone,
        response_description="The models that are served.",
    )
    def index() -> list[dict[str, str]]:
        """The models that are served. A body is not read."""
        return oip.catalog().index()

    async def metadata(model: str, version: str | None) -> dict[str, Any]:
        """The tensors and parameters of a model."""
        return oip.catalog().metadata(oip.model(model, version))

    async def model_ready(model: str, version: str | None) -> dict[str, Any]:
        """200 when the model answers inference requests."""
        oip.model(model, version)
        oip.check_ready()
        return {"name": model, "ready": True}

    async def config(model: str, version: str | None) -> dict[str, Any]:
        """The configuration of a model, as Triton's tools read it."""
        return oip.catalog().config(oip.model(model, version))

    async def statistics(model: str, version: str | None) -> dict[str, Any]:
        """What was done since the start, in counts and nanoseconds, over all routes of the operation."""
        found = oip.model(model, version)
        return {"model_stats": [(await oip.service.statistics()).of(found.op, oip.catalog().version)]}

    for below, answer, name, about, reply in (
        ("", metadata, "metadata", "Metadata of a model", descriptions.ModelMetadata),
        ("/ready", model_ready, "ready", "Readiness of a model", descriptions.ModelReady),
        ("/config", config, "config", "Configuration of a model", descriptions.ModelConfig),
        ("/stats", statistics, "statistics", "Statistics of a model", descriptions.ModelStatistics),
    ):
        for path, of, told, endpoint in (
            ("/models/{model}", "v2_model", "", _of_newest(answer)),
            ("/models/{model}/versions/{version}", "v2_model_version", ", in one version", _of_version(answer)),
        ):
            router.add_api_route(
                path + below,
                endpoint,
                operation_id=f"{of}_{name}",
                summary=about + told,
                description=answer.__doc__,
                response_model=reply,
                response_model_exclude_unset=True,
                responses=of_a_model,
            )
    return router


def _of_version(answer: Answer) -> Callable[[str, str], Awaitable[dict[str, Any]]]:
    """*answer* where the path names a version."""

    async def endpoint(model: str, version: str) -> dict[str, Any]:
        return await answer(model, version)

    return endpoint


def _of_newest(answer: Answer) -> Callable[[str], Awaitable[dict[str, Any]]]:
    """*answer* where the path names no version."""

    async def endpoint(model: str) -> dict[str, Any]:
        return await answer(model, None)

    return endpoint
