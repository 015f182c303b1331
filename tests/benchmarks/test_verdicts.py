"""Bars and aims: what counts as met, and by how much one was missed."""

from __future__ import annotations

import pytest

from benchmarks.serving.bulk import multiples_past_parse
from benchmarks.serving.contenders import OURS
from benchmarks.serving.throughput import ratio
from benchmarks.serving.verdicts import BARS, render, verdict


@pytest.mark.parametrize(
    ("value", "bar", "aim", "more", "told"),
    [
        pytest.param(0.81, 0.6, 0.8, True, "met, and the aim", id="more is better"),
        pytest.param(0.60, 0.6, 0.8, True, "met; aim missed by 25%", id="the bar itself is met"),
        pytest.param(0.45, 0.6, 0.8, True, "**missed** by 25%", id="too little"),
        pytest.param(1.25, 1.6, 1.25, False, "met, and the aim", id="less is better"),
        pytest.param(1.5, 1.6, 1.25, False, "met; aim missed by 20%", id="between the two"),
        pytest.param(2.0, 1.6, 1.25, False, "**missed** by 25%", id="too much"),
        pytest.param(0.599, 0.6, 0.8, True, "**missed** by less than 1%", id="just not"),
        pytest.param(2.6, 2.5, None, True, "met", id="no aim"),
    ],
)
def test_a_verdict_says_what_was_met_and_by_how_much_the_rest_was_missed(
    value: float, bar: float, aim: float | None, more: bool, told: str
) -> None:
    """In percent of the bar or of the aim."""
    assert verdict(value, bar, aim, more) == told


def test_every_aim_is_harder_than_its_bar() -> None:
    """The other way round, a verdict would contradict itself."""
    assert all(one.aim is None or (one.aim > one.bar) == one.more for one in BARS)


def test_what_was_not_measured_is_said_to_be_so() -> None:
    """A missing peer, or a part that was not run, is no verdict."""
    assert render({}).count("not measured") == len(BARS)
    table = render({"start": {"seconds": [0.5, 0.7, 0.6]}})
    assert "0.60 (0.50 to 0.70) s" in table
    assert table.count("not measured") == len(BARS) - 1


def test_a_neighbour_of_a_json_bulk_caller_may_wait_for_one_parse_more() -> None:
    """Less than one parse is no wait at all, and not a negative one."""
    points = {"JSON bulk": [{"p99_ms": 25.0}, {"p99_ms": 12.0}]}
    result = {"points": points, "json_parse_ms": [20.0, 20.0], "batch_ms": [2.0, 2.0]}
    assert multiples_past_parse(result) == [2.5, 0.0]


def test_a_ratio_is_taken_within_each_round() -> None:
    """Where both sides met the same machine; of a server that was not there, there is none."""
    rounds = {OURS: {"json 1 64": [{"rate": 10.0}, {"rate": 30.0}]}, "mosec 1": {"json 1 64": [{"rate": 5.0}] * 2}}
    result = {"rounds": rounds, "in_process_rows_per_s": [100.0, 100.0]}
    assert ratio(result, "json 1 64", "rate", "mosec") == [2.0, 6.0]
    assert ratio(result, "json 1 64", "rate", "in process") == pytest.approx([0.1, 0.3])
    assert ratio(result, "json 1 64", "rate", "Triton") is None
