"""
A tiny bundle of a table with every kind of column, values that may be missing, and draws: graphs written by hand.

What the service is promised by a bundle is here in its shortest form, whatever `training` makes of it: x and mask in,
nothing of x used where mask is false. Only the statistics of reference rows are those that `training` fits.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from service import calibration
from service.bundle import pack_array, pack_arrays, write_bundle
from service.calibrated import Calibrated, Groups, ScoreKind, Scoring
from service.engine import Engine
from service.groups import groups_of
from service.inputs import Column, Inputs
from service.manifest import Capabilities, Data, Graph, GraphName, Latent, Likelihood, Manifest
from service.manifest import Tensor as TensorSpec
from service.reference import Reference
from training.reference import reference_of

COLUMNS = (
    Column(name="speed", unit="rpm", missing=True),
    Column(
        name="site", kind="categorical", vocabulary=("north", "south", "east, or so"), unknown="other", missing=True
    ),
    Column(name="grade", kind="ordinal", vocabulary=("1", "2", "3"), missing=True),
    Column(name="alarm", kind="binary"),
    Column(name="starts", kind="count", missing=True),
    Column(name="seen", time="iso8601"),
)
NAMES = tuple(column.name for column in COLUMNS)
C, L, K = len(COLUMNS), 2, 4
INPUTS = Inputs(kind="table", shape=(C,), dtype="float64", columns=COLUMNS, clamp=1000.0)
BINS = (0.25, 0.5, 1.0)
CENTER = (1500.0, 1.0, 1.0, 0.5, 3.0, 1.8e9)
SCALE = (200.0, 1.0, 1.0, 0.5, 2.0, 86400.0)
HIGH = (np.inf, 3.0, 2.0, 1.0, np.inf, np.inf)
WHOLE = (False, True, True, True, True, False)
KINDS = get_args(ScoreKind)
MAY_MISS = np.array([column.missing for column in COLUMNS])


def mixed_rows(n: int, seed: int = 0) -> NDArray[np.float64]:
    """Rows of the table, complete: (n, 6)."""
    rng = np.random.default_rng(seed)
    load = rng.normal(size=n)
    columns = (
        1500 + 200 * load,
        rng.integers(0, 4, n),
        np.clip(np.rint(1 + load), 0, 2),
        rng.integers(0, 2, n),
        rng.poisson(3, n),
        np.rint(1.8e9 + 86400 * rng.normal(size=n)),
    )
    return np.stack([np.asarray(column, np.float64) for column in columns], axis=1)


def masked(x: NDArray[np.float64], index: int, seed: int = 1) -> NDArray[np.float64]:
    """The rows *x* with so many values missing, NaN, that they are of mask bin *index*."""
    rng, x = np.random.default_rng(seed), x.copy()
    fewest, most = ((0, 0), (1, 1), (2, 2), (3, 4))[index]
    for row in x:
        row[rng.choice(np.flatnonzero(MAY_MISS), rng.integers(fewest, most + 1), replace=False)] = np.nan
    return x


class _Model(nn.Module):
    """What all graphs share. A standardised value is v, 0 where none is observed."""

    def __init__(self) -> None:
        super().__init__()
        weights = np.random.default_rng(3).normal(size=(L, C)) / 2
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32))
        for name, values in (("center", CENTER), ("scale", SCALE), ("high", HIGH)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64))
        self.register_buffer("whole", torch.tensor(WHOLE))
        self.weights: Tensor
        self.center: Tensor
        self.scale: Tensor
        self.high: Tensor
        self.whole: Tensor

    def scaled(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, C) -> (B, C)."""
        return torch.where(mask, (x - self.center) / self.scale, torch.zeros_like(x)).float()

    def encode(self, v: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C) -> (B, L), (B, L): the more is observed, the surer."""
        mu = v @ self.weights.T / 3
        logvar = torch.zeros_like(mu) - mask.float().mean(dim=1, keepdim=True)
        return mu, logvar

    def restore(self, v: Tensor) -> Tensor:
        """(B, C), standardised -> values that there are."""
        x = v.double() * self.scale + self.center
        return torch.where(self.whole, torch.minimum(torch.clamp(torch.round(x), min=0.0), self.high), x)

    def around(self, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The middle and the ends of what is expected."""
        return self.restore(v), self.restore(v - 2), self.restore(v + 2)


class _Encoder(_Model):
    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """-> mu, logvar."""
        return self.encode(self.scaled(x, mask), mask)


class _Decoder(_Model):
    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """-> mean, lower, upper."""
        return self.around(z @ self.weights)


class _Observe(_Model):
    def forward(self, z: Tensor, u: Tensor) -> Tensor:
        """-> a draw."""
        return self.restore(z @ self.weights + 4 * (u[:, 0] - u[:, 1]))


class _Scorer(_Model):
    def forward(self, x: Tensor, mask: Tensor, eps: Tensor) -> tuple[Tensor, ...]:
        """-> what scores are made of."""
        v = self.scaled(x, mask)
        mu, logvar = self.encode(v, mask)
        z = mu.unsqueeze(1) + (0.5 * logvar).exp().unsqueeze(1) * eps  # (B, K, L)
        theta = z @ self.weights  # (B, K, C)
        energy = 0.5 * (theta - v.unsqueeze(1)).square() * mask.float().unsqueeze(1)
        log_px_z = -energy.sum(dim=-1)
        ratio = 0.5 * (eps.square() - z.square() + logvar.unsqueeze(1)).sum(dim=-1)
        log_w = log_px_z + ratio
        log_weights = log_w.log_softmax(dim=1)
        weights = log_weights.exp()
        latent_term = (weights * (log_weights - ratio)).sum(dim=1) + torch.ones_like(eps[:, 0]).sum().log()
        kl = 0.5 * (mu.square() + logvar.exp() - logvar - 1)
        parts = (weights.unsqueeze(-1) * energy).sum(dim=1), energy.mean(dim=1)
        around = self.around((weights.unsqueeze(-1) * theta).sum(dim=1))
        return log_w, log_px_z, kl, latent_term, *parts, *around, mu


def _floats(shape: tuple[int | str, ...], *names: str, dtype: Any = "float32") -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name=name, dtype=dtype, shape=shape) for name in names)


_ROW, _LATENTS = ("batch", C), ("batch", L)
_X = (*_floats(_ROW, "x", dtype="float64"), TensorSpec(name="mask", dtype="bool", shape=_ROW))
_AROUND = ("mean", "lower", "upper")
GRAPHS: dict[GraphName, tuple[type[nn.Module], Graph]] = {
    "encoder": (_Encoder, Graph(file="encoder.onnx", inputs=_X, outputs=_floats(_LATENTS, "mu", "logvar"))),
    "decoder": (
        _Decoder,
        Graph(file="decoder.onnx", inputs=_floats(_LATENTS, "z"), outputs=_floats(_ROW, *_AROUND, dtype="float64")),
    ),
    "observe": (
        _Observe,
        Graph(
            file="observe.onnx",
            inputs=(*_floats(_LATENTS, "z"), *_floats(("batch", 2, C), "u")),
            outputs=_floats(_ROW, "x", dtype="float64"),
        ),
    ),
    "scorer": (
        _Scorer,
        Graph(
            file="scorer.onnx",
            inputs=(*_X, *_floats(("draws", L), "eps")),
            outputs=(
                *_floats(("batch", "draws"), "log_w", "log_px_z"),
                *_floats(_LATENTS, "kl"),
                *_floats(("batch",), "latent_term"),
                *_floats(_ROW, "feature_nll_iw", "feature_nll_mean"),
                *_floats(_ROW, "expected", "lower", "upper", dtype="float64"),
                *_floats(_LATENTS, "mu"),
            ),
        ),
    ),
}


def make_mixed(
    model_dir: Path,
    rows: NDArray[np.float64] | None = None,
    groups: Groups | None = None,
    like: Path | None = None,
) -> Path:
    """
    The bundle as version 1 in *model_dir*, calibrated on 200 rows, or on *rows*, in each mask bin and group.

    *like*: such a bundle, whose graphs are taken, for they are the same in all, and an export takes seconds.
    """
    rows = mixed_rows(200, seed=7) if rows is None else rows
    graphs = {
        str(name): _export(module(), graph) if like is None else (like / graph.file).read_bytes()
        for name, (module, graph) in GRAPHS.items()
    }
    engine = Engine(graphs, threads=1)
    eps = np.random.default_rng(5).normal(size=(K, L)).astype(np.float32)
    arrays = reference_of(engine, INPUTS, eps, mixed_rows(300, seed=8), (K,), BINS)
    calibrated = []
    for index in range(len(BINS) + 1):
        x = masked(rows, index)
        outputs, known = engine.run("scorer", {**observed(x), "eps": eps}), Reference.of(arrays, K, index)
        for kind in KINDS:
            entry = Calibrated(kind=kind, samples=K, mask_bin=index, rows=len(x))
            ranked = known.score(kind, outputs, ~np.isnan(x))[1]
            arrays[entry.key] = np.sort(ranked)
            calibrated.append(entry)
            for at, name in enumerate(groups.names if groups else ()):
                if groups and (own := groups_of(x, INPUTS, groups) == at).any():
                    cell = entry.model_copy(update={"group": name, "rows": int(own.sum())})
                    arrays[cell.key] = np.sort(ranked[own])
                    calibrated.append(cell)
            if kind == "nll":
                grid, ranks = calibration.feature_grid(outputs["feature_nll_iw"])
                arrays |= {entry.features_key: grid, f"{entry.features_key}/ranks": ranks}
    rng = np.random.default_rng(9)
    z, u = rng.normal(size=(3, L)).astype(np.float32), rng.random((3, 2, C), np.float32)
    inputs = {**observed(masked(mixed_rows(3), 1)), "z": z, "u": u, "eps": eps}
    golden: dict[str, NDArray[Any]] = {}
    for name, (_, graph) in GRAPHS.items():
        feed = {tensor.name: inputs[tensor.name] for tensor in graph.inputs}
        golden |= {f"{name}/{tensor}": array for tensor, array in {**feed, **engine.run(name, feed)}.items()}
    files = {GRAPHS[name][1].file: graphs[str(name)] for name in GRAPHS}
    files |= {"eps.npy": pack_array(eps), "calibration.npz": pack_arrays(arrays), "golden.npz": pack_arrays(golden)}
    return write_bundle(model_dir, _manifest(model_dir.name, tuple(calibrated), len(rows), groups), files)


def observed(x: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """The tensors of rows with NaN where values are missing."""
    mask = ~np.isnan(x)
    return {"x": np.where(mask, x, 0.0), "mask": mask}


def _manifest(name: str, calibrated: tuple[Calibrated, ...], rows: int, groups: Groups | None) -> Manifest:
    support: tuple[tuple[Any, Any, float | None, float | None], ...] = (
        ("gaussian", "real", None, None),
        ("categorical", "index", 0.0, 3.0),
        ("ordinal", "index", 0.0, 2.0),
        ("bernoulli", "binary", 0.0, 1.0),
        ("negative-binomial", "count", 0.0, None),
        ("gaussian", "real", None, None),
    )
    return Manifest(
        name=name,
        version=1,
        created="2026-01-01T00:00:00Z",
        trained=False,
        data=Data(hash="0" * 64, rows={"calibration": rows}),
        capabilities=Capabilities(
            operations=("encode", "decode", "sample", "interpolate", "reconstruct", "anomaly-score"),
            score_kinds=KINDS,
            draw=True,
            missing=True,
        ),
        inputs=INPUTS,
        latent=Latent(dim=L),
        likelihood=tuple(
            Likelihood(family=family, columns=(column,), support=kind, low=low, high=high)
            for column, (family, kind, low, high) in zip(NAMES, support, strict=True)
        ),
        graphs={name: graph for name, (_, graph) in GRAPHS.items()},
        scoring=Scoring(samples=K, alpha=0.05),
        calibrated=calibrated,
        mask_bins=BINS,
        groups=groups,
    )


def _export(module: nn.Module, graph: Graph) -> bytes:
    sizes = {"batch": 3, "draws": 2}
    dtypes = {"float32": torch.float32, "float64": torch.float64, "bool": torch.bool}
    example = tuple(
        torch.zeros([sizes[n] if isinstance(n, str) else n for n in tensor.shape], dtype=dtypes[tensor.dtype])
        for tensor in graph.inputs
    )
    free = {axis: torch.export.Dim(axis) for axis in sizes}
    dynamic = tuple({i: free[n] for i, n in enumerate(tensor.shape) if isinstance(n, str)} for tensor in graph.inputs)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.train(mode=False),
            example,
            input_names=[tensor.name for tensor in graph.inputs],
            output_names=[tensor.name for tensor in graph.outputs],
            dynamic_shapes=dynamic,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    made: bytes = program.model_proto.SerializeToString()
    return made
