"""The models that are compared: every likelihood that suits pixels, and those that meet one digit they never saw."""

from __future__ import annotations

from typing import Final, NamedTuple

from training.binarize import Mode
from training.likelihoods.choose import Family
from training.likelihoods.location_scale import Sigma


class Kind(NamedTuple):
    """A model of the comparison. *sigma_value*: of a fixed sigma, in standard deviations of the pixels."""

    name: str
    likelihood: Family
    sigma: Sigma = "feature"
    binarize: Mode = "none"
    latent_dim: int = 32
    sigma_value: float = 1.0

    @property
    def slug(self) -> str:
        """The name of its files."""
        return f"{self.name.replace(',', '').replace(' ', '-').lower()}-{self.latent_dim}"

    @property
    def measure(self) -> str:
        """What log p(x) is the logarithm of: only numbers of the same measure can be compared."""
        if self.likelihood == "bernoulli":
            return "probability of 0 and 1"
        return "probability of levels" if self.likelihood == "discretised-logistic" else "density, a level"


BERNOULLI: Final = Kind("Bernoulli, pixels drawn anew", "bernoulli", binarize="dynamic")
GAUSSIAN: Final = Kind("Gaussian, one sigma", "gaussian", "shared")
LOGISTIC: Final = Kind("discretised logistic", "discretised-logistic")

FIXED: Final = Kind("Gaussian, sigma 0.71 of the range", "gaussian", "fixed", sigma_value=2.295)
"""Tonnaer's: sigma is 1 / sqrt 2 of the range, and the range 3.2455 standard deviations of MNIST's pixels."""

FAMILIES: Final = (
    BERNOULLI,
    GAUSSIAN,
    LOGISTIC,
    Kind("continuous Bernoulli", "continuous-bernoulli"),
    Kind("Gaussian, a sigma a pixel", "gaussian"),
    Kind("Gaussian, a sigma a pixel and image", "gaussian", "row"),
    Kind("Student-t, a sigma a pixel", "student-t"),
)

DIGITS: Final = (BERNOULLI, FIXED._replace(latent_dim=2), FIXED, LOGISTIC)
