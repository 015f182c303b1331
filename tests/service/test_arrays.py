"""numpy arrays as bodies and replies: what is sent is what is read, and nothing is pickled or believed."""

from __future__ import annotations

import contextlib
import io
import pickle
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from service.api import MAIN, ROUTES
from service.codec import npy
from service.codec.records import flat
from service.errors import MalformedBody, NotAcceptable
from service.http import media
from tests.bundles import image_rows, table_rows
from tests.server import Server

CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-3}
NPY = {"Content-Type": "application/x-npy"}


def saved(array: Any, version: tuple[int, int] | None = None, allow_pickle: bool = False) -> bytes:
    """A .npy file as numpy writes it."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array), version=version, allow_pickle=allow_pickle)
    return file.getvalue()


def headed(header: str, data: bytes = b"", version: int = 1, length: int | None = None) -> bytes:
    """A .npy file with any header."""
    text = header.encode("latin-1")
    size = struct.pack("<H" if version == 1 else "<I", len(text) if length is None else length)
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + data


def ask(server: Server, op: str, content: bytes, accept: str = "application/x-npz", **query: Any) -> dict[str, Any]:
    """The arrays of a reply."""
    headers = {**NPY, "Accept": accept}
    reply = server.client.post(f"/v1/{op}", content=content, headers=headers, params=query)
    assert (reply.status_code, reply.headers["content-type"]) == (200, accept), reply.text
    found = np.load(io.BytesIO(reply.content), allow_pickle=False)
    return dict(found) if accept == media.NPZ else {MAIN[op]: found}


def v1(server: Server, op: str, **body: Any) -> dict[str, Any]:
    """The reply to the same in JSON."""
    reply = server.client.post(f"/v1/{op}", json=body)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def test_an_npz_holds_every_field_of_the_reply_and_the_model(table_server: Server) -> None:
    """As /v1 has them in JSON, by the same names."""
    x = table_rows(4, seed=1)
    got = ask(table_server, "encode", saved(x), draws=2, seed=3)
    want = v1(table_server, "encode", inputs=x.tolist(), draws=2, seed=3)
    assert {name: str(got.pop(f"model.{name}")) for name in ("name", "version", "bundle_id")} == {
        name: str(value) for name, value in want.pop("model").items()
    }
    assert set(got) == set(want)
    for name, array in got.items():
        np.testing.assert_allclose(array, want[name], **CLOSE)


def test_an_npy_holds_the_main_array(table_server: Server) -> None:
    """One for each operation."""
    x, z = table_rows(3, seed=2), np.random.default_rng(0).normal(size=(3, 4))
    bodies: dict[str, tuple[bytes, dict[str, Any]]] = {
        "encode": (saved(x), {"inputs": x.tolist()}),
        "decode": (saved(z), {"latents": z.tolist()}),
        "interpolate": (saved(x), {"inputs": x.tolist()}),
        "reconstruct": (saved(x), {"inputs": x.tolist()}),
        "anomaly-score": (saved(x), {"inputs": x.tolist()}),
    }
    assert {*bodies, "sample"} == {route.op for route in ROUTES} == set(MAIN)
    for op, (content, body) in bodies.items():
        got = ask(table_server, op, content, "application/x-npy")[MAIN[op]]
        np.testing.assert_allclose(got, v1(table_server, op, **body)[MAIN[op]], **CLOSE)
    headers = {"Accept": "application/x-npy"}
    reply = table_server.client.post("/v1/sample", json={"count": 2, "seed": 1}, headers=headers)
    want = v1(table_server, "sample", count=2, seed=1)
    np.testing.assert_allclose(np.load(io.BytesIO(reply.content)), want["outputs"], **CLOSE)
    assert reply.headers["X-Model"] == "/".join(str(value) for value in want["model"].values())


def test_scores_explanations_and_unknowns_are_plain_arrays(image_server: Server) -> None:
    """NaN where there is no number, -1 where there is no decision; nothing needs pickle to be read."""
    x = image_rows(4, seed=2)
    x[2] = 0.5
    options: dict[str, Any] = {"alpha": 0.1, "fdr": 0.2, "explain": 2, "components": True, "on_invalid": "flag"}
    got = ask(image_server, "anomaly-score", saved(x), **{**options, "components": "true"})
    want = v1(image_server, "anomaly-score", inputs=x.tolist(), **options)
    assert np.isnan(got["scores"]).tolist() == [False, False, True, False]
    good = [0, 1, 3]
    np.testing.assert_allclose(got["scores"][good], [want["scores"][row] for row in good], **CLOSE)
    assert got["is_anomaly"].tolist() == [-1 if flag is None else flag for flag in want["is_anomaly"]]
    assert got["is_discovery"].tolist() == [-1 if flag is None else flag for flag in want["is_discovery"]]
    assert np.isnan(got["adjusted_p_values"]).tolist() == [False, False, True, False]
    assert got["explanations.feature"][0].tolist() == [part["feature"] for part in want["explanations"][0]]
    assert got["explanations.feature"][2].tolist() == ["", ""]
    np.testing.assert_allclose(
        got["explanations.upper"][0], [p["interval"][1] for p in want["explanations"][0]], **CLOSE
    )
    np.testing.assert_allclose(got["components.kl"][good], [want["components"]["kl"][row] for row in good], **CLOSE)
    assert got["invalid.row"].tolist() == [2]
    assert got["invalid.reason"].tolist() == [want["invalid"][0]["reason"]]
    assert str(got["kind"]) == "nll"


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4", ">f2", "<i8", ">i4", "|u1", "|b1"])
def test_any_version_dtype_and_order_of_numpy_is_read(
    table_server: Server, version: tuple[int, int], dtype: str
) -> None:
    """Big-endian and Fortran order as well; integers and truth values are the numbers that they are."""
    x = (np.arange(6).reshape(2, 3) % 2).astype(dtype)
    for array in (x, np.asfortranarray(x)):
        got = npy.read(saved(array, version))
        assert got.dtype == array.dtype
        np.testing.assert_array_equal(got, array)
        answer = ask(table_server, "encode", saved(array, version), "application/x-npy")["mu"]
        np.testing.assert_allclose(answer, v1(table_server, "encode", inputs=x.astype(float).tolist())["mu"], **CLOSE)


def test_waypoints_are_inputs_unless_the_query_says_latents(table_server: Server) -> None:
    """Both are rows; an array has no name of its own."""
    z = np.random.default_rng(1).normal(size=(2, 4))
    got = ask(table_server, "interpolate", saved(z), array="latents", steps=3, method="lerp")
    assert got["alphas"].tolist() == [0, 0.5, 1]
    np.testing.assert_allclose(got["latents"][[0, 2]], z, **CLOSE)
    reply = table_server.client.post("/v1/interpolate?array=rows", content=saved(z), headers=NPY)
    assert (reply.status_code, reply.json()["detail"]) == (422, "array must be inputs or latents; given: 'rows'")


@pytest.mark.parametrize(
    ("path", "content", "headers", "status", "told"),
    [
        ("encode", b"x", NPY, 400, "not a .npy file"),
        ("encode", saved([[1.0, 2.0]]), NPY, 422, "inputs has the shape [1, 2]; [n, 3] needed"),
        ("encode", saved(1.0), NPY, 422, "inputs has the shape []; [n, 3] needed"),
        ("encode", saved(np.zeros((0, 3))), NPY, 422, "inputs has 0 rows; at least 1 needed"),
        ("encode", saved(np.zeros((1025, 3))), NPY, 413, "one request may have 1024"),
        ("encode", saved([[1, np.nan, 2]]), NPY, 422, "row 0, position [1] holds nan, which is not finite"),
        ("encode", saved([[1, 2**53 + 1, 2]]), NPY, 422, "whole numbers are exact in float64 up to"),
        ("decode", saved([[1, 2, 3, 1e7]]), NPY, 422, "which is beyond +-1e+06"),
        ("encode?draws=300", saved([[1, 2, 3]]), NPY, 422, "draws: Input should be less than or equal to 256"),
        ("encode?draw=1", saved([[1, 2, 3]]), NPY, 422, "unknown field 'draw'; the options here are: draws, seed"),
        ("encode?draws=1&draws=2", saved([[1, 2, 3]]), NPY, 422, "draws is given twice"),
        ("encode?" + "&".join(f"a{n}=1" for n in range(33)), saved([[1, 2, 3]]), NPY, 422, "more than 32 parameters"),
        ("encode?draws=1", b'{"draws": 2}', {}, 422, "draws is given twice"),
        ("encode?draws=1&seed=null", saved([[1, 2, 3]]), NPY, 422, "seed: Input should be a valid integer"),
        ("encode?inputs=[[1,2,3]]", b"{}", {}, 422, "inputs must be a list of rows; it is a string"),
        ("encode?inputs=1", saved([[1, 2, 3]]), NPY, 422, "inputs is given twice: in the query, and as the body"),
        ("anomaly-score?kind=mse", saved([[1, 2, 3]]), NPY, 422, "kind: Input should be 'nll'"),
        ("sample", saved([[1, 2, 3]]), NPY, 415, "send application/json in UTF-8; the Content-Type is"),
        ("encode", b"a", {"Content-Type": "application/x-npz"}, 415, "application/json in UTF-8 or application/x-npy"),
        ("encode", b"a", {"Content-Type": "text/plain"}, 415, "application/json in UTF-8 or application/x-npy"),
        ("encode", b"{}", {"Accept": "image/png"}, 406, "application/json, application/x-npz, application/x-npy"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused_by_name(
    table_server: Server, path: str, content: bytes, headers: dict[str, str], status: int, told: str
) -> None:
    """As problem documents, whatever the reply would have been."""
    reply = table_server.client.post(f"/v1/{path}", content=content, headers=headers)
    assert (reply.status_code, told in reply.json()["detail"]) == (status, True), reply.text
    assert reply.headers["content-type"] == "application/problem+json"


def test_options_may_stand_in_the_query_of_json_as_well(table_server: Server) -> None:
    """Numbers, truth values and words as they are in JSON."""
    x = table_rows(2).tolist()
    reply = table_server.client.post(
        "/v1/anomaly-score?explain=1&components=true&kind=kl&explain=0", json={"inputs": x}
    )
    assert reply.status_code == 422
    reply = table_server.client.post("/v1/anomaly-score?components=true&kind=kl&alpha=0.1", json={"inputs": x})
    found = reply.json()
    assert (found["kind"], found["alpha"], set(found["components"]) >= {"kl"}) == ("kl", 0.1, True)


@pytest.mark.parametrize(
    ("accept", "array", "chosen"),
    [
        (None, True, media.NPZ),
        ("*/*", True, media.NPZ),
        ("*/*", False, media.JSON),
        ("application/json", True, media.JSON),
        ("application/x-npy, application/x-npz;q=0.9", True, media.NPY),
        ("application/x-npy;q=0.5, application/x-npz;q=0.9", False, media.NPZ),
        ("application/json;q=0.1, application/*;q=0.2", False, media.NPZ),
        ("*/*, application/x-npz;q=0", True, media.NPY),
        ("application/*;q=0.5, text/html", False, media.JSON),
    ],
)
def test_the_reply_is_what_the_client_would_rather_have(
    table_server: Server, accept: str | None, array: bool, chosen: str
) -> None:
    """By quality, and where that leaves it open in kind: arrays for arrays, JSON for JSON."""
    x = table_rows(1)
    headers = {"Accept": accept} if accept else {}
    headers["Content-Type"] = media.NPY if array else media.JSON
    content = saved(x) if array else b'{"inputs": %s}' % str(x.tolist()).encode()
    with table_server.client.stream("POST", "/v1/encode", content=content, headers=headers) as reply:
        assert (reply.status_code, reply.headers["content-type"]) == (200, chosen)


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (b"a/b;q=0.5, a/c", "a/c"),
        (b"a/b;q=0.5, a/*;q=0.4", "a/b"),
        (b"a/b;q=0, a/*", "a/c"),
        (b"A/C;Q=1", "a/c"),
        (b"*/*;q=0.1, a/c;q=0.05", "a/b"),
        (b"a/c;charset=utf-8;q=1.000", "a/c"),
        (b"a/b;q=2, a/c;q=0.1", "a/c"),
        (b"a/b;q=0.0, */*;q=0", None),
        (b"text/*", None),
        (b",;,", None),
    ],
)
def test_the_most_specific_range_gives_the_quality(accept: bytes, chosen: str | None) -> None:
    """RFC 9110, 12.5.1; a range whose quality is no quality is no range."""
    if chosen is None:
        with pytest.raises(NotAcceptable):
            media.of_reply(accept, ("a/b", "a/c"))
    else:
        assert media.of_reply(accept, ("a/b", "a/c")) == chosen


PLAIN = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3), }"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "not a .npy file"),
        (b"PK\x03\x04 a zip file", "not a .npy file"),
        (headed(PLAIN, bytes(12), version=4), r"version 4\.0; 1\.0, 2\.0 and 3\.0 are read"),
        (headed(PLAIN, bytes(12)).replace(b"\x01\x00", b"\x01\x01", 1), r"version 1\.1; "),
        (headed("\n " + PLAIN, bytes(12)), "not a dictionary"),
        (headed(PLAIN, bytes(12), length=9999), "the .npy header has 9999 bytes"),
        (headed(PLAIN, bytes(12), version=2, length=2**32 - 1), "the .npy header has 4294967295 bytes"),
        (headed(PLAIN, bytes(11)), r"tells of 12 bytes, shape \[1, 3\]; 11 came"),
        (headed(PLAIN, bytes(13)), "13 came"),
        (headed(PLAIN.replace("(1, 3)", "(2**40,)"), b""), "not a dictionary"),
        (headed(PLAIN.replace("(1, 3)", "(1099511627776, 3)"), b""), "beyond any limit"),
        (headed(PLAIN.replace("(1, 3)", "(0x" + "f" * 900 + ",)"), b""), "beyond any limit"),
        (headed(PLAIN.replace("(1, 3)", "(0, 1099511627777)"), b""), "beyond any limit"),
        (headed(PLAIN.replace("(1, 3)", "(4294967296,)"), b"1234"), "tells of 17179869184 bytes"),
        (headed(PLAIN.replace("(1, 3)", "(-1, -3)"), bytes(12)), "whole numbers of 0 or more"),
        (headed(PLAIN.replace("(1, 3)", "(True, 3)"), bytes(12)), "whole numbers of 0 or more"),
        (headed(PLAIN.replace("(1, 3)", "[1, 3]"), bytes(12)), "not a tuple"),
        (headed(PLAIN.replace("(1, 3)", "(" + "1, " * 17 + ")"), bytes(12)), "up to 16"),
        (headed(PLAIN.replace("False", "0"), bytes(12)), "neither True nor False"),
        (headed(PLAIN.replace("<f4", "|O"), bytes(12)), "dtype is '|O'"),
        (headed(PLAIN.replace("<f4", "<U4"), bytes(12)), "dtype is '<U4'"),
        (headed(PLAIN.replace("<f4", "<c8"), bytes(12)), "dtype is '<c8'"),
        (headed(PLAIN.replace("<f4", "<f16"), bytes(12)), "dtype is '<f16'"),
        (headed(PLAIN.replace("'<f4'", "[('a', '<f4')]"), bytes(12)), "dtype is"),
        (headed(PLAIN.replace("'descr'", "'other'"), bytes(12)), "not a dictionary of descr, fortran_order and shape"),
        (headed("\xa0" + PLAIN + "\x85\x1c", bytes(12)), "not a dictionary"),  # spaces to Python's str, not to numpy
        (headed("-" * 1000 + "1"), "not a dictionary"),
        (headed("(" * 1000), "not a dictionary"),
        (headed("__import__('os').abort()"), "not a dictionary"),
        (headed(PLAIN.replace("<f4", "|b1"), b"\x00\x01\x02"), "neither 0 nor 1"),
        (saved(np.array([{}], object), allow_pickle=True), "dtype is '|O'"),
        (pickle.dumps([1]), "not a .npy file"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_refused(body: bytes, told: str) -> None:
    """Before numpy is asked for memory."""
    tracemalloc.start()
    with pytest.raises(MalformedBody, match=told.replace("|", r"\|")):
        npy.read(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**6


dtypes = st.sampled_from(["<f4", ">f8", "<f2", "|i1", "<u4", ">i8", "|b1"]).map(np.dtype)


@given(array=dtypes.flatmap(lambda d: npst.arrays(d, npst.array_shapes(min_dims=0, min_side=0, max_side=4))))
def test_what_numpy_writes_is_read_as_it_was(array: np.ndarray) -> None:
    """And what is written here, numpy reads."""
    got = npy.read(saved(array))
    assert (got.dtype, got.shape, got.tobytes()) == (array.dtype, array.shape, array.tobytes())
    again = np.load(io.BytesIO(npy.write_npy(array)), allow_pickle=False)
    assert (again.dtype, again.tobytes()) == (array.dtype, array.tobytes())
    both = np.load(io.BytesIO(npy.write_npz(flat({"a": array, "b": None, "c": "text", "d.e": 7}))), allow_pickle=False)
    assert set(both) == {"a", "c", "d.e"}
    assert both["a"].tobytes() == array.tobytes()


headers_like = st.tuples(
    st.sampled_from(["'<f4'", "'|b1'", "'|O'", "'<f4", "7", "None"]),
    st.sampled_from(["True", "False", "0", "''"]),
    st.sampled_from(["(1, 3)", "(3,)", "()", "(0,)", "(9**9,)", "(1099511627775,)", "(-1,)", "(1.5,)", "3"]),
).map(lambda parts: "{{'descr': {}, 'fortran_order': {}, 'shape': {}, }}".format(*parts))


@settings(max_examples=400)
@given(
    header=headers_like | st.text(st.characters(max_codepoint=255), max_size=40),
    cut=st.integers(0, 80),
    junk=st.binary(max_size=3),
    data=st.binary(max_size=16) | st.sampled_from([bytes(12), bytes(4), b""]),
    version=st.integers(0, 4),
    damaged=st.booleans(),
)
@example(header=PLAIN, cut=0, junk=b"", data=bytes(12), version=1, damaged=False)
def test_no_bytes_whatever_are_more_than_a_refusal(
    header: str, cut: int, junk: bytes, data: bytes, version: int, damaged: bool
) -> None:
    """Nor is an array larger than its body."""
    body = headed(header, data, version)
    if damaged:
        body = body[:cut] + junk + body[cut + 1 :]
    with contextlib.suppress(MalformedBody):
        assert npy.read(body).nbytes <= len(body)
