"""
numpy's files, right and wrong, and what their reader owes: numpy's array, or a refusal for a reason of its own.

What is read here, `numpy.load` reads the same. What numpy reads and the service refuses is of the kinds in `_stricter`.
"""

from __future__ import annotations

import ast
import io
import re
import struct
import warnings
from random import Random
from tokenize import TokenError
from typing import NamedTuple

import numpy as np

from service.codec import npy
from service.codec.rows import Array
from service.errors import ServiceError
from tests.fuzz.mutations import SIZES, chance, mutate, octets, pick
from tests.fuzz.verdicts import check_refusal

DTYPES = tuple(
    f"{order}{kind}" for order in "<>|=" for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u8", "b1")
)
STRANGE = (
    "|O", "<U4", "|S3", "<c8", "<f16", "<M8[ns]", "<m8", "|V4", "f4", "?", "<?", "float32", "int", "<i3", "",
    "<f4\\n", "f4,f4", *("3f4", "<f4 ", "&f4", "O", "<f04", "<f8" * 30),
)  # fmt: skip
DESCRS = (
    "[('a', '<f4')]", "[('a', '<f4', (3,))]", "('<f4', (3,))", "7", "None", "b'<f4'", "'<f4", "[]", "{}",
    "{'names': []}", *("[('a', [('b', '|O')])]", "f'<f4'", "'<' 'f4'", "'<f4' + ''", "('<f4')", "'\\x3cf4'", "True"),
)  # fmt: skip
SHAPES = (
    "()", "(0,)", "(-1,)", "(1.0,)", "(True, 3)", "[1, 3]", "3", "(3)", "(1, 3", "(1, 3L)", "(None,)", "('3',)",
    "(1, -3)", "(2**63,)", "(0x3,)", "(1_0,)", "(01,)", "(1j,)", "(3, 1e0)", "(-0, 3)", "(+3,)", "(--3,)", "((3,),)",
    "(3,) * 2", "(4294967296, 4294967296)", "(9223372036854775807, 2)", "(0, 18446744073709551616)",
    "(0, 1099511627776)", "(1,) ", "(" + "1, " * 16 + ")", "(" + "1, " * 17 + ")", "(" + "1, " * 65 + ")",
    "(" + "9" * 600 + ",)",
)  # fmt: skip
HEADERS = (
    "", " ", "{}", "[]", "(" * 300, "-" * 900 + "1", "[" * 500 + "]" * 500, "~" * 900 + "1", "{" * 99,
    "not " * 200 + "1", "__import__('os').abort()", "lambda: 0", "1 if 1 else 2", "{**{}}", "f'{1}'", "'" * 3, "\\",
    "#", "1;1", "{1: 2", "\n\n", "{'descr': '<f4', 'descr': '<f8', 'fortran_order': False, 'shape': (1,)}",
    "0x" + "f" * 900, "1+1j", "set()", "{[]: 1}",
)  # fmt: skip
WORDS = tuple(
    text.encode("latin-1")
    for text in (
        *("\x93NUMPY", "True", "False", "None", "(", ")" * 50, "L", "**", "'shape'"),
        *"{}()[],:'\"\\\n \t\0\xa0\x85\x1c#-+~",
        *SHAPES[:16],
    )
)  # fmt: skip


class File(NamedTuple):
    """One body."""

    body: bytes


def make(random: Random) -> File:
    """A file: as numpy writes it, or with something wrong in its header, its length or its bytes."""
    wrong = pick(random, (6, ""), (2, "descr"), (3, "shape"), (1, "order"), (2, "header"), (2, "size"), (1, "length"))
    dtype = np.dtype(random.choice(DTYPES))
    shape = tuple(random.choice((0, 1, 1, 2, 3, 4)) for _ in range(random.choice((0, 1, 2, 2, 2, 3, 5))))
    size = int(np.prod(shape)) * dtype.itemsize
    data = bytes(random.randrange(2) for _ in range(size)) if dtype.kind == "b" else random.randbytes(size)
    told = {"descr": repr(dtype.str), "fortran_order": random.choice(("True", "False")), "shape": repr(shape)}
    if wrong == "descr":
        told["descr"] = random.choice((*map(repr, STRANGE), *DESCRS))
    elif wrong == "shape":
        sizes = ", ".join(str(random.choice(SIZES)) for _ in range(random.randint(1, 3)))
        told["shape"] = random.choice((*SHAPES, f"({sizes},)", f"({sizes},)"))
    elif wrong == "order":
        told["fortran_order"] = random.choice(("0", "1", "None", "'False'", "[]", "not True", "False, 'x': 1"))
    elif wrong == "size":
        data = random.choice((data + octets(random, 9) + b"\0", data[:-1], b"", data + data))
    header = "{" + "".join(f"'{name}': {text}, " for name, text in told.items()) + "}"
    if wrong == "header":
        header = random.choice(
            (*HEADERS, header.replace("'shape'", "'Shape'"), header[:-1], "\xa0" + header, "\n " + header)
        )
    header += random.choice(("\n", "\n", " " * 40 + "\n", "", "\x0c", "#"))
    version = pick(random, (6, 1), (2, 2), (2, 3), (1, random.choice((0, 4, 255))))
    text = header.encode("latin-1")
    length = len(text) + (random.choice((-1, 1, 2**15, 900, -len(text))) if wrong == "length" else 0)
    body = b"\x93NUMPY" + bytes([version, 0])
    body += struct.pack("<H" if version == 1 else "<I", max(length, 0) % 2**16) + text + data
    return File(mutate(random, body, WORDS) if chance(random, 0.25) else body)


def check(made: File) -> str:
    """Read *made* and compare with numpy: "accepted", or the class of the refusal."""
    refused = None
    try:
        got = npy.read(made.body)
    except ServiceError as error:
        refused = error
    if refused is not None:
        expected = None if _told_to_be_large(made.body) else _numpys(made.body)
        assert expected is None or _stricter(made.body, expected), f"numpy reads it: {refused}"
        return check_refusal(refused)
    expected = _numpys(made.body)
    assert expected is not None, "numpy does not read it"
    assert (got.dtype, got.shape, got.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())
    assert got.nbytes < len(made.body)
    assert got.flags.aligned
    return "accepted"


def _numpys(body: bytes) -> Array | None:
    try:
        with warnings.catch_warnings(action="ignore"):  # of what Python 2 wrote
            found = np.load(io.BytesIO(body), allow_pickle=False)
    except (
        ValueError,
        EOFError,
        OSError,
        SyntaxError,
        TypeError,
        MemoryError,
        RecursionError,
        OverflowError,
        TokenError,
    ):
        return None
    return found if isinstance(found, np.ndarray) else None


def _told_to_be_large(body: bytes) -> bool:
    """Whether numpy might make room for more than some megabytes: it does so before it looks at what is there."""
    return re.search(rb"\d{6}|0x|\*|\d[eE_]\d", body[:2000]) is not None or body[:2] == b"PK"


def _stricter(body: bytes, array: Array) -> bool:
    """Whether the service refuses what numpy read as *array* for one of the reasons that the README gives."""
    width = 2 if body[6] == 1 else 4
    length = int.from_bytes(body[8 : 8 + width], "little")
    header = body[8 + width : 8 + width + length]
    text = header.decode("latin-1")
    reasons = {
        "another dtype": array.dtype.kind not in "iufb" or array.dtype.itemsize > 8,
        "bytes are left over": len(body) > 8 + width + length + array.nbytes,
        "a truth value of 2": array.dtype.kind == "b" and array.tobytes().strip(b"\0\1") != b"",
        "more axes": array.ndim > 16,
        "a long header": length > npy.MAX_HEADER,
        "backslash or beyond ASCII": "\\" in text or not text.isascii() or not text.isprintable(),
    }
    if any(reasons.values()):
        return True
    try:
        found = ast.literal_eval(text.strip())
    except (SyntaxError, ValueError):
        return True  # numpy mends what Python 2 wrote: (3L,)
    plain = isinstance(found["descr"], str) and re.fullmatch(r"[<>=|]?(b1|\?|[iuf]\d)", found["descr"])
    return not plain or any(type(size) is not int or size < 0 for size in found["shape"])
