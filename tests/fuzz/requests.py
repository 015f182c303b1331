"""Whole requests to the service, right and wrong: of every route, in every format that it reads."""

from __future__ import annotations

import io
import zlib
from random import Random
from typing import Any, Literal, NamedTuple

import numpy as np
import orjson

from service.api import ROUTES
from tests.fuzz import frames, header_fields, json_bodies, npy_files, streams
from tests.fuzz.mutations import NO_NUMBERS, NUMBERS, chance, mutate, pick

PATHS = (
    "/v1/model", "/v1/model/report", "/health/live", "/health/ready", "/v2", "/v2/", "/v2/health/ready",
    "/v2/models/stats", "/nothing", "/v2/models/encode", "/v2/models/encode/ready", "/v2/models/encode/config",
    "/v2/models/no/stats", "/v2/models/encode/versions/9", "/v2/models/encode/versions/1/infer",
    "/v2/models/encode/versions/9/infer", "/v2/models/%s/infer" % ("n" * 3000), "/v1/", "//v1/encode",
    "/v2/models/\u202e\0\ufffd/infer", "/v2/models//infer", "/v2/models/a/versions/\n/infer", "/v2/repository/index",
    "/v1/encode/",
)  # fmt: skip
HOSTS = (b"localhost", b"", b"[", b"[::1", b"a/b", b"a?b#c", b"\xff\xfe", b"x" * 5000, b"@", b":", b"//[v1.a]/")
MARKS = "a/.:#?%[]@\\ \0\n\u202e\ufffd{}\U0001f600"
METHODS = ("GET", "POST", "POST", "HEAD", "OPTIONS", "PUT", "BREW")
OPTIONS: dict[str, tuple[str, ...]] = {
    "draws": ("0", "2"), "seed": ("7", "null"), "draw": ("false", "true"), "count": ("1", "5", "6"),
    "temperature": ("1.0", "0", "10", "-1"), "truncation": ("2", "null", "0", "1e-9"), "steps": ("2", "3", "1024"),
    "method": ('"lerp"', '"slerp"'), **json_bodies.SCORE,
}  # fmt: skip


class Request(NamedTuple):
    """One request as an ASGI server hands it on; the body in pieces."""

    method: str
    path: str
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: tuple[bytes, ...]


def make(random: Random) -> Request:
    """A request of any kind: right, or wrong in its path, its headers or its body."""
    kind = pick(random, (6, "json"), (3, "npy"), (4, "frame"), (1, "cold"))
    if kind == "cold":
        body = b"{}" if chance(random, 0.5) else b""
        headers = [
            (b"content-length", b"%d" % len(body)),
            (b"host", random.choice(HOSTS)),
            (b"accept", random.choice(HOSTS)),
        ]
        path = random.choice(PATHS) if chance(random, 0.8) else "/" + "".join(random.choice(MARKS) for _ in range(9))
        return Request(random.choice(METHODS), path, b"", tuple(headers), (body,))
    op = random.choice([route.op for route in ROUTES])
    path, headers = f"/v1/{op}", list[tuple[bytes, bytes]]()
    if kind == "json":
        body = _json(random, op)
        headers.append((b"content-type", b"application/json"))
    elif kind == "npy":
        body = _npy(random)
        headers.append((b"content-type", b"application/x-npy"))
    else:
        path = f"/v2/models/{op}/infer"
        body, length = _frame(random, op)
        headers += [(b"inference-header-content-length", length)] if length else []
        if chance(random, 0.2):
            stream = streams.make(random)
            coding = random.choice(("gzip", "deflate"))
            body = stream.body if chance(random, 0.3) else zlib.compress(body, wbits=31 if coding == "gzip" else 15)
            headers.append((b"content-encoding", random.choice((coding, coding, "br")).encode()))
    query = b""
    if chance(random, 0.15):
        query = (
            header_fields.make_query(random) if chance(random, 0.5) else f"{random.choice(list(OPTIONS))}=1".encode()
        )
    if chance(random, 0.15):
        headers.append((b"accept", header_fields.make_accept(random)))
    if chance(random, 0.05):
        headers = [(b"content-type", header_fields.make_type(random))]
    if chance(random, 0.03):
        headers.append((b"x-request-timeout-ms", random.choice((b"1", b"0", b"x", b"9" * 9))))
    length = b"%d" % len(body) if chance(random, 0.97) else random.choice((b"0", b"x", b"9" * 5000, b"65537"))
    headers.append((b"content-length", length))
    cut = random.randint(0, len(body)) if chance(random, 0.1) else len(body)
    return Request("POST", path, query, tuple(headers), (body[:cut], body[cut:]) if cut < len(body) else (body,))


def _json(random: Random, op: str) -> bytes:
    if op in json_bodies.OPERATIONS and chance(random, 0.5):
        while (made := json_bodies.make(random)).operation != op:
            pass
        return made.body
    width = 4 if op == "decode" else 3
    rows = ", ".join(
        str([random.uniform(-9, 9) for _ in range(width + (chance(random, 0.03) and 1))])
        for _ in range(random.randint(2, 5))
    )
    members = {name: random.choice(texts) for name, texts in OPTIONS.items() if chance(random, 0.01)}
    useful = {"sample": ("count", "seed", "temperature", "truncation"), "interpolate": ("steps", "method")}.get(op, ())
    members |= {name: random.choice(OPTIONS[name]) for name in useful if chance(random, 0.5)}
    if op != "sample" or chance(random, 0.05):
        field = "latents" if op == "decode" else "inputs"
        members[field if chance(random, 0.9) else random.choice(("inputs", "latents"))] = f"[{rows}]"
    if chance(random, 0.1) and members:
        members[random.choice(list(members))] = random.choice(NUMBERS + NO_NUMBERS + json_bodies.ODDITIES)
    body = ("{" + ", ".join(f'"{name}": {text}' for name, text in members.items()) + "}").encode()
    return mutate(random, body, json_bodies.WORDS) if chance(random, 0.1) else body


def _order(random: Random) -> Literal["C", "F"]:
    return "C" if chance(random, 0.5) else "F"


def _npy(random: Random) -> bytes:
    if chance(random, 0.4):
        return npy_files.make(random).body
    width = random.choice((3, 3, 3, 3, 2, 4))
    array = np.array([[random.uniform(-9, 9) for _ in range(width)] for _ in range(random.choice((2, 2, 3, 5, 6)))])
    if chance(random, 0.2):
        array[0, 0] = random.choice((np.nan, np.inf, 1e308, 1e39, -0.0, 5e-324))
    file = io.BytesIO()
    with np.errstate(all="ignore"):
        np.save(file, array.astype(random.choice(("<f8", "<f4", ">f8", "<i8", "|u1", "<f2")), order=_order(random)))
    return mutate(random, file.getvalue(), npy_files.WORDS) if chance(random, 0.2) else file.getvalue()


def _frame(random: Random, op: str) -> frames.Frame:
    if chance(random, 0.4):
        return frames.make(random)
    rows = random.choice((2, 2, 3, 4, 5, 5, 6))
    name, width = (
        random.choice((("z", 4),) if op == "decode" else (("x", 3), ("x", 3), ("z", 4)))
        if op != "sample"
        else ("count", 1)
    )
    numbers = [random.uniform(-3, 3) for _ in range(rows * width)]
    tensor: dict[str, Any] = {"name": name, "shape": [rows, width], "datatype": "FP32", "data": numbers}
    if op == "sample":
        tensor |= {"shape": [1], "datatype": "INT32", "data": [rows]}
    request: dict[str, Any] = {"inputs": [tensor]}
    if chance(random, 0.4):
        names = [option for option in OPTIONS if chance(random, 0.2)]
        request["parameters"] = {option: orjson.loads(random.choice(OPTIONS[option])) for option in names}
        request["parameters"] |= {"timeout": random.choice((0, 10**9, -1, "x", 1.5))} if chance(random, 0.1) else {}
        request["parameters"] |= {"binary_data_output": chance(random, 0.5)}
    if op == "sample" or chance(random, 0.5):
        return frames.Frame(orjson.dumps(request), b"")
    del tensor["data"]
    data = np.array(numbers, np.float32).tobytes()
    tensor["parameters"] = {"binary_data_size": len(data)}
    head = orjson.dumps(request)
    return frames.Frame(head + data, b"%d" % len(head))
