"""The engine: it runs where it was told to, proves itself before it serves, and answers a row alike in any company."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service import calibration
from service.bundle import Bundle, open_bundle, pack_arrays
from service.engine import ATOL, ORIGINAL_UNITS, RTOL, Engine, bucket, deviation
from service.errors import BundleError, EngineError
from service.provider import Device, Placement, open_sessions
from service.scored import Scored
from service.vae import VAE, Work
from tests.bundles import edit_manifest, reseal, table_rows

Array = NDArray[np.generic]
FEATURES = 3


@pytest.fixture(scope="module")
def bundle(table_bundle: Path) -> Bundle:
    """The table bundle, opened."""
    return open_bundle(table_bundle)


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> Engine:
    """An engine on it, on one thread."""
    return Engine.open(bundle, threads=1)


def inputs_of(bundle: Bundle, graph: str, rows: int = 5) -> dict[str, Array]:
    """Something to run *graph* on."""
    feeds: dict[str, dict[str, Array]] = {
        "encoder": {"x": table_rows(rows, seed=1)},
        "decoder": {"z": np.random.default_rng(1).normal(size=(rows, 4)).astype(np.float32)},
        "scorer": {"x": table_rows(rows, seed=2), "eps": bundle.eps[:16]},
    }
    return feeds[graph]


@pytest.mark.parametrize("data", [b"", b"not onnx", b"\x08\x07" * 10, bytes(1000)])
@pytest.mark.parametrize("graph", ["encoder", "scorer"])
def test_bytes_that_are_no_model_are_refused_by_the_name_of_the_graph(bundle: Bundle, graph: str, data: bytes) -> None:
    """Instead of onnxruntime's own error, which names nothing."""
    with pytest.raises(EngineError, match=f"onnxruntime cannot load the graph {graph} on cpu: "):
        Engine({**bundle.graphs, graph: data}, threads=1)


@pytest.mark.parametrize("graph", ["encoder", "decoder", "scorer"])
def test_outputs_asked_for_alone_are_those_that_all_together_give(bundle: Bundle, engine: Engine, graph: str) -> None:
    """What is not asked for is not computed, and nothing else changes; the order is that of the question."""
    feed = inputs_of(bundle, graph)
    everything = engine.run(graph, feed)
    manifest = bundle.manifest.graphs
    names = next([tensor.name for tensor in part.outputs] for name, part in manifest.items() if name == graph)
    assert list(everything) == names
    for name in names:
        alone = engine.run(graph, feed, [name])
        assert list(alone) == [name]
        assert deviation(alone[name], everything[name], FEATURES) <= 1
    backwards = engine.run(graph, feed, names[::-1])
    assert list(backwards) == names[::-1]
    assert all(deviation(backwards[name], everything[name], FEATURES) <= 1 for name in names)


@pytest.mark.parametrize("rows", [1, 2, 3, 17])
def test_a_cpu_runs_as_many_rows_as_it_is_given(bundle: Bundle, engine: Engine, rows: int) -> None:
    """No padding: it would be paid for."""
    assert engine.padding(rows) == 0
    for graph in ("encoder", "decoder", "scorer"):
        assert {len(a) for a in engine.run(graph, inputs_of(bundle, graph, rows)).values()} == {rows}


class Noting:
    """Sessions of the CPU under the name of another *provider*; how many rows, and draws, each run was given."""

    def __init__(self, provider: str) -> None:
        self.provider = provider
        self.runs: dict[str, list[tuple[int, int]]] = {}

    def open(
        self, graphs: Mapping[str, bytes], device: Device, threads: int
    ) -> tuple[Placement, dict[str, _NotingSession]]:
        """In the place of `open_sessions`."""
        placement, sessions = open_sessions(graphs, "cpu", threads)
        noted = {name: _NotingSession(session, self.runs.setdefault(name, [])) for name, session in sessions.items()}
        return dataclasses.replace(placement, requested=device, actual=self.provider), noted


class _NotingSession:
    """The part of an onnxruntime session that the engine uses."""

    def __init__(self, session: Any, runs: list[tuple[int, int]]) -> None:
        self.get_inputs, self.get_outputs = session.get_inputs, session.get_outputs
        self._session = session
        self._runs = runs

    def run(self, names: list[str], feed: Mapping[str, Array]) -> list[Array]:
        rows = next(len(array) for name, array in feed.items() if name in ("x", "z"))
        self._runs.append((rows, len(feed.get("eps", ()))))
        results: list[Array] = self._session.run(names, feed)
        return results


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 17])
def test_a_gpu_runs_powers_of_two_and_answers_the_rows_that_were_asked_about(
    bundle: Bundle, engine: Engine, rows: int
) -> None:
    """Rows of padding are in no answer, and change none."""
    noting = Noting("CUDAExecutionProvider")
    gpu = Engine(bundle.graphs, "cuda", threads=1, opened=noting.open)
    assert gpu.padding(rows) == bucket(rows) - rows
    for graph in ("encoder", "decoder", "scorer"):
        feed = inputs_of(bundle, graph, rows)
        padded, plain = gpu.run(graph, feed), engine.run(graph, feed)
        assert noting.runs[graph][-1][0] == bucket(rows)
        for name, value in plain.items():
            assert deviation(padded[name], value, FEATURES) <= 1, name


@pytest.mark.parametrize(
    ("provider", "rows", "scored"),
    [
        ("CPUExecutionProvider", [1, 48], {1: [1, 48], 16: [1, 3], 64: [1]}),
        ("CUDAExecutionProvider", [1, 2, 4, 8, 16, 32, 64], {1: [1, 2, 4, 8, 16, 32, 64], 16: [1, 2, 4], 64: [1]}),
    ],
)
def test_every_graph_is_warmed_for_the_sizes_and_draws_that_it_will_be_run_with(
    bundle: Bundle, provider: str, rows: list[int], scored: dict[int, list[int]]
) -> None:
    """The first request with K draws is not the one that allocates for them; a scored row counts K times."""
    noting = Noting(provider)
    engine = Engine(bundle.graphs, threads=1, opened=noting.open)
    engine.warm_up(bundle, 48)
    assert {entry.samples for entry in bundle.manifest.calibrated} == set(scored)
    assert noting.runs["encoder"] == noting.runs["decoder"] == [(n, 0) for n in rows]
    assert noting.runs["scorer"] == [(n, draws) for draws, sizes in scored.items() for n in sizes]


@given(rows=st.integers(1, 10**6))
def test_a_bucket_is_the_least_power_of_two_that_holds_the_rows(rows: int) -> None:
    """Few sizes to warm up, and never more than twice the work."""
    size = bucket(rows)
    assert size & (size - 1) == 0
    assert rows <= size < 2 * rows


def test_deviation_is_in_units_of_the_tolerance() -> None:
    """1 is the edge of RTOL * abs(want) + ATOL * sqrt(features)."""
    want = np.array([100.0, 0.0])
    edge = RTOL * 100 + ATOL * math.sqrt(4)
    assert deviation(want, want, 4) == 0
    assert deviation(want + np.array([edge, 0]), want, 4) == pytest.approx(1)
    assert deviation(want - np.array([3 * edge, 0]), want, 4) == pytest.approx(3)
    assert deviation(want + np.array([0, ATOL * 2]), want, 4) == pytest.approx(1)
    assert deviation(np.zeros((0, 3)), np.zeros((0, 3)), 4) == 0


@pytest.mark.parametrize(
    ("got", "want"),
    [
        ([np.nan], [0.0]),
        ([0.0], [np.nan]),
        ([np.nan], [np.nan]),
        ([np.inf], [1.0]),
        ([-np.inf], [1.0]),
        ([1.0], [1.0, 1.0]),
        ([[1.0]], [1.0]),
    ],
)
def test_nan_infinity_and_another_shape_are_infinitely_far(got: list[Any], want: list[Any]) -> None:
    """NaN compares with nothing, so it must be asked for; broadcasting would hide a lost axis."""
    assert deviation(np.array(got), np.array(want), 4) == math.inf


@given(
    want=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5),
    shift=st.floats(-1e3, 1e3),
    features=st.integers(1, 1000),
)
def test_deviation_is_up_to_one_exactly_where_numpy_calls_it_close(
    want: list[float], shift: float, features: int
) -> None:
    """One tolerance for the self-check, the export's parity and these tests."""
    a = np.array(want)
    off = deviation(a + shift, a, features)
    if abs(off - 1) > 1e-9:
        assert (off < 1) == np.allclose(a + shift, a, rtol=RTOL, atol=ATOL * math.sqrt(features))


def tensors() -> list[tuple[str, str]]:
    """Every output of every graph of the table bundle."""
    scorer = ("log_w", "log_px_z", "kl", "latent_term", "feature_nll_iw", "feature_nll_mean", "expected", "lower")
    return [
        *(("encoder", name) for name in ("mu", "logvar")),
        *(("decoder", name) for name in ("mean", "lower", "upper")),
        *(("scorer", name) for name in (*scorer, "upper", "mu")),
        ("observe", "x"),
    ]


def test_the_list_of_outputs_to_spoil_is_complete(bundle: Bundle) -> None:
    """So that the test below spoils each."""
    graphs = bundle.manifest.graphs.items()
    assert sorted(tensors()) == sorted((name, tensor.name) for name, graph in graphs for tensor in graph.outputs)


def test_by_column_a_value_near_zero_is_held_to_the_digits_of_its_neighbours() -> None:
    """In a column of millions float32 is off by one, also where the value is 0; in its own column 1 is a lot."""
    want = np.array([[2e6, 2.0], [0.0, 0.0]])
    off = np.array([[0.0, 0.0], [100.0, 0.0]])
    assert deviation(want + off, want, 1, by_column=True) < 1 < deviation(want + off, want, 1)
    assert deviation(want + off[:, ::-1], want, 1, by_column=True) > 1
    assert deviation(want * math.nan, want, 1, by_column=True) == math.inf


def test_in_units_of_its_column_a_value_is_held_to_the_same_digits() -> None:
    """About 0 a column of millions has no more digits than another, and one of millionths no fewer."""
    unit, off = np.array([1e6, 1e-6]), np.array([[10.0, 1e-5]])
    assert deviation(off[:, :1], np.zeros((1, 1)), 1, unit=unit[:1]) < 1 < deviation(off[:, :1], np.zeros((1, 1)), 1)
    assert deviation(off[:, 1:], np.zeros((1, 1)), 1) < 1 < deviation(off[:, 1:], np.zeros((1, 1)), 1, unit=unit[1:])


@pytest.mark.parametrize(("graph", "output"), tensors())
def test_a_golden_vector_that_is_not_met_is_an_error_naming_graph_and_output(
    own_bundle: Path, graph: str, output: str
) -> None:
    """A machine that computes something else does not serve: one value off by twice the tolerance is enough."""
    golden = dict(np.load(own_bundle / "golden.npz"))
    spoilt = golden[f"{graph}/{output}"].copy()
    value = spoilt.flat[-1]
    columns = open_bundle(own_bundle).manifest.inputs.columns or ()
    unit = columns[-1].scale or 1.0 if output in ORIGINAL_UNITS else 1.0
    spoilt.flat[-1] = value + 2.1 * (RTOL * np.abs(spoilt[..., -1]).max() + ATOL * math.sqrt(FEATURES) * unit)
    (own_bundle / "golden.npz").write_bytes(pack_arrays({**golden, f"{graph}/{output}": spoilt}))
    reseal(own_bundle)
    with pytest.raises(EngineError, match=rf"self-check: {graph}\.onnx output {output} is [\d.]+ times the tolerance"):
        Engine.open(open_bundle(own_bundle), threads=1)


def test_a_golden_vector_that_is_met_within_the_tolerance_is_met(own_bundle: Path) -> None:
    """Another machine's last digits are not an error."""
    golden = dict(np.load(own_bundle / "golden.npz"))
    nudged = {
        name: a if "/x" in name or "/z" in name or "/eps" in name else a * (1 + 2e-5) for name, a in golden.items()
    }
    arrays = {name: a.astype(golden[name].dtype) for name, a in nudged.items()}
    (own_bundle / "golden.npz").write_bytes(pack_arrays(arrays))
    reseal(own_bundle)
    Engine.open(open_bundle(own_bundle), threads=1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_golden_vector_that_is_not_finite_is_never_met(bundle: Bundle, value: float) -> None:
    """NaN is not within any tolerance."""
    spoilt = np.full_like(bundle.golden["encoder"]["mu"], value)
    golden = {**bundle.golden, "encoder": {**bundle.golden["encoder"], "mu": spoilt}}
    engine = Engine(bundle.graphs, threads=1)
    with np.errstate(invalid="ignore"), pytest.raises(EngineError, match=r"encoder\.onnx output mu is inf times"):
        engine.self_check(dataclasses.replace(bundle, golden=golden))


@pytest.mark.parametrize("graph", ["encoder", "decoder", "scorer"])
@pytest.mark.parametrize(
    ("side", "change"),
    [("outputs", {"shape": ["batch", 9]}), ("outputs", {"dtype": "int64"}), ("inputs", {"shape": [7]})],
)
def test_a_manifest_that_names_other_tensors_than_the_graph_has_is_refused_by_the_name_of_the_file(
    own_bundle: Path, graph: str, side: str, change: dict[str, Any]
) -> None:
    """The parts of a bundle belong together, or it is not served."""
    graphs = json.loads((own_bundle / "manifest.json").read_text())["graphs"]
    graphs[graph][side][0] |= change
    edit_manifest(own_bundle, graphs=graphs)
    with pytest.raises(BundleError, match="the manifest names") as refused:
        Engine.open(open_bundle(own_bundle), threads=1)
    assert refused.value.file == f"{graph}.onnx"


class Silent:
    """An observer that keeps the sizes of the batches."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def ran(self, key: Work, rows: int, seconds: float) -> None:
        self.batches.append(rows)


Asked = Callable[[VAE, Array, float], Awaitable[dict[str, Array]]]


async def encode(vae: VAE, x: Array, deadline: float) -> dict[str, Array]:
    """The posterior."""
    return dict((await vae.encode(x, 0, None, deadline))[0])


async def reconstruct(vae: VAE, x: Array, deadline: float) -> dict[str, Array]:
    """There and back."""
    return {"outputs": await vae.reconstruct(x, deadline)}


async def decode(vae: VAE, x: Array, deadline: float) -> dict[str, Array]:
    """The mean at latents made of the rows, so that each row has its own."""
    standardised = (np.asarray(x, np.float64) - [1500, 3, 0]) / [200, 1, 0.02]
    z = np.concatenate([standardised, standardised.sum(axis=1, keepdims=True)], axis=1)
    return {"outputs": (await vae.decode(np.clip(z, -50, 50).astype(np.float32), False, None, deadline))[0]}


async def anomaly_score(vae: VAE, x: Array, deadline: float) -> dict[str, Array]:
    """Scores, parts and explanations; p-values are compared by their scores, because they jump."""
    plan = vae.anomaly.plan(kind=None, samples=None, alpha=None, explain=3, components=True)
    scored: Scored = await vae.anomaly_score(x, plan, deadline)
    assert scored.components is not None
    assert scored.explanations is not None
    by_name = [sorted(row, key=lambda part: part.feature) for row in scored.explanations]
    return {
        "scores": scored.scores,
        "p_values": scored.p_values,
        "reconstruction": scored.components.reconstruction,
        "kl": scored.components.kl,
        "latent": scored.components.latent,
        "effective_samples": scored.components.effective_samples,
        "nats": np.array([[part.nats for part in row] for row in by_name]),
        "expected": np.array([[part.expected for part in row] for row in by_name]),
        "interval": np.array([[part.interval for part in row] for row in by_name]),
    }


OPERATIONS: dict[str, Asked] = {
    "encode": encode,
    "decode": decode,
    "reconstruct": reconstruct,
    "anomaly-score": anomaly_score,
}
POOL = np.concatenate([table_rows(12, seed=3), 3 * table_rows(3, seed=4), [[1e300, 3, 0], [-1e6, -1e308, 5e-324]]])


def ask(
    bundle: Bundle, engine: Engine, operation: Asked, calls: list[Array], max_batch_rows: int
) -> list[dict[str, Array]]:
    """The answers to *calls* that come at the same time, from a service of their own."""

    async def service() -> list[dict[str, Array]]:
        async with asyncio.timeout(30):
            observer = Silent()
            vae = VAE(bundle, engine, observer, max_batch_rows=max_batch_rows, max_queue_rows=10**6)
            deadline = asyncio.get_running_loop().time() + 30
            answers = await asyncio.gather(*(operation(vae, x, deadline) for x in calls))
            await vae.close(10)
            rows = sum(len(x) for x in calls)
            assert sum(observer.batches) == rows
            assert len(observer.batches) >= 1
            if max_batch_rows >= 16 * rows:
                assert observer.batches == [rows], "they were to share one batch"
            return answers

    return asyncio.run(service())


@pytest.fixture(scope="module")
def alone(bundle: Bundle, engine: Engine) -> dict[str, list[dict[str, Array]]]:
    """For each operation the answer to each row of the pool by itself."""
    return {
        name: [ask(bundle, engine, operation, [POOL[[i]]], 256)[0] for i in range(len(POOL))]
        for name, operation in OPERATIONS.items()
    }


@pytest.fixture(scope="module")
def reopened(table_bundle: Path) -> tuple[Bundle, Engine]:
    """The bundle read again, and another engine on it."""
    bundle = open_bundle(table_bundle)
    return bundle, Engine.open(bundle, threads=1)


compositions = st.lists(
    st.lists(st.integers(0, len(POOL) - 1), min_size=1, max_size=8), min_size=1, max_size=6
)  # calls of rows of the pool


def agree(bundle: Bundle, got: dict[str, Array], row: int, want: dict[str, Array]) -> None:
    """Row *row* of an answer is the answer *want* to that row alone, within the tolerance."""
    for name, value in want.items():
        if name == "p_values":
            rows = np.asarray(bundle.calibration["scores/nll/16/all/0"], np.float64)
            score = np.asarray(want["scores"], np.float64)
            edge = RTOL * np.abs(score) + ATOL * math.sqrt(FEATURES)
            lowest, highest = (calibration.p_values(rows, score + side) for side in (edge, -edge))
            assert lowest[0] <= got[name][row] <= highest[0]
        else:
            assert deviation(got[name][row], value[0], FEATURES) <= 1, name


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=40, deadline=None)
@given(calls=compositions, max_batch_rows=st.sampled_from([1, 16, 50, 10_000]), again=st.booleans())
def test_a_row_has_the_same_answer_alone_in_any_batch_and_after_reopening(
    name: str,
    calls: list[list[int]],
    max_batch_rows: int,
    again: bool,
    bundle: Bundle,
    engine: Engine,
    reopened: tuple[Bundle, Engine],
    alone: dict[str, list[dict[str, Array]]],
) -> None:
    """Whatever its neighbours are, extreme ones too, and however a request is cut: today, and tomorrow."""
    served = reopened if again else (bundle, engine)
    answers = ask(*served, OPERATIONS[name], [POOL[call] for call in calls], max_batch_rows)
    for call, answer in zip(calls, answers, strict=True):
        assert {len(array) for array in answer.values()} == {len(call)}
        for row, which in enumerate(call):
            agree(bundle, answer, row, alone[name][which])


def test_the_rows_of_the_pool_have_different_answers(alone: dict[str, list[dict[str, Array]]]) -> None:
    """Otherwise rows could be exchanged among callers, and the test above would not see it."""
    for name, field in (("encode", "mu"), ("decode", "outputs"), ("reconstruct", "outputs"), ("anomaly-score", "nats")):
        values = [answer[field] for answer in alone[name]]
        usual = values[:12]
        assert all(deviation(a, b, FEATURES) > 1 for i, a in enumerate(usual) for j, b in enumerate(usual) if i != j), (
            name
        )
