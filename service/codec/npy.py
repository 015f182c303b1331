"""
numpy's own files: .npy in, .npy and .npz out. Nothing is pickled, in either direction.

A header is parsed here and not by numpy, which makes room for whatever a header says: here the sizes are compared with
the body's first. Knows one array, or arrays by name; nothing of models.
"""

from __future__ import annotations

import ast
import io
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from service.codec.rows import Array
from service.errors import MalformedBody, counted, shown

MAX_HEADER = 1024  # bytes; numpy writes 118 for any array that is taken here
_MAGIC = b"\x93NUMPY"
_PLAIN = re.compile(r"[ -\[\]-~\s]*", re.ASCII)  # without the backslash
_DTYPE = re.compile(r"[<>=|]?(?:b1|\?|[iu][1248]|f[248])")


def read(body: bytes) -> Array:
    """
    The array in a .npy file of version 1, 2 or 3, in C or Fortran order: a view of *body* in its own byte order.

    Raises MalformedBody for anything but integers, floating-point numbers of up to 64 bits and truth values.
    """
    if len(body) < 10 or not body.startswith(_MAGIC):
        raise MalformedBody("the body is not a .npy file: it does not begin with \\x93NUMPY")
    version, minor = body[6], body[7]
    if version not in (1, 2, 3) or minor:
        raise MalformedBody(f"the body is a .npy file of version {version}.{minor}; 1.0, 2.0 and 3.0 are read")
    width = 2 if version == 1 else 4
    length = int.from_bytes(body[8 : 8 + width], "little")
    start = 8 + width + length
    if length > MAX_HEADER or start > len(body):
        size = counted(length, "byte")
        raise MalformedBody(f"the .npy header has {size}; the limit is {MAX_HEADER}, and the body's end")
    dtype, shape, fortran = _header(body[8 + width : start])
    data = memoryview(body)[start:]
    needed = math.prod(shape) * dtype.itemsize
    if len(data) != needed:
        size = counted(needed, "byte")
        raise MalformedBody(f"the .npy header tells of {size}, shape {list(shape)}; {len(data)} came")
    if dtype.kind == "b" and (np.frombuffer(data, np.uint8) > 1).any():
        raise MalformedBody("the .npy file holds a truth value that is neither 0 nor 1")
    array: Array = np.frombuffer(data, dtype)
    if not array.flags.aligned:
        array = np.frombuffer(bytes(data), dtype)
    return array.reshape(shape, order="F" if fortran else "C")


def write_npy(array: Array) -> bytes:
    """One array as a .npy file, version 1."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return file.getvalue()


def write_npz(arrays: Mapping[str, Array]) -> bytes:
    """Arrays by name as a .npz file: a zip of .npy files, not compressed."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def _header(raw: bytes) -> tuple[np.dtype[np.generic], tuple[int, ...], bool]:
    text = raw.decode("latin-1")
    try:
        header = ast.literal_eval(text) if _PLAIN.fullmatch(text) else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        header = None
    if not isinstance(header, dict) or set(header) != {"descr", "fortran_order", "shape"}:
        raise MalformedBody("the .npy header is not a dictionary of descr, fortran_order and shape")
    return _dtype(header["descr"]), _shape(header["shape"]), _truth(header["fortran_order"])


def _dtype(descr: Any) -> np.dtype[np.generic]:
    if not isinstance(descr, str) or not _DTYPE.fullmatch(descr):
        raise MalformedBody(
            f"the .npy file's dtype is {shown(descr)}; integers, floats of up to 64 bits and bool are read"
        )
    return np.dtype(descr)


def _shape(shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, tuple) or len(shape) > 16 or not all(type(n) is int and n >= 0 for n in shape):
        raise MalformedBody("the .npy file's shape is not a tuple of up to 16 whole numbers of 0 or more")
    if math.prod(max(n, 1) for n in shape) > 2**40:
        raise MalformedBody("the .npy file's shape is beyond any limit here")
    return shape


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise MalformedBody("the .npy file's fortran_order is neither True nor False")
    return value
