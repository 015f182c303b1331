"""The encoder in Triton by pytriton: its C++ front end, its Python backend. One instance, no delay to join a batch."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
import onnxruntime
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])


@batch
def encode(x: Any) -> dict[str, Any]:
    """The codes of a batch."""
    mu, logvar = session.run(None, {"x": x})
    return {"mu": mu, "logvar": logvar}


if __name__ == "__main__":
    port = int(sys.argv[1])
    latents = session.get_outputs()[0].shape[1]
    with Triton(config=TritonConfig(http_port=port, grpc_port=port + 1, metrics_port=port + 2)) as triton:
        triton.bind(
            model_name="encode",
            infer_func=encode,
            inputs=[Tensor(name="x", dtype=np.float32, shape=(session.get_inputs()[0].shape[1],))],
            outputs=[Tensor(name=name, dtype=np.float32, shape=(latents,)) for name in ("mu", "logvar")],
            config=ModelConfig(max_batch_size=256, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
        )
        triton.serve()
