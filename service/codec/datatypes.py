"""
The datatypes of the Open Inference Protocol: one tensor as numbers in JSON or as raw bytes, and as a numpy array.

FP16 and BF16 have no form in JSON; BYTES are only written. Little-endian, row-major. Knows one tensor at a time;
nothing of bodies or models.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from service.codec.rows import Array
from service.errors import MalformedBody, counted

NUMPY: dict[str, np.dtype[np.generic]] = {
    "BOOL": np.dtype("?"),
    **{f"{kind}{8 * size}": np.dtype(f"<{kind[0].lower()}{size}") for kind in ("INT", "UINT") for size in (1, 2, 4, 8)},
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BF16": np.dtype("<u2"),  # its bits; `from_binary` makes them float32
}
"""What an input may be: the dtype of its bytes by datatype."""

_NAMES = {dtype: name for name, dtype in NUMPY.items() if name != "BF16"}
_JSON: dict[str, set[type]] = {"b": {bool}, "f": {int, float}}  # by kind of dtype; the others: {int}
_BINARY_ONLY = {"FP16", "BF16"}
MAX_ELEMENTS = 2**40  # of a shape, an empty axis counting as one: no arithmetic on shapes overflows


def name_of(dtype: np.dtype[np.generic]) -> str:
    """The datatype of arrays of this dtype."""
    return "BYTES" if dtype.kind == "U" else _NAMES[dtype]


def elements(told: str, shape: Any) -> int:
    """The number of elements that *shape* has room for. Raises MalformedBody for what is no shape; *told*: whose."""
    if not isinstance(shape, list) or not shape or len(shape) > 16 or not all(type(n) is int and n >= 0 for n in shape):
        raise MalformedBody(f"{told}: shape must be a list of 1 to 16 whole numbers of 0 or more")
    if math.prod(max(n, 1) for n in shape) > MAX_ELEMENTS:
        raise MalformedBody(f"{told}: the shape {shape} is beyond any limit here")
    return math.prod(shape)


def from_binary(told: str, datatype: str, shape: Sequence[int], data: memoryview) -> Array:
    """The tensor in *data*: a view of it where its place in memory allows. Raises MalformedBody."""
    dtype = NUMPY[datatype]
    needed = math.prod(shape) * dtype.itemsize
    if len(data) != needed:
        size = counted(needed, "byte")
        raise MalformedBody(f"{told}: {datatype} of shape {list(shape)} has {size}; {len(data)} came")
    if datatype == "BOOL" and (np.frombuffer(data, np.uint8) > 1).any():
        raise MalformedBody(f"{told}: a BOOL is a byte of 0 or 1")
    array: Array = np.frombuffer(data, dtype)
    if not array.flags.aligned:
        array = np.frombuffer(bytes(data), dtype)
    if datatype == "BF16":
        bits = array.astype(np.uint32)
        bits <<= 16
        array = bits.view(np.float32)
    return array.reshape(shape)


def from_json(told: str, datatype: str, shape: Sequence[int], data: Any) -> Array:
    """
    The tensor of the list *data*, flat or nested as *shape* says. Raises MalformedBody.

    FP32 comes as float64, as numbers are in JSON: whoever casts it to float32 sees what does not fit.
    """
    if datatype in _BINARY_ONLY:
        raise MalformedBody(f"{told}: {datatype} has no form in JSON; send it as binary data")
    if not isinstance(data, list):
        raise MalformedBody(f"{told}: data must be a list")
    flat = data
    if data and isinstance(data[0], list):
        if len(data) != shape[0]:
            raise _misshapen(told, shape)
        for size in shape[1:]:
            if not set(map(type, flat)) <= {list} or not set(map(len, flat)) <= {size}:
                raise _misshapen(told, shape)
            flat = list(chain.from_iterable(flat))
    if len(flat) != math.prod(shape):
        raise _misshapen(told, shape)
    kind = NUMPY[datatype].kind
    if not set(map(type, flat)) <= _JSON.get(kind, {int}):
        what = {"b": "true or false", "f": "numbers"}.get(kind, "whole numbers")
        hint = "; there is no null: where a value may be missing, it is false in the tensor mask, or NaN in binary data"
        raise MalformedBody(
            f"{told}: the data of {datatype} must be {what}, flat or nested as the shape {list(shape)}"
            f"{hint if kind == 'f' and None in flat else ''}"
        )
    try:
        return np.array(flat, np.float64 if kind == "f" else NUMPY[datatype]).reshape(shape)
    except OverflowError:
        raise MalformedBody(f"{told}: the data holds a number that is no {datatype}") from None


def to_binary(array: Array) -> memoryview:
    """The bytes of a tensor: those of the array itself where it has them in order."""
    if array.dtype.kind != "U":
        return np.ascontiguousarray(array).data
    texts = [str(text).encode() for text in array.ravel()]
    return memoryview(b"".join([struct.pack("<I", len(text)) + text for text in texts]))


def to_json(array: Array) -> list[Any] | Array:
    """The elements of a tensor in one list; NaN becomes null."""
    return array.ravel().tolist() if array.dtype.kind == "U" else np.ascontiguousarray(array).ravel()


def _misshapen(told: str, shape: Sequence[int]) -> MalformedBody:
    return MalformedBody(f"{told}: data does not have the shape {list(shape)}, flat or nested")
