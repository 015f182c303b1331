"""
The floor: the least that CPython and uvicorn can do for this work, and no product.

Bare ASGI: no routes, no checks, no errors, no metrics, no limits. One batching loop, which runs the model in the event
loop. JSON by orjson into lists, or the raw float32 of the rows. BENCH_MODEL names the encoder's file.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import numpy as np
import onnxruntime
import orjson

MAX_CALLS = 64
BINARY = b"application/octet-stream"


class Floor:
    """The ASGI application."""

    def __init__(self, model: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.columns = self.session.get_inputs()[0].shape[1]
        self.waiting: list[tuple[Any, asyncio.Future[Any]]] = []
        self.running = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer whatever comes."""
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body, more = b"", scope["method"] == "POST"
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        kind = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
        reply = await self.answer(body, kind == BINARY) if body else b"{}"
        headers = [(b"content-type", kind or b"application/json"), (b"content-length", b"%d" % len(reply))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": reply})

    async def answer(self, body: bytes, binary: bool) -> bytes:
        """The reply to one body."""
        if binary:
            mu, logvar = await self.run(np.frombuffer(body, np.float32).reshape(-1, self.columns))
            return bytes(mu.tobytes() + logvar.tobytes())
        mu, logvar = await self.run(np.array(orjson.loads(body)["inputs"], np.float32))
        return orjson.dumps({"mu": mu, "logvar": logvar}, option=orjson.OPT_SERIALIZE_NUMPY)

    def run(self, x: Any) -> asyncio.Future[Any]:
        """Join the batch that the event loop runs when it has read what is there."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self.waiting.append((x, future))
        if not self.running:
            self.running = True
            loop.call_soon(self.batch)
        return future

    def batch(self) -> None:
        """Run what waits, MAX_CALLS at a time."""
        while self.waiting:
            calls, self.waiting = self.waiting[:MAX_CALLS], self.waiting[MAX_CALLS:]
            x = np.concatenate([rows for rows, _ in calls]) if len(calls) > 1 else calls[0][0]
            mu, logvar = self.session.run(None, {"x": x})
            start = 0
            for rows, future in calls:
                end = start + len(rows)
                future.set_result((mu[start:end], logvar[start:end]))
                start = end
        self.running = False


app = Floor(os.environ["BENCH_MODEL"])
