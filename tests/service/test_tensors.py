"""The framing of the Open Inference Protocol: what is read is what was sent, and nothing costs more than its size."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from service.codec import datatypes
from service.codec.compression import compress, decompress
from service.codec.rows import RowSpec
from service.codec.tensors import Infer, Raw, read, write
from service.errors import InvalidInput, MalformedBody, TooLarge
from tests.server import Server

RAW = Raw("x", "FP32", (1, 3))
ROW = RowSpec("x", (3,), np.dtype(np.float32))


def framed(head: Any, tail: bytes = b"") -> tuple[bytes, bytes]:
    """A body, and the header that says where its JSON ends."""
    text = head if isinstance(head, bytes) else orjson.dumps(head)
    return text + tail, b"%d" % len(text)


def tensor(**members: Any) -> dict[str, Any]:
    """One well-formed input in JSON, with changes; None: without that member."""
    made = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3], **members}
    return {name: value for name, value in made.items() if value is not None}


def binary(size: Any, **members: Any) -> dict[str, Any]:
    """One input whose data is behind the JSON."""
    return tensor(**{"data": None, "parameters": {"binary_data_size": size}, **members})


arrays = st.sampled_from([d for n, d in datatypes.NUMPY.items() if n not in ("BF16", "BOOL")]).flatmap(
    lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4))
)


@given(parts=st.lists(arrays, min_size=1, max_size=4), space=st.integers(0, 9))
def test_tensors_come_out_as_they_were_sent(parts: list[np.ndarray], space: int) -> None:
    """To the bit, in any number, wherever in memory the JSON puts them."""
    described = [
        {
            "name": f"t{index}",
            "shape": list(part.shape),
            "datatype": datatypes.name_of(part.dtype),
            "parameters": {"binary_data_size": part.nbytes},
        }
        for index, part in enumerate(parts)
    ]
    head = orjson.dumps({"inputs": described}) + b" " * space
    got = read(*framed(head, b"".join(part.tobytes() for part in parts)), None).tensors
    for part, array in zip(parts, got.values(), strict=True):
        assert (array.dtype, array.shape, array.tobytes()) == (part.dtype, part.shape, part.tobytes())
        assert array.flags.aligned


def test_json_that_no_request_can_need_is_refused_before_objects_are_made_of_it() -> None:
    """Counted in the JSON alone: raw tensors hold any bytes."""
    body, length = framed(b'{"inputs": [' + b"{}," * 200_000 + b"{}]}")
    tracemalloc.start()
    with pytest.raises(TooLarge, match="400003 values, lists and objects; one request may have 5000"):
        read(body, length, RAW, 5000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**6
    body, length = framed({"inputs": [binary(12_000, shape=[1000, 3])]}, b"," * 12_000)
    assert read(body, length, RAW, 5000).tensors["x"].size == 3000


def test_a_name_that_cannot_be_printed_is_quoted_in_a_refusal() -> None:
    """It may have been chosen to spoil a log."""
    with pytest.raises(MalformedBody) as refused:
        read(orjson.dumps({"inputs": [tensor(name="\n\x00")] * 2}), b"", RAW)
    assert refused.value.detail == r"input '\n\x00' is there twice"


def test_binary_data_is_not_copied_where_memory_allows() -> None:
    """A million floats behind JSON whose length fits are the bytes of the body."""
    x = np.random.default_rng(0).random((1000, 3), np.float32)
    head = orjson.dumps({"inputs": [binary(x.nbytes, shape=[1000, 3])]})
    body, length = framed(head + b" " * (-len(head) % 8), x.tobytes())
    array = ROW.cast(read(body, length, None).tensors["x"])
    assert np.shares_memory(array, np.frombuffer(body, np.uint8))
    assert array.tobytes() == x.tobytes()


def test_outputs_are_framed_in_their_order() -> None:
    """JSON, then the raw tensors of those that are binary; strings with their lengths; NaN as null."""
    asked = Infer({}, id="7", outputs={"a": True, "b": False, "c": True, "d": False, "e": True})
    outputs = {
        "a": np.array([[1.5, 2.5]], np.float32),
        "b": np.array([1.0, np.nan]),
        "c": np.array(["é", ""]),
        "d": np.array(["é", ""]),
        "e": np.zeros((0, 2)),
    }
    body, length = write("m", "1", asked, {"seed": 1}, outputs.items())
    assert length is not None
    reply = orjson.loads(body[:length])
    assert (reply["model_name"], reply["model_version"], reply["id"], reply["parameters"]) == (
        "m",
        "1",
        "7",
        {"seed": 1},
    )
    assert [(t["name"], t["datatype"], t["shape"]) for t in reply["outputs"]] == [
        ("a", "FP32", [1, 2]), ("b", "FP64", [2]), ("c", "BYTES", [2]), ("d", "BYTES", [2]), ("e", "FP64", [0, 2])
    ]  # fmt: skip
    assert [t.get("data") for t in reply["outputs"]] == [None, [1.0, None], None, ["é", ""], None]
    assert [t.get("parameters", {}).get("binary_data_size") for t in reply["outputs"]] == [8, None, 10, None, 0]
    assert body[length:] == outputs["a"].tobytes() + struct.pack("<I", 2) + "é".encode() + struct.pack("<I", 0)


def test_without_a_binary_output_there_is_no_length() -> None:
    """A header without raw tensors, or the reverse, crashes the stock client."""
    body, length = write("m", "1", Infer({}), {}, [("a", np.zeros(2))])
    assert length is None
    assert "id" not in orjson.loads(body)


@pytest.mark.parametrize(
    ("body", "header", "told"),
    [
        (b"{}", b"3", "is '3'; it must be a whole number up to the body's 2"),
        (b"{}", b"-1", "is '-1'"),
        (b"{}", b"1.0", "is '1.0'"),
        (b"{}", b" ", "must be a whole number"),
        (b"{}", b"9" * 5000, "must be a whole number"),
        (b"{}", "²".encode("latin-1"), "must be a whole number"),
        (b"{", b"", "the inference request is not JSON"),
        (b"[]", b"", "must be a JSON object"),
        (b"[" * 100_000, b"", "not JSON"),
        (b"\xff", b"1", "not JSON"),
        (orjson.dumps({"id": 1, "inputs": [tensor()]}), b"", "id must be a string"),
        (orjson.dumps({"parameters": [], "inputs": [tensor()]}), b"", "parameters of the request must be an object"),
        (b'{"inputs": {}}', b"", "inputs must be a list of tensors, of one at least"),
        (b"{}", b"", "inputs must be a list of tensors, of one at least"),
        (b'{"inputs": []}', b"", "inputs must be a list of tensors, of one at least"),
        (b'{"inputs": [1]}', b"", "inputs must be objects with a name"),
        (orjson.dumps({"inputs": [tensor()], "outputs": 1}), b"", "outputs must be a list"),
        (orjson.dumps({"inputs": [tensor()], "outputs": [{}]}), b"", "outputs must be objects with a name"),
        (orjson.dumps({"inputs": [tensor()], "outputs": [{"name": "a"}] * 2}), b"", "output a is there twice"),
        (
            orjson.dumps({"inputs": [tensor()], "outputs": [{"name": "a", "parameters": {"classification": 3}}]}),
            b"",
            "classification is not done here",
        ),
        (
            orjson.dumps({"inputs": [tensor()], "parameters": {"binary_data_output": 1}}),
            b"",
            "binary_data_output of the request is 1; it must be true or false",
        ),
        (
            orjson.dumps({"inputs": [tensor()], "outputs": [{"name": "a", "parameters": {"binary_data": "yes"}}]}),
            b"",
            "binary_data of output a is 'yes'; it must be true or false",
        ),
        (b"123", b"0", r"FP32 of shape \[1, 3\] has 12 bytes; 3 came"),
    ],
)
def test_a_body_that_is_not_framed_right_is_refused(body: bytes, header: bytes, told: str) -> None:
    """By what is wrong with it."""
    with pytest.raises(MalformedBody, match=told):
        read(body, header, RAW)


@pytest.mark.parametrize(
    ("inputs", "tail", "told"),
    [
        ([tensor(name=None)], b"", "objects with a name"),
        ([tensor(name=1)], b"", "objects with a name"),
        ([tensor(name="x" * 101)], b"", "up to 100 characters"),
        ([tensor(), tensor()], b"", "input x is there twice"),
        ([tensor(datatype="FP8")], b"", "its datatype must be one of BOOL, .*; given: 'FP8'$"),
        ([tensor(datatype=None)], b"", "; given: None$"),
        ([tensor(datatype="F" * 9999)], b"", r"; given: 'F{99}\.\.\.$"),
        ([tensor(datatype=["FP32"])], b"", r"its datatype must be one of BOOL, .*; given: \['FP32'\]$"),
        ([tensor(shape=None)], b"", "shape must be a list"),
        ([tensor(shape=[])], b"", "shape must be a list of 1 to 16"),
        ([tensor(shape=[1] * 17)], b"", "shape must be a list of 1 to 16"),
        ([tensor(shape=[1, -3])], b"", "whole numbers of 0 or more"),
        ([tensor(shape=[1, 3.0])], b"", "whole numbers of 0 or more"),
        ([tensor(shape=[True, 3])], b"", "whole numbers of 0 or more"),
        ([binary(0, shape=[2**63, 2**63])], b"", "beyond any limit"),
        ([binary(0, shape=[0, 2**62])], b"", "beyond any limit"),
        ([binary(4, shape=[2**32, 2**32 + 1])], b"1234", "beyond any limit"),
        ([binary(4, shape=[2**39])], b"1234", "has 2199023255552 bytes; 4 came"),
        ([binary(12), binary(12, name="y")], b"x" * 12, "binary_data_size is 12; 0 bytes left"),
        ([binary(13)], b"x" * 12, "binary_data_size is 13; 12 bytes left"),
        ([binary(12)], b"x" * 13, "1 byte left over"),
        ([binary(11)], b"x" * 11, "has 12 bytes; 11 came"),
        ([binary(-12)], b"x" * 12, "binary_data_size is -12"),
        ([binary(12.0)], b"x" * 12, "binary_data_size is 12.0"),
        ([binary(True)], b"x", "binary_data_size is True"),
        ([binary("12")], b"x" * 12, "binary_data_size is '12'; it must be a whole number of bytes"),
        ([binary(10**100)], b"x" * 12, "binary_data_size is 1"),
        ([tensor(parameters={"binary_data_size": 12})], b"x" * 12, "give data or parameters.binary_data_size"),
        ([tensor(data=None)], b"", "give data or parameters.binary_data_size"),
        ([tensor(parameters=[])], b"", "parameters of input x must be an object"),
        ([tensor(parameters={"shared_memory_region": "r"})], b"", "shared memory is not supported"),
        ([binary(3, datatype="BOOL")], b"\x00\x01\x02", "a BOOL is a byte of 0 or 1"),
        ([tensor(data="123")], b"", "data must be a list"),
        ([tensor(data=[1, 2])], b"", r"data does not have the shape \[1, 3\]"),
        ([tensor(data=[[1, 2, 3, 4]])], b"", r"data does not have the shape \[1, 3\]"),
        ([tensor(data=[[1, [2], 3]])], b"", "the data of FP32 must be numbers"),
        ([tensor(shape=[0, 3], data=[1])], b"", "data does not have the shape"),
        ([tensor(datatype="UINT8", data=[1, 2, 256])], b"", "a number that is no UINT8"),
        ([tensor(datatype="UINT8", data=[1, 2, -1])], b"", "a number that is no UINT8"),
    ],
)
def test_a_tensor_that_is_not_what_it_says_is_refused(inputs: list[Any], tail: bytes, told: str) -> None:
    """Before an array is made of it."""
    text = b'{"inputs": ' + repr(inputs).replace("'", '"').replace("True", "true").encode() + b"}"
    with pytest.raises(MalformedBody, match=told):
        read(*framed(text, tail), RAW)


def test_empty_tensors_are_tensors() -> None:
    """Of a shape with a 0 in it, in both forms; how many rows are needed is the operation's business."""
    body, header = framed({"inputs": [tensor(shape=[0, 3], data=[]), binary(0, name="y", shape=[0, 3])]})
    got = read(body, header, None).tensors
    assert [array.shape for array in got.values()] == [(0, 3), (0, 3)]


def test_no_shape_makes_more_memory_than_the_body_has() -> None:
    """The sizes are compared before numpy is asked."""
    evil: list[dict[str, Any]] = [
        binary(size, shape=shape, datatype=datatype)
        for size in (0, 1, 8)
        for shape in ([2**30], [2**20, 2**20], [1, 2**39], [0, 2**39], [2**31, 0, 2**8])
        for datatype in ("FP64", "BF16", "BOOL")
    ]
    tracemalloc.start()
    for one in evil:
        try:
            got = read(*framed({"inputs": [one]}, b"\x00" * 8), RAW).tensors["x"]
            assert got.size == 0
        except MalformedBody:
            pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**6


SIZES: st.SearchStrategy[Any] = st.one_of(
    st.integers(-2, 40), st.sampled_from([2**31, 2**63, 2**64, 10**30, 1.5, True, None, "3", []])
)
MEMBERS: dict[str, st.SearchStrategy[Any]] = {
    "name": st.sampled_from(["x", "z", "count", "", "x\0", "é", 1, None, []]),
    "shape": st.lists(SIZES, max_size=4) | SIZES,
    "datatype": st.sampled_from([*datatypes.NUMPY, "BYTES", "fp32", 7, None]),
    "data": st.recursive(
        st.integers(-9, 300) | st.floats(allow_nan=False) | st.booleans() | st.none() | st.text(max_size=2),
        lambda inner: st.lists(inner, max_size=4),
        max_leaves=12,
    ),
    "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": SIZES, "other": SIZES}) | SIZES,
}


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Requests with anything in any place, often nearly right, and the header."""
    inputs = []
    tail = b""
    for index in range(draw(st.sampled_from([1, 1, 1, 2, 3, 0]))):
        one = draw(st.sampled_from([tensor(), binary(12), binary(24, shape=[2, 3]), binary(6, datatype="FP16")]))
        one["name"] = ["x", "z", "y"][index]
        tail += bytes(one.get("parameters", {}).get("binary_data_size", 0))
        wrong = st.just("") if draw(st.booleans()) else st.sampled_from(sorted(MEMBERS))
        for name in draw(st.sets(wrong, min_size=1, max_size=2)) - {""}:
            one[name] = draw(MEMBERS[name])
        inputs.append(one)
    request: dict[str, Any] = {"inputs": inputs}
    if draw(st.integers(0, 3)) == 0:
        options = ["draws", "seed", "timeout", "binary_data_output", "explain", "on_invalid", "kind", "own"]
        request["parameters"] = draw(st.dictionaries(st.sampled_from(options), MEMBERS["data"], max_size=3))
    if draw(st.integers(0, 3)) == 0:
        output = st.fixed_dictionaries(
            {"name": st.sampled_from(["mu", "z", "score", "no", 1])}, optional={"parameters": MEMBERS["data"]}
        )
        request["outputs"] = draw(st.lists(output | st.integers(), max_size=3))
    try:
        head = orjson.dumps(request)
    except TypeError:  # an integer beyond 64 bits
        head = repr(request).replace("'", '"').replace("True", "true").replace("None", "null").encode()
    if draw(st.integers(0, 5)) == 0:
        cut = draw(st.integers(0, len(head)))
        head = head[:cut] + draw(st.binary(max_size=3)) + head[cut + draw(st.integers(0, 2)) :]
    if draw(st.integers(0, 5)) == 0:
        tail = draw(st.binary(max_size=40))
    header = draw(st.sampled_from([b"%d" % len(head)] * 20 + [b"", b"0", b"1", b"-1", b"x", b"%d" % (len(head) + 1)]))
    return head + tail, header


@settings(max_examples=600, deadline=None)
@given(made=bodies())
@example(made=(b"\xff" * 12, b"0"))
@example(made=(b"", b""))
def test_no_body_whatever_is_more_than_a_refusal(made: tuple[bytes, bytes]) -> None:
    """And what is accepted is no larger than what came: eight bytes for a digit and its comma, at most."""
    body, header = made
    try:
        asked = read(body, header, RAW)
        for name, array in asked.tensors.items():
            ROW.check_shape(array.shape)
            assert ROW.cast(array).dtype == ROW.dtype
            assert isinstance(name, str)
    except (MalformedBody, InvalidInput):
        return
    assert sum(array.nbytes for array in asked.tensors.values()) <= 8 * len(body)


def test_the_bodies_that_are_generated_are_both_right_and_wrong() -> None:
    """Otherwise the test above would say nothing."""
    accepted: list[bool] = []

    @settings(max_examples=400, deadline=None, database=None, derandomize=True)
    @given(made=bodies())
    def count(made: tuple[bytes, bytes]) -> None:
        try:
            read(*made, RAW)
            accepted.append(True)
        except MalformedBody:
            accepted.append(False)

    count()
    assert 0.05 < np.mean(accepted) < 0.9


@settings(max_examples=150, deadline=None)
@given(made=bodies(), model=st.sampled_from(["encode", "decode", "sample", "interpolate", "anomaly-score"]))
def test_no_body_whatever_is_a_fault_of_the_server(table_server: Server, made: tuple[bytes, bytes], model: str) -> None:
    """Over the whole way: 200, or a reason in the 400s (504 for a timeout of a microsecond)."""
    body, header = made
    headers = {"Inference-Header-Content-Length": header.decode()} if header else {}
    reply = table_server.client.post(f"/v2/models/{model}/infer", content=body, headers=headers)
    assert reply.status_code < 500 or reply.status_code == 504, reply.text
    assert reply.status_code == 200 or set(reply.json()) == {"error"}


@given(body=st.binary(max_size=2000), coding=st.sampled_from(["gzip", "deflate"]))
def test_compression_gives_back_what_it_took(body: bytes, coding: str) -> None:
    """Up to the limit exactly, and not a byte beyond."""
    packed = compress(body, coding)
    assert decompress(packed, coding, len(body)) == body
    if body:
        with pytest.raises(TooLarge):
            decompress(packed, coding, len(body) - 1)


@given(body=st.binary(max_size=200), cut=st.integers(0, 40), coding=st.sampled_from(["gzip", "deflate"]))
def test_no_bytes_are_more_than_a_refusal_to_decompress(body: bytes, cut: int, coding: str) -> None:
    """Nor any beginning of a good stream with something else behind it."""
    for packed in (body, compress(b"a" * 100, coding)[:cut] + body):
        with contextlib.suppress(MalformedBody, TooLarge):
            assert len(decompress(packed, coding, 10**4)) <= 10**4


def test_a_bomb_costs_the_limit_and_no_more() -> None:
    """A gigabyte in a megabyte is given up after the limit."""
    packed = compress(bytes(10**8), "gzip")
    tracemalloc.start()
    with pytest.raises(TooLarge, match="more than 100000 bytes when decompressed"):
        decompress(packed, "gzip", 100_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * 10**6


def test_the_datatypes_have_names_of_their_own() -> None:
    """Each dtype that a reply can have is a datatype."""
    for dtype in (np.float32, np.float64, np.int8, np.int64, np.bool_):
        assert datatypes.NUMPY[datatypes.name_of(np.dtype(dtype))] == np.dtype(dtype)
    assert datatypes.name_of(np.array(["text"]).dtype) == "BYTES"
