"""
The operations on arrays: encode, decode, sample, interpolate, reconstruct, anomaly-score.

Values were checked before they come here; what this bundle cannot do is refused here, by name. Knows no HTTP and no
wire format.
"""

from __future__ import annotations

import functools
import itertools
import secrets
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service import latent
from service.anomaly import Anomaly, Plan
from service.batcher import Batcher, Observer
from service.bundle import Bundle
from service.calls import Rows
from service.engine import Engine
from service.errors import BundleError, NonFinite, Unsupported
from service.finite import all_finite
from service.manifest import Graph, Operation
from service.queues import Waiting
from service.scored import Scored

Array = NDArray[np.generic]
Floats = NDArray[np.float64]
MASK = "mask"
"""The tensor of a graph that says which values are observed."""

SERVED = {
    "encoder": {"x", MASK},
    "decoder": {"z"},
    "scorer": {"x", MASK, "eps"},
    "observe": {"z", "u"},
    "prior": {"eps", "u"},
}
"""The graphs that are run, and the tensors that each may take."""


class Work(NamedTuple):
    """What calls must agree on to share a batch."""

    op: Operation
    samples: int = 1
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Walk:
    """A path through the latent space: *alphas* (P,), *latents* (P, L), *outputs* (P, *shape)."""

    alphas: Floats
    latents: Array
    outputs: Array
    degenerate: bool


class VAE:
    """
    The operations of one bundle: each takes checked arrays and a *deadline* in the event loop's time.

    What is missing in a row is NaN. Every operation may raise Overloaded, DeadlineExceeded, InferenceFailed, NotReady,
    and Unsupported for what the bundle does not have. To be made inside a running event loop. Raises BundleError for a
    bundle of a later service.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        observer: Observer[Work],
        *,
        max_batch_rows: int,
        max_queue_rows: int,
        max_batch_delay_s: float = 0.0,
        max_inline_s: float = 0.0,
        max_chunk_rows: int | None = None,
        max_lone_rows: int | None = None,
    ) -> None:
        manifest = bundle.manifest
        for name, graph in manifest.graphs.items():
            unknown = "this version of the service does not"
            if name not in SERVED:
                raise BundleError(bundle.path, graph.file, f"{unknown} run the graph {name}")
            if more := set(_inputs(graph)) - SERVED[name]:
                tensors = ", ".join(sorted(more))
                raise BundleError(bundle.path, graph.file, f"{unknown} give {name} the tensor {tensors}")
        self.bundle = bundle
        self.placement = engine.placement
        run = functools.partial(_run, engine, bundle.eps)  # not a method: a circle would outlive a reload
        self._batcher = Batcher(
            run,
            observer,
            max_batch_rows,
            max_queue_rows,
            max_batch_delay_s,
            max_inline_s,
            max_chunk_rows,
            max_lone_rows,
        )
        self.anomaly = Anomaly(bundle)
        self._latent_dim = manifest.latent.dim
        graphs = manifest.graphs
        self._masked = {name for name in graphs if MASK in _inputs(graphs[name])}
        self._uniforms = _inputs(graphs["observe"])["u"][1:] if "observe" in graphs else ()
        self._learned_prior = "prior" in graphs

    async def encode(self, x: Array, draws: int, seed: int | None, deadline: float) -> tuple[Rows, int | None]:
        """Encode rows: mu and logvar (n, L), and z (n, draws, L) with the seed of those draws when there are any."""
        outputs = dict(await self._submit(Work("encode"), self._rows("encoder", x), deadline))
        if not draws:
            return outputs, None
        seed = _seed(seed)
        eps = latent.noise(seed, len(x), draws, self._latent_dim)
        std = np.exp(0.5 * outputs["logvar"].astype(np.float32))
        outputs["z"] = outputs["mu"][:, None, :] + std[:, None, :] * eps
        return outputs, seed

    async def decode(self, z: Array, draw: bool, seed: int | None, deadline: float) -> tuple[Array, int | None]:
        """Decode latents (n, L): the mean of p(x given z), or a draw from it with its seed, (n, *shape)."""
        if not draw:
            return (await self._submit(Work("decode"), {"z": z}, deadline))["mean"], None
        if not self._uniforms:
            raise Unsupported("this bundle cannot draw from p(x given z); decode returns its mean", field="draw")
        seed = _seed(seed)
        u = latent.uniforms(seed, len(z), *self._uniforms)
        return (await self._submit(Work("decode", outputs=("x",)), {"z": z, "u": u}, deadline))["x"], seed

    async def sample(
        self, count: int, seed: int | None, temperature: float, truncation: float | None, deadline: float
    ) -> tuple[Array, Array, int]:
        """
        Sample latents from the prior and decode them: (count, L), (count, *shape), seed.

        *temperature*, *truncation*: of the normal draws, in a learned mixture those about the chosen component's mean.
        """
        seed = _seed(seed)
        shape = count, self._latent_dim
        eps = latent.truncated_noise(seed, truncation, *shape) if truncation else latent.noise(seed, *shape)
        z = (temperature * eps).astype(np.float32)
        if not self._learned_prior:
            return z, (await self._submit(Work("sample"), {"z": z}, deadline))["mean"], seed
        rows = {"eps": z, "u": latent.choices(seed, count)}
        outputs = await self._submit(Work("sample", outputs=("z", "mean")), rows, deadline)
        return outputs["z"], outputs["mean"], seed

    async def interpolate(self, waypoints: Array, *, encoded: bool, steps: int, method: str, deadline: float) -> Walk:
        """Walk along *waypoints*, rows or (*encoded*) latents, with *steps* points a leg, and decode the points."""
        if not encoded:
            work = Work("interpolate", outputs=("mu",))
            waypoints = (await self._submit(work, self._rows("encoder", waypoints), deadline))["mu"]
        points = waypoints.astype(np.float32)
        t = np.linspace(0.0, 1.0, steps)
        alphas, path, degenerate = [t[:1]], [points[:1]], False
        for leg, (start, stop) in enumerate(itertools.pairwise(points)):
            if method == "slerp":
                z, bent = latent.slerp(start, stop, t)
                degenerate |= bent
            else:
                z = latent.lerp(start, stop, t)
            alphas.append(leg + t[1:])
            path.append(z[1:])
        latents = np.concatenate(path)
        outputs = await self._submit(Work("interpolate", outputs=("mean",)), {"z": latents}, deadline)
        return Walk(np.concatenate(alphas), latents, outputs["mean"], degenerate)

    async def reconstruct(self, x: Array, deadline: float) -> Array:
        """Encode rows and decode their mu: (n, *shape)."""
        return (await self._submit(Work("reconstruct"), self._rows("encoder", x), deadline))["mean"]

    async def anomaly_score(self, x: Array, plan: Plan, deadline: float) -> Scored:
        """Score rows that are within the likelihood's support, as `anomaly.plan` was asked to; none is allowed."""
        outputs: Rows = {}
        if len(x):
            draws = plan.entry.samples
            work = Work("anomaly-score", draws, plan.outputs)
            outputs = await self._submit(work, self._rows("scorer", x), deadline, weight=draws)
        return self.anomaly.judge(plan, x, outputs)

    def waiting(self) -> dict[str, Waiting]:
        """What waits in the queue, by operation."""
        merged: dict[str, Waiting] = {}
        for work, waiting in self._batcher.waiting().items():
            before = merged.get(work.op, Waiting(0, 0.0))
            merged[work.op] = Waiting(before.rows + waiting.rows, max(before.oldest_s, waiting.oldest_s))
        return merged

    def admit(self, op: Operation) -> None:
        """Raise, before any work of parsing, what a request for *op* would be refused with whatever it holds."""
        if op not in self.bundle.manifest.capabilities.operations:
            able = ", ".join(self.bundle.manifest.capabilities.operations)
            raise Unsupported(f"this bundle has no operation {op}; it has: {able}")
        self._batcher.admit()

    async def close(self, timeout_s: float) -> None:
        """Finish what waits for at most *timeout_s*, and fail the rest."""
        await self._batcher.close(timeout_s)

    def _rows(self, graph: str, x: Array) -> Rows:
        """The tensors of *x*, NaN where missing: 0 there, and a mask, where the graph takes one."""
        if graph not in self._masked:
            return {"x": x}
        mask = ~np.isnan(x)
        return {"x": np.where(mask, x, x.dtype.type(0)), MASK: mask}

    async def _submit(self, work: Work, rows: Rows, deadline: float, weight: int = 1) -> Rows:
        outputs = await self._batcher.submit(work, rows, deadline, weight)
        for name, array in outputs.items():
            if not all_finite(array):
                raise NonFinite(f"{work.op}: {name} holds a NaN or an infinity")
        return outputs


def _run(engine: Engine, eps: Array, work: Work, rows: Rows) -> Rows:
    """One batch on the engine; the batcher calls it in its thread."""
    if work.op == "anomaly-score":
        return engine.run("scorer", {**rows, "eps": eps[: work.samples]}, work.outputs)
    if work.op == "reconstruct":
        rows = {"z": engine.run("encoder", rows, ("mu",))["mu"]}
    if "eps" in rows:
        rows = {"z": engine.run("prior", rows, ("z",))["z"]}
        return {**rows, **engine.run("decoder", rows, ("mean",))}
    if "u" in rows:
        return engine.run("observe", rows, work.outputs)
    if "z" in rows:
        return engine.run("decoder", rows, ("mean",))
    return engine.run("encoder", rows, work.outputs or ("mu", "logvar"))


def _inputs(graph: Graph) -> dict[str, tuple[int, ...]]:
    """The shapes of a graph's inputs by name; -1 for a free axis."""
    return {tensor.name: tuple(-1 if isinstance(n, str) else n for n in tensor.shape) for tensor in graph.inputs}


def _seed(seed: int | None) -> int:
    return secrets.randbelow(latent.MAX_SEED + 1) if seed is None else seed
