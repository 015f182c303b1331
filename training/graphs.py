"""
What is exported: the functions of a bundle as modules of tensors, original units in, original units out.

The names of the tensors are those of design and service; the likelihood's maths is nowhere else. No randomness: eps and
u are inputs. Where values may be missing, encoder and scorer take a mask, true where a value was observed; what x holds
elsewhere does not matter. B rows, K draws, L latents, C features, U uniform numbers a feature.
"""

from __future__ import annotations

from torch import Tensor, nn

from service.manifest import Graph, GraphName
from service.manifest import Tensor as TensorSpec
from training.models.mlp import VAE
from training.models.prior import Mixture
from training.scorer_graph import MaskedScorerGraph, ScorerGraph


class EncoderGraph(nn.Module):
    """x, (mask) -> mu, logvar of q(z|x)."""

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, *shape), (B, C) bool -> (B, L), (B, L)."""
        mu, logvar = self.vae.encode(self.vae.values(x, mask), mask)
        return mu, logvar


class DecoderGraph(nn.Module):
    """z -> mean and central 95 % interval of p(x|z), in original units."""

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, L) -> (B, *shape) three times."""
        parts = self.vae.likelihood.predict(self.vae.decode(z))
        shape = (-1, *self.vae.inputs.shape)
        mean, lower, upper = (self.vae.scaling.restore(part).reshape(shape) for part in parts)
        return mean, lower, upper


class ObserveGraph(nn.Module):
    """z and uniform numbers -> a draw from p(x|z), in original units."""

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, z: Tensor, u: Tensor) -> tuple[Tensor]:
        """(B, L), (B, U, C) -> (B, *shape)."""
        v = self.vae.likelihood.draw(self.vae.decode(z), u)
        return (self.vae.scaling.restore(v).reshape(-1, *self.vae.inputs.shape),)


class PriorGraph(nn.Module):
    """eps and a uniform number -> a draw from a prior that was learned."""

    def __init__(self, prior: Mixture) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, eps: Tensor, u: Tensor) -> tuple[Tensor]:
        """(B, L), (B,) -> (B, L)."""
        return (self.prior.draw(eps, u),)


def modules(vae: VAE) -> dict[GraphName, nn.Module]:
    """The modules to export, by graph, without gradients."""
    built: dict[GraphName, nn.Module] = {
        "encoder": EncoderGraph(vae),
        "decoder": DecoderGraph(vae),
        "scorer": MaskedScorerGraph(vae) if vae.inputs.masked else ScorerGraph(vae),
        "observe": ObserveGraph(vae),
    }
    if isinstance(vae.prior, Mixture):
        built["prior"] = PriorGraph(vae.prior)
    return {name: module.train(mode=False) for name, module in built.items()}


def specs(vae: VAE) -> dict[GraphName, Graph]:
    """The graphs as the manifest names them: files, tensors, dtypes and shapes."""
    latent, features, dtype = vae.config.latent_dim, vae.inputs.features, vae.inputs.dtype
    members = len(vae.members)
    draws = "draws" if members == 1 else f"{members}*draws"
    row = ("batch", *vae.inputs.shape)
    by_feature = ("batch", features)
    x: tuple[TensorSpec, ...] = (TensorSpec(name="x", dtype=dtype, shape=row),)
    if vae.inputs.masked:
        x += (TensorSpec(name="mask", dtype="bool", shape=by_feature),)
    z, eps = _floats(("batch", latent), "z"), _floats(("draws", latent), "eps")
    listed: dict[GraphName, Graph] = {
        "encoder": Graph(file="encoder.onnx", inputs=x, outputs=_floats(("batch", latent), "mu", "logvar")),
        "decoder": Graph(
            file="decoder.onnx",
            inputs=z,
            outputs=tuple(TensorSpec(name=name, dtype=dtype, shape=row) for name in ("mean", "lower", "upper")),
        ),
        "scorer": Graph(
            file="scorer.onnx",
            inputs=(*x, *eps),
            outputs=(
                *_floats(("batch", draws), "log_w", "log_px_z"),
                *_floats(("batch", members * latent), "kl"),
                *_floats(("batch",), "latent_term"),
                *_floats(by_feature, "feature_nll_iw", "feature_nll_mean"),
                *(TensorSpec(name=name, dtype=dtype, shape=by_feature) for name in ("expected", "lower", "upper")),
                *_floats(("batch", members * latent), "mu"),
            ),
        ),
        "observe": Graph(
            file="observe.onnx",
            inputs=(*z, *_floats(("batch", vae.likelihood.uniforms, features), "u")),
            outputs=(TensorSpec(name="x", dtype=dtype, shape=row),),
        ),
    }
    if isinstance(vae.prior, Mixture):
        listed["prior"] = Graph(
            file="prior.onnx",
            inputs=(*_floats(("batch", latent), "eps"), *_floats(("batch",), "u")),
            outputs=_floats(("batch", latent), "z"),
        )
    return listed


def _floats(shape: tuple[int | str, ...], *names: str) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name=name, dtype="float32", shape=shape) for name in names)
