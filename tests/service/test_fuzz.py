"""
Every parser against everything that tests/fuzz can think of, a few hundred inputs each, the same in every run.

The long run, over a million, is `make fuzz`; what it found is here as inputs of their own.
"""

from __future__ import annotations

import random as randoms
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from service.codec import json
from service.codec.fields import read_rows
from service.errors import ServiceError
from tests.fuzz import frames, header_fields, json_bodies, npy_files, picture_files, record_bodies, requests, streams
from tests.fuzz.application import Application
from tests.fuzz.operation import TABLE
from tests.fuzz.requests import Request

PARSERS = (json_bodies, record_bodies, npy_files, frames, streams, header_fields, picture_files)
played = st.randoms(use_true_random=False)
"""A Random that hypothesis plays, so that what fails is made small."""


@pytest.fixture(scope="module")
def application(table_bundle: Path) -> Iterator[Application]:
    """The whole service, in this process."""
    with Application(table_bundle) as app:
        yield app


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.__name__.rsplit(".", 1)[-1])
@settings(max_examples=300, deadline=None, derandomize=True)
@given(random=played)
def test_a_parser_agrees_with_its_judge_or_refuses(parser: ModuleType, random: randoms.Random) -> None:
    """Arrays are those of a second, slower reader; a refusal is short, printable and the client's."""
    parser.check(parser.make(random))


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.__name__.rsplit(".", 1)[-1])
def test_the_inputs_of_a_grammar_are_both_right_and_wrong(parser: ModuleType) -> None:
    """Otherwise agreement would say little."""
    random = randoms.Random(1)
    outcomes = Counter(parser.check(parser.make(random)) for _ in range(1000))
    assert 0.2 <= outcomes["accepted"] / 1000 <= 0.8, outcomes


def test_the_whole_service_answers_or_refuses(application: Application) -> None:
    """Of no bytes, headers or path a 5xx; every answer is as documented."""
    random = randoms.Random(2)
    outcomes = Counter(application.check(requests.make(random)) for _ in range(1500))
    assert 0.15 <= outcomes["accepted"] / 1500 <= 0.8, outcomes


@settings(max_examples=100, deadline=None, derandomize=True)
@given(random=played)
def test_the_whole_service_answers_or_refuses_what_hypothesis_plays(
    application: Application, random: randoms.Random
) -> None:
    """The same, with inputs that can be made small."""
    application.check(requests.make(random))


def body(operation: str, option: bytes) -> json_bodies.Body:
    """Good rows with one more member."""
    return json_bodies.Body(operation, b'{"inputs": [[1, 2, 3]], %b}' % option)


def file(version: bytes, header: bytes) -> npy_files.File:
    """One byte in a .npy file."""
    return npy_files.File(b"\x93NUMPY" + version + len(header).to_bytes(2, "little") + header + b"1")


ONE_BYTE = b"{'descr': '|u1', 'fortran_order': True, 'shape': (1,), }\n"
FOUND: tuple[tuple[Callable[[Any], str], Any, str], ...] = (
    (json_bodies.check, body("encode", b'"draws": ' + b"[" * 300 + b"]" * 300), "InvalidInput"),
    (json_bodies.check, body("encode", b'"draws": "' + b"\x7f" * 5000 + b'"'), "InvalidInput"),
    (json_bodies.check, body("encode", b'"' + b"d" * 5000 + b'": 1'), "InvalidInput"),
    (json_bodies.check, body("anomaly-score", b'"samples": 18446744073709551616'), "InvalidInput"),
    (json_bodies.check, body("anomaly-score", b'"samples": ' + b"9" * 400), "MalformedBody"),
    (npy_files.check, file(b"\1\xc0", ONE_BYTE), "MalformedBody"),
    (npy_files.check, file(b"\1\0", b"\n " + ONE_BYTE), "MalformedBody"),
    (npy_files.check, file(b"\1\0", b"\xa0" + ONE_BYTE), "MalformedBody"),
    (header_fields.check, header_fields.Value("headers", pairs=((b"content-length", b"9" * 5000),)), "TooLarge"),
    (header_fields.check, header_fields.Value("accept", b"x;q=2," * 3000), "NotAcceptable"),
)
"""What was found by fuzzing, and how it is refused since."""


@pytest.mark.parametrize(("check", "made", "outcome"), FOUND)
def test_what_was_found_once_is_refused_for_good(check: Callable[[Any], str], made: Any, outcome: str) -> None:
    """As the grammar's judge says, too."""
    assert check(made) == outcome


@pytest.mark.parametrize(
    ("request_", "outcome"),
    [
        (Request("POST", "/v1/encode", b"", ((b"content-length", b"9" * 5000),), (b"{}",)), "/v1 413 too-large"),
        (Request("GET", "/a\n\u202e" + "b" * 3000, b"", (), (b"",)), "/v1 404 http-404"),
        (Request("PUT", "/v2/models/" + "b" * 3000 + "/infer", b"", (), (b"",)), "/v2 405"),
    ],
)
def test_what_was_found_once_is_no_fault_of_the_service(
    application: Application, request_: Request, outcome: str
) -> None:
    """Over the whole way."""
    assert application.check(request_) == outcome


class Bodies(RuleBasedStateMachine):
    """One reader of JSON and many bodies in turn, good and bad; arrays of earlier ones are kept."""

    @initialize()
    def begin(self) -> None:
        """No arrays yet."""
        self.kept: list[tuple[np.ndarray, bytes]] = []

    @rule(random=played)
    def any_body(self, random: randoms.Random) -> None:
        """Refused or not: nobody's business but its own."""
        json_bodies.check(json_bodies.make(random))

    @rule(rows=st.lists(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3), min_size=1, max_size=5))
    def good_body(self, rows: list[list[float]]) -> None:
        """Read right, whatever came before."""
        fields = json.read_object(json.write_object({"inputs": rows}), TABLE, most=5)
        array = read_rows(fields, TABLE, 5)
        assert array.tolist() == rows
        self.kept.append((array, array.tobytes()))

    @rule(keep=st.booleans())
    def fault(self, keep: bool) -> None:
        """Also while the error of an earlier body, and with it what it was parsed to, is still held."""
        try:
            json.read_object(b'{"inputs": [[1, 2, 3], [1, 2, "3"]], "draws": [', TABLE, most=5)
        except ServiceError as error:
            self.error = error if keep else None

    def teardown(self) -> None:
        """What was read stays what it was."""
        assert all(array.tobytes() == before for array, before in getattr(self, "kept", ()))


TestBodies = Bodies.TestCase
TestBodies.settings = settings(max_examples=40, stateful_step_count=30, deadline=None, derandomize=True)
