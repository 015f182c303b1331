"""
Each family computes the same in onnxruntime, in float32 and in float64, also where it is hardest.

At logits of +-80, sigmas from 0.001 to 20, counts of 0 and a million, rates from e^-30 to e^15: finite, and the same.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.exported import NAMES, Questions, in_float64, in_onnxruntime, in_torch, questions
from training.likelihoods.bernoulli import Bernoulli
from training.likelihoods.categorical import Categorical
from training.likelihoods.continuous_bernoulli import ContinuousBernoulli
from training.likelihoods.count import NegativeBinomial, Poisson
from training.likelihoods.gaussian import Gaussian
from training.likelihoods.integer import IntegerLogistic
from training.likelihoods.likelihood import Likelihood
from training.likelihoods.location_scale import LocationScale
from training.likelihoods.logistic import DiscretisedLogistic
from training.likelihoods.mixed import Mixed
from training.likelihoods.ordinal import Ordinal
from training.likelihoods.student_t import StudentT

LOGITS = (-80.0, -18.5, -17.0, -1.0, -0.99, -0.05, -1e-3, 0.0, 1e-3, 0.04, 0.3, 1.01, 5.0, 25.0, 80.0)
LOG_RATES = (-30.0, -5.0, -1.0, 0.0, 0.5, 2.0, 5.0, 9.0, 13.0, 15.0)
COUNTS = (0.0, 1.0, 2.0, 7.0, 8.0, 100.0, 12345.0, 1e6, 2.0**24)
Case = Callable[[], tuple[Likelihood, Tensor, Tensor]]


def grid(thetas: tuple[float, ...], values: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Every parameter with every value: (n, 1), (n, 1)."""
    pairs = torch.cartesian_prod(torch.tensor(thetas), torch.tensor(values))
    return pairs[:, :1], pairs[:, 1:]


def widths(likelihood: LocationScale, *sigmas: float) -> None:
    """Give the features their sigmas, as far as the bounds allow."""
    with torch.no_grad():
        likelihood.raw_log_sigma.copy_(torch.tensor(sigmas).log())


def bernoulli() -> tuple[Likelihood, Tensor, Tensor]:
    """Logits."""
    return Bernoulli(1), *grid(LOGITS, (0.0, 1.0))


def continuous_bernoulli() -> tuple[Likelihood, Tensor, Tensor]:
    """Logits, beyond their bound too."""
    return ContinuousBernoulli(1, 0.0, 255.0), *grid((*LOGITS, -2000.0, 2000.0), (0.0, 0.01, 0.5, 0.99, 1.0))


def gaussian() -> tuple[Likelihood, Tensor, Tensor]:
    """The least and the largest sigma."""
    likelihood = Gaussian(3)
    widths(likelihood, 1e-6, 1.0, 1e6)
    theta, v = grid((-8.0, -1.0, 0.0, 1.0, 8.0), (-100.0, -1.0, 0.0, 1.001, 100.0))
    return likelihood, theta.expand(-1, 3), v.expand(-1, 3)


def gaussian_by_row() -> tuple[Likelihood, Tensor, Tensor]:
    """Sigmas from the decoder, beyond both bounds."""
    likelihood = Gaussian(1, "row")
    cases = torch.cartesian_prod(
        torch.tensor([-8.0, 0.0, 8.0]), torch.tensor([-80.0, -5.0, 0.0, 80.0]), torch.tensor([-100.0, 0.0, 1.0, 100.0])
    )
    return likelihood, cases[:, :2], cases[:, 2:]


def student_t() -> tuple[Likelihood, Tensor, Tensor]:
    """From 2 to 150 degrees of freedom, the least and the largest sigma."""
    likelihood = StudentT(4)
    widths(likelihood, 1e-6, 1.0, 1.0, 1e6)
    with torch.no_grad():
        likelihood.raw_nu.copy_(torch.tensor([-80.0, -2.0, 1.0, 80.0]))
    theta, v = grid((-8.0, -1.0, 0.0, 1.0, 8.0), (-100.0, -1.0, 0.0, 1.001, 100.0))
    return likelihood, theta.expand(-1, 4), v.expand(-1, 4)


def discretised_logistic() -> tuple[Likelihood, Tensor, Tensor]:
    """The least and the largest scale."""
    likelihood = DiscretisedLogistic(3, 0.0, 255.0, 256)
    widths(likelihood, 1e-9, 0.02, 20.0)
    theta, v = grid((-3.0, 0.0, 0.3, 0.5013, 1.0, 80.0), (0.0, 1 / 255, 77 / 255, 254 / 255, 1.0))
    return likelihood, theta.expand(-1, 3), v.expand(-1, 3)


def integer() -> tuple[Likelihood, Tensor, Tensor]:
    """The least and the largest scale, about centers near and far."""
    likelihood = IntegerLogistic(3)
    with torch.no_grad():
        likelihood.center.copy_(torch.tensor([0.0, -1000.0, 2024.0]))
        likelihood.log_scale.copy_(torch.tensor([1.0, 12.0, 0.3]).log())
    widths(likelihood, 1e-9, 0.5, 20.0)
    theta, v = grid((-8.0, -0.42, 0.0, 0.3, 1.07, 80.0), (-3000.0, -1.0, 0.0, 2.0, 2024.0))
    return likelihood, theta.expand(-1, 3), v.expand(-1, 3)


def categorical() -> tuple[Likelihood, Tensor, Tensor]:
    """Three features with different numbers of levels."""
    likelihood = Categorical((2, 5, 1))
    theta = torch.tensor(LOGITS)
    thetas = torch.stack([theta.roll(k) for k in range(likelihood.outputs)], dim=1)
    return likelihood, thetas, torch.stack([torch.arange(15.0) % 2, torch.arange(15.0) % 5, torch.zeros(15)], dim=1)


def categorical_of_many_levels() -> tuple[Likelihood, Tensor, Tensor]:
    """More than a graph compares with each."""
    likelihood = Categorical((40, 3))
    thetas = torch.stack([torch.tensor(LOGITS).roll(k) for k in range(likelihood.outputs)], dim=1)
    return likelihood, thetas, torch.stack([torch.arange(15.0) * 2.8, torch.arange(15.0) % 3], dim=1)


def ordinal() -> tuple[Likelihood, Tensor, Tensor]:
    """Three features with different numbers of levels; the last step is the least."""
    likelihood = Ordinal((2, 5, 1))
    with torch.no_grad():
        likelihood.first_cut.fill_(-2.0)
        likelihood.raw_steps.copy_(torch.tensor([[0.0, 1.0, -80.0]]).expand(3, 3))
    theta, v = grid(LOGITS, (0.0, 1.0, 2.0, 3.0, 4.0))
    return likelihood, theta.expand(-1, 3), torch.cat([v.clamp(max=1), v, v * 0], dim=1)


def poisson() -> tuple[Likelihood, Tensor, Tensor]:
    """Rates and counts."""
    return Poisson(1), *grid(LOG_RATES, COUNTS)


def negative_binomial() -> tuple[Likelihood, Tensor, Tensor]:
    """Shapes from 0.05 to what is a Poisson."""
    likelihood = NegativeBinomial(4)
    with torch.no_grad():
        likelihood.raw_log_shape.copy_(torch.tensor([-3.0, 0.0, 4.0, 80.0]))
    theta, v = grid(LOG_RATES, COUNTS)
    return likelihood, theta.expand(-1, 4), v.expand(-1, 4)


def mixed() -> tuple[Likelihood, Tensor, Tensor]:
    """Four families; columns out of order."""
    likelihood = Mixed(
        [(Gaussian(2), (3, 0)), (Categorical((3,)), (1,)), (IntegerLogistic(1), (4,)), (Bernoulli(1), (2,))]
    )
    theta = torch.linspace(-3, 3, 7).repeat(11, 1) * torch.linspace(-2, 2, 11).unsqueeze(1)
    v = torch.stack(
        [torch.arange(11.0) - 5, torch.arange(11.0) % 3, torch.arange(11.0) % 2, *torch.arange(22.0).reshape(2, 11)]
    )
    return likelihood, theta, v.T.contiguous()


FAMILIES: tuple[Case, ...] = (
    bernoulli,
    continuous_bernoulli,
    gaussian,
    gaussian_by_row,
    student_t,
    discretised_logistic,
    integer,
    categorical,
    categorical_of_many_levels,
    ordinal,
    poisson,
    negative_binomial,
    mixed,
)


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda case: case.__name__)
def case(request: pytest.FixtureRequest) -> tuple[Likelihood, Questions]:
    """A family, and what it is asked."""
    likelihood, theta, v = request.param()
    return likelihood, questions(likelihood, theta.contiguous(), v.contiguous())


def test_what_is_exported_is_finite_and_the_same(case: tuple[Likelihood, Questions]) -> None:
    """In onnxruntime and in PyTorch: to 1e-4 of a nat, or of the value; whole numbers may jump at a tie in 1 of 100."""
    likelihood, asked = case
    got, want, exact = in_onnxruntime(likelihood, asked), in_torch(likelihood, asked), in_float64(likelihood, asked)
    jump = likelihood.jump.double().numpy()
    for name in NAMES:
        assert np.isfinite(got[name]).all(), name
        for other in (want, exact):
            off = np.abs(got[name] - other[name]) - 1e-4 - 1e-4 * np.abs(other[name])
            off = off[1:] if name == "drawn" else off  # u = 0 is less than any probability, unless that is rounded to 0
            allowed = 0.0 if name in ("log_prob", "energy") else jump
            assert (off <= allowed).all(), (name, off.max(), np.argwhere(off > allowed)[:3])
            assert (off > 0).mean() < 0.02, (name, off.max())


def test_gradients_are_finite_at_the_extremes(case: tuple[Likelihood, Questions]) -> None:
    """Of the energy and the peak, by what the decoder gives and by the family's own parameters."""
    likelihood, asked = case
    theta = asked.theta.clone().requires_grad_()
    likelihood.zero_grad()
    torch.autograd.backward((likelihood.energy(theta, asked.v) - likelihood.peak()).sum())
    for gradient in (theta.grad, *(parameter.grad for parameter in likelihood.parameters())):
        assert gradient is not None
        assert bool(gradient.isfinite().all())


def test_every_value_has_a_finite_answer(case: tuple[Likelihood, Questions]) -> None:
    """Also values that are in no support: the service checks them only where a score is asked for."""
    likelihood, asked = case
    for value in (-100.0, -0.3, 0.37, 1e30 if isinstance(likelihood, Poisson) else 100.0):
        energy = likelihood.energy(asked.mixture, torch.full((1, 1, likelihood.features), value))
        assert bool(energy.isfinite().all()), value
