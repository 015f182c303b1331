"""
Before anything is timed: does the server give the answers that onnxruntime gives in this process?

A wrong answer ends the benchmark: the speed of something else would be measured.
"""

from __future__ import annotations

import http.client
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.serving.failures import Refused, WrongAnswer
from benchmarks.serving.wire import Arrays, Body, Wire

RTOL, ATOL = 1e-4, 1e-4


def check(port: int, wire: Wire, bodies: Sequence[Body], expected: Sequence[Arrays]) -> None:
    """
    Post *bodies* one after another and compare each reply with *expected*: every array of it, by name.

    Raises WrongAnswer, naming the request and the array, and Refused where there is no answer.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        for k, (body, want) in enumerate(zip(bodies, expected, strict=True)):
            content, headers = _post(connection, wire.path, body)
            try:
                got = wire.read(content, headers)
            except (ValueError, KeyError) as error:
                raise WrongAnswer(f"the reply to request {k} to {wire.path} cannot be read: {error!r}") from error
            compare(f"request {k} to {wire.path}", got, want)
    except (OSError, http.client.HTTPException) as error:
        raise Refused(f"no answer from {wire.path}: {error!r}") from error
    finally:
        connection.close()


def compare(what: str, got: Arrays, want: Arrays) -> None:
    """Raise WrongAnswer where an array of *want* is not in *got*, or further from it than RTOL and ATOL."""
    for name, right in want.items():
        if name not in got:
            raise WrongAnswer(f"{what}: no {name} in the reply, only {', '.join(got) or 'nothing'}")
        if got[name].shape != right.shape:
            raise WrongAnswer(f"{what}: {name} has the shape {got[name].shape}, not {right.shape}")
        if not np.allclose(got[name], right, rtol=RTOL, atol=ATOL):
            off = float(np.abs(got[name] - right).max())
            raise WrongAnswer(f"{what}: {name} differs from onnxruntime's in this process, by up to {off:.3g}")


def _post(connection: http.client.HTTPConnection, path: str, body: Body) -> tuple[bytes, Mapping[str, str]]:
    connection.request("POST", path, body.content, dict(body.headers))
    reply = connection.getresponse()
    content = reply.read()
    if reply.status != 200:
        raise Refused(f"POST {path} was answered {reply.status}: {content[:300].decode(errors='replace')}")
    return content, {name.lower(): value for name, value in reply.getheaders()}
