"""
Where a fit runs: one device, or the processes that `torchrun` started, by Lightning Fabric.

No silent fallback: what was asked for is taken, or the error says why not. Knows nothing of models or data.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy

from training.errors import FitError

Device = Literal["auto", "cpu", "cuda"]

_LARGE = 2**22  # rows of a batch times parameters: below it, what oneDNN adds to a call is more than it takes off


def launch(device: Device = "cpu") -> Fabric:
    """
    This process's part of the fit: its device, its rank, and how gradients are averaged.

    Raises FitError for "cuda" where there is none, or fewer cards than processes on this machine.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces every process group
    elastic = TorchElasticEnvironment.detect()
    world, local = (int(os.environ[name]) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE")) if elastic else (1, 1)
    cards = torch.cuda.device_count()
    if device == "cuda" and not cards:
        built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
        raise FitError(f"--device cuda: PyTorch {torch.__version__} (built with {built}) sees no CUDA device here")
    taken = "cuda" if cards and device != "cpu" else "cpu"
    if taken == "cuda" and local > cards:
        raise FitError(f"--device {device}: {local} processes on this machine, but {cards} CUDA devices: one each")
    fabric = Fabric(
        accelerator=taken,
        devices=local,
        num_nodes=world // local,
        strategy=DDPStrategy(forward_sync_buffers=False, gradient_as_bucket_view=True) if world > 1 else "auto",
        plugins=[TorchElasticEnvironment() if elastic else LightningEnvironment()],
    )
    fabric.launch()
    return fabric


def leave() -> None:
    """End this process's part of the group, if there is one: nobody waits for it after that."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def described(fabric: Fabric) -> str:
    """The device and the processes, for people: "cpu, 2 threads", "2 processes, cuda (NVIDIA H200) each"."""
    cuda = fabric.device.type == "cuda"
    what = f"cuda ({torch.cuda.get_device_name(fabric.device)})" if cuda else f"cpu, {torch.get_num_threads()} threads"
    return what if fabric.world_size == 1 else f"{fabric.world_size} processes, {what} each"


@contextlib.contextmanager
def fast_matmul(fabric: Fabric, batch_size: int, parameters: int) -> Iterator[None]:
    """
    Float32 matrix products by oneDNN instead of MKL where that is faster and as exact: decision 6.

    PyTorch has one switch for it, which also permits products in bfloat16. oneDNN uses that permission on CPUs with
    AMX only, so there the switch stays off.
    """
    has = torch.cpu.get_capabilities() if fabric.device.type == "cpu" else {}
    exact = bool(has.get("avx512_f")) and not any(value for name, value in has.items() if name.startswith("amx"))
    settings: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # PyTorch hides it from type checkers
    before = settings.fp32_precision
    if exact and batch_size * parameters >= _LARGE:
        settings.fp32_precision = "bf16"
    try:
        yield
    finally:
        settings.fp32_precision = before
