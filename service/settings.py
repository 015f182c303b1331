"""
Every setting of the service, once: name, type, unit, default, help.

Each is an environment variable VAE_<NAME> and a flag --<name> of `vae-serve`; a flag wins. Frozen once read: only
`__main__` builds it from the environment, everything else takes it, or a number of it, as an argument.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """VAE_* in the environment, or --flags."""

    model_config = SettingsConfigDict(env_prefix="VAE_", frozen=True, extra="forbid", cli_kebab_case=True)

    bundle: Path = Field(
        Path("deploy/models/digits"),
        description="bundle directory (models/NAME/3: pinned) or model directory (models/NAME: newest one, watched)",
    )
    reload_interval_s: float = Field(
        2.0, ge=0, le=86400, description="seconds between two looks for a newer version; 0: only when asked"
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="TCP port to listen on; 0 takes a free one")
    workers: int = Field(
        1, ge=1, le=64, description="processes that answer on the port, each with the model and a queue of its own"
    )
    worker_timeout_s: float = Field(
        30.0,
        ge=2,
        le=86400,
        description="seconds after which one of several workers that gives no sign of life is killed and replaced",
    )
    device: Literal["auto", "cpu", "cuda", "tensorrt"] = Field(
        "auto",
        description="what runs the model; cuda and tensorrt refuse to start on less, auto falls back and says so",
    )
    threads: int = Field(
        0,
        ge=0,
        le=256,
        description="onnxruntime's CPU threads in a worker; 0: the CPUs of this process and its cgroup, shared out",
    )
    max_batch_rows: int = Field(
        256,
        ge=1,
        le=2**20,
        description="rows in one run of the model, a scored row counting once a draw; on a CPU up to four times as "
        "many of a longer request, while no other one comes",
    )
    max_batch_delay_ms: float = Field(
        0.0, ge=0, le=1000, description="milliseconds that the oldest call waits for others to join; 0: none"
    )
    max_queue_rows: int = Field(
        262144, ge=1, description="rows that may wait, a scored row counting once a draw; more is answered 429"
    )
    max_request_rows: int = Field(1024, ge=1, description="rows in one request; more is answered 413")
    max_body_bytes: int = Field(32 * 2**20, ge=1024, description="bytes in one request body; more is answered 413")
    max_bodies_bytes: int = Field(
        256 * 2**20, ge=1024, description="bytes in all the longer request bodies held at once; more is answered 429"
    )
    max_connections: int = Field(
        4096,
        ge=1,
        description="connections of one process; a newer one ends the one that has asked for nothing longest",
    )
    max_unread_bytes: int = Field(
        256 * 2**20,
        ge=2**20,
        description="bytes of replies that clients have not taken; beyond it, who has taken none for longest is reset",
    )
    request_timeout_s: float = Field(
        30.0, gt=0, le=86400, description="seconds from the request's headers to its answer, else 408 or 504"
    )
    keep_alive_s: int = Field(
        75,
        ge=1,
        description="seconds that a connection is kept on which no whole request comes, or no reply is read; longer "
        "than a proxy's",
    )
    api_keys: SecretStr = Field(
        SecretStr(""),
        description="API keys, each KEY or ROLE:KEY, ROLE use, metrics or admin, with blanks or commas between; none: "
        "nobody is asked",
    )
    api_keys_file: Annotated[Path | None, BeforeValidator(lambda given: given or None)] = Field(
        None, description="file of more API keys, with comments behind #; read again when it changes"
    )
    metrics_need_key: bool = Field(
        False, description="whether, where there are API keys, /metrics needs one too, of the role metrics or admin"
    )
    drain_delay_s: float = Field(
        0.5,
        ge=0,
        le=3600,
        description="seconds after SIGTERM in which /health/ready says 503 and requests are still answered",
    )
    drain_timeout_s: float = Field(
        30.0, gt=0, le=3600, description="seconds that requests in flight get to finish after that"
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(str.lower)] = Field(
        "info", description="least severity that is logged"
    )
