"""The special functions are right to the digits of their dtype, over the whole range, and so are their gradients."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special as scipy_special
from torch import Tensor, nn

from service.engine import Engine
from training.likelihoods.special import (
    exact_softplus,
    exp_residual,
    log1mexp,
    log_gamma,
    standard_normal,
    stirling_error,
)

WIDE = np.concatenate([np.geomspace(1e-6, 1e8, 4001), np.arange(1, 200), [2.0**24, 7.9999, 8.0, 8.0001]])


def exact_stirling_error(x: np.ndarray) -> np.ndarray:
    """By its definition where that has digits, by its series beyond."""
    series = 1 / (12 * x) - 1 / (360 * x**3) + 1 / (1260 * x**5)
    plain = scipy_special.gammaln(x + 1) - ((x + 0.5) * np.log(x) - x + 0.5 * np.log(2 * np.pi))
    return np.where(x > 50, series, plain)


def test_log_gamma_is_that_of_scipy() -> None:
    """From a millionth to a hundred million: to 1e-12 in float64, to a few roundings in float32."""
    exact = scipy_special.gammaln(WIDE)
    np.testing.assert_allclose(log_gamma(torch.from_numpy(WIDE)).numpy(), exact, rtol=1e-10, atol=1e-11)
    single = WIDE.astype(np.float32)
    got = log_gamma(torch.from_numpy(single)).double().numpy()
    np.testing.assert_allclose(got, scipy_special.gammaln(single.astype(np.float64)), rtol=1e-6, atol=4e-6)


def test_the_error_of_stirlings_formula_keeps_its_digits() -> None:
    """It is a hundred-millionth at ten million, where log Gamma is a hundred million."""
    np.testing.assert_allclose(
        stirling_error(torch.from_numpy(WIDE)).numpy(), exact_stirling_error(WIDE), rtol=1e-8, atol=1e-11
    )
    single = WIDE.astype(np.float32)
    got = stirling_error(torch.from_numpy(single)).double().numpy()
    np.testing.assert_allclose(got, exact_stirling_error(single.astype(np.float64)), rtol=2e-5, atol=4e-6)


@given(st.floats(-80, 80))
def test_the_rest_of_the_exponential_series_keeps_its_digits(x: float) -> None:
    """exp(x) - 1 - x is x^2 / 2 near 0, also in float32."""
    single = np.float32(x)
    exact = scipy_special.expm1(np.float64(single)) - np.float64(single)
    if abs(x) < 1e-2:
        exact = float(single) ** 2 / 2 * (1 + float(single) / 3 + float(single) ** 2 / 12)
    assert float(exp_residual(torch.tensor(single))) == pytest.approx(exact, rel=4e-6, abs=1e-38)


@given(st.floats(-12, 9).map(lambda power: 10.0**power))
def test_the_logarithm_of_a_small_difference_keeps_its_digits(x: float) -> None:
    """log(1 - exp(-x)) is log x near 0 and -exp(-x) far away."""
    single = np.float32(x)
    exact = np.log(-scipy_special.expm1(-np.float64(single)))
    assert float(log1mexp(torch.tensor(single))) == pytest.approx(exact, rel=1e-6, abs=2e-7)


class Softplus(nn.Module):
    """The function, to be exported."""

    def forward(self, x: Tensor) -> Tensor:
        """(B,) -> (B,)."""
        return exact_softplus(x)


def test_the_exact_softplus_keeps_its_digits_before_and_after_export() -> None:
    """A count's score multiplies it by 160,000: at -16 it is a ten-millionth, and may not be rounded to 0."""
    x = np.linspace(-80, 80, 64001, dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Softplus().eval(),
            (torch.from_numpy(x[:3]),),
            input_names=["x"],
            output_names=["y"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    exported = Engine({"softplus": program.model_proto.SerializeToString()}, threads=1).run("softplus", {"x": x})["y"]
    exact = np.logaddexp(0, x.astype(np.float64))
    np.testing.assert_allclose(exact_softplus(torch.from_numpy(x)).numpy(), exact, rtol=6e-7)
    np.testing.assert_allclose(exported.astype(np.float64), exact, rtol=6e-7)


@pytest.mark.parametrize(
    ("function", "derivative", "grid"),
    [
        (log_gamma, scipy_special.digamma, np.geomspace(1e-3, 1e6, 400)),
        (exp_residual, scipy_special.expm1, np.linspace(-80, 80, 1601)),
        (log1mexp, lambda x: 1 / scipy_special.expm1(x), np.geomspace(1e-6, 80, 400)),
    ],
)
def test_gradients_are_those_of_the_functions(
    function: Callable[[Tensor], Tensor], derivative: Callable[[np.ndarray], np.ndarray], grid: np.ndarray
) -> None:
    """On both sides of where the branches meet; never NaN."""
    x = torch.from_numpy(grid).requires_grad_()
    torch.autograd.backward(function(x).sum())
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), derivative(grid), rtol=1e-6, atol=1e-8)


@given(st.floats(1e-6, 1e7))
def test_the_gradient_of_stirlings_error_is_finite_everywhere(x: float) -> None:
    """And negative: the error falls."""
    value = torch.tensor(x, requires_grad=True)
    torch.autograd.backward(stirling_error(value))
    assert value.grad is not None
    assert bool(value.grad.isfinite())
    assert float(value.grad) <= 0


def test_two_uniform_numbers_make_a_normal_one() -> None:
    """On a grid of midpoints: mean, variance and the share beyond 1.96."""
    u = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    normal = standard_normal(u.unsqueeze(1), u)
    assert float(normal.mean()) == pytest.approx(0, abs=1e-3)
    assert float(normal.var()) == pytest.approx(1, abs=2e-3)
    assert float((normal.abs() > 1.959964).double().mean()) == pytest.approx(0.05, abs=5e-4)
