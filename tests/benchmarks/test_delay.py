"""What is said of a delay: only what it gained over none, and only where that is more than noise."""

from __future__ import annotations

from typing import Any

from benchmarks.serving.delay import gain


def model(*p99_ms: float, loads: tuple[str, ...] = ("8 connections", "30 % offered")) -> dict[str, Any]:
    """A result with these p99 for delays of 0, 1, 2 ... ms, under each of *loads*."""
    points = {str(delay): {"p99_ms": value, "requests_per_s": 100 / value} for delay, value in enumerate(p99_ms)}
    return {"points": dict.fromkeys(loads, points)}


def test_the_largest_gain_is_told_with_where_it_was() -> None:
    """Less time, more requests."""
    assert gain(model(10, 8, 5, 9), "p99_ms", False) == "50% less (8 connections, 2 ms)"
    assert gain(model(10, 8, 5, 9), "requests_per_s", True) == "100% more (8 connections, 2 ms)"


def test_a_small_gain_and_a_loss_are_no_gain() -> None:
    """One window each: that much may be noise."""
    assert gain(model(10, 9.5, 12), "p99_ms", False) == "nothing above 10%"
    assert gain(model(10, 30, 12), "p99_ms", False) == "nothing above 10%"


def test_the_rate_under_an_offered_load_is_no_gain() -> None:
    """It is what was offered."""
    assert gain(model(10, 5, loads=("30 % offered",)), "requests_per_s", True) == "nothing above 10%"
