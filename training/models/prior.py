"""
The prior p(z): N(0, I), or a mixture of normals that is learned with the rest.

What the objective and the scores need of it: log p(z) beside log q(z|x), KL by latent, and draws. Exported, so written
in operators that ONNX has. Knows nothing of x. B rows, K draws, L latents, M components; "..." are any leading axes.
"""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch import Tensor, nn

from training.objective import kl_per_latent, latent_log_ratio

Kind = Literal["standard-normal", "mixture"]

LOGVAR_BOUND: Final = 5.0
"""Of the log-variances of components, smoothly: none becomes a point."""

_FIRST_STD: Final = 0.7  # of the components' means, about 0: with the first variance about as wide as N(0, I)
_FIRST_LOGVAR: Final = -0.5


class StandardNormal(nn.Module):
    """P(z) = N(0, I): nothing is learned, and KL is known in closed form."""

    analytic = True

    def log_ratio(self, z: Tensor, eps: Tensor, logvar: Tensor) -> Tensor:
        """Log p(z_k) - log q(z_k|x), see `latent_log_ratio`: -> (B, K)."""
        return latent_log_ratio(z, eps, logvar)

    def kl(self, mu: Tensor, logvar: Tensor, z: Tensor, eps: Tensor) -> Tensor:
        """KL(q(z|x) || p(z)): -> (B,)."""
        return self.kl_per_latent(mu, logvar, z, eps).sum(dim=-1)

    def kl_per_latent(self, mu: Tensor, logvar: Tensor, z: Tensor, eps: Tensor) -> Tensor:
        """KL(q(z_j|x) || p(z_j)), exactly: -> (B, L)."""
        return kl_per_latent(mu, logvar)


class Mixture(nn.Module):
    """
    P(z) = sum_m pi_m N(z; m_m, diag exp(s_m)), all learned with encoder and decoder.

    Where normal rows come in clusters, N(0, I) makes the regions between them as probable as the clusters; a mixture
    that is learned jointly (Dilokthanakul et al. 2016; Tomczak & Welling 2018 have its components encoded) does not, so
    that log p(x) tells rows between the clusters from rows in them. KL is an average over the draws.
    """

    analytic = False

    def __init__(self, latent_dim: int, components: int, generator: torch.Generator) -> None:
        super().__init__()
        self.mean = nn.Parameter(_FIRST_STD * torch.randn(components, latent_dim, generator=generator))
        self.raw_logvar = nn.Parameter(torch.full((components, latent_dim), _FIRST_LOGVAR))
        self.logits = nn.Parameter(torch.zeros(components))

    def logvar(self) -> Tensor:
        """Log-variances: (M, L), within +-5."""
        return LOGVAR_BOUND * torch.tanh(self.raw_logvar / LOGVAR_BOUND)

    def log_components(self, z: Tensor) -> Tensor:
        """
        Log (pi_m N(z; m_m, s_m)), less the terms in 2 pi, which those of q(z|x) cancel: (..., L) -> (..., M).

        The squares are multiplied out, so that they are two products of matrices and not a pass over (..., M, L).
        """
        logvar = self.logvar()
        precision = (-logvar).exp()
        constant = self.logits.log_softmax(dim=0) - 0.5 * (self.mean.square() * precision + logvar).sum(dim=-1)
        return z.matmul((self.mean * precision).T) - 0.5 * z.square().matmul(precision.T) + constant

    def log_ratio(self, z: Tensor, eps: Tensor, logvar: Tensor) -> Tensor:
        """Log p(z_k) - log q(z_k|x): (B, K, L), (K, L) or (B, K, L), (B, L) -> (B, K)."""
        entropy = 0.5 * (eps.square().sum(dim=-1) + logvar.sum(dim=-1).unsqueeze(1))
        return self.log_components(z).logsumexp(dim=-1) + entropy

    def kl(self, mu: Tensor, logvar: Tensor, z: Tensor, eps: Tensor) -> Tensor:
        """The average over the draws of log q(z_k|x) - log p(z_k): -> (B,)."""
        return -self.log_ratio(z, eps, logvar).mean(dim=1)

    def kl_per_latent(self, mu: Tensor, logvar: Tensor, z: Tensor, eps: Tensor) -> Tensor:
        """
        The parts of the average over the draws of log q(z_k|x) - log p(z_k) by latent: -> (B, L).

        With the responsibilities r_m of the components, log p(z) = sum_m r_m log N_m(z) - KL(r || pi), and log N_m is a
        sum over latents. KL(r || pi), the choice of a component, is no latent's own: each has an equal share of it.
        """
        component_logvar = self.logvar()
        precision = (-component_logvar).exp()
        joint = self.log_components(z)  # (B, K, M)
        log_r = joint.log_softmax(dim=-1)
        r = log_r.exp()
        squares = (
            z.square() * r.matmul(precision)
            - 2 * z * r.matmul(self.mean * precision)
            + r.matmul(self.mean.square() * precision + component_logvar)
        )
        choice = (r * (log_r - self.logits.log_softmax(dim=0))).sum(dim=-1, keepdim=True)  # (B, K, 1)
        own = 0.5 * (squares - eps.square() - logvar.unsqueeze(1))  # (B, K, L)
        return (own + choice / z.shape[-1]).mean(dim=1)

    def draw(self, eps: Tensor, u: Tensor) -> Tensor:
        """Draws from p(z), of normals and a uniform number from [0, 1) that chooses the component: (B, L), (B,)."""
        ends = self.logits.softmax(dim=0).cumsum(dim=0)[:-1]
        component = (u.unsqueeze(-1) >= ends).sum(dim=-1)
        return self.mean[component] + (0.5 * self.logvar()[component]).exp() * eps


Prior = StandardNormal | Mixture


def make_prior(kind: Kind, latent_dim: int, components: int, generator: torch.Generator) -> Prior:
    """The prior by its name; *components* is of no effect on N(0, I)."""
    return StandardNormal() if kind == "standard-normal" else Mixture(latent_dim, components, generator)
