"""
Inference in the Open Inference Protocol as pydantic models: what OpenAPI documents of it.

Bodies never pass through these (codec/tensors.py reads and writes them); a test holds them to it. Knows nothing of
HTTP.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from service.replies import Absent, leave_out

Datatype = Annotated[
    str,
    Field(
        pattern="^(BOOL|U?INT(8|16|32|64)|FP(16|32|64)|BF16|BYTES)$",
        description="BOOL, INT8 to INT64, UINT8 to UINT64, FP16, FP32, FP64, BF16; BYTES in replies alone",
    ),
]
Size = Annotated[int, Field(ge=0)]


class Message(BaseModel):
    """A field with the default None may be left out, and is never null."""

    model_config = ConfigDict(protected_namespaces=(), json_schema_extra=leave_out)


class OIPError(Message):
    """Every answer under /v2 but 200."""

    error: str = Field(description="what was wrong, the limit and the value")


class InputParameters(Message):
    """How one tensor of a request is sent."""

    binary_data_size: Size | Absent = Field(None, description="bytes of its raw tensor behind the JSON", examples=[256])


class InputTensor(Message):
    """One tensor of a request: *data*, or raw bytes behind the JSON."""

    name: str = Field(max_length=100, description="one of the inputs in the model's metadata")
    shape: list[Size] = Field(min_length=1, max_length=16, description="its shape; n rows first, where it is rows")
    datatype: Datatype
    data: list[Any] | Absent = Field(
        None, description="its elements in row-major order, flat or nested as shape says; not for FP16 and BF16"
    )
    parameters: InputParameters | Absent = Field(None)


class OutputParameters(Message):
    """How one tensor of a reply is wanted."""

    binary_data: bool | Absent = Field(None, description="as raw bytes behind the JSON, or in it")


class RequestedOutput(Message):
    """One tensor of the reply that is wanted."""

    name: str = Field(max_length=100, description="one of the outputs, or optional outputs, in the model's metadata")
    parameters: OutputParameters | Absent = Field(None)


class InferenceParameters(Message):
    """
    Options of the operation by the names that they have under /v1 (the model's metadata says which), and these.

    Others are ignored.
    """

    model_config = ConfigDict(extra="allow")

    binary_data_output: bool | Absent = Field(
        None, description="every output as raw bytes, where outputs does not say", examples=[True]
    )
    timeout: Annotated[int, Field(ge=0)] | Absent = Field(
        None, description="microseconds that the request may take, up to VAE_REQUEST_TIMEOUT_S; 0: no limit of its own"
    )


class InferenceRequest(Message):
    """Tensors to run a model on. See the model's metadata for its tensors and parameters."""

    id: str | Absent = Field(None, description="comes back in the reply")
    parameters: InferenceParameters | Absent = Field(None)
    inputs: list[InputTensor] = Field(min_length=1, description="each input of the model once")
    outputs: list[RequestedOutput] | Absent = Field(
        None, description="the outputs wanted, in this order; by default all"
    )


class ResponseTensorParameters(Message):
    """How one tensor of a reply is sent."""

    binary_data_size: Size = Field(description="bytes of its raw tensor behind the JSON", examples=[256])


class OutputTensor(Message):
    """One tensor of a reply: *data*, or raw bytes behind the JSON."""

    name: str = Field(description="as in the model's metadata")
    datatype: Datatype
    shape: list[Size] = Field(description="its shape; n rows first, where it is rows")
    data: list[Any] | Absent = Field(
        None, description="its elements in row-major order, in one list; null for NaN, which is: there is none"
    )
    parameters: ResponseTensorParameters | Absent = Field(None)


class ResponseParameters(Message):
    """What a reply says beside tensors: bundle_id, and what the model's metadata lists under response."""

    model_config = ConfigDict(extra="allow")

    bundle_id: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the bundle's SHA256SUMS")


class InferenceReply(Message):
    """What a model answers."""

    model_name: str = Field(description="the operation")
    model_version: str = Field(description="the bundle's version")
    id: str | Absent = Field(None, description="that of the request; there where it had one")
    parameters: ResponseParameters
    outputs: list[OutputTensor] = Field(description="the outputs, in the order in which they were asked for")
