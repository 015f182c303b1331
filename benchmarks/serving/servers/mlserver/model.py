"""The encoder in MLServer: no worker processes, batches of up to 64 requests, 0.1 ms for others to join."""

from __future__ import annotations

import os

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Encoder(MLModel):
    """One model of the Open Inference Protocol, in JSON."""

    async def load(self) -> bool:
        """Open the model."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        model = os.environ["BENCH_MODEL"]
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """The codes of a batch."""
        codes = self.session.run(None, {"x": NumpyCodec.decode_input(payload.inputs[0])})
        outputs = [NumpyCodec.encode_output(name, code) for name, code in zip(("mu", "logvar"), codes, strict=True)]
        return InferenceResponse(model_name=self.name, outputs=outputs)
