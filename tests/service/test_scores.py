"""The kinds of the scorer's outputs alone: the formulae of the references, to the last digits, for any finite ones."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special

from service.manifest import ScoreKind
from service.scores import FEATURE_OUTPUTS, PLAIN, SCORE_OUTPUTS, score

KINDS = get_args(ScoreKind)
Outputs = dict[str, NDArray[np.float32]]


def scorer_outputs(seed: int, rows: int, draws: int, latents: int, spread: float = 10.0) -> Outputs:
    """What a scorer might give: float32, of any size, without structure."""
    rng = np.random.default_rng(seed)
    return {
        "log_w": rng.normal(0, spread, (rows, draws)).astype(np.float32),
        "log_px_z": rng.normal(0, spread, (rows, draws)).astype(np.float32),
        "kl": rng.exponential(2, (rows, latents)).astype(np.float32),
    }


outputs_of = st.builds(
    scorer_outputs, st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 20), st.integers(1, 6)
)


def naive(kind: str, outputs: Outputs) -> NDArray[np.float64]:
    """The formula of *kind* as it is printed, with scipy's logsumexp, row by row."""
    answers = []
    for log_w, log_px_z, kl in zip(*(outputs[k].astype(np.float64) for k in ("log_w", "log_px_z", "kl")), strict=True):
        answers.append(
            {
                "nll": -(special.logsumexp(log_w) - math.log(len(log_w))),
                "neg_elbo": sum(kl) - sum(log_px_z) / len(log_px_z),
                "reconstruction": -sum(log_px_z) / len(log_px_z),
                "kl": sum(kl),
            }[kind]
        )
    return np.array(answers)


@pytest.mark.parametrize("kind", PLAIN)
@given(outputs=outputs_of)
def test_every_kind_is_its_formula(kind: str, outputs: Outputs) -> None:
    """Against scipy and plain sums; one finite float64 a row."""
    got = score(kind, outputs)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, naive(kind, outputs), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", PLAIN)
def test_every_kind_is_computed_from_the_outputs_that_it_names(kind: str) -> None:
    """The service runs the scorer for those alone: more would be computed for nothing, less would be a KeyError."""
    outputs = scorer_outputs(0, 3, 4, 2)
    wanted = SCORE_OUTPUTS[kind]
    assert np.array_equal(score(kind, {name: outputs[name] for name in wanted}), score(kind, outputs))
    for name in wanted:
        with pytest.raises(KeyError, match=name):
            score(kind, {other: outputs[other] for other in wanted if other != name})


def test_the_kinds_are_those_of_the_manifest() -> None:
    """What a bundle may calibrate is what can be computed, and only those kinds are explained."""
    assert set(SCORE_OUTPUTS) == set(KINDS)
    assert set(FEATURE_OUTPUTS) == set(PLAIN) - {"kl"}
    assert set(PLAIN) < set(KINDS)


@given(log_w=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=8))
def test_with_one_draw_nll_is_the_negative_weight_itself(log_w: list[float]) -> None:
    """IWAE with K = 1: no digits are lost on the way through the exponential."""
    column = np.array(log_w, np.float32)[:, None]
    assert np.array_equal(score("nll", {"log_w": column}), -column[:, 0].astype(np.float64))


@pytest.mark.parametrize("level", [-3000.0, 0.0, 3000.0])
def test_nll_neither_overflows_nor_underflows(level: float) -> None:
    """exp(3000) is infinite and exp(-3000) is zero; the score is neither, and a constant shifts it by itself."""
    outputs = scorer_outputs(1, 4, 16, 2)
    shifted = {"log_w": outputs["log_w"].astype(np.float64) + level}
    np.testing.assert_allclose(score("nll", shifted), score("nll", outputs) - level, rtol=0, atol=1e-9)
    far_apart = {"log_w": np.array([[level, -level], [level, level]])}
    assert np.isfinite(score("nll", far_apart)).all()
    assert score("nll", far_apart)[0] == pytest.approx(math.log(2) - abs(level) if level else 0.0, abs=1e-9)


@given(outputs=outputs_of)
def test_nll_is_between_the_best_draw_and_the_mean_of_all(outputs: Outputs) -> None:
    """Jensen: log mean w >= mean log w; and no mean is above its largest term."""
    log_w = outputs["log_w"].astype(np.float64)
    nll = score("nll", outputs)
    assert (nll <= -log_w.mean(axis=1) + 1e-9).all()
    assert (nll >= -log_w.max(axis=1) - 1e-9).all()


@given(outputs=outputs_of)
def test_nll_does_not_depend_on_the_order_of_the_draws(outputs: Outputs) -> None:
    """The draws are exchangeable."""
    np.testing.assert_allclose(
        score("nll", outputs), score("nll", {"log_w": outputs["log_w"][:, ::-1]}), rtol=1e-12, atol=1e-12
    )


@given(outputs=outputs_of)
def test_the_negative_elbo_is_reconstruction_and_kl_to_the_bit(outputs: Outputs) -> None:
    """The parts that a caller is shown add up to what it is shown."""
    assert np.array_equal(score("neg_elbo", outputs), score("reconstruction", outputs) + score("kl", outputs))


@pytest.mark.parametrize("kind", ["", "NLL", "typicality", "log_w"])
def test_another_kind_is_refused_by_name(kind: str) -> None:
    """A misspelt kind is never another score, and one that takes reference rows is not made without them."""
    with pytest.raises(ValueError, match=f"'{kind}' is not a score of the scorer's outputs alone"):
        score(kind, scorer_outputs(0, 1, 1, 1))
