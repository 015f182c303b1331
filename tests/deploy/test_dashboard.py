"""The dashboard fits the service: it names what there is, and leaves nothing out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.dashboard import DASHBOARD, marks, panels, shown, targets, variables
from tests.deploy.promql import SAMPLES, labels_in, metrics_in

DEPLOY = Path(__file__).parents[2] / "deploy"
OF_PROMETHEUS = {"up", "ALERTS"}
LEFT_OUT: dict[str, str] = {}
"""Metrics of the service that are not on the dashboard, and why."""

LABELS = {
    *("job", "instance", "le", "alertstate", "generation"),
    *("route", "code", "stage", "op", "reason", "name", "version", "requested", "actual", "device", "result"),
}
TITLED = pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])


def queries() -> list[str]:
    """Every query of the dashboard."""
    return [target["expr"] for panel in panels() for target in targets(panel)] + list(marks().values())


def test_the_reader_of_promql_sees_every_metric_and_label() -> None:
    """What it does not see is not checked."""
    expr = 'sum by (op, le) (rate(a_total{x=~"b", y!="c"}[$__rate_interval])) / on () group_left (d) e:f{} or vector(0)'
    assert metrics_in(expr) == {"a_total", "e:f"}
    assert labels_in(expr) == {"op", "le", "x", "y", "d"}
    assert metrics_in("time() - max(a and b offset 5m)") == {"a", "b"}


@pytest.mark.parametrize("expr", queries())
def test_every_query_names_metrics_and_labels_that_exist(expr: str) -> None:
    """A renamed metric leaves an empty panel, which looks like a quiet service."""
    assert metrics_in(expr) <= SAMPLES.keys() | OF_PROMETHEUS
    assert labels_in(expr) <= LABELS


def test_every_metric_of_the_service_is_on_the_dashboard() -> None:
    """Or is left out for a reason."""
    seen = {SAMPLES[name].name for expr in queries() for name in metrics_in(expr) - OF_PROMETHEUS}
    ours = {family.name for family in SAMPLES.values() if family.name.startswith("vae_")}
    assert seen & ours == ours - LEFT_OUT.keys()
    assert not seen & LEFT_OUT.keys()


@TITLED
def test_every_panel_says_what_it_shows_and_in_which_unit(panel: dict[str, Any]) -> None:
    """Titles are short; the description is behind the i in the panel's corner."""
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    for target in targets(panel):
        assert panel["type"] != "timeseries" or target["legendFormat"]
        assert shown(target["legendFormat"]) <= LABELS | {"instance"}


@TITLED
def test_every_panel_looks_at_the_chosen_instances_over_grafanas_own_interval(panel: dict[str, Any]) -> None:
    """A fixed one is too short for a slower scrape, or too coarse for a short range; but for the hour of the alerts."""
    for target in targets(panel):
        assert 'instance=~"$instance"' in target["expr"]
        for chunk in target["expr"].split("[")[1:]:
            assert chunk.split("]")[0] in ("$__rate_interval", "$__range", "1h")


def test_panels_neither_overlap_nor_share_an_id() -> None:
    """24 columns wide."""
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_everything_asks_the_data_source_that_is_provisioned() -> None:
    """By its uid; and Grafana knows how often Prometheus scrapes, which $__rate_interval needs."""
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    wanted = {"type": source["type"], "uid": source["uid"]}
    asking = [*panels(), *[target for panel in panels() for target in targets(panel)]]
    asking += DASHBOARD["templating"]["list"] + DASHBOARD["annotations"]["list"]
    assert all(one["datasource"] == wanted for one in asking)
    scraped = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scraped


def test_the_variables_choose_a_model_and_its_instances() -> None:
    """All, when nobody chooses; and All means those of the model, not whatever else Prometheus scrapes."""
    assert list(variables()) == ["model", "instance"]
    for variable in DASHBOARD["templating"]["list"]:
        assert variable["includeAll"]
        assert variable["multi"]
        assert "allValue" not in variable
