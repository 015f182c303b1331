"""The encoder in LitServe: one worker, batches of up to 64 requests, no delay for others to join."""

import os
import sys
from typing import Any

import litserve
import numpy as np
import onnxruntime
from fastapi import Request


class Encoder(litserve.LitAPI):
    """JSON to rows, rows to codes, codes to JSON."""

    def setup(self, device: Any) -> None:
        """Open the model."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        model = os.environ["BENCH_MODEL"]
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.ends: Any = []

    def decode_request(self, request: Request) -> Any:
        """The rows of one request, which LitServe has read as JSON, as it does for what is called a Request."""
        decoded: Any = request
        return np.asarray(decoded["inputs"], np.float32)

    def batch(self, inputs: Any) -> Any:
        """The rows of several requests as one array."""
        self.ends = np.cumsum([len(x) for x in inputs])[:-1]
        return np.concatenate(inputs)

    def predict(self, x: Any) -> Any:
        """The codes of a batch."""
        return self.session.run(None, {"x": x})

    def unbatch(self, output: Any) -> Any:
        """The codes of each request."""
        return list(zip(*(np.split(array, self.ends) for array in output), strict=True))

    def encode_response(self, output: Any) -> Any:
        """As JSON."""
        return {"mu": output[0].tolist(), "logvar": output[1].tolist()}


if __name__ == "__main__":
    api = Encoder(max_batch_size=64, batch_timeout=0.0, api_path="/encode")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False)
