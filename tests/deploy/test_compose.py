"""The compose files: safe as they stand, about things that exist, and understood by a docker-compose where one is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.server import LAST_REQUEST_S
from service.settings import Settings

ROOT = Path(__file__).parents[2]
FIRST, SECOND = "docker-compose.yml", "docker-compose.two-models.yml"
SETTINGS = {f"VAE_{name.upper()}" for name in Settings.model_fields}


def variables() -> dict[str, str]:
    """What .env sets."""
    lines = (ROOT / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def read(name: str, env: dict[str, str]) -> Any:
    """A compose file with ${NAME:-default} as *env* has it."""
    text = (ROOT / name).read_text()
    return yaml.safe_load(re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: env.get(found[1]) or found[2], text))


def services(name: str) -> dict[str, dict[str, Any]]:
    """The services of *name*; the second file's over the first's, as compose lays them."""
    found: dict[str, dict[str, Any]] = read(FIRST, variables())["services"]
    if name == SECOND:
        for service, changes in read(SECOND, variables())["services"].items():
            found[service] = {**found.get(service, {}), **changes}
    return found


@pytest.mark.parametrize("name", [FIRST, SECOND])
def test_every_service_is_hardened(name: str) -> None:
    """Read-only, without capabilities or new privileges, within limits, logging within bounds."""
    for service, keys in services(name).items():
        assert keys["read_only"] is True, service
        assert keys["cap_drop"] == ["ALL"], service
        assert keys["security_opt"] == ["no-new-privileges:true"], service
        assert {"cpus", "mem_limit", "pids_limit", "restart"} <= set(keys), service
        assert set(keys["logging"]["options"]) == {"max-size", "max-file"}, service
        assert not set(keys) & {"privileged", "cap_add", "user", "network_mode", "pid"}, service


@pytest.mark.parametrize("name", [FIRST, SECOND])
@pytest.mark.parametrize("env", [{}, variables()], ids=["without .env", "with .env"])
def test_every_port_is_published_on_the_loopback_interface_alone(name: str, env: dict[str, str]) -> None:
    """Nothing here asks who is there, so nothing is open to others until PUBLISH_ON says so; no port twice."""
    ports = [port for keys in read(name, env)["services"].values() for port in keys.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports), ports
    hosts = [
        port.split(":")[1]
        for service, keys in services(name).items()
        for port in keys.get("ports", ())
        if service != "vae-serve-gpu"  # never beside vae-serve: one profile or the other
    ]
    assert len(set(hosts)) == len(hosts)


@pytest.mark.parametrize("name", [FIRST, SECOND])
def test_everything_mounted_is_in_the_repository_and_read_only(name: str) -> None:
    """A path that is missing would be made by the engine, as an empty directory of root's."""
    volumes = set(read(FIRST, {})["volumes"])
    for service, keys in services(name).items():
        for mount in keys.get("volumes", ()):
            source, target, *mode = mount.split(":")
            assert source in volumes or ((ROOT / source).exists() and mode == ["ro"]), f"{service}: {mount}"
            assert target.startswith("/")


@pytest.mark.parametrize("name", [FIRST, SECOND])
def test_the_commands_name_files_that_are_mounted(name: str) -> None:
    """Prometheus' configuration, seen from inside."""
    prometheus = services(name)["prometheus"]
    config = next(word.split("=")[1] for word in prometheus["command"] if word.startswith("--config.file="))
    assert (ROOT / "deploy/prometheus" / Path(config).relative_to("/etc/prometheus")).exists()


def test_the_scrape_targets_are_services_of_the_compose_files() -> None:
    """By name and port; the GPU service answers to the CPU service's name."""
    for name, configuration in ((FIRST, "prometheus.yml"), (SECOND, "prometheus.two-models.yml")):
        scraped = yaml.safe_load((ROOT / "deploy/prometheus" / configuration).read_text())["scrape_configs"]
        targets = {target for job in scraped for group in job["static_configs"] for target in group["targets"]}
        served = {f"{service}:8000" for service in services(name) if service.startswith("vae-serve")}
        assert targets == served - {"vae-serve-gpu:8000"}
    assert services(FIRST)["vae-serve-gpu"]["networks"]["default"]["aliases"] == ["vae-serve"]


@pytest.mark.parametrize("name", [FIRST, SECOND])
def test_the_time_to_stop_is_longer_than_the_service_takes(name: str) -> None:
    """The drain delay, the last requests, and the drain timeout for connections and then for the queue."""
    settings = Settings()
    longest = settings.drain_delay_s + LAST_REQUEST_S + 2 * settings.drain_timeout_s
    for service, keys in services(name).items():
        if service.startswith("vae-serve"):
            assert int(keys["stop_grace_period"].removesuffix("s")) > longest, service


@pytest.mark.parametrize("name", [FIRST, SECOND, ".env", "Dockerfile", "deploy/entrypoint.sh", "deploy/healthcheck.py"])
def test_every_variable_of_the_service_is_a_setting(name: str) -> None:
    """A misspelt one would keep the service from starting."""
    assert set(re.findall(r"\bVAE_[A-Z_]+", (ROOT / name).read_text())) <= SETTINGS


def test_each_image_tag_is_pinned_and_each_service_image_is_built_here() -> None:
    """No `latest`, and the profile builds what it runs."""
    for service, keys in services(SECOND).items():
        tag = keys["image"].partition(":")[2]
        assert tag not in ("", "latest"), service
        if "build" in keys:
            assert keys["image"] == f"vae-serve:{keys['build']['args']['EXTRA']}"
    assert variables()["COMPOSE_PROFILES"] == "cpu"


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="needs docker-compose (Debian's package)")
@pytest.mark.parametrize("profile", ["cpu", "gpu"])
@pytest.mark.parametrize("files", [(FIRST,), (FIRST, SECOND)], ids=["one model", "two models"])
def test_docker_compose_understands_the_files(files: tuple[str, ...], profile: str) -> None:
    """Parsed, merged and checked by the program itself; nothing is started."""
    flags = [word for name in files for word in ("--file", name)]
    ran = subprocess.run(
        ["docker-compose", *flags, "config"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "COMPOSE_PROFILES": profile},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    seen = yaml.safe_load(ran.stdout)["services"]
    assert set(seen) == set(services(files[-1]))
    assert seen["vae-serve"]["environment"]["VAE_BUNDLE"] == "/models/digits"
    assert seen["prometheus"]["read_only"] is True


@pytest.mark.parametrize("name", [FIRST, SECOND])
def test_workers_and_keys_reach_every_service_of_ours(name: str) -> None:
    """One worker and no key unless .env or the shell say otherwise, which an empty setting means too."""
    for service, keys in services(name).items():
        if service.startswith("vae-serve"):
            given = {name.removeprefix("VAE_").lower(): value for name, value in keys["environment"].items()}
            settings = Settings.model_validate({name: "" if value is None else value for name, value in given.items()})
            assert (settings.workers, settings.api_keys.get_secret_value()) == (1, ""), service
