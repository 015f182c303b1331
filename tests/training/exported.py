"""What a likelihood answers, in PyTorch and after its export in onnxruntime; and uniform numbers that fill a cube."""

from __future__ import annotations

import copy
import warnings
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import qmc
from torch import Tensor, nn

from service.engine import Engine
from training.likelihoods.likelihood import Likelihood

NAMES = ("log_prob", "energy", "mean", "lower", "upper", "mixed_mean", "mixed_lower", "mixed_upper", "drawn")

Floats = NDArray[np.float64]


class Questions(NamedTuple):
    """Parameters (B, P), values (B, C), parameters of mixtures (B, K, P), their weights (B, K), uniforms (B, U, C)."""

    theta: Tensor
    v: Tensor
    mixture: Tensor
    weights: Tensor
    u: Tensor


class Answering(nn.Module):
    """Everything that a likelihood can be asked, in one graph."""

    def __init__(self, likelihood: Likelihood) -> None:
        super().__init__()
        self.likelihood = likelihood

    def forward(self, theta: Tensor, v: Tensor, mixture: Tensor, weights: Tensor, u: Tensor) -> tuple[Tensor, ...]:
        """In the order of NAMES."""
        own = self.likelihood
        return (
            own.log_prob(theta, v),
            own.energy(mixture, v.unsqueeze(1)),
            *own.predict(theta),
            *own.predict_mixture(mixture, weights),
            own.draw(theta, u),
        )


def questions(likelihood: Likelihood, thetas: Tensor, v: Tensor, draws: int = 3) -> Questions:
    """All of *thetas* (n, P) with values (n, C); mixtures of *draws* rows of them in turn; Sobol's points."""
    mixture = torch.stack([thetas.roll(k, dims=0) for k in range(draws)], dim=1)
    weights = torch.linspace(1, 3, draws).softmax(dim=0).expand(len(thetas), draws).contiguous()
    return Questions(thetas, v, mixture, weights, sobol(likelihood, len(thetas)))


def sobol(likelihood: Likelihood, rows: int) -> Tensor:
    """Uniform numbers, the same every time, that fill the cube evenly: (rows, U, C); the first is the corner 0."""
    size = likelihood.uniforms * likelihood.features
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a number of rows that is not a power of two
        points = qmc.Sobol(size, scramble=True, rng=7).random(rows).astype(np.float32)
    points = points.clip(0, np.float32(1) - np.float32(2) ** -24)
    points[0] = 0
    return torch.from_numpy(points).reshape(rows, likelihood.uniforms, likelihood.features)


def in_torch(likelihood: Likelihood, asked: Questions) -> dict[str, Floats]:
    """In float32."""
    with torch.no_grad():
        return dict(zip(NAMES, (answer.double().numpy() for answer in Answering(likelihood)(*asked)), strict=True))


def in_float64(likelihood: Likelihood, asked: Questions) -> dict[str, Floats]:
    """The same code in float64."""
    return in_torch(copy.deepcopy(likelihood).double(), Questions(*(part.double() for part in asked)))


def in_onnxruntime(likelihood: Likelihood, asked: Questions) -> dict[str, Floats]:
    """After export with a free batch axis, from an example of another size."""
    batch = torch.export.Dim("batch")
    example = tuple(part[:3].clone() for part in asked)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Answering(likelihood).eval(),
            example,
            input_names=list(Questions._fields),
            output_names=list(NAMES),
            dynamic_shapes=tuple({0: batch} for _ in example),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    engine = Engine({"likelihood": program.model_proto.SerializeToString()}, threads=1)
    feeds = {name: part.numpy() for name, part in zip(Questions._fields, asked, strict=True)}
    answers = engine.run("likelihood", feeds, list(NAMES))
    return {name: answers[name].astype(np.float64) for name in NAMES}
