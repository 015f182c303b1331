"""
What is exported: the functions of a bundle as modules of tensors, original units in, original units out.

The names of the tensors are those of design and service; the likelihood's maths is nowhere else. No randomness: eps and
u are inputs. Where values may be missing, encoder and scorer take a mask, true where a value was observed; what x holds
elsewhere does not matter. B rows, K draws, L latents, C features, U uniform numbers a feature.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from service.manifest import Graph, GraphName
from service.manifest import Tensor as TensorSpec
from training.models.mlp import VAE
from training.models.prior import Mixture
from training.objective import reparameterize


class EncoderGraph(nn.Module):
    """x, (mask) -> mu, logvar of q(z|x)."""

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, *shape), (B, C) bool -> (B, L), (B, L)."""
        mu, logvar = self.vae.encode(_values(self.vae, x, mask), mask)
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


class ScorerGraph(nn.Module):
    """
    x and K draws -> everything that the score kinds and their explanations are made of.

    With the self-normalised weights w~ = softmax_k(log w_k):
    nll = -(logsumexp_k log w_k - log K) = sum_c feature_nll_iw_c + latent_term, because
    logsumexp_k log w_k = sum_k w~_k log w_k + H(w~), so that
    latent_term = sum_k w~_k (log w~_k - log p(z_k) + log q(z_k|x)) + log K, computed as it stands: as the
    difference of score and features it would lose its digits to cancellation.
    expected, lower, upper are those of the mixture sum_k w~_k p(x|z_k), see `Likelihood.predict_mixture`.
    """

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, x: Tensor, eps: Tensor) -> tuple[Tensor, ...]:
        """(B, *shape), (K, L) -> the outputs of the scorer."""
        return _scored(self.vae, x, None, eps)


class MaskedScorerGraph(nn.Module):
    """
    The same of rows of which some values are missing: `ScorerGraph` of the observed ones.

    p(x|z) is a product over the features, so log p of the observed ones given z is the sum of theirs, exactly. A
    missing feature has no part in log_px_z, a feature_nll of 0, and in expected, lower and upper what the others say of
    it.
    """

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, x: Tensor, mask: Tensor, eps: Tensor) -> tuple[Tensor, ...]:
        """(B, *shape), (B, C) bool, (K, L) -> the outputs of the scorer."""
        return _scored(self.vae, x, mask, eps)


def _values(vae: VAE, x: Tensor, mask: Tensor | None) -> Tensor:
    """Values as the model has them, 0 where missing: (B, *shape) -> (B, C) float32."""
    v: Tensor = vae.scaling(x)
    return v if mask is None else torch.where(mask, v, 0.0)


def _scored(vae: VAE, x: Tensor, mask: Tensor | None, eps: Tensor) -> tuple[Tensor, ...]:
    v = _values(vae, x, mask)  # (B, C)
    mu, logvar = vae.encode(v, mask)
    z = reparameterize(mu, logvar, eps)  # (B, K, L)
    theta = vae.decode(z.flatten(0, 1))  # (B K, P): two axes make a Gemm of it, with the bias inside
    theta = theta.reshape(*z.shape[:2], -1)  # (B, K, P)
    energy = vae.likelihood.energy(theta, v.unsqueeze(1))  # (B, K, C)
    peak = vae.likelihood.peak()  # (C,)
    if mask is None:
        log_px_z = peak.sum() - energy.sum(dim=-1)  # (B, K)
    else:  # the sum over the observed features as a product: no pass over (B, K, C) but the one that sums
        seen = mask.to(energy.dtype)
        log_px_z = (seen * peak).sum(dim=-1, keepdim=True) - energy.matmul(seen.unsqueeze(-1)).squeeze(-1)
    ratio = vae.prior.log_ratio(z, eps, logvar)  # (B, K)
    log_w = log_px_z + ratio
    log_weights = log_w.log_softmax(dim=1)
    weights = log_weights.exp()
    draws = torch.ones_like(eps[:, 0]).sum()  # K
    averages = torch.stack([weights, torch.ones_like(weights) / draws], dim=1)  # (B, 2, K)
    feature_nll = torch.matmul(averages, energy) - peak  # (B, 2, C)
    if mask is not None:
        feature_nll = torch.where(mask.unsqueeze(1), feature_nll, 0.0)
    latent_term = (weights * (log_weights - ratio)).sum(dim=1) + draws.log()  # (B,)
    expected, lower, upper = (vae.scaling.restore(part) for part in vae.likelihood.predict_mixture(theta, weights))
    return (
        log_w,
        log_px_z,
        vae.prior.kl_per_latent(mu, logvar, z, eps),
        latent_term,
        feature_nll[:, 0],
        feature_nll[:, 1],
        expected,
        lower,
        upper,
        mu,
    )


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
                *_floats(("batch", "draws"), "log_w", "log_px_z"),
                *_floats(("batch", latent), "kl"),
                *_floats(("batch",), "latent_term"),
                *_floats(by_feature, "feature_nll_iw", "feature_nll_mean"),
                *(TensorSpec(name=name, dtype=dtype, shape=by_feature) for name in ("expected", "lower", "upper")),
                *_floats(("batch", latent), "mu"),
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
