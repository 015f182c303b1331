"""The benchmark of explanations: values planted as is said, ranks, and a table taken the whole way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.explanations import KINDS, METHODS, PLANTED, Ranks, main, of_rows, planted
from training.data import from_arrays
from training.parts import Dealing, deal

Floats = NDArray[np.float64]


def rows(n: int, seed: int = 0) -> Floats:
    """Three columns that hang together, one that is alone, and one that is constant."""
    generator = np.random.default_rng(seed)
    load = generator.normal(size=n)
    noise = generator.normal(size=(n, 4))
    together = load[:, None] * [100, 1, 0.01] + noise[:, :3] * [5, 0.05, 0.0005]
    return np.concatenate([together, noise[:, 3:], np.full((n, 1), 7.0)], axis=1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_row_is_a_row_with_another_value_in_one_column_that_varies(kind: str) -> None:
    """Beyond all training rows, far from its own, or any other that the column has."""
    train, x = rows(400), rows(100, seed=1)
    found = planted(train, x, kind, np.random.default_rng(2))
    assert found.x.shape == (PLANTED, 5)
    assert set(found.column.tolist()) == {0, 1, 2, 3}
    places = np.argsort(np.argsort(x, axis=0), axis=0) / len(x)
    for row, c in zip(found.x, found.column.tolist(), strict=True):
        own = int(np.argmax((x == row).sum(axis=1)))
        assert np.flatnonzero(row != x[own]).tolist() == [c]
        if kind == "outside":
            low, high, spread = train[:, c].min(), train[:, c].max(), train[:, c].std()
            assert np.isclose(row[c], [low - spread, high + spread]).any()
        else:
            other = int(np.flatnonzero(x[:, c] == row[c])[0])
            away = abs(places[own, c] - places[other, c])
            assert away >= 0.5 - 1e-9 if kind == "far" else away > 0


def test_a_rank_is_one_more_than_the_columns_before_and_equal_ones_share_theirs() -> None:
    """A planted column that is as surprising as another is not first."""
    surprise = np.array([[3.0, 1.0, 2.0, 0.0], [0.0, 1.0, 2.0, 3.0], [5.0, 5.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    found = Ranks.of(surprise, np.array([0, 0, 0, 0]))
    assert found.mean == pytest.approx((1 + 4 + 1.5 + 2.5) / 4)
    assert (found.first, found.three) == (0.25, 0.75)


def test_references_that_know_relations_find_a_swapped_value_and_a_z_score_does_not() -> None:
    """Of the three columns that hang together; each of them finds one that is far out."""
    parts = deal(from_arrays("x", {"X": rows(2000)}), Dealing())
    swapped = planted(np.asarray(parts.train, np.float64), rows(500, seed=1), "swap", np.random.default_rng(2))
    by_method = {name: Ranks.of(s, swapped.column) for name, s in of_rows(parts, 1, swapped.x).items()}
    assert by_method["conditional"].first > by_method["z-score"].first + 0.1
    assert by_method["kNN"].first > by_method["z-score"].first
    x = rows(3, seed=1)
    x[[0, 1, 2], [0, 1, 3]] = [1000.0, 10.0, 10.0]
    for name, surprise in of_rows(parts, 1, x).items():
        assert surprise.argmax(axis=1).tolist() == [0, 1, 3], name
    nearest = of_rows(parts, 1, x)["kNN"][2, 3]
    u, seen = x[2, 3] / parts.train[:, 3].std(), parts.train[:, 3] / parts.train[:, 3].std()
    assert nearest == pytest.approx(np.square(u - seen).min(), rel=0.5)  # the other columns cost little


def test_a_table_is_fitted_planted_and_printed_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """By the command; a second run takes what the first one left."""
    x = np.concatenate([rows(200), rows(10, seed=1) * 10])
    data, output = tmp_path / "data", tmp_path / "output"
    data.mkdir()
    np.savez(data / "1_own.npz", X=x, y=np.repeat([0, 1], [200, 10]))
    page = tmp_path / "page.md"
    page.write_text("By hand.\n<!-- begin explanations -->\n<!-- end explanations -->\n")
    command = ["--data", str(data), "--output", str(output), "--processes=1", "--page", str(page)]
    small = ["--epochs=1", "--hidden=8", "--likelihood=gaussian", "--prior=standard-normal", "--folds=1"]
    assert main([*command, "--", *small]) == 0
    printed = capfd.readouterr().out
    for kind in KINDS:
        assert f"| {kind} | columns | unseen rows | {' | '.join(METHODS)} |" in printed
    assert printed.count("| 1_own | 5 | 100 | ") == 3
    assert page.read_text() == f"By hand.\n<!-- begin explanations -->\n{printed}<!-- end explanations -->\n"
    assert (output / "1_own" / "1").is_dir()
    (output / "1_own" / "rows.npz").unlink()  # what would be read to measure again
    assert main(command) == 0
    assert capfd.readouterr().out == printed


def test_without_data_nothing_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And that is said."""
    assert main(["--data", str(tmp_path)]) == 0
    assert "nothing is measured" in capsys.readouterr().err
