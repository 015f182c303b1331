"""The encoder in mosec: one worker, batches of up to 64 requests, 1 ms for others to join, which is its least."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnxruntime
from mosec import Server, Worker


class Encoder(Worker):
    """Batches of decoded JSON in, one result each out."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        model = os.environ["BENCH_MODEL"]
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def forward(self, data: list[Any]) -> list[Any]:
        """The codes of each request's rows."""
        parts = [np.asarray(request["inputs"], np.float32) for request in data]
        mu, logvar = self.session.run(None, {"x": np.concatenate(parts)})
        ends = np.cumsum([len(part) for part in parts])[:-1]
        pairs = zip(np.split(mu, ends), np.split(logvar, ends), strict=True)
        return [{"mu": a.tolist(), "logvar": b.tolist()} for a, b in pairs]


if __name__ == "__main__":
    server = Server()
    server.append_worker(Encoder, num=1, max_batch_size=64, max_wait_time=1)
    server.run()
