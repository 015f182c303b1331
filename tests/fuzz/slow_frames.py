"""
A slow reader of the Open Inference Protocol's bodies, made from the specification.

The standard library's JSON and struct, one number at a time. Shares nothing with service/codec but what it has to be
told: the tensor that a body without JSON is, and how much JSON a request may have.
"""

from __future__ import annotations

import json
import math
import struct
import sys
from typing import Any

FORMATS = {
    "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q",
    "FP16": "e", "FP32": "f", "FP64": "d", "BF16": "H", "BOOL": "B",
}  # fmt: skip
"""struct's formats; BF16 is the upper half of a float32."""
Tensors = dict[str, tuple[list[int], list[Any]]]
"""Shape and numbers by name."""


class _WrongError(Exception):
    """What the slow reader refuses."""


def _need(truth: object) -> None:
    if not truth:
        raise _WrongError


def read(body: bytes, header: bytes, raw: tuple[str, str, tuple[int, ...]], most: int) -> Tensors | None:
    """The tensors of a request by name: shape and numbers. None where it is none."""
    try:
        return _read(body, header, raw, most)
    except _WrongError:
        return None


def _read(body: bytes, header: bytes, raw: tuple[str, str, tuple[int, ...]], most: int) -> Tensors:
    length = len(body)
    if header:
        _need(len(header) <= 12 and all(byte in b"0123456789" for byte in header))
        length = int(header)
        _need(length <= len(body))
        if length == 0:
            name, datatype, fixed = raw
            return {name: (list(fixed), _unpacked(datatype, list(fixed), body))}
    head = _json(body[:length])
    _need(isinstance(head, dict) and isinstance(head.get("id"), (str, type(None))))
    _need(sum(map(body[:length].count, (b",", b"[", b"{"))) <= most)
    _need(isinstance(_parameters(head).get("binary_data_output", False), bool))
    tail = body[length:]
    found: Tensors = {}
    _need(isinstance(head.get("inputs"), list) and head["inputs"])
    for tensor in head["inputs"]:
        _need(isinstance(tensor, dict) and isinstance(tensor.get("name"), str) and len(tensor["name"]) <= 100)
        _need(tensor["name"] not in found)
        shape, datatype = tensor.get("shape"), tensor.get("datatype")
        _need(isinstance(datatype, str) and datatype in FORMATS)
        _need(isinstance(shape, list) and 1 <= len(shape) <= 16)
        _need(all(type(size) is int and 0 <= size < 2**64 for size in shape))
        _need(math.prod(size or 1 for size in shape) <= 2**40)
        size = _parameters(tensor).get("binary_data_size")
        _need((size is None) == ("data" in tensor))
        if size is None:
            numbers = _listed(datatype, shape, tensor["data"])
        else:
            _need(type(size) is int and 0 <= size <= len(tail))
            numbers, tail = _unpacked(datatype, shape, tail[:size]), tail[size:]
        found[tensor["name"]] = (shape, numbers)
    _need(not tail)
    outputs = head.get("outputs", [])
    _need(isinstance(outputs, list))
    for output in outputs:
        _need(isinstance(output, dict) and isinstance(output.get("name"), str) and len(output["name"]) <= 100)
        _need(not _parameters(output).get("classification"))
        _need(isinstance(_parameters(output).get("binary_data", False), bool))
    _need(len({output["name"] for output in outputs}) == len(outputs))
    return found


def _parameters(of: dict[str, Any]) -> dict[str, Any]:
    found = of.get("parameters", {})
    _need(isinstance(found, dict) and "shared_memory_region" not in found)
    assert isinstance(found, dict)
    return found


def _unpacked(datatype: str, shape: list[int], data: bytes) -> list[Any]:
    code = FORMATS[datatype]
    count = math.prod(shape)
    _need(len(data) == count * struct.calcsize(f"<{code}"))
    numbers: list[Any] = list(struct.unpack(f"<{count}{code}", data))
    if datatype == "BOOL":
        _need(all(number in (0, 1) for number in numbers))
        return [number == 1 for number in numbers]
    if datatype == "BF16":  # the upper half of a float32
        return [struct.unpack("<f", struct.pack("<I", number << 16))[0] for number in numbers]
    return numbers


def _listed(datatype: str, shape: list[int], data: Any) -> list[Any]:
    _need(datatype not in ("FP16", "BF16") and isinstance(data, list))
    nested = bool(data) and isinstance(data[0], list)
    numbers = _flat(data, shape) if nested else data
    _need(len(numbers) == math.prod(shape))
    if datatype == "BOOL":
        _need(all(isinstance(number, bool) for number in numbers))
    elif datatype.startswith("FP"):
        _need(all(type(number) in (int, float) for number in numbers))
        numbers = [float(number) for number in numbers]
    else:
        _need(all(type(number) is int for number in numbers))
        try:
            struct.pack(f"<{len(numbers)}{FORMATS[datatype]}", *numbers)
        except struct.error:
            raise _WrongError from None
    return list(numbers)


def _flat(data: Any, shape: list[int]) -> list[Any]:
    if not shape:
        _need(not isinstance(data, list))
        return [data]
    _need(isinstance(data, list) and len(data) == shape[0])
    return [number for item in data for number in _flat(item, shape[1:])]


def _json(text: bytes) -> Any:
    """RFC 8259, numbers within float64, no lone surrogates, at most 1,024 lists and objects in one another."""

    def refuse(word: str) -> None:
        raise _WrongError

    def number(word: str) -> float:
        _need(math.isfinite(float(word)))
        return float(word)

    def whole(word: str) -> int:
        number(word)
        return int(word) if len(word) < 400 else 0

    deepest = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)
    try:
        found = json.loads(text.decode(), parse_constant=refuse, parse_float=number, parse_int=whole)
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise _WrongError from None
    finally:
        sys.setrecursionlimit(deepest)
    return found
