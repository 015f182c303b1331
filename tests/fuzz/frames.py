"""
Bodies of the Open Inference Protocol, right and wrong, and what their reader owes: the tensors of the protocol's text.

`slow_frames.py` reads a body by the specification; the reader must give the same tensors, and refuse what it refuses.
"""

from __future__ import annotations

import math
import struct
from random import Random
from typing import Any, NamedTuple

import numpy as np

from service.codec.datatypes import NUMPY, name_of
from service.codec.rows import RowSpec
from service.codec.tensors import Raw, read
from service.errors import ServiceError
from tests.fuzz import slow_frames
from tests.fuzz.mutations import NO_NUMBERS, NUMBERS, SIZES, chance, mutate, octets, pick
from tests.fuzz.verdicts import check_refusal

RAW = Raw("x", "FP32", (1, 3))
ROW = RowSpec("x", (3,), np.dtype(np.float32))
MOST = 600  # elements of JSON
STRANGE = ("BYTES", "fp32", "FP8", "", "STRING", "FP32 ", "x" * 500)
WORDS = tuple(
    text.encode()
    for text in (
        *("[[", "]]", '"data"', '"shape"', '"binary_data_size"', '"parameters"', "null", "true"),
        *'[]{},:"\\ \0',
        *NO_NUMBERS[:12],
        *NUMBERS[:12],
    )
)  # fmt: skip
ODD = (
    "null", "true", "[]", "{}", '"3"', "1.5", "-1", "[[]]", '{"a": 1}', '""', "1e400", "NaN", '"\\ud800"',
    '"\\u0000\\n"', '"' + "y" * 400 + '"',
)  # fmt: skip


class Frame(NamedTuple):
    """One body, and its header Inference-Header-Content-Length."""

    body: bytes
    header: bytes


def make(random: Random) -> Frame:
    """A request: right, or wrong in a member, a size, an order or a byte."""
    inputs, tail = [], b""
    for index in range(random.choice((1, 1, 1, 2, 3))):
        tensor, data = _tensor(random, ("x", "z", "y\\n")[index])
        inputs.append(tensor)
        tail += data
    if chance(random, 0.04):
        inputs = random.choice(([], inputs * 2, [*inputs, {}]))
    members = {"inputs": "[" + ", ".join(map(_object, inputs)) + "]"}
    if chance(random, 0.2):
        members["id"] = random.choice(('"7"', '"\\u00e9"', *ODD))
    if chance(random, 0.3):
        parameters = {
            name: random.choice(ODD + NUMBERS[:9]) for name in ("draws", "binary_data_output") if chance(random, 0.6)
        }
        parameters |= {"deep": "[" * 1023 + "]" * 1023} if chance(random, 0.02) else {}
        members["parameters"] = (
            random.choice((_object(parameters), *ODD)) if chance(random, 0.3) else _object(parameters)
        )
    if chance(random, 0.3):
        output = {"name": '"mu"', "parameters": random.choice(('{"binary_data": true}', '{"classification": 0}', "{}"))}
        if chance(random, 0.2):
            output[random.choice(("name", "parameters"))] = random.choice(
                (*ODD, '{"classification": 3}', '{"shared_memory_region": 1}')
            )
        members["outputs"] = random.choice(
            ("[]", "[{}]", "1", f"[{_object(output)}]", f"[{_object(output)}, {_object(output)}]")
        )
    if chance(random, 0.03):
        members[random.choice(("inputs", "id", "x"))] = random.choice((*ODD, "[" + "1," * MOST + "1]"))
    head = _object(members).encode()
    if chance(random, 0.1):
        head = mutate(random, head, WORDS)
    if chance(random, 0.08):
        tail = random.choice((tail[:-1], tail + b"\0", octets(random, 40), tail[::-1], b""))
    if tail == b"" and chance(random, 0.3):
        return Frame(head, b"")
    if chance(random, 0.03):
        return Frame(random.choice((struct.pack("<3f", 1, 2, random.random()), octets(random, 13))), b"0")
    length = pick(
        random, (20, len(head)), (1, len(head) + 1), (1, max(len(head) - 1, 0)), (1, 0), (1, random.choice(SIZES))
    )
    header = pick(
        random,
        (40, b"%d" % length),
        (1, b""),
        (1, b"%d.0" % length),
        (1, b"0%d" % length),
        (1, random.choice((b" 1", b"\xb2", b"+9", b"9" * 5000))),
    )
    return Frame(head + tail, header)


def check(made: Frame) -> str:
    """Read *made* in both ways and compare: "accepted", or the class of the refusal."""
    expected = slow_frames.read(made.body, made.header, RAW, MOST)
    refused = None
    try:
        asked = read(made.body, made.header, RAW, MOST)
    except ServiceError as error:
        refused = error
    if refused is not None:
        assert expected is None, f"{refused.detail}, but the slow reader gives {expected}"
        return check_refusal(refused)
    assert expected is not None, "the slow reader refuses it"
    assert list(asked.tensors) == list(expected)
    for name, array in asked.tensors.items():
        shape, numbers = expected[name]
        assert array.shape == tuple(shape)
        assert array.dtype.kind in "iufb"
        assert array.flags.aligned
        assert array.nbytes <= 8 * len(made.body)
        assert _same(array.ravel().tolist(), numbers), (array.ravel().tolist(), numbers)
        name_of(array.dtype)
        try:
            ROW.check_shape(array.shape)
            cast = ROW.cast(array)
            assert cast.dtype == ROW.dtype
            assert np.isfinite(cast).all()
        except ServiceError as error:
            check_refusal(error)
    return "accepted"


def _tensor(random: Random, name: str) -> tuple[dict[str, str], bytes]:
    """One input as texts by member, and its raw bytes."""
    datatype = random.choice(tuple(NUMPY)) if chance(random, 0.7) else "FP32"
    shape = [random.choice((0, 1, 1, 2, 3, 3)) for _ in range(random.choice((1, 2, 2, 2, 3)))]
    count = math.prod(shape)
    tensor = {"name": f'"{name}"', "shape": str(shape), "datatype": f'"{datatype}"'}
    data = b""
    if datatype in ("FP16", "BF16") or chance(random, 0.5):
        dtype = NUMPY[datatype]
        size = count * dtype.itemsize
        data = bytes(random.randrange(2) for _ in range(size)) if datatype == "BOOL" else random.randbytes(size)
        if datatype == "BOOL" and data and chance(random, 0.05):
            data = data[:-1] + b"\2"
        told = pick(
            random,
            (16, str(size)),
            (1, str(size + random.choice((-1, 1)))),
            (1, random.choice((*map(str, SIZES), *ODD, f"{size}.0"))),
        )
        tensor["parameters"] = f'{{"binary_data_size": {told}}}'
        if chance(random, 0.03):
            tensor["data"] = "[1]"
    else:
        flat = [_number(random, datatype) for _ in range(count + (chance(random, 0.05) and random.choice((-1, 1))))]
        tensor["data"] = _nested(flat, shape if chance(random, 0.6) else [len(flat)])
    wrong = chance(random, 0.15) and random.choice(("name", "shape", "datatype", "data", "parameters"))
    if wrong == "shape":
        strange = [str(size) for size in shape]
        strange[random.randrange(len(strange))] = random.choice((*map(str, SIZES), *ODD))
        tensor["shape"] = random.choice(
            (f"[{', '.join(strange)}]", "[" + "1, " * 16 + "1]", "[" + "1, " * 15 + "1]", *ODD)
        )
    elif wrong == "datatype":
        tensor["datatype"] = random.choice((*(f'"{name}"' for name in (*NUMPY, *STRANGE)), *ODD))
    elif wrong:
        tensor[wrong] = random.choice(
            (*ODD, "[1, 2, 3]", "[[1, 2, 3]]", '{"shared_memory_region": "r"}', "[[1], [2, 3]]")
        )
    if chance(random, 0.05):
        tensor.pop(random.choice(list(tensor)))
    return tensor, data


def _number(random: Random, datatype: str) -> str:
    if datatype == "BOOL":
        return pick(random, (40, random.choice(("true", "false"))), (1, random.choice(("0", "1", "null"))))
    if datatype.startswith("FP"):
        return pick(
            random,
            (30, repr(random.uniform(-9, 9))),
            (9, str(random.randint(-9, 9))),
            (2, random.choice(NUMBERS)),
            (1, random.choice(ODD)),
        )
    bits = 8 * NUMPY[datatype].itemsize
    low, high = (0, 2**bits - 1) if datatype.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return pick(
        random,
        (40, str(random.randint(low, high))),
        (2, str(random.choice((low, high)))),
        (1, str(random.choice((low - 1, high + 1)))),
        (1, random.choice(ODD)),
    )


def _nested(flat: list[str], shape: list[int]) -> str:
    if len(shape) == 1:
        return "[" + ", ".join(flat) + "]"
    size = max(math.prod(shape[1:]), 0)
    return "[" + ", ".join(_nested(flat[n * size : (n + 1) * size], shape[1:]) for n in range(shape[0])) + "]"


def _object(members: dict[str, str]) -> str:
    return "{" + ", ".join(f'"{name}": {text}' for name, text in members.items()) + "}"


def _same(got: list[Any], expected: list[Any]) -> bool:
    """To the bit, but for NaN, of which one is as good as another."""
    return len(got) == len(expected) and all(
        (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
        for a, b in zip(got, expected, strict=True)
    )
