"""
The wire formats that are measured: rows to the body of a request, the body of a reply to arrays.

Independent of the service's own codecs, which are under test. Knows no sockets.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Arrays = dict[str, NDArray[Any]]

HEADER = "Inference-Header-Content-Length"
_DTYPES = {"FP32": "<f4", "FP64": "<f8", "INT8": "i1"}


@dataclass(frozen=True)
class Body:
    """What is posted."""

    content: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Wire:
    """One format at one path. *read* gets the reply's content and its headers, with their names in lower case."""

    path: str
    write: Callable[[Floats], Body]
    read: Callable[[bytes, Mapping[str, str]], Arrays]


def plain_json(path: str) -> Wire:
    """`{"inputs": [[...]]}` to `{"mu": [[...]], ...}`; numbers have six digits, as in a file of features."""

    def write(x: Floats) -> Body:
        return Body(json.dumps({"inputs": _rounded(x)}).encode(), {"Content-Type": "application/json"})

    def read(content: bytes, headers: Mapping[str, str]) -> Arrays:
        reply = json.loads(content)
        if isinstance(reply, list):  # BentoML's batched reply is one array: mu and logvar side by side
            mu, logvar = np.split(np.array(reply), 2, axis=1)
            return {"mu": mu, "logvar": logvar}
        return {name: np.array(value) for name, value in reply.items() if isinstance(value, list)}

    return Wire(path, write, read)


def tensor_json(path: str) -> Wire:
    """The Open Inference Protocol in JSON."""

    def write(x: Floats) -> Body:
        data = _rounded(x.ravel())
        tensor = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": data}
        return Body(json.dumps({"inputs": [tensor]}).encode(), {"Content-Type": "application/json"})

    def read(content: bytes, headers: Mapping[str, str]) -> Arrays:
        outputs = json.loads(content)["outputs"]
        return {out["name"]: np.array(out["data"]).reshape(out["shape"]) for out in outputs}

    return Wire(path, write, read)


def tensor_binary(path: str, **parameters: object) -> Wire:
    """The Open Inference Protocol with its binary tensor extension, both ways."""

    def write(x: Floats) -> Body:
        content = x.astype("<f4").tobytes()
        size = {"binary_data_size": len(content)}
        tensor = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "parameters": size}
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True, **parameters}}).encode()
        return Body(head + content, {HEADER: str(len(head)), "Content-Type": "application/octet-stream"})

    def read(content: bytes, headers: Mapping[str, str]) -> Arrays:
        start = int(headers[HEADER.lower()])
        found: Arrays = {}
        for out in json.loads(content[:start])["outputs"]:
            end = start + out["parameters"]["binary_data_size"]
            if out["datatype"] in _DTYPES:
                array = np.frombuffer(content[start:end], _DTYPES[out["datatype"]])
                found[out["name"]] = array.reshape(out["shape"])
            start = end
        return found

    return Wire(path, write, read)


def raw(path: str, latents: int = 32) -> Wire:
    """The floor's own: nothing but the numbers."""

    def write(x: Floats) -> Body:
        return Body(x.tobytes(), {"Content-Type": "application/octet-stream"})

    def read(content: bytes, headers: Mapping[str, str]) -> Arrays:
        mu, logvar = np.frombuffer(content, np.float32).reshape(2, -1, latents)
        return {"mu": mu, "logvar": logvar}

    return Wire(path, write, read)


def _rounded(x: Floats) -> Any:
    """Nested lists of numbers with six digits."""
    return x.astype(np.float64).round(6).tolist()
