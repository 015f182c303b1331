"""A real Prometheus, with the configuration that is shipped, scrapes the real service under load."""

from __future__ import annotations

import json
import math
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.api import ROUTES
from service.metrics import Metrics
from tests.deploy.dashboard import marks, panels, shown, targets, variables
from tests.deploy.prometheus import SCRAPE_S, Prometheus, needs, promtool, until
from tests.deploy.promql import SAMPLES
from tests.server import Server

ROOT = Path(__file__).parents[2]
SCORE, DIGITS = (json.loads((ROOT / f"deploy/examples/{name}.json").read_text()) for name in ("score", "two-digits"))
CALLS: tuple[tuple[str, dict[str, Any], int], ...] = (
    ("/v1/encode", DIGITS, 200),
    ("/v1/decode", {"latents": [[0.0] * 16]}, 200),
    ("/v1/sample", {"count": 2, "seed": 7}, 200),
    ("/v1/interpolate", DIGITS | {"steps": 3}, 200),
    ("/v1/reconstruct", DIGITS, 200),
    ("/v1/anomaly-score", SCORE, 200),
    ("/v1/encode", {"inputs": [[1.0, 2.0]]}, 422),
    ("/v1/nothing", {}, 404),
    ("/v1/sample", {"count": 1025}, 413),
)

pytestmark = needs("prometheus")


@dataclass(frozen=True)
class Watched:
    """Prometheus has watched a service under load: *instance* up to the time *at*, and *dead*, where nothing is."""

    prometheus: Prometheus
    instance: str
    dead: str
    at: float

    def filled(self, expr: str) -> str:
        """The query *expr* of the dashboard as Grafana sends it, with this service chosen."""
        for name, value in (
            ("$__rate_interval", f"{4 * SCRAPE_S}s"),  # what Grafana makes of the data source's interval
            ("$__range", "1h"),
            ("$model", "digits"),
            ("$instance", self.instance.replace(".", "\\\\.")),  # a regular expression in a string
        ):
            expr = expr.replace(name, value)
        assert "$" not in expr, f"a variable that Grafana does not know: {expr}"
        return expr

    def values(self, expr: str) -> list[float]:
        """The values of *expr* at the end of the load; NaN, which Grafana does not draw, is none."""
        return [value for _, value in self.prometheus.query(expr, self.at) if not math.isnan(value)]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """The shipped example on the CPU, called for six scrapes; beside it a port that is taken and answers nobody."""
    assert {path for path, _, _ in CALLS} >= {route.path for route in ROUTES}
    with socket.socket() as silent, Server(ROOT / "deploy/models/digits", device="cpu") as server:
        silent.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{silent.getsockname()[1]}"
        instance = server.url.removeprefix("http://")
        with Prometheus(tmp_path_factory.mktemp("prometheus"), [instance, dead]) as prometheus:
            up = f'up{{instance="{instance}"}}'
            enough = f"sum_over_time({up}[1m]) >= 6 and sum_over_time({up}[{4 * SCRAPE_S}s]) >= 3"

            def called_for_six_scrapes() -> bool:
                for path, body, status in CALLS:
                    assert server.client.post(path, json=body).status_code == status
                return bool(prometheus.query(enough, time.time()))

            until(called_for_six_scrapes)
            yield Watched(prometheus, instance, dead, time.time())


def test_the_service_is_up(watched: Watched) -> None:
    """And Prometheus can tell it from one that is not."""
    scraped = {
        labels["instance"]: value for labels, value in watched.prometheus.query('up{job="vae-serve"}', watched.at)
    }
    assert scraped == {watched.instance: 1, watched.dead: 0}
    errors = {t["scrapeUrl"]: t["lastError"] for t in watched.prometheus.get("targets")["activeTargets"]}
    assert errors[f"http://{watched.instance}/metrics"] == ""


@needs("promtool")
def test_the_exposition_passes_the_lint_of_prometheus(watched: Watched) -> None:
    """Names, units, types and help texts by its conventions."""
    assert promtool("check", "metrics", stdin=httpx.get(f"http://{watched.instance}/metrics").text) == ""


def test_every_metric_of_the_service_arrives_with_its_type_and_meaning(watched: Watched) -> None:
    """Under a load of every operation and some errors none is without a sample."""
    metrics = Metrics()
    metrics.watch_queue(dict)
    families = [family for family in metrics.registry.collect() if family.name.startswith("vae_")]
    known = watched.prometheus.get("targets/metadata", match_target='{job="vae-serve"}')
    told = {entry["metric"]: (entry["type"], entry["help"]) for entry in known if entry["metric"].startswith("vae_")}
    assert told == {
        family.name + ("_total" if family.type == "counter" else ""): (family.type, family.documentation)
        for family in families
    }
    for name in SAMPLES:
        if name.startswith("vae_"):
            assert watched.values(f'{name}{{job="vae-serve"}}'), f"{name} has no sample"


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_every_query_of_the_dashboard_returns_data(watched: Watched, panel: dict[str, Any]) -> None:
    """An empty panel looks like a healthy one. Queries are checked here; what Grafana draws of them is not."""
    for target in targets(panel):
        labels = [labels for labels, value in watched.prometheus.query(watched.filled(target["expr"]), watched.at)]
        assert watched.values(watched.filled(target["expr"])), target["expr"]
        for name in shown(target["legendFormat"]):
            assert all(name in found for found in labels), f"{target['expr']} gives no label {name}"


def test_the_variables_of_the_dashboard_offer_the_model_and_its_instance(watched: Watched) -> None:
    """Their queries are Grafana's label_values(series, label), which asks Prometheus for series."""
    offered = {}
    for name, query in variables().items():
        found = re.fullmatch(r"label_values\((.*), (\w+)\)", query)
        assert found is not None, query
        series = watched.prometheus.get("series", **{"match[]": watched.filled(found[1]), "start": watched.at - 60})
        offered[name] = {one[found[2]] for one in series}
    assert offered == {"model": {"digits"}, "instance": {watched.instance}}


def test_the_annotations_of_the_dashboard_are_queries_that_prometheus_understands(watched: Watched) -> None:
    """The start of the process is one; that an alert fires is not, here."""
    found = {name: len(watched.values(watched.filled(expr))) for name, expr in marks().items()}
    assert found == {"Starts": 1, "Alerts": 0}


def test_every_rule_can_be_evaluated(watched: Watched) -> None:
    """Prometheus keeps an error of its own for each."""
    rules = [rule for group in watched.prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 15
    assert {(rule["health"], rule.get("lastError", "")) for rule in rules} == {("ok", "")}
    for rule in rules:
        if rule["type"] == "recording":
            assert watched.values(rule["query"]), f"{rule['name']} gives nothing, and its alerts with it"


def test_no_alert_is_raised_but_that_a_service_is_down(watched: Watched) -> None:
    """Not even a pending one: refusals of bad requests, and two odd rows among few, are no reason for any."""
    raised = {
        (alert["labels"]["alertname"], alert["labels"]["instance"])
        for alert in watched.prometheus.get("alerts")["alerts"]
    }
    assert raised == {("VaeServiceDown", watched.dead)}


def queries_of_the_docs() -> list[str]:
    """Each PromQL block of docs/monitoring.md."""
    return re.findall(r"```promql\n(.*?)```", (ROOT / "docs/monitoring.md").read_text(), re.S)


@pytest.mark.parametrize("expr", queries_of_the_docs())
def test_every_query_of_the_docs_returns_data(watched: Watched, expr: str) -> None:
    """They are there to be pasted."""
    assert watched.values(expr)
