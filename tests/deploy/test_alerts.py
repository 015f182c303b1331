"""The alerts: they fire when they should, and each says what to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.errors import ServiceError
from tests.deploy.dashboard import panels, targets
from tests.deploy.prometheus import needs, promtool
from tests.deploy.promql import SAMPLES, metrics_in

ROOT = Path(__file__).parents[2]
RULES = [
    rule
    for group in yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
UNITS = (ROOT / "tests/deploy/alerts.test.yml").read_text()
MONITORING = (ROOT / "docs/monitoring.md").read_text()


@needs("promtool")
def test_prometheus_accepts_the_configuration_and_the_rules() -> None:
    """As `promtool check` reads them."""
    assert f"{len(RULES)} rules found" in promtool("check", "config", "deploy/prometheus/prometheus.yml")
    promtool("check", "rules", "--lint=all", "--lint-fatal", "deploy/prometheus/alerts.yml")


@needs("promtool")
def test_every_alert_fires_when_it_should_and_only_then() -> None:
    """Series over minutes and hours, replayed by promtool: see alerts.test.yml."""
    promtool("test", "rules", "tests/deploy/alerts.test.yml")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule.get("record"))
def test_every_rule_names_metrics_that_exist(rule: dict[str, Any]) -> None:
    """An alert on a metric that was renamed is quiet for ever."""
    assert metrics_in(rule["expr"]) <= SAMPLES.keys() | RECORDED | {"up"}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_has_a_severity_a_unit_test_and_a_runbook(alert: dict[str, Any]) -> None:
    """Somebody who is woken by it needs to know what it means and what to do."""
    assert alert["labels"] in ({"severity": "critical"}, {"severity": "warning"})
    assert set(alert["annotations"]) == {"summary", "description", "runbook"}
    assert "{{ $labels.instance }}" in alert["annotations"]["summary"]
    assert alert["annotations"]["runbook"] == f"docs/monitoring.md#{alert['alert'].lower()}"
    assert f'alertname="{alert["alert"]}"' in UNITS
    assert re.search(rf"^### {alert['alert']}$\n\n\S.{{60,}}", MONITORING, re.M)


def test_the_runbooks_are_of_alerts_that_exist() -> None:
    """And nothing else is called an alert."""
    assert re.findall(r"^### (Vae\w+)$", MONITORING, re.M) == [alert["alert"] for alert in ALERTS]


def test_the_errors_that_are_counted_as_failures_are_those_with_a_5xx() -> None:
    """A new error of ours must not go unseen, and a caller's mistake must wake nobody."""
    status = {error.type: error.status for error in ServiceError.__subclasses__()}
    ours = {reason for reason in status if status[reason] >= 500}
    exprs = [rule["expr"] for rule in RULES] + [target["expr"] for panel in panels() for target in targets(panel)]
    named = [set(reasons.split("|")) for expr in exprs for reasons in re.findall(r'reason[=!]~"([^"]*)"', expr)]
    assert len(named) >= 4
    assert all(reasons == ours for reasons in named)
    single = {reason for expr in exprs for reason in re.findall(r'reason="([^"]*)"', expr)}
    assert single <= status.keys()
