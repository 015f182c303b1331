"""
Bodies of /v1 in JSON, right and wrong, and what their reader owes: verdict and numbers of the documented models.

`check` reads a body as the routes do, and by the pydantic models that OpenAPI shows. The two agree on every body, but
for the differences in `DIFFERENCES`, each of which says why.
"""

from __future__ import annotations

import math
import sys
from json import loads
from random import Random
from types import NoneType
from typing import Any, NamedTuple

import numpy as np
from pydantic import ValidationError

from service import messages
from service.codec.fields import read_rows, read_rows_flagged
from service.codec.rows import RowSpec
from service.errors import ServiceError
from tests.fuzz.mutations import NO_NUMBERS, NUMBERS, chance, mutate, pick
from tests.fuzz.operation import LATENT, MOST, TABLE, Operation, Outcome

IMAGE = RowSpec("inputs", (2, 3), np.dtype(np.float32))
CUBE = RowSpec("inputs", (2, 1, 2), np.dtype(np.float32))

Tree = str | list[Any]
"""JSON as nested lists of texts."""

SEED = ("0", "7", "9007199254740991", "null")
DRAWS = {"draws": ("0", "1", "256"), "seed": SEED}
SCORE = {
    "kind": ('"nll"', '"kl"', "null"),
    "alpha": ("0.01", "5e-1", "null", "1e-9"),
    "fdr": ("0.1", "0.999999", "null", "1e-9"),
    "samples": ("1", "16", "null"),
    "explain": ("0", "3", "64"),
    "components": ("true", "false"),
    "on_invalid": ('"reject"', '"flag"'),
}


OPERATIONS = {
    "encode": Operation(TABLE, messages.EncodeRequest, messages.EncodeOptions, DRAWS),
    "encode an image": Operation(IMAGE, messages.EncodeRequest, messages.EncodeOptions, DRAWS),
    "encode a cube": Operation(CUBE, messages.EncodeRequest, messages.EncodeOptions, DRAWS),
    "decode": Operation(
        LATENT,
        messages.DecodeRequest,
        messages.DecodeOptions,
        {"draw": ("true", "false"), "seed": SEED, "records": ("true", "false")},
    ),
    "reconstruct": Operation(TABLE, messages.ReconstructRequest, messages.ReconstructOptions, {}),
    "anomaly-score": Operation(TABLE, messages.AnomalyScoreRequest, messages.AnomalyScoreOptions, SCORE),
}

STRINGS = ('""', '"a"', '"1"', '"["', '"\\ud800"', '"\\udc00\\ud800"', '"\\ud83d\\ude00"', '"\\u0000"', '"\\x"', "'a'")
ODDITIES = (
    "null", "true", "false", "[]", "{}", "[1]", "[[]]", "[[1,2,3]]", '{"a":1}', "[1,]", "[,1]", "1,2", "", "tru",
    "nul", *("1.0", "-1", "257", "1e2", "2.0e0", "9007199254740992", *STRINGS, *NO_NUMBERS, '"' + "x" * 2000 + '"'),
)  # fmt: skip
NAMES = (
    "", "extra", "Inputs", "inputs ", "latents", "inputs", "kind", "in\\u0070uts", "\\u0000", "inputs\\u0000",
    "x" * 2000,
)  # fmt: skip
WORDS = tuple(
    text.encode()
    for text in (
        *("[[", "]]", "],[", "}{", '":', "//", "/**/", "\ufeff", "\xa0", "\u2028"),
        *'[]{},:"\\ \t\r\n\x00\x0c/',
        *ODDITIES,
        *NUMBERS,
    )
)  # fmt: skip
DEPTHS = (17, 100, 199, 201, 1000, 1022, 1023, 1024, 1025, 10_000, 100_000)


class Body(NamedTuple):
    """One request: the operation by its name above, and the bytes."""

    operation: str
    body: bytes


def make(random: Random) -> Body:
    """A request: right, or wrong in a few places."""
    name = random.choice(tuple(OPERATIONS))
    operation = OPERATIONS[name]
    shape = operation.spec.shape
    rows: Tree = [_rows(random, shape) for _ in range(random.choice((1, 1, 2, 3, MOST, MOST + 1)))]
    members = [(option, random.choice(texts)) for option, texts in operation.texts.items() if chance(random, 0.3)]
    wrong = pick(random, (6, ""), (4, "rows"), (1, "option"), (1, "extra"), (1, "double"), (1, "missing"), (1, "deep"))
    for _ in range(random.randint(1, 3) if wrong == "rows" else 0):
        rows = _damaged(random, rows)
    members.insert(random.randint(0, len(members)), (operation.spec.field, _text(random, rows)))
    if wrong == "option":
        members.append((random.choice([*operation.texts, "draws"]), random.choice(ODDITIES + NUMBERS)))
    elif wrong == "extra":
        members.append((random.choice(NAMES), random.choice(ODDITIES)))
    elif wrong == "double":
        at = random.randint(0, len(members))
        members.insert(at, (random.choice(members)[0], random.choice((*ODDITIES, *NUMBERS, "[[1,2,3]]", "[[1,2]]"))))
    elif wrong == "missing":
        members = [member for member in members if member[0] != operation.spec.field]
    elif wrong == "deep":
        depth, inside = random.choice(DEPTHS), random.choice(("", "1", "{}"))
        deep = pick(
            random, (3, "[" * depth + inside + "]" * depth), (1, '{"a":' * depth + "1" + "}" * depth), (1, "[" * depth)
        )
        members.insert(random.randint(0, len(members)), (random.choice(("inputs", "latents", "draws", "x")), deep))
    space = random.choice(("", "", " ", "\n\t", "\r\n  "))
    text = "{" + f",{space}".join(f'"{key}"{space}:{space}{value}' for key, value in members) + "}" + space
    return Body(name, _encoded(random, text))


def check(made: Body) -> str:
    """Read *made* in both ways and compare: "accepted", or the class of the refusal."""
    operation = OPERATIONS[made.operation]
    outcome, fast = operation.read(made.body)
    _check_slices(operation, made.body, fast)
    expected = documented(operation, made.body)
    if (fast is None) != (expected is None):
        why = [name for name, differs in DIFFERENCES.items() if differs(operation, made.body)]
        assert why, f"{outcome}, but by the documented model {'refused' if expected is None else 'accepted'}"
        outcome = f"{outcome} ({why[0]})"
    elif fast is not None and expected is not None:
        assert (fast[0].dtype, fast[0].shape) == (expected[0].dtype, expected[0].shape)
        assert fast[0].tobytes() == expected[0].tobytes()
        assert fast[1] == expected[1]
        assert np.isfinite(fast[0]).all()
    if operation.spec is TABLE:
        _check_flagged(operation, made.body)
    return outcome


def _given_twice(operation: Operation, body: bytes) -> bool:
    """Parsers disagree on which of two members counts: it is refused, where pydantic's parser takes the last."""
    return twice(body)


DIFFERENCES = {"given twice": _given_twice}
"""Where the reader may differ from the models, by name."""


def twice(body: bytes) -> bool:
    """Whether an object in *body* has two members of one name, by the standard library's parser."""
    found = False

    def notice(pairs: list[tuple[str, Any]]) -> None:
        nonlocal found
        found = found or len({name for name, _ in pairs}) < len(pairs)

    deepest = sys.getrecursionlimit()
    sys.setrecursionlimit(3000)
    try:
        loads(body.decode(), object_pairs_hook=notice)
    except (ValueError, RecursionError):
        return False
    finally:
        sys.setrecursionlimit(deepest)
    return found


def _rows(random: Random, shape: tuple[int, ...]) -> Tree:
    """One row, of numbers mostly plain."""
    if shape:
        return [_rows(random, shape[1:]) for _ in range(shape[0])]
    return pick(
        random, (5, str(random.randint(-9, 9))), (4, repr(random.uniform(-1e3, 1e3))), (1, random.choice(NUMBERS))
    )


def _damaged(random: Random, tree: Tree) -> Tree:
    """*tree* with one thing wrong, or merely odd, somewhere."""
    if isinstance(tree, str) or not tree or chance(random, 0.1):
        return random.choice(ODDITIES)
    at = random.randrange(len(tree))
    inside = tree[at]
    if isinstance(inside, list) and inside and chance(random, 0.7):
        return [*tree[:at], _damaged(random, inside), *tree[at + 1 :]]
    flat = inside if isinstance(inside, list) else [inside]
    new = pick(
        random, (4, [random.choice(ODDITIES)]), (1, []), (1, [inside, inside]), (1, [[inside]]), (1, flat), (1, [[]])
    )
    if chance(random, 0.2) and at + 1 < len(tree):  # as many numbers as before, in other rows
        first, second = tree[at], tree[at + 1]
        if isinstance(first, list) and isinstance(second, list) and second:
            return [*tree[:at], [*first, second[0]], second[1:], *tree[at + 2 :]]
    return [*tree[:at], *new, *tree[at + 1 :]]


def _text(random: Random, tree: Tree) -> str:
    comma = random.choice((",", ",", ", ", " ,\n"))
    return tree if isinstance(tree, str) else "[" + comma.join(_text(random, item) for item in tree) + "]"


def _encoded(random: Random, text: str) -> bytes:
    if chance(random, 0.02):
        return text.encode(random.choice(("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-7")))
    body = text.encode()
    return mutate(random, body, WORDS) if chance(random, 0.25) else body


def _check_slices(operation: Operation, body: bytes, whole: Outcome | None) -> None:
    """In slices the same is read as at once, or nothing. (Why it is refused may be another of several reasons.)"""
    _, sliced = operation.read(body, sliced=True)
    assert (sliced is None) == (whole is None), f"in slices {'refused' if sliced is None else 'accepted'}"
    if sliced is not None and whole is not None:
        assert (sliced[0].dtype, sliced[0].shape, sliced[1]) == (whole[0].dtype, whole[0].shape, whole[1])
        assert sliced[0].tobytes() == whole[0].tobytes()


def _check_flagged(operation: Operation, body: bytes) -> None:
    """A row is flagged where it would be refused alone, and only there."""
    try:
        fields = operation.fields(body)
        good, reasons = read_rows_flagged(dict(fields), operation.spec, MOST)
    except ServiceError:
        return
    rows = fields[operation.spec.field]
    alone = []
    for index in range(len(rows)):
        try:
            alone.append(read_rows({operation.spec.field: rows[index : index + 1]}, operation.spec, MOST))
            assert index not in reasons
        except ServiceError:
            assert index in reasons
    assert good.tobytes() == b"".join(row.tobytes() for row in alone)


def documented(operation: Operation, body: bytes) -> Outcome | None:
    """By the model that OpenAPI shows, then by what it says of shape, range and size in words."""
    spec = operation.spec
    try:
        request = operation.request.model_validate_json(body)
    except ValidationError:
        return None
    rows = getattr(request, spec.field)
    if rows is None or len(rows) > MOST or not all(_has_shape(row, spec.shape) for row in rows):
        return None
    if operation.is_beyond(body):
        return None
    with np.errstate(over="ignore"):
        rounded = np.array(rows, np.float64).astype(spec.dtype)
    if not np.isfinite(rounded).all() or (np.abs(rounded) > spec.bound).any():
        return None
    rest = {"records", "series"} if spec.field == "inputs" else set()
    return rounded, request.model_dump(exclude={spec.field} | rest)


def _has_shape(value: Any, shape: tuple[int, ...]) -> bool:
    if not shape:
        return not isinstance(value, (list, NoneType)) and math.isfinite(value)
    return isinstance(value, list) and len(value) == shape[0] and all(_has_shape(item, shape[1:]) for item in value)
