"""The Kubernetes example against the service: its probes, settings, times and selectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from service.server import LAST_REQUEST_S
from service.settings import Settings
from service.web import COLD_ROUTES

FILE = Path(__file__).parents[2] / "deploy/kubernetes/vae-serve.yml"


@pytest.fixture(scope="module")
def objects() -> dict[str, Any]:
    """The objects by kind."""
    return {document["kind"]: document for document in yaml.safe_load_all(FILE.read_text())}


@pytest.fixture(scope="module")
def pod(objects: dict[str, Any]) -> Any:
    """What the Deployment makes."""
    return objects["Deployment"]["spec"]["template"]["spec"]


def test_every_selector_finds_the_pods(objects: dict[str, Any]) -> None:
    """The Deployment's, the Service's and the disruption budget's."""
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert objects["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert objects["Service"]["spec"]["selector"] == labels
    assert objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert objects["PodDisruptionBudget"]["spec"]["minAvailable"] < objects["Deployment"]["spec"]["replicas"]


def test_the_settings_exist_and_the_pod_has_the_time_to_drain(pod: Any) -> None:
    """With what the example sets: the delay, the last requests, and the timeout for connections and for the queue."""
    (container,) = pod["containers"]
    given = {entry["name"]: entry["value"] for entry in container["env"]}
    settings = Settings.model_validate({name.removeprefix("VAE_").lower(): value for name, value in given.items()})
    assert all(name.startswith("VAE_") for name in given)
    longest = settings.drain_delay_s + LAST_REQUEST_S + 2 * settings.drain_timeout_s
    assert pod["terminationGracePeriodSeconds"] > longest


def test_the_probes_ask_what_the_service_answers(pod: Any) -> None:
    """Ready decides about traffic, live about a restart: a pod that drains is not ready, and lives."""
    (container,) = pod["containers"]
    asked = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert set(asked.values()) <= set(COLD_ROUTES)
    assert (asked["readinessProbe"], asked["livenessProbe"]) == ("/health/ready", "/health/live")
    assert container["ports"] == [{"name": "http", "containerPort": Settings().port}]


def test_the_pod_is_hardened(pod: Any) -> None:
    """As the restricted pod security standard wants it, and read-only beyond that."""
    (container,) = pod["containers"]
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(container["resources"]) == {"requests", "limits"}
    assert all(mount["readOnly"] for mount in container["volumeMounts"])
    assert pod["automountServiceAccountToken"] is False
