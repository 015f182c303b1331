"""What the encoder takes of a row: numbers, counts, categories, and which of them were observed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from service.inputs import Column, Inputs
from training.graphs import EncoderGraph
from training.models.features import EMBEDDING_WIDTH, ONE_HOT_LEVELS, Features
from training.models.mlp import VAE, VAEConfig


def of(*columns: Column) -> Inputs:
    """A table of these columns."""
    return Inputs(kind="table", shape=(len(columns),), dtype="float64", columns=columns, clamp=100.0)


def words(count: int) -> tuple[str, ...]:
    """A vocabulary."""
    return tuple(f"w{i}" for i in range(count))


def features(*columns: Column) -> Features:
    """Of these columns, untrained."""
    return Features(of(*columns), torch.Generator().manual_seed(0))


def test_a_row_of_numbers_that_are_all_there_passes_as_it_is() -> None:
    """No copy, nothing added, nothing to keep in a checkpoint: models of such rows are as they were."""
    found = features(Column(name="a"), Column(name="b"))
    v = torch.randn(3, 2)
    assert found(v, None) is v
    assert found.width == 2
    assert not found.state_dict()
    image = Inputs(kind="image", shape=(4, 3), dtype="float32", layout="HW", clamp=1.0)
    assert Features(image, torch.Generator()).width == 12


def test_categories_are_one_hot_up_to_32_and_embedded_above() -> None:
    """The two sorts stand beside each other, after the numbers, whatever the order of the columns."""
    few = Column(name="few", kind="categorical", vocabulary=words(ONE_HOT_LEVELS))
    many = Column(name="many", kind="categorical", vocabulary=words(ONE_HOT_LEVELS), unknown="other")
    found = features(few, many, Column(name="number"))
    v = torch.tensor([[0.0, 32.0, 1.5], [31.0, 0.0, -2.0], [31.0, 32.0, 0.0]])
    e = found(v, None)
    assert e.shape == (3, 1 + ONE_HOT_LEVELS + EMBEDDING_WIDTH) == (3, found.width)
    assert e[:, 0].tolist() == [1.5, -2.0, 0.0]
    assert torch.equal(e[:, 1:33], torch.nn.functional.one_hot(torch.tensor([0, 31, 31]), 32).float())
    assert torch.equal(e[0, 33:], e[2, 33:])
    assert not torch.equal(e[0, 33:], e[1, 33:])
    assert torch.equal(e[1, 33:], found.embedding.weight[0])


def test_two_embedded_columns_do_not_share_their_vectors() -> None:
    """The same index is another category in another column; each vector learns."""
    columns = [Column(name=name, kind="categorical", vocabulary=words(40)) for name in "ab"]
    found = features(*columns)
    e = found(torch.tensor([[7.0, 7.0]]), None)
    assert not torch.equal(e[:, :EMBEDDING_WIDTH], e[:, EMBEDDING_WIDTH:])
    e.sum().backward()
    moved = found.embedding.weight.grad
    assert moved is not None
    assert torch.nonzero(moved.abs().sum(dim=1)).flatten().tolist() == [7, 47]


def test_counts_go_in_as_logarithms_and_orders_as_numbers_standardised() -> None:
    """Mean 0 and variance 1 over what was observed; numbers stay as the scaling left them; a constant is 0."""
    columns = (
        Column(name="n", kind="count", missing=True),
        Column(name="size", kind="ordinal", vocabulary=words(5)),
        Column(name="on", kind="binary"),
        Column(name="x"),
        Column(name="never", kind="count"),
    )
    found = features(*columns)
    generator = torch.Generator().manual_seed(1)
    v = torch.stack(
        [
            torch.poisson(torch.full((500,), 1000.0), generator),
            torch.randint(5, (500,), generator=generator).float(),
            (torch.rand(500, generator=generator) < 0.2).float(),
            3 + 2 * torch.randn(500, generator=generator),
            torch.zeros(500),
        ],
        dim=1,
    )
    observed = torch.ones_like(v, dtype=torch.bool)
    observed[::3, 0] = False
    v[::3, 0] = 0
    found.adapt(v, observed)
    e = found(v, observed)
    there = e[observed[:, 0]]
    torch.testing.assert_close(there[:, 0].mean(), torch.tensor(0.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(there[:, 0].std(correction=0), torch.tensor(1.0), atol=1e-2, rtol=0)
    torch.testing.assert_close(e[:, 1:3].std(dim=0, correction=0), torch.ones(2), atol=1e-3, rtol=0)
    assert torch.equal(e[:, 3], v[:, 3])
    assert (e[:, 4] == 0).all()
    assert (e[::3, 0] == 0).all()
    assert torch.equal(e[:, 5], observed[:, 0].float())
    assert e.shape[1] == 6


@given(st.floats(allow_nan=True, allow_infinity=True, width=32), st.data())
def test_what_stands_where_a_value_is_missing_does_not_matter_to_the_encoder(value: float, data: st.DataObject) -> None:
    """Whatever number is under a false mask, every kind of column gives 0 there and says so."""
    columns = (
        Column(name="x", missing=True),
        Column(name="n", kind="count", missing=True),
        Column(name="few", kind="categorical", vocabulary=words(3), missing=True),
        Column(name="many", kind="categorical", vocabulary=words(50), missing=True),
        Column(name="on", kind="binary", missing=True),
    )
    mask = torch.tensor([data.draw(st.lists(st.booleans(), min_size=5, max_size=5))])
    v = torch.tensor([[0.5, 3.0, 1.0, 44.0, 1.0]])
    vae = VAE(of(*columns), VAEConfig(2, (4,), "gaussian"))
    vae.features.center.copy_(torch.tensor([0.0, 1.5, 0.3]))

    def encoded(x: Tensor) -> Tensor:
        found, _ = vae.features.observed(torch.where(mask, x, torch.nan))
        e: Tensor = vae.features(found, mask)
        return e

    given_ = torch.where(mask, v, torch.tensor(value)).double()
    mu, _ = EncoderGraph(vae)(given_, mask)
    zero, _ = EncoderGraph(vae)(torch.where(mask, v, 0.0).double(), mask)
    assert torch.equal(mu, zero)
    e = encoded(v)
    assert torch.equal(e[0, -5:], mask[0].float())
    assert (e[0, :3][~mask[0, [0, 1, 4]]] == 0).all()
    assert e[0, 3:6].tolist() == ([0.0, 1.0, 0.0] if mask[0, 2] else [0.0] * 3)
    assert bool((e[0, 6:22] == 0).all()) != bool(mask[0, 3])


@pytest.mark.parametrize("kind", ["count", "categorical"])
def test_a_checkpoint_holds_what_the_features_learned(kind: str) -> None:
    """Scales of counts and vectors of categories are weights; what follows from the columns is not."""
    column = Column.model_validate(
        {"name": "a", "kind": kind, "vocabulary": words(40) if kind == "categorical" else None}
    )
    held = {"count": {"center", "scale"}, "categorical": {"embedding.weight"}}
    assert set(features(column).state_dict()) == held[kind]


def test_only_a_category_can_be_another_one() -> None:
    """A binary column has two values; a third has no place."""
    with pytest.raises(ValueError, match="column 'a' is binary, so unknown cannot be other"):
        Column(name="a", kind="binary", vocabulary=("no", "yes"), unknown="other")
