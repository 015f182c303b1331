"""The check of answers before anything is timed, on the real service."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.serving.answers import check
from benchmarks.serving.bench import Work
from benchmarks.serving.failures import Refused, WrongAnswer
from benchmarks.serving.in_process import InProcess
from benchmarks.serving.scoring import PATH, Scorer
from benchmarks.serving.wire import Wire, plain_json, tensor_binary, tensor_json
from tests.bundles import image_rows
from tests.server import Server

WIRES = {
    "JSON": plain_json("/v1/encode"),
    "tensors in JSON": tensor_json("/v2/models/encode/infer"),
    "binary tensors": tensor_binary("/v2/models/encode/infer"),
}


def port_of(server: Server) -> int:
    """Where it listens."""
    return int(server.url.rsplit(":", 1)[1])


@pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)
def test_the_services_answers_are_those_of_onnxruntime_in_process(
    image_server: Server, image_bundle: Path, wire: Wire
) -> None:
    """In every format that is measured, alone and in batches."""
    graph = InProcess(image_bundle / "encoder.onnx")
    for rows in (1, 5):
        work = Work.of(wire, [image_rows(rows, seed) for seed in range(3)], graph.codes)
        check(port_of(image_server), wire, work.bodies, work.expected)


@pytest.mark.parametrize("draws", [1, 16])
def test_the_services_scores_are_those_of_the_scorer_in_process(
    image_server: Server, image_bundle: Path, draws: int
) -> None:
    """By a formula of the benchmark's own."""
    scorer, wire = Scorer(image_bundle), tensor_binary(PATH, samples=draws)
    work = Work.of(wire, [image_rows(4, seed) for seed in range(3)], lambda x: scorer.scores(x, draws))
    check(port_of(image_server), wire, work.bodies, work.expected)


@pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)
def test_a_wrong_answer_ends_the_benchmark(image_server: Server, image_bundle: Path, wire: Wire) -> None:
    """One number of one row is enough; so is an array that is missing, or has another shape."""
    graph = InProcess(image_bundle / "encoder.onnx")
    x = image_rows(3)
    work = Work.of(wire, [x], graph.codes)
    right = work.expected[0]
    off = {**right, "mu": right["mu"] + np.eye(3, 4) * 0.001}
    for wrong, why in ((off, "differs"), ({**right, "z": right["mu"]}, "no z"), ({"mu": right["mu"][:2]}, "shape")):
        with pytest.raises(WrongAnswer, match=why):
            check(port_of(image_server), wire, work.bodies, [wrong])


def test_an_error_is_no_answer(image_server: Server) -> None:
    """A peer that refuses is left out with what it said."""
    wire = plain_json("/v1/encode")
    with pytest.raises(Refused, match="422"):
        check(port_of(image_server), wire, [wire.write(np.zeros((1, 7), np.float32))], [{}])
