"""
One step of the fit: loss, gradient, clipping, AdamW. A step that is not finite is skipped, and its cause named.

Knows a model and batches; nothing of epochs, files or signals. B rows, C features, L latents.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from training.models.mlp import VAE
from training.objective import kl_per_latent, log_likelihood, reparameterize

CLIP_NORM: Final = 50.0


class Terms(nn.Module):
    """The two sums of the ELBO over a batch; a module, because that is what processes average the gradients of."""

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, v: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        """
        Sum over rows of log p(x|z), original units, and of KL: (B, C), (B, L) -> scalars.

        What is NaN in *v* is missing: the bound is that of what the encoder sees, no more.
        """
        v, mask = self.vae.features.observed(v)
        mu, logvar = self.vae.encode(v, mask)
        theta = self.vae.decode(reparameterize(mu, logvar, eps.unsqueeze(1)).squeeze(1))
        likelihood = self.vae.likelihood
        peak, energy = likelihood.peak(), likelihood.energy(theta, v)
        log_p = len(v) * peak.sum() - energy.sum() if mask is None else log_likelihood(peak, energy, mask).sum()
        return log_p, kl_per_latent(mu, logvar).sum()


class Stepper:
    """
    The optimiser of *vae*, and how it goes one step.

    *parameters*: how many numbers it fits. *cause*: why the last step was skipped; None when it was made.
    """

    def __init__(self, vae: VAE, fabric: Fabric) -> None:
        self._vae, self._fabric = vae, fabric
        terms = Terms(vae)
        self._terms: nn.Module = fabric.setup_module(terms) if fabric.world_size > 1 else terms
        self._parameters = dict(vae.named_parameters())
        self.parameters = sum(p.numel() for p in self._parameters.values())
        self._optimizer = torch.optim.AdamW(self._parameters.values(), weight_decay=0.0, fused=True)
        self.cause: str | None = None

    def __call__(self, v: Tensor, eps: Tensor, rows: int, beta: float, learning_rate: float) -> Tensor | None:
        """
        Ascend the ELBO of a batch of *rows*, of which (v, eps) are this process's.

        NaN is a missing value. Returns the sum of their ELBOs, a scalar, or None when the step was skipped, in all
        processes alike.
        """
        log_px_z, kl = self._terms(v, eps)
        loss = (beta * kl - log_px_z) * (self._fabric.world_size / rows)  # processes average, so this adds up
        ones = 1 + (loss.detach() - loss.detach())  # NaN where the loss is not finite: then so is every gradient
        self._optimizer.zero_grad(set_to_none=True)
        self._fabric.backward(loss, gradient=ones)
        norm = get_total_norm([p.grad for p in self._parameters.values() if p.grad is not None])
        size = float(norm)  # the one wait for the device
        self.cause = None if math.isfinite(size) else self._why(v, eps)
        if self.cause is not None:
            return None
        if size > CLIP_NORM:
            clip_grads_with_norm_(self._parameters.values(), CLIP_NORM, norm)
        self._optimizer.param_groups[0]["lr"] = learning_rate
        self._optimizer.step()
        elbos: Tensor = (log_px_z - kl).detach()
        return elbos

    def moments(self) -> dict[str, Tensor]:
        """The optimiser's state, by the names of the parameters."""
        state = self._optimizer.state
        return {
            f"{key}/{name}": state[p][key] for name, p in self._parameters.items() if p in state for key in state[p]
        }

    def restore(self, moments: dict[str, Tensor]) -> None:
        """Take over what `moments` gave."""
        for path, value in moments.items():
            key, name = path.split("/", 1)
            parameter = self._parameters[name]
            self._optimizer.state[parameter][key] = value.clone().to(parameter.device)

    def _why(self, v: Tensor, eps: Tensor) -> str:
        """The first thing on the way from the rows to the gradient that is not finite."""
        vae = self._vae
        v, mask = vae.features.observed(v)
        if columns := [vae.inputs.names[c] for c in _worst(v)]:
            return f"the value of {', '.join(columns)} is not finite"
        with torch.no_grad():
            mu, logvar = vae.encode(v, mask)
            if not (mu.isfinite().all() and logvar.isfinite().all()):
                return "what the encoder gives is not finite"
            theta = vae.decode(reparameterize(mu, logvar, eps.unsqueeze(1)).squeeze(1))
            log_p, kl = vae.likelihood.log_prob(theta, v), kl_per_latent(mu, logvar)
        if columns := [vae.inputs.names[c] for c in _worst(log_p)]:
            return f"the likelihood of {', '.join(columns)} is not finite"
        if latents := _worst(kl):
            return f"the KL of latent {', '.join(str(j) for j in latents)} is not finite"
        for name, parameter in self._parameters.items():
            if parameter.grad is not None and not parameter.grad.isfinite().all():
                return f"the gradient of {name} is not finite"
        return "the norm of the gradient is not finite"


def _worst(values: Tensor) -> list[int]:
    """Up to three columns of (B, n) that are not finite, the most often so first."""
    bad = (~values.isfinite()).sum(dim=0)
    return [int(c) for c in bad.argsort(descending=True, stable=True)[:3] if bad[c]]
