"""
What the worst bodies cost: time and memory of one parse each, in a process of its own, at the limit of a body.

    python -m benchmarks.bombs

Prints a Markdown table; ends with 1 where a parse takes more memory than the bound that docs/decisions/0002 states:
16 times `max_body_bytes` for text, and 150 bytes for each element that a request may have; 4 times for arrays.
"""

from __future__ import annotations

import argparse
import gc
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import orjson

from benchmarks import memory
from service import messages
from service.codec import compression, json, npy, slices, tensors
from service.codec.bound import most_elements
from service.codec.fields import Fields, read_options, read_rows
from service.codec.rows import Array, RowSpec
from service.codec.table import Table
from service.errors import ServiceError
from service.inputs import Column

LIMIT = 32 * 2**20
ROWS = 1024
INPUTS = RowSpec("inputs", (784,), np.dtype(np.float32))
LATENTS = RowSpec("latents", (32,), np.dtype(np.float32))
ELEMENTS = most_elements((INPUTS, LATENTS), ROWS)
KINDS: tuple[dict[str, object], ...] = (
    {},
    {"kind": "categorical", "vocabulary": ("north", "south"), "unknown": "other"},
    {"kind": "count"},
    {"time": "iso8601"},
)
COLUMNS = tuple(
    Column.model_validate({"name": f"x{n:02}", "missing": n % 2 == 0, **about}) for n, about in enumerate(25 * KINDS)
)
TABLE = RowSpec(
    "inputs",
    (len(COLUMNS),),
    np.dtype(np.float64),
    table=Table(COLUMNS),
    missing=tuple(column.missing for column in COLUMNS),
)
TEXT, ARRAYS = 16 * LIMIT + 150 * ELEMENTS, 4 * LIMIT
RECORDS = 16 * LIMIT + 150 * most_elements((TABLE, LATENTS), ROWS)
FILE = Path("build/fuzz/bomb")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each bomb and print what it took."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bombs", description=__doc__)
    parser.add_argument("--one", choices=list(BOMBS), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        _measure(BOMBS[options.one][0])
        return 0
    FILE.parent.mkdir(parents=True, exist_ok=True)
    print("| body | bytes | answer | time | peak | bound |")
    print("|---|---|---|---|---|---|")
    over = 0
    for name, (_, bound, make) in BOMBS.items():
        body = make()
        assert len(body) <= LIMIT, name
        FILE.write_bytes(body)
        command = [sys.executable, "-m", "benchmarks.bombs", "--one", name]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds, peak, answer = ran.stdout.strip().split(" ", 2)
        over += int(peak) > bound
        print(
            f"| {name} | {len(body):,} | {answer} | {float(seconds):.2f} s | {int(peak) / 2**20:.0f} MiB "
            f"| {bound / 2**20:.0f} MiB{' PASSED' if int(peak) > bound else ''} |",
            flush=True,
        )
    FILE.unlink()
    return 1 if over else 0


def _measure(read: Callable[[bytes], object]) -> None:
    """Time, peak of the resident memory beyond what there was with the body, and what came of it."""
    body = FILE.read_bytes()
    gc.collect()
    memory.forget_peak()
    before, start = memory.resident(), time.perf_counter()
    try:
        read(body)
        answer = "read"
    except ServiceError as error:
        answer = f"{error.status} {error.detail[:60]}"
    print(time.perf_counter() - start, memory.peak() - before, answer)


def _v1(body: bytes) -> None:
    fields = json.read_object(body, INPUTS, LATENTS, most=ROWS)
    read_rows(fields, INPUTS, ROWS)
    read_options(messages.EncodeOptions, fields)


def _records(body: bytes) -> None:
    """In slices, as the service reads records that are so long."""
    fields = Fields()
    reading = slices.read(body, TABLE, LATENTS, most=ROWS)
    try:
        while True:
            next(reading)
    except StopIteration as end:
        fields = end.value
    read_rows(fields, TABLE, ROWS)
    read_options(messages.EncodeOptions, fields)


def _v2(body: bytes) -> None:
    _read(tensors.read(body, b"", None, ELEMENTS).tensors["x"])


def _v2_binary(body: bytes) -> None:
    length = len(body) - LIMIT // 784 // 8 * 784 * 8  # of JSON: see _framed
    _read(tensors.read(body, b"%d" % length, None, ELEMENTS).tensors["x"])


def _npy(body: bytes) -> None:
    _read(npy.read(body))


def _read(array: Array) -> None:
    read_rows({"inputs": array}, INPUTS, ROWS)


def _gzip(body: bytes) -> None:
    compression.decompress(body, "gzip", LIMIT)


def _list(item: bytes, before: bytes = b'{"inputs": [', after: bytes = b"]}") -> Callable[[], bytes]:
    """A list of as many of *item* as a body has room for."""
    return lambda: before + item + (b"," + item) * ((LIMIT - len(before + item + after)) // (len(item) + 1)) + after


def _good() -> bytes:
    return orjson.dumps({"inputs": np.random.default_rng(0).random((ROWS, 784)).tolist()})


def _record(**more: object) -> dict[str, object]:
    values: list[object] = [2450.25, "north", 4, "2026-12-31T08:00:00Z"]
    return {column.name: values[n % 4] for n, column in enumerate(COLUMNS)} | more


def _many(**more: object) -> Callable[[], bytes]:
    """1,024 good records, with other members."""
    return lambda: orjson.dumps({"records": [_record(**more)] * ROWS})


def _twice() -> bytes:
    """1,024 good records, each with its first member once more: only Python's parser tells."""
    record = orjson.dumps(_record())
    return b'{"records": [' + b",".join([record[:-1] + b',"x00":1}'] * ROWS) + b"]}"


def _unknown(members: int) -> Callable[[], bytes]:
    """One record with so many members that are no columns."""
    return lambda: b'{"records": [{' + b",".join(b'"%07d":1' % n for n in range(members)) + b"}]}"


def _framed(datatype: str, size: int) -> Callable[[], bytes]:
    def make() -> bytes:
        raw = bytes(LIMIT // 784 // 8 * 784 * 8)
        tensor = {"name": "x", "shape": [len(raw) // size // 784, 784], "datatype": datatype}
        return orjson.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": len(raw)}}]}) + raw

    return make


def _saved(dtype: str, fortran: bool = False, spaces: int = 0, times: int = 1) -> Callable[[], bytes]:
    def make() -> bytes:
        size = np.dtype(dtype).itemsize
        rows = (LIMIT - 1024) // (784 * size)
        text = f"{{'descr': '{dtype}', 'fortran_order': {fortran}, 'shape': ({rows * times}, 784), }}{' ' * spaces}\n"
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + bytes(rows * 784 * size)

    return make


def _packed(content: bytes, times: int) -> Callable[[], bytes]:
    def make() -> bytes:
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        parts = []
        for _ in range(times):
            parts.append(packer.compress(content))
        return (b"".join(parts) + packer.flush())[:LIMIT]

    return make


_ZEROS = bytes(2**20)
BOMBS: dict[str, tuple[Callable[[bytes], None], int, Callable[[], bytes]]] = {
    "JSON: 1,024 good rows": (_v1, TEXT, _good),
    "JSON: rows `{}`": (_v1, TEXT, _list(b"{}")),
    "JSON: rows `[]`": (_v1, TEXT, _list(b"[]")),
    "JSON: rows `1`": (_v1, TEXT, _list(b"1")),
    "JSON: rows `[1,2,3]`": (_v1, TEXT, _list(b"[1,2,3]")),
    "JSON: rows 500 lists deep": (_v1, TEXT, _list(b"[" * 500 + b"]" * 500)),
    "JSON: one row of numbers": (_v1, TEXT, _list(b"1", b'{"inputs": [[', b"]]}")),
    "JSON: an option of objects": (_v1, TEXT, _list(b"{}", b'{"inputs": [[1]], "draws": [')),
    "JSON: the same member": (_v1, TEXT, _list(b'"draws":1', b'{"inputs": [[1]],', b"}")),
    "JSON: members": (_v1, TEXT, lambda: b"{" + b",".join(b'"%07d":1' % n for n in range(2_700_000)) + b"}"),
    "JSON: one text with one character beyond 16 bits": (
        _v1, TEXT, lambda: '{{"draws": "{}\U0001f600"}}'.format("a" * (LIMIT - 99)).encode(),
    ),
    "JSON: one number": (_v1, TEXT, lambda: b'{"draws": ' + b"9" * (LIMIT - 99) + b"}"),
    "JSON: white space": (_v1, TEXT, lambda: b" " * (LIMIT - 99) + b'{"inputs": [[1]]}'),
    "JSON: brackets that open": (_v1, TEXT, lambda: b"[" * LIMIT),
    "records: 1,024 good ones of 100 columns": (_records, RECORDS, _many()),
    "records: `{}`": (_records, RECORDS, _list(b"{}", b'{"records": [')),
    "records: `1`": (_records, RECORDS, _list(b"1", b'{"records": [')),
    "records: objects 500 deep": (_records, RECORDS, _list(b'{"x00":' * 500 + b"1" + b"}" * 500, b'{"records": [')),
    "records: a member given twice in each": (_records, RECORDS, _twice),
    "records: one, of the same member": (_records, RECORDS, _list(b'"x00":1', b'{"records": [{', b"}]}")),
    "records: one, of members without end": (_records, RECORDS, _unknown(2_700_000)),
    "records: one, of as many members as are let through": (_records, RECORDS, _unknown(200_000)),
    "records: one huge text": (
        _records, RECORDS, lambda: '{{"records": [{{"x01": "{}\U0001f600"}}]}}'.format("a" * (LIMIT - 99)).encode(),
    ),
    "records: one huge name": (
        _records, RECORDS, lambda: b'{"records": [{"' + b"a" * (LIMIT - 99) + b'": 1}]}',
    ),
    "records: a text of 30 KiB in each": (_records, RECORDS, _many(x01="\u20ac" * 10_000)),
    "records: a text of 30 KiB in each, escaped": (_records, RECORDS, _many(x01='"' * 15_000)),
    "/v2: inputs `{}`": (_v2, TEXT, _list(b"{}")),
    "/v2: lists as data": (
        _v2, TEXT, _list(b"[]", b'{"inputs":[{"name":"x","datatype":"FP32","shape":[11000000,0],"data":[', b"]}]}"),
    ),
    "/v2: one text": (_v2, TEXT, lambda: b'{"id": "' + b"\\u0001" * 5_000_000 + b'"}'),
    "/v2: 32 MiB of FP32": (_v2_binary, ARRAYS, _framed("FP32", 4)),
    "/v2: 32 MiB of BF16": (_v2_binary, ARRAYS, _framed("BF16", 2)),
    "/v2: 32 MiB of BOOL": (_v2_binary, ARRAYS, _framed("BOOL", 1)),
    ".npy: 32 MiB, not aligned": (_npy, ARRAYS, _saved("<f8", spaces=3)),
    ".npy: 32 MiB, Fortran order": (_npy, ARRAYS, _saved("<f4", fortran=True)),
    ".npy: 32 MiB, big-endian": (_npy, ARRAYS, _saved(">f4")),
    ".npy: 32 MiB of int8": (_npy, ARRAYS, _saved("|i1")),
    ".npy: tells of 32 TiB": (_npy, ARRAYS, _saved("<f8", times=10**6)),
    "gzip: 30 GiB of zeros": (_gzip, ARRAYS, _packed(_ZEROS, 30 * 1024)),
    "gzip: 32 MiB of zeros, the limit": (_gzip, ARRAYS, _packed(_ZEROS, 32)),
    "gzip: empty blocks": (_gzip, ARRAYS, lambda: b"\x1f\x8b\x08" + bytes(7) + b"\0\0\0\xff\xff" * (LIMIT // 5 - 2)),
    "gzip: noise": (_gzip, ARRAYS, _packed(np.random.default_rng(0).bytes(2**20), 31)),
}  # fmt: skip
"""What reads it, the bytes that this may take, and what makes it."""


if __name__ == "__main__":
    sys.exit(main())
