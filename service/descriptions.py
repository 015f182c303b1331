"""
What is told of the model, of reloads and of health, as pydantic models.

FastAPI holds the replies of web.py to them. Knows nothing of HTTP.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from service.manifest import Manifest
from service.replies import Absent, ModelId, Reply


class Execution(Reply):
    """What runs the model."""

    requested: str = Field(description="VAE_DEVICE: auto, cpu, cuda or tensorrt")
    provider: str = Field(description="onnxruntime's execution provider that came of it")
    fell_back: bool = Field(
        description="auto found a GPU build of onnxruntime, and the CPU runs the model all the same"
    )
    threads: int = Field(ge=1, description="onnxruntime's CPU threads")


class Limits(Reply):
    """What one request may hold."""

    max_request_rows: int = Field(ge=1, description="rows, sent or asked for; more is 413")
    max_body_bytes: int = Field(ge=1, description="bytes of a body; more is 413")
    request_timeout_s: float = Field(
        gt=0, description="seconds from a request's headers to its answer, else 408 or 504"
    )


class ModelReply(Reply):
    """What is served: all that a client has to know to send the right rows."""

    bundle_id: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the bundle's SHA256SUMS")
    manifest: Manifest
    execution: Execution
    limits: Limits


class WorkerReload(Reply):
    """What came of it in one worker."""

    worker: int = Field(ge=0, description="its number, from 0", examples=[1])
    result: Literal["swapped", "unchanged", "refused", "failed", "gone"] = Field(
        description="gone: it ended meanwhile, and one with the version that the others serve takes its place",
        examples=["swapped"],
    )
    before: ModelId | Absent = Field(None, description="what it served when it was asked")
    model: ModelId | Absent = Field(None, description="what it serves now")
    reason: str | Absent = Field(
        None,
        description="why the newest version was refused",
        examples=["eps.npy: its SHA-256 is not the one in SHA256SUMS: changed or cut (9 bytes)"],
    )


class ReloadReply(Reply):
    """What came of looking for a newer version."""

    result: Literal["swapped", "unchanged"] = Field(description="whether another version is served than before")
    before: ModelId = Field(description="what was served when the request came")
    model: ModelId = Field(description="what is served now, by the worker that answers")
    workers: list[WorkerReload] | Absent = Field(
        None, description="what came of it in each worker; there where there are several"
    )


class Live(Reply):
    """The process answers."""

    live: bool = Field(description="always true")


class Ready(Reply):
    """Whether requests should be sent here."""

    ready: bool = Field(description="verified, warmed up, self-checked, and not draining")
    draining: bool = Field(description="SIGTERM came: requests are still answered, and should go elsewhere")
    execution: Execution | Absent = Field(None, description="what runs the model; there when ready")
