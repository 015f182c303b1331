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

from training.batches import Batch
from training.models.mlp import VAE
from training.objective import log_likelihood, reparameterize

CLIP_NORM: Final = 50.0

_PIECE_VALUES = 2**19  # numbers of the decoder at a time, on a CPU: what a cache holds


class Bound(nn.Module):
    """The bound of log p(x), summed over a batch; a module, because that is what processes average the gradients of."""

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, v: Tensor, eps: Tensor, beta: float, u: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """
        What is ascended, with the KL weighted by *beta*, and the bound itself: (B, C), (B, K, L) -> scalars.

        *u*: (B, M) from [0, 1); with M > 0 the gradient is taken of M draws only, see `_of_some`.

        One draw: the ELBO, with KL in closed form where there is one. Several: the importance-weighted bound (Burda et
        al. 2016, eq. 8), where log p(z) - log q(z|x) is weighted. In nats of the original units. What is NaN in *v* is
        missing: the bound is that of what the encoder sees, no more.
        """
        vae, draws = self.vae, eps.shape[1]
        v, mask = vae.features.observed(v)
        mu, logvar = vae.encode(v, mask)
        if u is not None and u.shape[1]:
            return self._of_some(v, mask, mu, logvar, eps, beta, u)
        if draws == 1:
            z, peak = reparameterize(mu, logvar, eps), vae.likelihood.peak()  # (B, 1, L)
            theta = vae.decode(z.squeeze(1))  # (B, P)
            energy = vae.likelihood.energy(theta, v)
            log_p = len(v) * peak.sum() - energy.sum() if mask is None else log_likelihood(peak, energy, mask).sum()
            kl = vae.prior.kl(mu, logvar, z, eps).sum()
            return log_p - beta * kl, log_p - kl
        log_px_z, ratio = self._log_w(v, mask, mu, logvar, eps)
        constant = len(v) * math.log(draws)
        weighted = (log_px_z + beta * ratio).logsumexp(dim=1).sum() - constant
        return weighted, (log_px_z + ratio).detach().logsumexp(dim=1).sum() - constant

    def _log_w(self, v: Tensor, mask: Tensor | None, mu: Tensor, logvar: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        """Log p(x|z_k) and log p(z_k) - log q(z_k|x): (B, C), (B, L), (B, L), (B, K, L) -> (B, K) each."""
        vae, z = self.vae, reparameterize(mu, logvar, eps)  # (B, K, L)
        theta = vae.decode(z.flatten(0, 1)).reshape(*z.shape[:2], -1)  # (B, K, P)
        energy = vae.likelihood.energy(theta, v.unsqueeze(1))  # (B, K, C)
        seen = None if mask is None else mask.unsqueeze(1)
        return log_likelihood(vae.likelihood.peak(), energy, seen), vae.prior.log_ratio(z, eps, logvar)

    def _of_some(
        self, v: Tensor, mask: Tensor | None, mu: Tensor, logvar: Tensor, eps: Tensor, beta: float, u: Tensor
    ) -> tuple[Tensor, Tensor]:
        """
        The same values as of all draws, and a gradient whose mean is that of all draws.

        The gradient of the bound is that of the log w_k, averaged by weight; so of M draws that are chosen by weight
        the plain average will do (Burda et al. 2016, section 3, with M = 1). All others go forward only, which is a
        third of the work, a piece at a time.
        """
        draws, size = eps.shape[1], len(v)
        if v.device.type == "cpu":
            size = max(1, _PIECE_VALUES // (draws * self.vae.likelihood.outputs))
        with torch.no_grad():
            whole = v, v if mask is None else mask, mu, logvar, eps
            pieces = zip(*(torch.split(part, size) for part in whole), strict=True)
            found = [self._log_w(x, None if mask is None else m, *rest) for x, m, *rest in pieces]
            log_px_z, ratio = (torch.cat(parts) for parts in zip(*found, strict=True))  # (B, K)
            weighted, constant = log_px_z + beta * ratio, len(v) * math.log(draws)
            ends = weighted.softmax(dim=1).cumsum(dim=1)[:, None, :-1]
            chosen = (u.unsqueeze(2) >= ends).sum(dim=2)  # (B, M)
            ascended, bound = (w.logsumexp(dim=1).sum() - constant for w in (weighted, log_px_z + ratio))
        index = chosen.unsqueeze(2).expand(-1, -1, eps.shape[2])
        log_px_z, ratio = self._log_w(v, mask, mu, logvar, eps.gather(1, index))
        surrogate = (log_px_z + beta * ratio).mean(dim=1).sum()
        return ascended + (surrogate - surrogate.detach()), bound


class Stepper:
    """
    The optimiser of *vae*, and how it goes one step.

    *parameters*: how many numbers it fits. *cause*: why the last step was skipped; None when it was made. *epsilon*: of
    Adam.
    """

    def __init__(self, vae: VAE, fabric: Fabric, epsilon: float = 1e-8) -> None:
        self._vae, self._fabric = vae, fabric
        bound = Bound(vae)
        self._bound: nn.Module = fabric.setup_module(bound) if fabric.world_size > 1 else bound
        self._parameters = dict(vae.named_parameters())
        self.parameters = sum(p.numel() for p in self._parameters.values())
        self._optimizer = torch.optim.AdamW(self._parameters.values(), eps=epsilon, weight_decay=0.0, fused=True)
        self.cause: str | None = None

    def __call__(self, batch: Batch, beta: float, learning_rate: float) -> Tensor | None:
        """
        Ascend the bound of *batch*.

        Returns the sum of their bounds, a scalar, or None when the step was skipped, in all processes alike.
        """
        v, eps = batch.v, batch.eps
        weighted, bound = self._bound(v, eps, beta, batch.u)
        loss = -weighted * (self._fabric.world_size / batch.rows)  # processes average, so this adds up
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
        found: Tensor = bound.detach()
        return found

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
            z = reparameterize(mu, logvar, eps[:, :1])
            theta = vae.decode(z.squeeze(1))
            log_p, kl = vae.likelihood.log_prob(theta, v), vae.prior.kl_per_latent(mu, logvar, z, eps[:, :1])
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
