"""
Metadata, configuration and statistics of the Open Inference Protocol as pydantic models.

FastAPI holds the replies of oip/routes.py to them. Knows nothing of HTTP.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from service.inputs import Column, Windows
from service.oip.messages import Datatype, Message
from service.replies import Absent, ModelId

Count = Annotated[int, Field(ge=0)]
Nanoseconds = Annotated[int, Field(ge=0)]


class ServerMetadata(Message):
    """The server, and the extensions of the protocol that it has."""

    name: str = Field(description="vae-serve")
    version: str = Field(description="the server's version")
    extensions: list[str] = Field(description="names that the protocol gives them")


class ServerLive(Message):
    """The process answers."""

    live: bool = Field(description="always true")


class ServerReady(Message):
    """Inference requests are answered; else the status is 503."""

    ready: bool = Field(description="always true")
    live: bool = Field(description="always true")


class ModelReady(Message):
    """The model answers inference requests; else the status is 404 or 503."""

    name: str = Field(description="the operation")
    ready: bool = Field(description="always true")


class TensorMetadata(Message):
    """One tensor of a model."""

    name: str = Field(description="its name in requests and replies")
    datatype: Datatype = Field(description="what the model computes in; other numeric types are taken as well")
    shape: list[int] = Field(description="its shape; -1 is a free axis")


class OptionalTensorMetadata(TensorMetadata):
    """An output that is there with a parameter."""

    needs: str = Field(description="the parameter")


class MetadataParameters(Message):
    """What the protocol has no place for."""

    about: str = Field(description="what the operation does")
    bundle: ModelId
    request: dict[str, JsonValue] = Field(description="the parameters of a request: a JSON Schema for each")
    response: list[str] = Field(description="parameters that a reply may have")
    optional_inputs: list[str] = Field(description="inputs that need not be given; of x and z, where both are, one is")
    optional_outputs: list[OptionalTensorMetadata] = Field(description="outputs that a parameter asks for")
    max_rows: int = Field(ge=1, description="rows that one request may have")
    columns: list[Column] | Absent = Field(
        None,
        description="what the numbers of mean are, and of x where it is rows; there for models of tables",
    )
    windows: Windows | Absent = Field(
        None, description="how rows are made of x, the readings of a series; there for models of windows"
    )


class ModelMetadata(Message):
    """The tensors and parameters of a model."""

    name: str = Field(description="the operation")
    versions: list[str] = Field(description="the one version that is served")
    platform: str = Field(description="onnxruntime_onnx")
    inputs: list[TensorMetadata] = Field(description="tensors of a request")
    outputs: list[TensorMetadata] = Field(description="tensors that every reply has")
    parameters: MetadataParameters


class ConfiguredTensor(Message):
    """One tensor of a model, as Triton's tools read it."""

    name: str = Field(description="its name")
    data_type: str = Field(description="TYPE_ and the datatype")
    dims: list[str] = Field(description="its shape without the axis of the batch; -1 is a free axis")
    optional: bool | Absent = Field(None, description="whether it may be left out; there where it may", examples=[True])


class ConfiguredString(Message):
    """A value, as protobuf's JSON has it."""

    string_value: str = Field(description="the value")


class LatestVersions(Message):
    """The newest versions are served."""

    num_versions: int = Field(ge=1, description="how many")


class VersionPolicy(Message):
    """Which versions are served."""

    latest: LatestVersions


class ModelConfig(Message):
    """The configuration of a model, as Triton's tools read it."""

    name: str = Field(description="the operation")
    platform: str = Field(description="onnxruntime_onnx")
    backend: str = Field(description="onnxruntime")
    version_policy: VersionPolicy
    max_batch_size: int = Field(ge=0, description="rows that one request may have; 0: its first axis is no batch")
    dynamic_batching: dict[str, JsonValue] = Field(description="empty: there is dynamic batching")
    input: list[ConfiguredTensor] = Field(description="tensors of a request")
    output: list[ConfiguredTensor] = Field(description="tensors that every reply has")
    parameters: dict[str, ConfiguredString] = Field(description="bundle_id")


class IndexedModel(Message):
    """One model of the repository."""

    name: str = Field(description="the operation")
    version: str = Field(description="the bundle's version")
    state: Literal["READY"] = Field(description="those that are not ready are not listed")
    reason: str = Field(description="empty")


class Duration(Message):
    """How often, and how long in all."""

    count: Count = Field(description="times")
    ns: Nanoseconds = Field(description="nanoseconds, summed")


class InferenceStatistics(Message):
    """Requests since the start, each counted at its end."""

    success: Duration = Field(description="good answers, from the request's headers to its reply")
    fail: Duration = Field(description="all others")
    queue: Duration = Field(description="of the good ones, the wait for the model")
    compute_input: Duration = Field(description="of the good ones, parsing")
    compute_infer: Duration = Field(description="of the good ones, the whole time of the batches their rows were in")
    compute_output: Duration = Field(description="of the good ones, writing")
    cache_hit: Duration = Field(description="there is no cache: 0")
    cache_miss: Duration = Field(description="there is no cache: 0")


class BatchStatistics(Message):
    """Batches of one size."""

    batch_size: int = Field(ge=1, description="rows")
    compute_input: Duration = Field(description="not known: 0")
    compute_infer: Duration = Field(description="running the model")
    compute_output: Duration = Field(description="not known: 0")


class OneModelsStatistics(Message):
    """What one operation did since the start, over /v1 and /v2 together."""

    name: str = Field(description="the operation")
    version: str = Field(description="the bundle's version")
    last_inference: int = Field(ge=0, description="end of the last request: milliseconds since 1970; 0: none yet")
    inference_count: Count = Field(description="rows answered")
    execution_count: Count = Field(description="batches run")
    inference_stats: InferenceStatistics
    response_stats: dict[str, JsonValue] = Field(description="empty: of decoupled models alone")
    batch_stats: list[BatchStatistics] = Field(description="one entry for each size that a batch had")
    memory_usage: list[JsonValue] = Field(description="empty: not known")


class ModelStatistics(Message):
    """Statistics of one model, or of all."""

    model_stats: list[OneModelsStatistics] = Field(description="one entry a model")
