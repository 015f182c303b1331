"""
Bodies of the Open Inference Protocol: JSON, and the binary extension's raw tensors behind it.

A body is what the header Inference-Header-Content-Length says, whatever its Content-Type: without it JSON alone; with
it that many bytes of JSON, then the raw tensors in the order of the inputs; with 0 the one tensor alone. Every size
is checked before an array is made. Knows tensors by name; nothing of models.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from service.codec.bound import check_elements
from service.codec.datatypes import NUMPY, elements, from_binary, from_json, name_of, to_binary, to_json
from service.codec.rows import Array
from service.errors import MalformedBody, counted, named, shown

LENGTH_HEADER = b"inference-header-content-length"
MAX_NAME = 100


class Raw(NamedTuple):
    """What a body is that is one tensor and nothing else."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(slots=True)
class Infer:
    """One parsed body. *outputs*: those asked for by name, and whether in binary; None: all, in *binary* or not."""

    tensors: dict[str, Array]
    id: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, bool] | None = None
    binary: bool = False


def read(body: bytes, header_length: bytes, raw: Raw | None, most: int = sys.maxsize) -> Infer:
    """
    Read a request; *header_length* is empty without the header, *raw* None where such a body has no meaning.

    Raises MalformedBody, or TooLarge for JSON of more than *most* elements (see bound.py).
    """
    length = len(body)
    if header_length:
        if not header_length.isdigit() or len(header_length) > 12 or int(header_length) > length:
            given = shown(header_length[:MAX_NAME].decode("latin-1"))
            raise MalformedBody(
                f"Inference-Header-Content-Length is {given}; it must be a whole number up to the body's {length}"
            )
        length = int(header_length)
        if not length:
            return _read_raw(body, raw)
    check_elements(body, length, most)
    view = memoryview(body)
    try:
        head = orjson.loads(view[:length])
    except orjson.JSONDecodeError as error:
        raise MalformedBody(f"the inference request is not JSON: {error}") from None
    if not isinstance(head, dict):
        raise MalformedBody("the inference request must be a JSON object")
    request_id = head.get("id")
    if not isinstance(request_id, (str, type(None))):
        raise MalformedBody("id must be a string")
    parameters = _object(head, "parameters", "the request")
    binary = _truth(parameters, "binary_data_output", "the request", False)
    return Infer(_inputs(head, view[length:]), request_id, parameters, _outputs(head, binary), binary)


def write(
    model: str, version: str, request: Infer, parameters: Mapping[str, Any], outputs: Iterable[tuple[str, Array]]
) -> tuple[bytes, int | None]:
    """A reply to *request*: the body, and the length of its JSON where raw tensors follow (None: there are none)."""
    described: list[dict[str, Any]] = []
    tail: list[memoryview] = []
    for name, array in outputs:
        tensor: dict[str, Any] = {"name": name, "datatype": name_of(array.dtype), "shape": array.shape}
        if request.binary if request.outputs is None else request.outputs[name]:
            data = to_binary(array)
            tensor["parameters"] = {"binary_data_size": data.nbytes}
            tail.append(data)
        else:
            tensor["data"] = to_json(array)
        described.append(tensor)
    reply: dict[str, Any] = {"model_name": model, "model_version": version}
    if request.id is not None:
        reply["id"] = request.id
    reply |= {"parameters": parameters, "outputs": described}
    head = orjson.dumps(reply, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join([head, *tail]), len(head)) if tail else (head, None)


def _read_raw(body: bytes, raw: Raw | None) -> Infer:
    if raw is None:
        raise MalformedBody("this model has no single input of one row; send the JSON of the request before the data")
    tensor = from_binary(raw.name, raw.datatype, raw.shape, memoryview(body))
    return Infer({raw.name: tensor}, binary=True)


def _inputs(head: dict[str, Any], tail: memoryview) -> dict[str, Array]:
    inputs = head.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise MalformedBody("inputs must be a list of tensors, of one at least")
    tensors: dict[str, Array] = {}
    at = 0
    for tensor in inputs:
        name = _name(tensor, "inputs")
        told = f"input {named(name)}"
        if name in tensors:
            raise MalformedBody(f"{told} is there twice")
        datatype, shape = tensor.get("datatype"), tensor.get("shape")
        if not isinstance(datatype, str) or datatype not in NUMPY:
            raise MalformedBody(f"{told}: its datatype must be one of {', '.join(NUMPY)}; given: {shown(datatype)}")
        elements(told, shape)
        size = _object(tensor, "parameters", told).get("binary_data_size")
        if (size is None) == ("data" not in tensor):
            raise MalformedBody(f"{told}: give data or parameters.binary_data_size, and not both")
        if size is None:
            tensors[name] = from_json(told, datatype, shape, tensor["data"])
            continue
        if type(size) is not int or size < 0:
            raise MalformedBody(f"{told}: binary_data_size is {shown(size)}; it must be a whole number of bytes")
        if size > len(tail) - at:
            raise MalformedBody(f"{told}: binary_data_size is {size}; {counted(len(tail) - at, 'byte')} left")
        tensors[name] = from_binary(told, datatype, shape, tail[at : at + size])
        at += size
    if at != len(tail):
        raise MalformedBody(f"{counted(len(tail) - at, 'byte')} left over behind the tensors")
    return tensors


def _outputs(head: dict[str, Any], binary: bool) -> dict[str, bool] | None:
    if "outputs" not in head:
        return None
    if not isinstance(head["outputs"], list):
        raise MalformedBody("outputs must be a list")
    wanted: dict[str, bool] = {}
    for output in head["outputs"]:
        name = _name(output, "outputs")
        told = f"output {named(name)}"
        if name in wanted:
            raise MalformedBody(f"{told} is there twice")
        parameters = _object(output, "parameters", told)
        if parameters.get("classification"):
            raise MalformedBody(f"{told}: classification is not done here")
        wanted[name] = _truth(parameters, "binary_data", told, binary)
    return wanted or None


def _name(tensor: Any, where: str) -> str:
    name = tensor.get("name") if isinstance(tensor, dict) else None
    if not isinstance(name, str) or len(name) > MAX_NAME:
        raise MalformedBody(f"{where} must be objects with a name of up to {MAX_NAME} characters")
    return name


def _truth(parameters: dict[str, Any], name: str, told: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if type(value) is not bool:
        raise MalformedBody(f"{name} of {told} is {shown(value)}; it must be true or false")
    return value


def _object(of: dict[str, Any], name: str, told: str) -> dict[str, Any]:
    value = of.get(name, {})
    if not isinstance(value, dict):
        raise MalformedBody(f"{name} of {told} must be an object")
    if "shared_memory_region" in value:
        raise MalformedBody(f"{told}: shared memory is not supported")
    return value
