"""The JSON codec: what is accepted is exactly what the documented models accept, and everything else is named."""

from __future__ import annotations

import json as stdlib_json
import math
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from service import latent, messages
from service.bundle import open_bundle
from service.codec import json, slices
from service.codec.fields import Fields, add_query, read_options, read_rows, read_rows_flagged
from service.codec.rows import RowSpec
from service.codec.support import Support
from service.errors import InvalidInput, MalformedBody, TooLarge
from service.finite import all_finite
from service.http.refusals import refuse

TABLE = RowSpec("inputs", (3,), np.dtype(np.float64))
IMAGE = RowSpec("inputs", (2, 3), np.dtype(np.float32))
CUBE = RowSpec("inputs", (2, 1, 2), np.dtype(np.float32))
LATENT = RowSpec("latents", (2,), np.dtype(np.float32))
LATENT_INPUTS = RowSpec("inputs", (2,), np.dtype(np.float32))
MOST = 5
FLOAT32_MAX = float(np.finfo(np.float32).max)


def ways(rows: object, spec: RowSpec) -> tuple[Fields, Fields]:
    """A body that holds nothing but *rows*, parsed with the rows taken to arrays at once, and without."""
    body = orjson.dumps({spec.field: rows})
    return json.read_object(body, spec), json.read_object(body)


def read(rows: object, spec: RowSpec = TABLE, most: int = MOST, least: int = 1) -> NDArray[np.generic]:
    """The rows of such a body: the same array by both ways."""
    at_once, by_lists = (read_rows(fields, spec, most, least) for fields in ways(rows, spec))
    assert at_once.tobytes() == by_lists.tobytes()
    return at_once


def refusal(rows: object, spec: RowSpec = TABLE, most: int = MOST, least: int = 1) -> InvalidInput:
    """How such a body is refused: in the same words by both ways."""
    errors = []
    for fields in ways(rows, spec):
        with pytest.raises(InvalidInput) as refused:
            read_rows(fields, spec, most, least)
        errors.append(refused.value)
    assert (errors[0].detail, errors[0].facts) == (errors[1].detail, errors[1].facts)
    return errors[0]


@pytest.mark.parametrize(
    ("spec", "rows"),
    [
        (TABLE, [[1, 2.5, -3], [0, 0, 0]]),
        (IMAGE, [[[1, 2, 3], [4, 5, 6]]]),
        (CUBE, [[[[1, 2]], [[3, 4]]]]),
        (LATENT, [[0.1, 1e-45]]),
    ],
)
def test_rows_of_the_models_shape_become_an_array_of_its_dtype(spec: RowSpec, rows: list[Any]) -> None:
    """As numpy would read the nested list, rounded once."""
    got = read(rows, spec)
    assert (got.dtype, got.shape) == (spec.dtype, (len(rows), *spec.shape))
    assert np.array_equal(got, np.array(rows, np.float64).astype(spec.dtype))


def test_taking_the_rows_leaves_the_options() -> None:
    """What is left is checked by pydantic, with no array in it."""
    fields = json.read_object(b'{"inputs": [[1, 2, 3]], "draws": 2}', TABLE)
    read_rows(fields, TABLE, MOST)
    assert fields == {"draws": 2}
    assert read_options(messages.EncodeOptions, fields).draws == 2


@pytest.mark.parametrize(
    ("spec", "rows", "row", "told"),
    [
        (TABLE, [[1, 2, 3], [1, 2]], 1, "row 1 has 2 values; 3 needed"),
        (TABLE, [[1, 2, 3, 4]], 0, "row 0 has 4 values; 3 needed"),
        (TABLE, [[]], 0, "row 0 has 0 values; 3 needed"),
        (TABLE, [[1, 2, 3], 7], 1, "row 1 must be a list of 3; it is a number"),
        (TABLE, [[1, 2, 3], [[1, 2, 3]]], 1, "row 1 has 1 value; 3 needed"),
        (TABLE, [[1, [2], 3]], 0, "row 0, position 1 must be a number; it is a list"),
        (TABLE, [[1, True, 3]], 0, "row 0, position 1 must be a number; it is true or false"),
        (TABLE, [[1, 2, 3], [1, 2, False]], 1, "row 1, position 2 must be a number; it is true or false"),
        (TABLE, [[1, "2", 3]], 0, "row 0, position 1 must be a number; it is a string"),
        (TABLE, [[None, 2, 3]], 0, "row 0, position 0 must be a number; it is null"),
        (TABLE, [[{}, 2, 3]], 0, "row 0, position 0 must be a number; it is an object"),
        (TABLE, [[1, 2, 3], None], 1, "row 1 must be a list of 3; it is null"),
        (TABLE, ["123"], 0, "row 0 must be a list of 3; it is a string"),
        (IMAGE, [[1, 2, 3, 4, 5, 6]], 0, "row 0 has 6 values; 2 needed"),
        (IMAGE, [[[1, 2, 3], [4, 5]]], 0, "row 0, position 1, has 2 values; 3 needed"),
        (IMAGE, [[[1, 2], [3, 4], [5, 6]]], 0, "row 0 has 3 values; 2 needed"),
        (IMAGE, [[[1, 2, 3], [4, 5, None]]], 0, "row 0, position 1,2 must be a number; it is null"),
        (IMAGE, [[[1, 2, 3], "456"]], 0, "row 0, position 1, must be a list of 3; it is a string"),
        (LATENT, [[1, 2, 3]], 0, "row 0 has 3 values; 2 needed"),
    ],
)
def test_a_row_of_another_shape_or_type_is_refused_by_its_index_and_place(
    spec: RowSpec, rows: object, row: int, told: str
) -> None:
    """Nothing is flattened, padded, broadcast or converted: parsers that do so answer for rows that nobody sent."""
    error = refusal(rows, spec)
    assert error.detail == f"{spec.field}: {told}"
    assert {"field": spec.field, "row": row}.items() <= error.facts.items()
    assert str(error.facts["limit"]) in told
    assert str(error.facts["value"]) in told


@pytest.mark.parametrize("rows", [None, True, 7, "rows", {}, {"0": [1, 2, 3]}])
def test_rows_that_are_not_a_list_are_refused(rows: object) -> None:
    """With the type that came instead."""
    assert "inputs must be a list of rows; it is " in refusal(rows).detail


def test_missing_rows_are_refused_by_the_name_of_their_field() -> None:
    """Each operation has its own."""
    for spec in (TABLE, LATENT):
        with pytest.raises(InvalidInput, match=f"{spec.field} is missing"):
            read_rows({}, spec, MOST)


@pytest.mark.parametrize(("rows", "least", "told"), [(0, 1, "0 rows"), (1, 2, "1 row")])
def test_too_few_rows_are_refused_with_the_number_needed(rows: int, least: int, told: str) -> None:
    """None to score, or one waypoint to go nowhere."""
    error = refusal([[1, 2, 3]] * rows, least=least)
    assert error.detail == f"inputs has {told}; at least {least} needed"
    assert (error.facts["limit"], error.facts["value"]) == (least, rows)


def test_too_many_rows_are_413_with_the_limit_before_one_is_looked_at() -> None:
    """The limit itself is allowed; one more is not, whatever it holds."""
    assert len(read([[1, 2, 3]] * MOST)) == MOST
    for rows in ([None] * (MOST + 1), [[1, 2, 3]] * (MOST + 1)):
        with pytest.raises(TooLarge, match="inputs has 6 rows; one request may have 5") as refused:
            read(rows)
        assert refused.value.status == 413
        assert (refused.value.facts["limit"], refused.value.facts["value"]) == (MOST, MOST + 1)


@pytest.mark.parametrize(
    "text", ["18446744073709551615", "18446744073709551616", "-9223372036854775809", "1" + "0" * 300]
)
def test_whole_numbers_of_any_size_are_numbers(text: str) -> None:
    """Beyond 64 bits too; they become the nearest float64."""
    body = f'{{"inputs": [[{text}, 0, -{text.lstrip("-")}]]}}'.encode()
    for fields in (json.read_object(body, TABLE), json.read_object(body)):
        assert read_rows(fields, TABLE, MOST).tolist() == [[float(text), 0.0, -abs(float(text))]]


@pytest.mark.parametrize("value", [1e39, -1e39, 3.5e38, 1e308])
def test_a_number_beyond_float32_is_refused_with_its_row_and_value(value: float) -> None:
    """It would be an infinity inside the model; a float64 table takes it."""
    error = refusal([[1.0, 2.0], [0.0, value]], LATENT)
    assert error.detail == f"latents: row 1, position [1] holds {value}, which is beyond +-3.403e+38"
    assert error.facts == {"field": "latents", "row": 1, "limit": FLOAT32_MAX, "value": str(value)}
    assert read([[value, 0, 0]])[0].tolist() == [value, 0, 0]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("spec", [TABLE, IMAGE])
def test_what_is_not_finite_is_refused_for_any_dtype(spec: RowSpec, value: float) -> None:
    """JSON cannot say it, but another wire format can; `cast` is the door for all of them."""
    values = np.zeros((3, *spec.shape))
    values[(2, *(np.array(spec.shape) - 1))] = value
    with pytest.raises(InvalidInput, match=r"row 2, .* which is not finite") as refused:
        spec.cast(values)
    assert refused.value.facts["row"] == 2


@given(x=npst.arrays(npst.floating_dtypes(endianness="=", sizes=(32, 64)), npst.array_shapes(min_side=0, max_side=9)))
@example(x=np.full((64, 80), 3e38, np.float32))
@example(x=np.array([3e38, -3e38, 1e-45], np.float32))
@example(x=np.full(5000, np.nan))
def test_an_array_is_finite_when_each_of_its_elements_is(x: NDArray[np.generic]) -> None:
    """Also where their squares are not."""
    assert all_finite(x) == bool(np.isfinite(x).all())


@pytest.mark.parametrize("body", [b"", b"{", b"[[1]", b'{"inputs": [[NaN]]}', b'{"a": Infinity}', b"\xff", b"{'a': 1}"])
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    """400, with the parser's reason; NaN and Infinity are not JSON."""
    with pytest.raises(MalformedBody, match="the body is not JSON: ") as refused:
        json.read_object(body)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b"[]", "a list"), (b"null", "null"), (b"1", "a number"), (b'"x"', "a string"), (b"true", "true or false")],
)
def test_json_that_is_not_an_object_is_malformed(body: bytes, kind: str) -> None:
    """Requests have named members."""
    with pytest.raises(MalformedBody, match=f"the body must be a JSON object; it is {kind}"):
        json.read_object(body)


@pytest.mark.parametrize(
    ("fields", "field", "told"),
    [
        ({"draws": 1.0}, "draws", "draws: .*integer.*; given: 1.0"),
        ({"draws": True}, "draws", "draws: .*integer.*; given: True"),
        ({"draws": "3"}, "draws", "draws: .*integer.*; given: '3'"),
        ({"draws": None}, "draws", "draws: .*; given: null"),
        ({"draws": 257}, "draws", "draws: .*less than or equal to 256; given: 257"),
        ({"seed": -1}, "seed", "seed: .*greater than or equal to 0; given: -1"),
        ({"seed": 2**53}, "seed", f"seed: .*{2**53 - 1}; given: {2**53}"),
        ({"seed": 2.0**64}, "seed", rf"seed: .*less than or equal to {2**53 - 1}; given: 1\.8446744073709552e\+19"),
        ({"seed": -1e300}, "seed", r"seed: .*greater than or equal to 0; given: -1e\+300"),
        ({"seed": 1e15 + 0.5}, "seed", "seed: .*valid integer; given: 1000000000000000.5"),
        ({"sed": 1}, "sed", "unknown field 'sed'; the options here are: draws, seed"),
    ],
)
def test_a_wrong_option_is_refused_by_name_with_its_limit_and_value(
    fields: dict[str, Any], field: str, told: str
) -> None:
    """Strict: no conversion of types, no member that is silently ignored."""
    with pytest.raises(InvalidInput, match=told) as refused:
        read_options(messages.EncodeOptions, fields)
    assert refused.value.facts["field"] == field


BINARY = RowSpec(
    "inputs",
    (3,),
    np.dtype(np.float64),
    (Support(0, "on", "binary", 0, 1), Support(2, "share", "interval", 0, 1)),
)


@pytest.mark.parametrize("row", [[0, 9, 0], [1, -9, 1], [1, 0.5, 0.5], [-0.0, 1e300, 1.0]])
def test_values_within_the_support_pass(row: list[float]) -> None:
    """Its ends included; a feature with a real support takes anything."""
    assert BINARY.outside(read([row])) is None
    BINARY.check_support(read([row]))


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ([0.5, 0, 0], r"feature 'on' is 0.5; its likelihood is defined for whole numbers from 0 to 1"),
        ([2, 0, 0], r"feature 'on' is 2; its likelihood is defined for whole numbers from 0 to 1"),
        ([-1, 0, 0], "feature 'on' is -1;"),
        ([0, 0, 1.5], r"feature 'share' is 1.5; its likelihood is defined for numbers from 0 to 1"),
        ([0, 0, -1e-9], "feature 'share' is -1e-09"),
        ([0, 0, 1 + 2**-52], "feature 'share' is 1.0000000000000002"),
    ],
)
def test_values_outside_the_support_are_refused_by_row_and_feature(row: list[float], told: str) -> None:
    """There a likelihood has no density: a score would be a number without a meaning."""
    rows = read([[0, 0, 0], row])
    with pytest.raises(InvalidInput, match=f"inputs: row 1: {told}") as refused:
        BINARY.check_support(rows)
    facts = refused.value.facts
    assert (facts["field"], facts["row"], facts["value"] in row) == ("inputs", 1, True)
    assert told.partition(" defined for ")[2] in str(facts["limit"])


def test_a_count_is_a_whole_number_from_its_low_end_on() -> None:
    """Open above."""
    spec = RowSpec("inputs", (1,), np.dtype(np.float64), (Support(0, "n", "count", 0, math.inf),))
    assert spec.outside(np.array([[0.0], [3.0], [1e15]])) is None
    assert [spec.outside(np.array([[v]])) is None for v in (-1.0, 0.5)] == [False, False]


def test_flagged_rows_cost_nobody_else_their_answer() -> None:
    """The good rows in their order, and for each bad one its index, as it is in the request, and the reason."""
    rows = [[0, 1, 0], [1, 2], [1, 7, 0.25], "no", [0.5, 0, 0], [1, 0, None], [1, 1e308, 1], [0, 0, 2]]
    (x, reasons), (again, same) = (read_rows_flagged(f, BINARY, most=8) for f in ways(rows, BINARY))
    assert (x.tolist(), reasons) == (again.tolist(), same)
    assert x.tolist() == [[0, 1, 0], [1, 7, 0.25], [1, 1e308, 1]]
    assert x.dtype == BINARY.dtype
    assert {row: reason.split(";")[0] for row, reason in reasons.items()} == {
        1: "inputs: row 1 has 2 values",
        3: "inputs: row 3 must be a list of 3",
        4: "inputs: row 4: feature 'on' is 0.5",
        5: "inputs: row 5, position 2 must be a number",
        7: "inputs: row 7: feature 'share' is 2",
    }


def test_flagged_rows_may_all_be_bad() -> None:
    """Then there is nothing to score, in the right shape."""
    x, reasons = read_rows_flagged({"inputs": [None, [], [1e39] * 2]}, LATENT_INPUTS, MOST)
    assert (x.shape, x.dtype.name, sorted(reasons)) == ((0, 2), "float32", [0, 1, 2])


def test_flagged_rows_may_all_be_good() -> None:
    """Then they are as they would be without flagging."""
    rows = [[0, 1.5, 0], [1, -2, 0.5]]
    for fields in ways(rows, BINARY):
        x, reasons = read_rows_flagged(fields, BINARY, MOST)
        assert (x.tolist(), reasons) == (rows, {})


def test_flagging_does_not_forgive_what_is_wrong_with_the_whole_request() -> None:
    """No rows, too many, or none at all are nobody's single row."""
    for body in (b"{}", b'{"inputs": null}', b'{"inputs": []}'):
        with pytest.raises(InvalidInput):
            read_rows_flagged(json.read_object(body, BINARY), BINARY, MOST)
    with pytest.raises(TooLarge):
        read_rows_flagged({"inputs": [None] * 6}, BINARY, MOST)


float32s = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(x=npst.arrays(np.float32, st.tuples(st.integers(1, MOST), st.just(2)), elements=float32s))
@example(x=np.array([[1e-45, -1e-45], [np.float32(0.1), -0.0]], np.float32))
def test_float32_survives_the_way_to_json_and_back_to_the_bit(x: NDArray[np.float32]) -> None:
    """A latent vector from /v1/encode decodes as itself: replies have the shortest text that is exact."""
    fields = json.read_object(json.write_object({"inputs": x}), LATENT_INPUTS)
    assert read_rows(fields, LATENT_INPUTS, MOST).tobytes() == x.tobytes()


def test_a_latent_far_beyond_the_prior_is_refused(table_bundle: Path) -> None:
    """The decoder would answer with an infinity, and the fault would look like ours."""
    manifest = open_bundle(table_bundle).manifest
    with pytest.raises(InvalidInput, match=r"latents: row 0, position \[1\] holds 3e\+38, which is beyond \+-1e\+06"):
        read_rows({"latents": [[0.0, 3e38, 0.0, 0.0]]}, RowSpec.latents(manifest), MOST)


def test_a_byte_order_mark_is_not_json_whichever_way_is_taken() -> None:
    """RFC 8259 has none; simdjson would skip it and orjson refuse it."""
    for rest in (b'{"inputs": [[1, 2, 3]]}', b'{"inputs": [[1, 2, 3]], "draws": [1]}'):
        with pytest.raises(MalformedBody):
            json.read_object(b"\xef\xbb\xbf" + rest, TABLE)


def test_a_nul_in_a_name_is_a_name() -> None:
    """Nothing that is JSON is a fault of ours."""
    assert json.read_object(b'{"inputs": [[1,2,3]], "a\\u0000": 1}', TABLE)["a\0"] == 1


@given(x=npst.arrays(np.float64, st.tuples(st.integers(1, MOST), st.just(3)), elements=st.floats(-1e308, 1e308)))
def test_float64_survives_the_way_to_json_and_back_to_the_bit(x: NDArray[np.float64]) -> None:
    """An epoch time keeps its milliseconds."""
    assert read_rows(json.read_object(json.write_object({"inputs": x}), TABLE), TABLE, MOST).tobytes() == x.tobytes()


@dataclass(frozen=True)
class Token:
    """Text that stands in a body as it is."""

    text: str


@dataclass(frozen=True)
class Operation:
    """How one route reads its body, and the models that document it."""

    spec: RowSpec
    request: type[BaseModel]
    options: type[BaseModel]
    members: dict[str, st.SearchStrategy[Any]]


seeds = st.integers(0, latent.MAX_SEED) | st.none()
OPERATIONS = {
    "encode": Operation(
        TABLE, messages.EncodeRequest, messages.EncodeOptions, {"draws": st.integers(0, 256), "seed": seeds}
    ),
    "encode an image": Operation(IMAGE, messages.EncodeRequest, messages.EncodeOptions, {"draws": st.integers(0, 256)}),
    "encode a cube": Operation(CUBE, messages.EncodeRequest, messages.EncodeOptions, {"seed": seeds}),
    "decode": Operation(LATENT, messages.DecodeRequest, messages.DecodeOptions, {"draw": st.booleans(), "seed": seeds}),
    "reconstruct": Operation(TABLE, messages.ReconstructRequest, messages.ReconstructOptions, {}),
    "anomaly-score": Operation(
        TABLE,
        messages.AnomalyScoreRequest,
        messages.AnomalyScoreOptions,
        {
            "kind": st.sampled_from(["nll", "neg_elbo", "reconstruction", "kl", None]),
            "alpha": st.sampled_from([0.01, 0.5, None]),
            "samples": st.integers(1, 64) | st.none(),
            "explain": st.integers(0, 64),
            "components": st.booleans(),
            "on_invalid": st.sampled_from(["reject", "flag"]),
        },
    ),
}
NUMBERS = st.one_of(
    st.integers(-9, 9),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-10, 10, width=32),
    st.sampled_from(
        [2**53 + 1, 2**64 - 1, -(2**63), 1e39, FLOAT32_MAX, -1e39]
        + [Token(t) for t in ("18446744073709551616", "-1e400", "1e400", "1E5", "-0", "1e-400", "9" * 40)]
    ),
)
ODDITIES = st.sampled_from(
    [None, True, False, "1", "", [], {}, [1], [[1, 2, 3]], {"a": 1}, 0, 1.5, -1, 1e300, 2**53, 257]
    + [
        Token(t)
        for t in ('"["', '"\\ud800"', "NaN", "Infinity", "-Infinity", "nan", "01", "+1", ".5", "1.", "[1,]", "1 2")
    ]
)


def rows_like(shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    """Lists nested as *shape*."""
    return st.lists(rows_like(shape[1:]), min_size=shape[0], max_size=shape[0]) if shape else NUMBERS


def render(value: Any) -> str:
    """JSON text of *value*, tokens as they are."""
    if isinstance(value, Token):
        return value.text
    if isinstance(value, list):
        return "[" + ",".join(map(render, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{render(k)}:{render(v)}" for k, v in value.items()) + "}"
    return orjson.dumps(value).decode()


@st.composite
def damaged(draw: st.DrawFn, rows: list[Any]) -> Any:
    """*rows* with one thing wrong, or merely odd, somewhere."""
    if not rows or draw(st.integers(0, 9)) == 0:
        return draw(ODDITIES)
    index = draw(st.integers(0, len(rows) - 1))
    copy = list(rows)
    inside = copy[index]
    if isinstance(inside, list) and inside and draw(st.integers(0, 2)):
        copy[index] = draw(damaged(inside))
        return copy
    match draw(st.sampled_from(["replace", "drop", "repeat", "deeper", "flatter", "empty"])):
        case "replace":
            copy[index] = draw(ODDITIES)
        case "drop":
            del copy[index]
        case "repeat":
            copy.insert(index, inside)
        case "deeper":
            copy[index] = [inside]
        case "flatter" if isinstance(inside, list):
            copy[index : index + 1] = inside
        case _:
            copy[index] = []
    return copy


@st.composite
def bodies(draw: st.DrawFn, operation: Operation) -> bytes:
    """A request for *operation*: right, or with a few things wrong, as bytes."""
    spec = operation.spec
    rows: Any = draw(st.lists(rows_like(spec.shape), min_size=1, max_size=MOST))
    members: list[tuple[str, Any]] = []
    for name in draw(st.sets(st.sampled_from(sorted(operation.members)))) if operation.members else ():
        members.append((name, draw(operation.members[name])))
    wrong = draw(
        st.sampled_from(["", "", "", "", "rows", "rows", "rows", "option", "extra", "double", "text", "missing"])
    )
    if wrong == "rows":
        rows = draw(damaged(rows))
        if isinstance(rows, list) and draw(st.booleans()):
            rows = draw(damaged(rows))
    members.insert(draw(st.integers(0, len(members))), (spec.field, rows))
    if wrong == "option" and operation.members:
        members.append((draw(st.sampled_from(sorted(operation.members))), draw(ODDITIES)))
    if wrong == "extra":
        name = draw(st.sampled_from(["", "extra", "Inputs", "inputs ", "latents", "inputs", "kind", "temperature"]))
        members.append((name, draw(ODDITIES | st.sampled_from([[[1, 2, 3]], [[1, 2]]]))))
    if wrong == "double":
        again = draw(st.lists(rows_like(spec.shape), max_size=2))
        members.append((spec.field, draw(damaged(again)) if draw(st.booleans()) else again))
    if wrong == "missing":
        members = [(name, value) for name, value in members if name != spec.field]
    text = "{" + ", ".join(f"{render(name)}: {render(value)}" for name, value in members) + "}"
    if wrong == "text":
        cut = draw(st.integers(0, len(text)))
        after = cut + draw(st.integers(0, 2))
        text = text[:cut] + draw(st.sampled_from(["", "[", "]", "}", ",", '"', "\\", "\x00", " ", "\n"])) + text[after:]
    return text.encode()


def read_fast(operation: Operation, body: bytes) -> tuple[NDArray[np.generic], dict[str, Any]] | None:
    """As the routes do; None for a refusal, which is never an error of ours."""
    other = LATENT if operation.spec.field == "inputs" else TABLE
    try:
        fields = json.read_object(body, operation.spec, other)
        x = read_rows(fields, operation.spec, MOST)
        return x, read_options(operation.options, fields).model_dump()
    except (MalformedBody, InvalidInput, TooLarge):
        return None


def has_shape(value: Any, shape: tuple[int, ...]) -> bool:
    """Whether nested lists are as the model's rows."""
    if not shape:
        return not isinstance(value, list)
    return isinstance(value, list) and len(value) == shape[0] and all(has_shape(item, shape[1:]) for item in value)


def given_twice(body: bytes) -> bool:
    """Whether an object in *body* has two members of one name."""
    twice: list[bool] = []
    stdlib_json.loads(body, object_pairs_hook=lambda pairs: twice.append(len(dict(pairs)) < len(pairs)))
    return any(twice)


def read_as_documented(operation: Operation, body: bytes) -> tuple[NDArray[np.generic], dict[str, Any]] | None:
    """By the pydantic model that OpenAPI shows, then by what it says of shape and range in words."""
    spec = operation.spec
    try:
        request = operation.request.model_validate(orjson.loads(body))
    except (orjson.JSONDecodeError, ValidationError):
        return None
    if given_twice(body):
        return None
    rows = getattr(request, spec.field)
    if rows is None or len(rows) > MOST or not all(has_shape(row, spec.shape) for row in rows):
        return None
    values = np.array(rows, np.float64)
    with np.errstate(over="ignore"):
        rounded = values.astype(spec.dtype)  # what is up to half a unit beyond the largest float is the largest float
    if not np.isfinite(rounded).all():
        return None
    return rounded, request.model_dump(
        exclude={spec.field} | ({"records", "series"} if spec.field == "inputs" else set())
    )


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_the_fast_way_accepts_exactly_the_bodies_that_the_documented_models_accept(
    operation: Operation, data: st.DataObject
) -> None:
    """And reads the same numbers: rows do not go through pydantic, so this test is what holds them to it."""
    body = data.draw(bodies(operation))
    fast, documented = read_fast(operation, body), read_as_documented(operation, body)
    assert (fast is None) == (documented is None), body
    if fast is not None and documented is not None:
        assert fast[0].dtype == documented[0].dtype
        assert fast[0].tobytes() == documented[0].tobytes()
        assert fast[1] == documented[1]


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_bodies_that_are_generated_are_both_right_and_wrong(name: str) -> None:
    """Otherwise the test above would say nothing: of each kind there must be many."""
    accepted: list[bool] = []

    @settings(max_examples=200, deadline=None, database=None, derandomize=True)
    @given(body=bodies(OPERATIONS[name]))
    def count(body: bytes) -> None:
        accepted.append(read_fast(OPERATIONS[name], body) is not None)

    count()
    assert 0.15 < np.mean(accepted) < 0.85


@settings(max_examples=200)
@given(body=st.binary(max_size=60) | st.text('[]{},:"0123456789eE+-.truefalsn \t', max_size=60).map(str.encode))
def test_no_bytes_whatever_are_more_than_a_refusal(body: bytes) -> None:
    """400 or 422, never an error of ours."""
    for operation in OPERATIONS.values():
        assert (read_fast(operation, body) is None) == (read_as_documented(operation, body) is None)


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs": [[1]], "draws": [' + b",".join([b"{}"] * 200_000) + b"]}",
        b'{"inputs": [[1, 2, 3]], ' + b",".join([b'"draws": 1'] * 200_000) + b"}",
        b"{" + b",".join(b'"%d": 1' % n for n in range(200_000)) + b"}",
        b'{"inputs": [' + b"[" * 500 * 400 + b"]" * 500 * 400 + b"]}",
        b"[" + b"[]," * 200_000 + b"[]]",
    ],
    ids=["objects", "the same member", "members", "lists in lists", "no object"],
)
def test_json_that_no_request_can_need_is_refused_before_objects_are_made_of_it(body: bytes) -> None:
    """Of one byte a parser makes up to sixty: 32 MiB of lists were 1.9 GB."""
    tracemalloc.start()
    with pytest.raises(TooLarge, match=r"the body's JSON has \d+ values, lists and objects; one request may have 4116"):
        json.read_object(body, TABLE, most=MOST)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**6


def test_the_most_rows_that_a_request_may_have_are_within_the_bound_of_its_json() -> None:
    """By the way of lists too, beside every option."""
    for operation in OPERATIONS.values():
        rows = np.ones((MOST, *operation.spec.shape)).tolist()
        body = orjson.dumps({"options": {str(n): [] for n in range(1000)}, operation.spec.field: rows})
        assert json.read_object(body, operation.spec, most=MOST)[operation.spec.field] == rows


def test_rows_over_the_limit_are_counted_in_the_refusal_however_many() -> None:
    """The number of rows says more than the number of commas."""
    with pytest.raises(TooLarge, match="inputs has 50000 rows; one request may have 5"):
        json.read_object(b'{"inputs": [' + b",".join([b"[1,2,3]"] * 50_000) + b"]}", TABLE, most=MOST)


def test_a_refusal_does_not_repeat_what_it_refuses_without_end() -> None:
    """Names and values come cut, and in printable characters."""
    for fields in ({"draws": "\x00" * 10**5}, {"\x00" * 10**5: 1}, {str(n): 1 for n in range(1000)}):
        with pytest.raises(InvalidInput) as refused:
            read_options(messages.EncodeOptions, fields)
        assert refused.value.detail.isprintable()
        assert len(refused.value.detail) + len(str(refused.value.facts)) < 600
    with pytest.raises(InvalidInput) as refused:
        add_query({"\n": 1}, b"%0A=1")
    assert refused.value.detail == r"'\n' is given twice"


@pytest.mark.parametrize("depth", [100, 1023, 1025, 200_000])
def test_nesting_without_end_is_refused_and_does_not_end_the_process(depth: int) -> None:
    """By the parser's own limit, or by the shape; never by the stack."""
    for inside in (b"1", b""):
        body = b'{"inputs": ' + b"[" * depth + inside + b"]" * depth + b"}"
        for operation in OPERATIONS.values():
            assert read_fast(operation, body) is None


def test_a_value_of_any_depth_can_be_refused() -> None:
    """The refusal can be written: orjson writes 254 lists in one another, and reads 1,024."""
    deep = orjson.loads(b"[" * 1000 + b"]" * 1000)
    with pytest.raises(InvalidInput, match="draws: Input should be a valid integer; given: a list") as refused:
        read_options(messages.EncodeOptions, {"draws": deep})
    assert refuse("/v1/encode", refused.value, "1").status == 422


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs": [[1, 2, 3]], "seed": 1, "seed": 2}',
        b'{"seed": 1, "inputs": [[1, 2, 3]], "seed": [[1, 2]]}',
        b'{"inputs": [[1, 2, 3]], "inputs": [[1, 2, 3]], "seed": 184467440737095516160}',
        b'{"a": {"seed": 1}, "seed": 1, "seed": 1, "b": 1e400}',
        b"{" + b'"seed": 1, ' * 40 + b'"inputs": [[1, 2, 3]]}',
    ],
)
def test_a_member_that_is_given_twice_is_refused_by_name(body: bytes) -> None:
    """Parsers disagree on which of them counts, so that a proxy might have checked the other one."""
    with pytest.raises((InvalidInput, MalformedBody), match=r"(seed|inputs) is given twice|not JSON"):
        json.read_object(body, TABLE)


def test_what_is_nested_too_deep_to_be_looked_through_hides_no_member_given_twice() -> None:
    """The last of the two would be answered, and the first is not looked at by any parser that is left."""
    beyond_simdjson = b"18446744073709551616"
    body = b'{"inputs": ' + b"[" * 1000 + beyond_simdjson + b"]" * 1000 + b', "inputs": [[1, 2, 3]]}'
    with pytest.raises(MalformedBody, match="nested too deep"):
        json.read_object(body, TABLE)


def test_a_refusal_that_is_kept_changes_nothing_for_the_next_body() -> None:
    """Its traceback holds what simdjson parsed: a parser that is still held so cannot parse again."""
    kept = []
    for body in (b'{"inputs": [[1, 2, 3]], "inputs": 1}', b'{"inputs": [1, 2, 3, 4, 5, 6]}'):
        with pytest.raises((InvalidInput, TooLarge)) as refused:
            json.read_object(body, TABLE, most=MOST)
        kept.append(refused)
        assert isinstance(json.read_object(b'{"inputs": [[1, 2, 3]]}', TABLE)["inputs"], np.ndarray)
    assert kept[0].value.__traceback__


def test_a_long_body_that_no_request_can_need_is_refused_before_it_is_read() -> None:
    """Simdjson's document of it would take 14 times its size, and the event loop's time."""
    body = b'{"inputs":[' + b"0," * 2_000_000 + b"0]}"
    tracemalloc.start()
    with pytest.raises(TooLarge, match="one request may have"):
        next(slices.read(body, TABLE, LATENT, most=MOST))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**6
