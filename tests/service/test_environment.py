"""Names in the environment that look like settings: those that are, those of Kubernetes, and mistakes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from service.environment import mistakes, service_links
from service.settings import Settings
from tests.server import Server

VAE = {  # what the kubelet sets for a Service called "vae" with two ports
    "VAE_SERVICE_HOST": "10.0.0.7",
    "VAE_SERVICE_PORT": "80",
    "VAE_SERVICE_PORT_HTTP": "80",
    "VAE_SERVICE_PORT_GRPC_WEB": "81",
    "VAE_PORT": "tcp://10.0.0.7:80",
    "VAE_PORT_80_TCP": "tcp://10.0.0.7:80",
    "VAE_PORT_80_TCP_PROTO": "tcp",
    "VAE_PORT_80_TCP_PORT": "80",
    "VAE_PORT_80_TCP_ADDR": "10.0.0.7",
    "VAE_PORT_81_UDP": "udp://10.0.0.7:81",
}
SERVE = {name.replace("VAE_", "VAE_SERVE_", 1): value for name, value in VAE.items()}


def test_what_kubernetes_says_of_services_is_told_from_settings() -> None:
    """Whatever their names begin with; other names stay what they are."""
    others = {
        "VAE_THREADS": "2",
        "VAE_PORTS": "3",
        "VAE_SERVES": "4",
        "HOME": "/",
        "KUBERNETES_SERVICE_HOST": "10.0.0.1",
    }
    assert service_links({**VAE, **SERVE, **others}) == {*VAE, *SERVE}
    assert mistakes({**VAE, **SERVE}, Settings.model_fields) == []
    assert service_links({"VAE_PORT": "tcp://10.0.0.7:80"}) == set(), "no Service is there that could have set it"


def test_a_port_that_a_pod_sets_itself_is_a_setting() -> None:
    """Beside a Service of that name, too: what the pod sets wins over what the kubelet would."""
    assert "VAE_PORT" not in service_links({**VAE, "VAE_PORT": "9000"})


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("VAE_MAX_QUEUE_ROW", "VAE_MAX_QUEUE_ROWS"),
        ("VAE_KEEPALIVE_S", "VAE_KEEP_ALIVE_S"),
        ("vae_worker", "VAE_WORKERS"),
        ("VAE_X", "VAE_"),
    ],
)
def test_a_misspelt_setting_is_told_with_the_nearest_right_one(name: str, nearest: str) -> None:
    """In capitals or not."""
    (told,) = mistakes({name: "1"}, Settings.model_fields)
    assert told.startswith(f"{name} in the environment is no setting; the nearest is {nearest}")


def test_every_setting_may_be_in_the_environment_in_any_case() -> None:
    """As pydantic reads them."""
    names = [f"VAE_{name.upper()}" for name in Settings.model_fields]
    assert mistakes(dict.fromkeys([*names, *map(str.lower, names)], ""), Settings.model_fields) == []


def start(environment: Mapping[str, str], *flags: str) -> subprocess.CompletedProcess[str]:
    """Start the service where it must not go on running."""
    command = [sys.executable, "-m", "service", *flags]
    env = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=env)


def test_a_misspelt_setting_stops_the_start() -> None:
    """A limit that is misspelt would be a limit that is not kept; two are told at once. --help is still there."""
    ended = start({"VAE_MAX_ROWS": "5", "VAE_TIMEOUT": "1"})
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert "VAE_MAX_ROWS in the environment is no setting" in line
    assert "VAE_TIMEOUT in the environment is no setting" in line
    assert start({"VAE_MAX_ROWS": "5"}, "--help").returncode == 0


def test_a_pod_beside_a_service_called_vae_starts_on_its_own_port(table_bundle: Path) -> None:
    """The address of the Service is not its port; that it was not read is in the log."""
    with Server(table_bundle, {**VAE, **SERVE}) as server:
        assert server.client.get("/health/ready").status_code == 200
        assert "VAE_PORT=tcp://10.0.0.7:80 is Kubernetes' word of a Service, and no setting" in "".join(server.log)
