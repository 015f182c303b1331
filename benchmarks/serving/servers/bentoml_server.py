"""The encoder in BentoML: one worker, batches of up to 64 requests by its own adaptive batching."""

from __future__ import annotations

import os

import bentoml
import numpy as np
import onnxruntime


@bentoml.service(workers=1)
class Encoder:
    """One model, one route."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        model = os.environ["BENCH_MODEL"]
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=1000, route="/encode")
    def encode(self, inputs: np.ndarray) -> np.ndarray:
        """Codes, mu and logvar side by side: what is batched has one array."""
        return np.concatenate(self.session.run(None, {"x": np.asarray(inputs, np.float32)}), axis=1)
