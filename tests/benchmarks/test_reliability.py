"""The reliability benchmark's own parts: what it counts as harm, and what it says of it."""

from __future__ import annotations

import copy
import signal
from pathlib import Path
from typing import Any

import pytest

from benchmarks.reliability.__main__ import PAGE
from benchmarks.reliability.callers import Callers
from benchmarks.reliability.parts import PARTS
from benchmarks.serving import page
from service.settings import Settings
from tests.server import Server

HEALTH = {"count": 9, "p50": 1.0, "p99": 2.0, "max": 3.0}
SCENE = {
    "count": 10,
    "outcomes": {"closed": 10},
    "seconds": 1.0,
    "before_mb": 100.0,
    "peak_mb": 100.1,
    "health_ms": HEALTH,
    "neighbours": {"right": 5},
}
POINT = {
    "offered": 5,
    "goodput_per_s": 100.0,
    "cpu_share": 1.0,
    "answered_ms": HEALTH,
    "rejected_ms": HEALTH,
    "health_ms": HEALTH,
    "late_ms": 0.1,
    "statuses": {"200": 5, "429": 6},
    "retry_after_s": [1],
}
RUN = {"operations": 27, "cases": 5_000, "failures": [], "errors": 0, "seconds": 1.0}
GOOD: dict[str, dict[str, Any]] = {
    "document": {"version": "1", "runs": [{**RUN, "seed": 1}, {**RUN, "seed": 2}]},
    "connections": dict.fromkeys(("idle", "slow headers", "slow uploads", "invalid in the last byte"), SCENE),
    "overload": {"capacity_per_s": 100.0, "points": [POINT]},
    "sigterm": {"rounds": 2, "outcomes": {"right": 9}, "exit": {"0": 2}, "seconds": 1.0},
    "sigkill": {
        "rounds": 2,
        "right": 9,
        "wrong": 0,
        "living": 0,
        "statuses": {},
        "broken": 3,
        "workers_broken": 2,
        "most_ms": 9.0,
    },
    "million": {
        "requests": 1_000_000,
        "wrong": 0,
        "refused": 0,
        "seconds": 100.0,
        "first_mb": 100.0,
        "warm_mb": 100.0,
        "last_mb": 100.0,
        "slope_mb": 0.1,
    },
}
HARM: list[tuple[str, tuple[str | int, ...], Any]] = [
    ("document", ("runs", 1, "cases"), 4_999),
    ("document", ("runs", 1, "failures"), [{"title": "Server error", "operations": ["POST /v1/encode"]}]),
    ("document", ("runs", 0, "errors"), 1),
    ("connections", ("idle", "peak_mb"), 2000.0),
    ("connections", ("slow headers", "outcomes"), {"closed": 9}),
    ("connections", ("slow uploads", "neighbours"), {"right": 5, "status 503": 1}),
    ("overload", ("points", 0, "goodput_per_s"), 89.0),
    ("overload", ("points", 0, "statuses"), {"200": 1, "500": 1}),
    ("overload", ("points", 0, "rejected_ms"), {**HEALTH, "p99": 51.0}),
    ("overload", ("points", 0, "health_ms"), {**HEALTH, "p99": 101.0}),
    ("sigterm", ("outcomes",), {"right": 9, "broken none": 1}),
    ("sigterm", ("exit",), {"0": 1, "1": 1}),
    ("sigkill", ("wrong",), 1),
    ("sigkill", ("living",), 1),
    ("sigkill", ("statuses",), {"status 503": 1}),
    ("sigkill", ("workers_broken",), 3),
    ("million", ("wrong",), 1),
    ("million", ("refused",), 1),
    ("million", ("slope_mb",), 1.1),
]


def told(part: str, result: dict[str, Any]) -> str:
    """What the page says of a result."""
    return next(one for one in PARTS if one.name == part).render(result)


@pytest.mark.parametrize("part", [part.name for part in PARTS])
def test_a_part_without_harm_meets_its_bars_and_has_a_place_on_the_page(part: str) -> None:
    """Else a bar is missed whatever the service does."""
    said = told(part, GOOD[part])
    assert "met" in said
    assert "missed" not in said
    assert said in page.replace(PAGE.read_text("utf-8"), f"reliability:{part}", said)


@pytest.mark.parametrize(("part", "where", "harm"), HARM, ids=[f"{part} {where[-1]}" for part, where, _ in HARM])
def test_harm_misses_a_bar(part: str, where: tuple[str | int, ...], harm: Any) -> None:
    """A bar that nothing misses proves nothing."""
    result = copy.deepcopy(GOOD[part])
    inside: Any = result
    for key in where[:-1]:
        inside = inside[key]
    inside[where[-1]] = harm
    assert "**missed**" in told(part, result)


def test_callers_check_answers_and_leave_when_they_are_told_to() -> None:
    """Against the service itself: all right, through its end."""
    with Server(Settings().bundle) as server:
        port = int(server.url.rpartition(":")[2])
        with Callers(port, 4, leave=True) as callers:
            server.client.get("/health/live")
            assert server.stop(signal.SIGTERM) == 0
        assert set(callers.outcomes) == {"right"}


def test_callers_tell_wrong_answers_and_broken_connections(table_bundle: Path) -> None:
    """A service of another model, which ends without a word."""
    with Server(table_bundle) as server:
        with Callers(int(server.url.rpartition(":")[2]), 2) as callers:
            for _ in range(3):
                server.client.get("/health/live")
            server.process.kill()
            server.process.wait(10)
        assert callers.outcomes.pop("status 422") > 0
        assert all(name.startswith("broken ") for name in callers.outcomes)
        assert callers.outcomes
