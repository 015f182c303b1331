"""
What is served: one bundle with its operations, its rows and its name, and how it is made of what was loaded.

Nothing of it changes: a newer version is another one. Knows the model, and who hears of its batches; nothing of
requests, JSON or HTTP.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from service.bundle import REPORT
from service.codec.rows import RowSpec
from service.codec.table import Table
from service.drift import Drift
from service.engine import Engine
from service.errors import NotReady, TooLarge, counted
from service.loader import Loaded
from service.manifest import Operation
from service.metrics import Metrics
from service.settings import Settings
from service.statistics import Statistics
from service.vae import VAE, Work

MAX_INLINE_S = 0.0005  # for so long nobody's request is read and nobody's reply written
LONE_BATCHES = 4  # longer runs are no faster (decision 11)


class Rows(NamedTuple):
    """The fields of rows that a request may have, as one wire format names them."""

    inputs: RowSpec
    latents: RowSpec


class Served:
    """One bundle as it is served: its operations, its rows, its name in every reply."""

    def __init__(self, vae: VAE, max_request_rows: int) -> None:
        manifest = vae.bundle.manifest
        self.vae = vae
        self.manifest = manifest
        self.rows = Rows(RowSpec.inputs(manifest), RowSpec.latents(manifest))
        self.table = self.rows.inputs.table  # what rows are written by in replies
        if manifest.inputs.windows is not None:  # whose rows are made of the readings that are sent
            self.table = Table(manifest.inputs.columns or ())
        self.drift = Drift.of(vae.bundle)
        self.max_rows = max_request_rows
        self.model = {"name": manifest.name, "version": manifest.version, "bundle_id": vae.bundle.bundle_id}

    @classmethod
    def of(cls, loaded: Loaded, settings: Settings, metrics: Metrics, statistics: Statistics) -> Served:
        """
        What was loaded, with a batcher of its own, whose batches *metrics* and *statistics* hear of.

        To be called inside a running event loop. Raises BundleError for a bundle of a later service.
        """
        on_gpu = loaded.engine.placement.on_gpu
        vae = VAE(
            loaded.bundle,
            loaded.engine,
            _Observer(metrics, statistics, loaded.engine),
            max_batch_rows=settings.max_batch_rows,
            max_queue_rows=settings.max_queue_rows,
            max_batch_delay_s=settings.max_batch_delay_ms / 1000,
            max_inline_s=0.0 if on_gpu else MAX_INLINE_S,
            # on a CPU half a batch costs half its time, on a GPU nearly all of it
            max_chunk_rows=settings.max_batch_rows if on_gpu else max(1, settings.max_batch_rows // 2),
            # a GPU has been warmed for sizes up to a batch
            max_lone_rows=settings.max_batch_rows * (1 if on_gpu else LONE_BATCHES),
        )
        return cls(vae, settings.max_request_rows)

    @property
    def report(self) -> bytes | None:
        """The bundle's report page, where it has one."""
        return self.vae.bundle.report.get(REPORT)

    def described(self) -> dict[str, Any]:
        """All that a client may want to know of it: the manifest, and what runs it."""
        placement = self.vae.placement
        return {
            "bundle_id": self.vae.bundle.bundle_id,
            "manifest": self.manifest.model_dump(mode="json"),
            "execution": {
                "requested": placement.requested,
                "provider": placement.actual,
                "fell_back": placement.fell_back,
                "threads": placement.threads,
            },
        }

    def check_rows(self, field: str, rows: int, told: str) -> None:
        """Raise TooLarge when the request asks for more *rows* than one may have; *told* says how it came to that."""
        if rows > self.max_rows:
            most = counted(self.max_rows, "row")
            raise TooLarge(f"{told}; one request may have {most}", field=field, limit=self.max_rows, value=rows)


class Service(Protocol):
    """The process that serves, as its endpoints see it."""

    metrics: Metrics

    @property
    def served(self) -> Served | None:
        """What is served; None before it is opened."""

    @property
    def ready(self) -> bool:
        """Whether new requests should be sent here."""


def serving(service: Service, op: Operation) -> Served:
    """What is served, for one request for *op*. Raises NotReady, Unsupported or Overloaded."""
    if service.served is None:
        raise NotReady("no model is ready yet")
    service.served.vae.admit(op)
    return service.served


class _Observer:
    """Tells the metrics and the statistics what the batcher did."""

    def __init__(self, metrics: Metrics, statistics: Statistics, engine: Engine) -> None:
        self._metrics = metrics
        self._statistics = statistics
        self._engine = engine

    def ran(self, key: Work, rows: int, seconds: float) -> None:
        self._metrics.batch(key.op, rows, self._engine.padding(rows), seconds)
        self._statistics.ran(key.op, rows, seconds)
