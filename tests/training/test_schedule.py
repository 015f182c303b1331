"""The learning rate while a fit goes on."""

from __future__ import annotations

from itertools import groupby

import pytest

from tests.training.test_fit import model, rows
from training.fit import FitOptions, fit
from training.schedule import Schedule, share
from training.validation import Record


def test_the_ladder_is_that_of_burda() -> None:
    """3^i epochs at 10^(-i/7) of the first rate, i = 0 to 7: 3,280 epochs, the last ones at a tenth."""
    rates = [share("ladder", epoch, 0.5) for epoch in range(3280)]
    rungs = [(rate, len(list(group))) for rate, group in groupby(rates)]
    assert [length for _, length in rungs] == [1, 3, 9, 27, 81, 243, 729, 2187]
    assert [rate for rate, _ in rungs] == pytest.approx([10 ** (-i / 7) for i in range(8)])
    assert share("ladder", 3.99, 0.5) == rates[3]


def test_a_cosine_falls_to_two_percent_and_a_constant_does_not() -> None:
    """Half of the way down in the middle; beyond the end it stays where it ended."""
    assert [share("cosine", 7, done) for done in (0, 0.5, 1, 1.2)] == pytest.approx([1, 0.51, 0.02, 0.02])
    assert share("constant", 7, 1) == 1


@pytest.mark.parametrize("schedule", ["cosine", "constant", "ladder"])
def test_the_log_has_the_rate_of_the_schedule(schedule: Schedule) -> None:
    """That of the last step of each epoch."""
    x, records = rows(100), list[Record]()
    options = FitOptions(epochs=5, batch_size=25, learning_rate=1e-2, schedule=schedule)
    fit(model(x), x, x, options, log=records.append)
    expected = [share(schedule, k + 0.75, (k + 0.75) / 5) for k in range(5)]
    assert [record["learning_rate"] / 1e-2 for record in records] == pytest.approx(expected)


def test_a_cosine_is_down_when_the_minutes_end() -> None:
    """Of a million epochs a second is next to nothing: the share of the minutes counts, as it was before the epoch."""
    x, records = rows(100), list[Record]()
    result = fit(model(x), x, x, FitOptions(epochs=10**6, minutes=1 / 60, patience=10**6), log=records.append)
    assert result.stopped == "time"
    spent = 0.0
    for record in records:
        assert record["learning_rate"] == pytest.approx(2e-3 * share("cosine", 0, spent), rel=1e-4)
        spent += record["seconds"]
    assert records[-1]["learning_rate"] < 1e-4
