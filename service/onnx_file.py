"""
What an ONNX file holds that onnxruntime would act on without asking: external data, custom operators.

Walks the protobuf wire format of the few messages on the way to a tensor or an operator name, because the
`onnx` package is a heavy dependency for two questions. Knows nothing of bundles.
Field numbers: onnx/onnx.proto3, IR version 10 (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3).
"""

from __future__ import annotations

from collections.abc import Iterator

MESSAGES: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 8: "Opset", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 9: "Opset", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
    "Opset": {},
}
"""Message -> field number -> the message in that field, for the fields worth descending into."""

TENSOR_NAME, EXTERNAL_DATA, DATA_LOCATION = 8, 13, 14
NODE_OP_TYPE, NODE_DOMAIN = 4, 7
OPSET_DOMAIN = 1
STANDARD_DOMAINS = (b"", b"ai.onnx")
MAX_DEPTH = 32


def refusal(model: bytes) -> str | None:
    """Why *model*, a serialized ModelProto, must not be loaded; None when there is no reason."""
    try:
        return _refusal(memoryview(model), "Model", 0)
    except (IndexError, ValueError) as error:
        return f"not an ONNX model ({error})"


def _refusal(data: memoryview, message: str, depth: int) -> str | None:
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    inside = MESSAGES[message]
    found: dict[int, bytes] = {}
    external = False
    for number, value in _fields(data):
        if number in inside:
            if isinstance(value, int):
                raise ValueError(f"field {number} of {message} is not a message")
            if reason := _refusal(value, inside[number], depth + 1):
                return reason
        elif message == "Tensor" and number == DATA_LOCATION:
            external |= value == 1
        elif message == "Tensor" and number == EXTERNAL_DATA:
            external = True
        elif not isinstance(value, int) and number in (OPSET_DOMAIN, NODE_OP_TYPE, NODE_DOMAIN, TENSOR_NAME):
            found[number] = bytes(value[:256])
    if external:
        return f"tensor {_text(found.get(TENSOR_NAME))!r} keeps its data in another file"
    if message == "Node" and found.get(NODE_DOMAIN, b"") not in STANDARD_DOMAINS:
        return f"custom operator {_text(found.get(NODE_DOMAIN))}::{_text(found.get(NODE_OP_TYPE))}"
    if message == "Opset" and found.get(OPSET_DOMAIN, b"") not in STANDARD_DOMAINS:
        return f"operators of the domain {_text(found.get(OPSET_DOMAIN))!r}"
    return None


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Each field of one protobuf message: its number, and its integer or its bytes."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire} at byte {at}")
        if at + size > end:
            raise ValueError(f"field {number} is cut short: {size} bytes announced, {end - at} there")
        yield number, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError(f"a number of more than 64 bits at byte {at}")
