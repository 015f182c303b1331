"""
The gate between PyTorch and the bundle: onnxruntime must compute what PyTorch computes, or nothing is written.

Compared on random rows and on inputs that nobody sends on purpose: zeros, 8 sigma, a million sigma, the largest
float; where values may be missing, with all of them there, some, one and none. Values in original units are compared
standardised, so that a column of millions and one of millionths are held to the same digits. B rows, K draws, C
features.

Far from all data float32 itself does not settle some outputs: a residual that cancels is divided by a small sigma, and
draws whose log weights are a million nats take turns. How far that goes is measured: by how far an output moves when
every weight of the network moves by a rounding or two (`unsettled`), and by how far the two sides' log weights are
apart (`_weights_allowance`). What does not move is held to the full tolerance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from service.bundle import Arrays
from service.engine import Engine
from service.manifest import Graph, GraphName
from training.errors import ParityError
from training.graphs import modules, specs
from training.models.mlp import VAE
from training.rounding import comparable, neighbours, run_module, standardised, tolerance, unsettled
from training.support import bounds_of

Floats = NDArray[np.float64]

BATCHES = (1, 2, 7, 64)
DRAWS = (1, 2, 16)
_STEP_MARGIN = 1e-4
_JUMPED = 0.01  # of the values of an output, and two: where an end of an interval jumps, a rounding may decide
_MASKS = 4  # kinds of masks
_MARGIN = 8  # over the largest move among the neighbours; the largest need seen was 4


@dataclass(frozen=True)
class Case:
    """One kind of input, by tensor name."""

    kind: str
    feeds: Arrays


def check_parity(vae: VAE, graphs: Mapping[GraphName, bytes], seed: int = 0) -> None:
    """
    Run every graph beside its module: rtol 1e-4 and atol 1e-4 sqrt(C), every value finite.

    Raises ParityError naming the graph, the output, the input and the difference.
    """
    engine = Engine({str(name): model for name, model in graphs.items()}, threads=1)
    built, listed = modules(vae), specs(vae)
    near = neighbours(vae, seed)
    for name in graphs:
        for case in _cases(vae, name, seed):
            got = engine.run(name, case.feeds)
            want = run_module(built[name], listed[name], case.feeds)
            moved = unsettled(vae, [other[name] for other in near], listed[name], case.feeds, want)
            draws = _weights_allowance(vae, built[name], listed[name], case, got, want) if name == "scorer" else {}
            for output, value in want.items():
                allowance = _MARGIN * moved[output] + draws.get(output, 0.0)
                _compare(vae, f"{name}.onnx", output, case.kind, (got[output], value), want, allowance)


def golden_vectors(vae: VAE, eps: NDArray[np.float32], seed: int = 0) -> dict[str, Arrays]:
    """
    Inputs and PyTorch's outputs of every graph, by tensor: what the engine replays before it is ready.

    Rows whose interval is about to jump (`Likelihood.steps`), or that float32 does not settle, are left out: there, two
    right engines may differ.
    """
    golden: dict[str, Arrays] = {}
    listed, near = specs(vae), neighbours(vae, seed)
    generator = np.random.default_rng([seed, 5])
    for name, module in modules(vae).items():
        rows = _feeds(vae, _random_rows(vae, 64, generator), generator)
        rows |= _latent_feeds(vae, _random_latents(vae, 64, generator), generator) | {"eps": eps[:2]}
        if name == "prior":
            rows = _prior_feeds(_random_latents(vae, 64, generator), generator)
        feeds: Arrays = {tensor.name: rows[tensor.name] for tensor in listed[name].inputs}
        outputs = run_module(module, listed[name], feeds)
        mean = outputs.get("mean", outputs.get("expected", np.zeros((64, 1)))).reshape(64, -1)
        doubt = np.where(_near_step(vae, mean).any(axis=1), np.inf, 0.0)
        moved = unsettled(vae, [other[name] for other in near], listed[name], feeds, outputs)
        for output, value in moved.items():
            size = np.abs(comparable(vae, output, outputs[output]))
            doubt = np.maximum(doubt, (value / tolerance(vae, size)).reshape(64, -1).max(axis=1))
        settled = np.flatnonzero(doubt <= 1 / _MARGIN)[:4]
        sure = settled if len(settled) else np.array([doubt.argmin()])
        by_row = {tensor.name for tensor in listed[name].inputs if tensor.shape[0] == "batch"}
        feeds = {tensor: value[sure] if tensor in by_row else value for tensor, value in feeds.items()}
        golden[name] = {**feeds, **run_module(module, listed[name], feeds)}
    return golden


def _cases(vae: VAE, name: GraphName, seed: int) -> list[Case]:
    generator = np.random.default_rng([seed, 6])
    features, dtype = vae.inputs.features, np.dtype(vae.inputs.dtype)
    most = float(np.finfo(dtype).max)
    center, scale = vae.scaling.center.numpy(), vae.scaling.scale.numpy()
    signs = generator.choice([-1.0, 1.0], (7, features))
    with np.errstate(over="ignore"):  # a million sigma of a huge column is the largest float, which is tested anyway
        rows = {f"{b} random rows": _random_rows(vae, b, generator) for b in BATCHES}
        rows |= {
            "zeros": np.zeros((2, features)),
            "8 sigma": center + 8 * scale * signs,
            "constant rows": np.repeat(np.linspace(-3, 300, 7)[:, None], features, axis=1),
            "a million sigma": np.clip(center + 1e6 * scale * signs, -most, most),
            "the largest float": most * np.stack([np.ones(features), -np.ones(features), signs[0]]),
        }
    latent = vae.config.latent_dim
    latents = {f"{b} random rows": _random_latents(vae, b, generator) for b in BATCHES}
    latents |= {"zeros": np.zeros((2, latent)), "8 sigma": 8 * generator.choice([-1.0, 1.0], (7, latent))}
    latents |= {"60 sigma": 60 * generator.choice([-1.0, 1.0], (7, latent))}
    if name in ("decoder", "observe"):
        fed = {kind: _latent_feeds(vae, z, generator) for kind, z in latents.items()}
        wanted = [tensor.name for tensor in specs(vae)[name].inputs]
        return [Case(kind, {tensor: feeds[tensor] for tensor in wanted}) for kind, feeds in fed.items()]
    if name == "prior":
        return [Case(kind, _prior_feeds(eps, generator)) for kind, eps in latents.items()]
    if vae.inputs.masked:  # every extreme with all values there, with some, one and none; random rows take turns
        rows = {kind: x if "random" in kind else np.repeat(x, _MASKS, axis=0) for kind, x in rows.items()}
    shaped = {kind: _feeds(vae, _allowed(vae, x), generator) for kind, x in rows.items()}
    if name == "encoder":
        return [Case(kind, feeds) for kind, feeds in shaped.items()]
    return [
        Case(f"{kind}, K = {k}", {**feeds, "eps": generator.standard_normal((k, latent), np.float32)})
        for kind, feeds in shaped.items()
        for k in DRAWS
    ]


def _feeds(vae: VAE, x: Floats, generator: np.random.Generator) -> Arrays:
    """The tensors of rows, (B, C): x, and mask where values may be missing. What is missing keeps its value in x."""
    feeds: Arrays = {"x": x.reshape(-1, *vae.inputs.shape).astype(vae.inputs.dtype)}
    if vae.inputs.masked:
        feeds["mask"] = _mask(vae, len(x), generator)
    return feeds


def _mask(vae: VAE, rows: int, generator: np.random.Generator) -> NDArray[np.bool_]:
    """(B, C): in turn at random, all observed, one, none; columns that may not be missing are always there."""
    mask = generator.random((rows, vae.inputs.features)) < generator.random((rows, 1))
    mask[1::_MASKS] = True
    mask[2::_MASKS] = np.arange(vae.inputs.features) == generator.integers(vae.inputs.features)
    mask[3::_MASKS] = False
    seen: NDArray[np.bool_] = mask | ~np.array(vae.inputs.may_be_missing)
    return seen


def _latent_feeds(vae: VAE, z: Floats, generator: np.random.Generator) -> Arrays:
    """The tensors of latents, (B, L): z, and u for a draw."""
    u = generator.random((len(z), vae.likelihood.uniforms, vae.inputs.features), np.float32)
    return {"z": z.astype(np.float32), "u": u}


def _prior_feeds(eps: Floats, generator: np.random.Generator) -> Arrays:
    """The tensors of draws from a learned prior."""
    return {"eps": eps.astype(np.float32), "u": generator.random(len(eps), np.float32)}


def _allowed(vae: VAE, x: Floats) -> Floats:
    """*x* with a category, or a count, wherever there must be one: others are refused before they come here."""
    for c, column in enumerate(vae.inputs.columns or ()):
        if column.kind != "numeric":
            x[:, c] = np.round(x[:, c]).clip(*bounds_of(column))
    return x


def _compare(
    vae: VAE,
    file: str,
    output: str,
    kind: str,
    pair: tuple[NDArray[np.generic], NDArray[np.generic]],
    outputs: Arrays,
    allowance: Floats,
) -> None:
    if pair[0].shape != pair[1].shape:
        raise ParityError(f"{file}: {output} for {kind} has shape {pair[0].shape}; PyTorch has {pair[1].shape}")
    got, want = (comparable(vae, output, value) for value in pair)
    if not np.isfinite(got).all():
        raise ParityError(f"{file}: {output} for {kind} is not finite")
    off = np.abs(got - want)
    over = off - tolerance(vae, np.abs(want)) - allowance
    if output in ("lower", "upper"):
        mean = outputs["mean" if "mean" in outputs else "expected"]
        over[_near_step(vae, mean.reshape(over.shape))] = -np.inf
    if output in ("mean", "expected", "lower", "upper", "x"):
        over[_jumped(vae, over)] = -np.inf
    if over.max() > 0:
        raise ParityError(f"{file}: {output} for {kind} differs from PyTorch by {off.flat[over.argmax()]:.3g}")


def _weights_allowance(
    vae: VAE, module: nn.Module, graph: Graph, case: Case, got: Arrays, want: Arrays
) -> dict[str, Floats]:
    """
    How far averages over draws may differ because float32 cannot settle the weights of the draws.

    With log_w known to within d, a weight is known to within a factor exp(2 d), so that a weighted mean is known to
    within (exp(2 d) - 1) times the spread of what is averaged. That matters for rows far from all data, where
    log_w is a million nats and d is whole nats; with one draw the same rows are held to the full tolerance.
    """
    eps = case.feeds["eps"]
    if len(eps) == 1:
        return {}
    alone = [run_module(module, graph, {**case.feeds, "eps": eps[k : k + 1]}) for k in range(len(eps))]
    d = np.abs(got["log_w"].astype(np.float64) - want["log_w"].astype(np.float64)).max(axis=1)  # (B,)
    unsure = np.minimum(1.0, np.expm1(np.minimum(2 * d, 1.0)))[:, None]
    by_feature = np.stack([one["feature_nll_iw"] for one in alone])
    by_row = np.stack([one["log_px_z"][:, 0] for one in alone])
    ends = np.ptp([standardised(vae, one[end]) for one in alone for end in ("lower", "upper")], axis=0)
    return {
        "feature_nll_iw": unsure * np.ptp(by_feature.astype(np.float64), axis=0),
        "latent_term": d + unsure[:, 0] * np.ptp(by_row.astype(np.float64), axis=0),
        "expected": unsure * ends,
        "lower": 2 * np.sqrt(unsure) * ends,
        "upper": 2 * np.sqrt(unsure) * ends,
    }


def _jumped(vae: VAE, over: Floats) -> NDArray[np.bool_]:
    """Values that are on the other side of a jump (`Likelihood.jump`), unless they are more than a few."""
    jump = vae.likelihood.jump.double().numpy().reshape(vae.inputs.shape if over.ndim > 2 else -1)
    found: NDArray[np.bool_] = (over > 0) & (over <= jump)
    few: NDArray[np.bool_] = found & (found.sum() <= 2 + _JUMPED * found.size)
    return few


def _near_step(vae: VAE, mean: NDArray[np.generic]) -> NDArray[np.bool_]:
    near = np.zeros(mean.shape, bool)
    for step in vae.likelihood.steps:
        near |= np.abs(np.asarray(mean, np.float64) - step) < _STEP_MARGIN
    return near


def _random_rows(vae: VAE, rows: int, generator: np.random.Generator) -> Floats:
    """Rows such as the data might be, drawn from the model: (B, C), in original units."""
    feeds = _latent_feeds(vae, _random_latents(vae, rows, generator), generator)
    with torch.no_grad():
        theta = vae.decode(torch.from_numpy(feeds["z"]))
        drawn = vae.scaling.restore(vae.likelihood.draw(theta, torch.from_numpy(feeds["u"])))
    x: Floats = drawn.double().numpy()
    return x


def _random_latents(vae: VAE, rows: int, generator: np.random.Generator) -> Floats:
    return generator.standard_normal((rows, vae.config.latent_dim))
