"""What one writes by hand: FastAPI, pydantic models, session.run in FastAPI's thread pool. BENCH_MODEL: the encoder."""

from __future__ import annotations

import os

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])
app = FastAPI()


class Request(BaseModel):
    """Rows."""

    inputs: list[list[float]]


class Reply(BaseModel):
    """Their codes."""

    mu: list[list[float]]
    logvar: list[list[float]]


@app.post("/encode")
def encode(request: Request) -> Reply:
    """One request, one run of the model."""
    mu, logvar = session.run(None, {"x": np.asarray(request.inputs, np.float32)})
    return Reply(mu=mu.tolist(), logvar=logvar.tolist())
