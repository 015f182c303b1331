"""
The sockets of the service's port: bound before anything is loaded, so that a port which is taken is told at once.

Knows addresses; nothing of who listens.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence

from service.errors import StartError

BACKLOG = 2048
_NO_HOST = "choose a name or an address of this machine (VAE_HOST, --host)"
_ADVICE = {
    errno.EADDRINUSE: "another process has it; end that one, or choose another port (VAE_PORT, --port; 0: a free one)",
    errno.EACCES: "it may be a port that is kept for privileged processes; choose one from 1024 on (VAE_PORT, --port)",
    errno.EADDRNOTAVAIL: _NO_HOST,
}


def bind(host: str, port: int) -> list[socket.socket]:
    """A socket for every address of *host*, not listening yet. Raises StartError."""
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            one = socket.socket(family, kind, protocol)
            sockets.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(address)
            one.setblocking(False)
    except (OSError, UnicodeError) as error:  # UnicodeError: a host that is no name, like one with a label too long
        for one in sockets:
            one.close()
        raise taken(host, port, error) from None
    return sockets


def listen(sockets: Sequence[socket.socket]) -> None:
    """Open them, which fails where another process was quicker. Raises StartError."""
    for one in sockets:
        try:
            one.listen(BACKLOG)
        except OSError as error:
            host, port = one.getsockname()[:2]
            raise taken(host, port, error) from None


def taken(host: str, port: int, error: Exception) -> StartError:
    """What an operator is told of *error* at *host* and *port*: the reason, and what to do."""
    reason, number = str(error), getattr(error, "errno", None)
    if isinstance(error, OSError) and number is not None:
        reason = str(error.strerror) if isinstance(error, socket.gaierror) else os.strerror(number)
    advice = _NO_HOST if isinstance(error, socket.gaierror | UnicodeError) else _ADVICE.get(number or 0)
    return StartError(f"cannot listen on host {host!r}, port {port}: {reason}" + (f": {advice}" if advice else ""))


def url(sockets: Sequence[socket.socket]) -> str:
    """Where the first of them is."""
    host, port = sockets[0].getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
