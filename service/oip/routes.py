"""
The routes of the Open Inference Protocol that need not be fast, and the documentation of the one that is.

Every answer but 200 is `{"error": ...}` (http/refusals.py). Computes nothing.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from service.oip.endpoint import OIP

COLD_ROUTES = ("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/stats", "/v2/repository/index")
PREFIX = "/v2/models"
"""The label in the metrics of all routes that name a model, infer apart."""
EXTENSIONS = ("binary_tensor_data", "statistics", "model_configuration")


class OIPError(BaseModel):
    """Every answer under /v2 but 200."""

    error: str


class InputTensor(BaseModel):
    """One tensor of a request: *data*, or raw bytes behind the JSON."""

    name: str
    shape: list[int]
    datatype: str = Field(description="BOOL, INT8 to INT64, UINT8 to UINT64, FP16, FP32, FP64 or BF16")
    data: list[Any] | None = Field(None, description="row-major, flat or nested")
    parameters: dict[str, Any] | None = Field(None, description="binary_data_size: bytes of its raw tensor")


class RequestedOutput(BaseModel):
    """One tensor of the reply that is wanted."""

    name: str
    parameters: dict[str, Any] | None = Field(None, description="binary_data: as raw bytes, or in JSON")


class InferenceRequest(BaseModel):
    """See docs/oip.md, and the model's metadata for its tensors and parameters."""

    id: str | None = None
    parameters: dict[str, Any] | None = Field(
        None, description="the operation's options; binary_data_output; timeout in microseconds"
    )
    inputs: list[InputTensor]
    outputs: list[RequestedOutput] | None = Field(None, description="by default all")


class OutputTensor(BaseModel):
    """One tensor of a reply."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class InferenceReply(BaseModel):
    """What a model answers."""

    model_config = ConfigDict(protected_namespaces=())

    model_name: str
    model_version: str
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[OutputTensor]


def make_routes(oip: OIP, version: str) -> APIRouter:
    """The routes under /v2 of *oip*; *version* is the server's."""
    # "default" also keeps FastAPI from adding its own 422, which is never sent here
    refused: dict[int | str, dict[str, Any]] = {"default": {"model": OIPError, "description": "Every other answer."}}
    router = APIRouter(prefix="/v2", tags=["open inference protocol"], responses=refused)

    def server() -> dict[str, Any]:
        """The server, and the extensions of the protocol that it has."""
        return {"name": "vae-serve", "version": version, "extensions": EXTENSIONS}

    router.add_api_route("", server, operation_id="v2_server_metadata")
    router.add_api_route("/", server, include_in_schema=False)

    @router.get("/health/live", operation_id="v2_server_live")
    def live() -> dict[str, bool]:
        """200 while the process answers at all."""
        return {"live": True}

    @router.get("/health/ready", operation_id="v2_server_ready")
    def ready() -> dict[str, bool]:
        """200 when inference requests are answered; 503 before, and from SIGTERM on."""
        oip.check_ready()
        return {"ready": True, "live": True}

    @router.get("/models/stats", operation_id="v2_statistics")
    def every_models_statistics() -> dict[str, Any]:
        """The statistics of every model."""
        return {"model_stats": [statistics(name)["model_stats"][0] for name in oip.catalog().models]}

    @router.post("/repository/index", operation_id="v2_repository_index")
    def index() -> list[dict[str, str]]:
        """The models that are served."""
        return oip.catalog().index()

    def metadata(model: str, version: str | None = None) -> dict[str, Any]:
        """The tensors and parameters of a model."""
        return oip.catalog().metadata(oip.model(model, version))

    def model_ready(model: str, version: str | None = None) -> dict[str, Any]:
        """200 when the model answers inference requests."""
        oip.model(model, version)
        oip.check_ready()
        return {"name": model, "ready": True}

    def config(model: str, version: str | None = None) -> dict[str, Any]:
        """The configuration of a model, as Triton's tools read it."""
        return oip.catalog().config(oip.model(model, version))

    def statistics(model: str, version: str | None = None) -> dict[str, Any]:
        """What was done since the start, in counts and nanoseconds, over all routes of the operation."""
        found = oip.model(model, version)
        return {"model_stats": [oip.statistics.of(found.op, oip.catalog().version)]}

    def infer(body: InferenceRequest, model: str, version: str | None = None) -> None:
        """Run a model on tensors, in JSON or behind it in raw bytes."""
        raise AssertionError(f"{model} is answered in front of FastAPI. This is a bug.")

    for path, prefix in (("/models/{model}", "v2_"), ("/models/{model}/versions/{version}", "v2_version_")):
        router.add_api_route(path, metadata, operation_id=f"{prefix}metadata")
        router.add_api_route(f"{path}/ready", model_ready, operation_id=f"{prefix}ready")
        router.add_api_route(f"{path}/config", config, operation_id=f"{prefix}config")
        router.add_api_route(f"{path}/stats", statistics, operation_id=f"{prefix}model_statistics")
        router.add_api_route(
            f"{path}/infer",
            infer,
            methods=["POST"],
            operation_id=f"{prefix}infer",
            response_model=InferenceReply,
            response_model_exclude_unset=True,
        )
    return router
