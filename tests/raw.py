"""HTTP by hand, for what no client library would send, and a neighbour that must not notice."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from tests.server import Server


def connect(server: Server, timeout: float = 20) -> socket.socket:
    """A connection."""
    host, port = server.url.removeprefix("http://").rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=timeout)


def post(body: bytes, *headers: str, path: str = "/v1/encode", length: int | None = None) -> bytes:
    """A request as bytes, of a *length* that need not be true."""
    announced = len(body) if length is None else length
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {announced}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def until_closed(connection: socket.socket) -> bytes:
    """What the server says until it closes the connection, by an end or by a reset. Raises TimeoutError."""
    said = bytearray()
    try:
        while part := connection.recv(65536):
            said += part
    except (ConnectionResetError, BrokenPipeError):
        pass
    return bytes(said)


def reply(connection: socket.socket) -> tuple[int, bytes]:
    """
    The status and the body of one reply with a Content-Length; 0 and what came where the end comes before its body.

    Raises EOFError where the end comes within the body, and TimeoutError.
    """
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        part = connection.recv(1)  # no further: another reply may follow
        if not part:
            return 0, head
        head += part
    lengths = [int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    body = bytearray()
    while len(body) < lengths[0]:  # MSG_WAITALL waits for nothing on a socket that has a timeout
        part = connection.recv(lengths[0] - len(body))
        if not part:
            raise EOFError(f"{len(body)} of {lengths[0]} bytes, and the end")
        body += part
    return int(head.split(b" ", 2)[1]), bytes(body)


def rss_mb(server: Server) -> float:
    """The resident memory of the server, in MiB."""
    return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * 4096 / 2**20


class Neighbour:
    """Asks the same again and again; after the `with` all its answers must have been right."""

    def __init__(self, server: Server, path: str, body: object) -> None:
        self._server, self._path, self._body = server, path, body
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._right = httpx.post(server.url + path, json=body, timeout=30).json()
        self.answers = 0
        self.wrong: list[object] = []

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        """Ask once more, and tell."""
        before = self.answers
        self._leaving.set()
        self._thread.join(30)
        if kind is None:
            assert self.wrong == [], self.wrong
            assert self.answers > before, "it was not answered in the end"

    def _ask(self) -> None:
        leaving = False
        with httpx.Client(base_url=self._server.url, timeout=30) as client:
            while not leaving:
                leaving = self._leaving.wait(0.005)  # seen before the last question, which comes after all harm
                try:
                    answer = client.post(self._path, json=self._body)
                except httpx.TransportError as error:
                    self.wrong.append(error)
                else:
                    if answer.status_code != 200 or answer.json() != self._right:
                        self.wrong.append(answer.text)
                self.answers += 1
