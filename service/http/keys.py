"""
API keys: which requests need one, and whether the one that came is enough. Where none is set nobody is asked.

Keeps hashes of keys, and the headers of those that came and were right, until keys change. The file of keys is looked
at again and again, so that they can be changed without a restart. Knows headers and paths; nothing of what is behind
them. docs/decisions/0018 says why it is as it is.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
from pathlib import Path
from typing import Literal, NamedTuple, cast, get_args

from service.errors import Forbidden, StartError, Unauthorized
from service.http.headers import Headers

log = logging.getLogger("service.http.keys")

Role = Literal["use", "metrics", "admin"]
"""What a key is for: everything but /metrics and /v1/admin; /metrics alone; everything."""

LOOK_S = 1.0
"""Seconds between two looks at the file: a change counts from the second look on that sees it."""

MOST_MET = 1024
"""Headers that were right and are remembered: a hash of the key for each request would be a tenth of what one costs."""

LEAST, MOST = 16, 256
"""Characters of a key."""

_ENTRY = re.compile(rf"(?:({'|'.join(get_args(Role))}):)?([A-Za-z0-9._~+/-]+=*)")  # RFC 6750, 2.1
_OPEN = {"/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/openapi.json", "/docs"}
_SCHEME = b"bearer "
_CHALLENGE = 'Bearer realm="vae-serve"'

Known = dict[bytes, Role]
"""Roles by the SHA-256 of their keys."""


class _Taken(NamedTuple):
    """The keys there are, and the roles of headers that had one of them."""

    known: Known
    met: dict[bytes, Role]


def is_open(path: str) -> bool:
    """Whether *path* needs no key: health, and the documentation, which is the same for every model."""
    return path in _OPEN or path.startswith("/docs/")


class Keys:
    """
    The keys in *text*, separated by blanks or commas, and those in *file*, the same with comments behind "#".

    None are known until `open`. *metrics_need_key*: whether /metrics is not open.
    """

    def __init__(self, text: str, file: Path | None, metrics_need_key: bool) -> None:
        self.file = file
        self.needed = bool(text.strip()) or file is not None
        self._text = text
        self._metrics_need_key = metrics_need_key
        self._taken = _Taken({}, {})
        self._last = self._tried = self._sight()

    def open(self) -> None:
        """Read them. Raises StartError, which names the place and never a key."""
        if self.needed:
            self._taken = _Taken(self._read(), {})
            log.info("API keys: %s", self._told())

    def look(self) -> None:
        """Read the file again where it has changed, and looks as at the last look; a bad one changes nothing."""
        sight = self._sight()
        settled, self._last = sight == self._last, sight
        if sight == self._tried or not settled:
            return
        self._tried = sight
        try:
            self._taken = _Taken(self._read(), {})
        except StartError as error:
            log.error("%s; the API keys of before go on being taken", error)
        else:
            log.info("the API keys have changed: %s", self._told())

    def check(self, headers: Headers, path: str) -> None:
        """Raise Unauthorized or Forbidden where a request for *path* may not be answered."""
        if not self.needed or is_open(path):
            return
        wanted: Role = "use"
        if path == "/metrics":
            if not self._metrics_need_key:
                return
            wanted = "metrics"
        elif path.startswith("/v1/admin"):
            wanted = "admin"
        role = self._role(headers)
        if role not in (wanted, "admin"):
            raise Forbidden(
                f"this needs an API key of the role {wanted}{'' if wanted == 'admin' else ' or admin'}; "
                f"the one that came has the role {role}",
                f'{_CHALLENGE}, error="insufficient_scope", scope="{wanted}"',
            )

    def _role(self, headers: Headers) -> Role:
        """The role of the key that came. Raises Unauthorized."""
        authorization = headers.get(b"authorization")
        taken = self._taken  # once: keys may change meanwhile, in another thread
        if authorization in taken.met:
            return taken.met[authorization]
        bearer = authorization[: len(_SCHEME)].lower() == _SCHEME
        # of another scheme, it may be meant for a proxy
        given = authorization[len(_SCHEME) :].strip(b" ") if bearer else headers.get(b"x-api-key")
        if not given:
            raise Unauthorized("send an API key: `Authorization: Bearer KEY`, or `X-API-Key: KEY`", _CHALLENGE)
        digest = hashlib.sha256(given[: MOST + 1]).digest()
        role: Role | None = None
        for known, its in taken.known.items():
            if hmac.compare_digest(known, digest):  # all are compared: how long it takes does not tell which it was
                role = its
        if role is None:
            raise Unauthorized("the API key is not known here", f'{_CHALLENGE}, error="invalid_token"')
        if bearer:
            if len(taken.met) >= MOST_MET:
                taken.met.clear()
            taken.met[authorization] = role
        return role

    def _read(self) -> Known:
        known = _parse(self._text, "VAE_API_KEYS", {})
        if self.file is not None:
            before = len(known)
            try:
                text = self.file.read_text("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
                raise StartError(f"the file of API keys {self.file} cannot be read: {reason}") from None
            if len(_parse(text, str(self.file), known)) == before:
                raise StartError(f"the file of API keys {self.file} holds no key that is not in VAE_API_KEYS")
        return known

    def _sight(self) -> tuple[int, int, int] | None:
        """The file as it looks from outside: a secret that is mounted is changed by a symbolic link."""
        try:
            stat = os.stat(self.file) if self.file is not None else None
        except OSError:
            return None
        return None if stat is None else (stat.st_ino, stat.st_size, stat.st_mtime_ns)

    def _told(self) -> str:
        roles = list(self._taken.known.values())
        return ", ".join(f"{roles.count(role)} of the role {role}" for role in get_args(Role) if role in roles)


def _parse(text: str, place: str, known: Known) -> Known:
    """*known*, and the keys in *text*. Raises StartError."""
    for number, line in enumerate(text.splitlines(), 1):
        for entry in line.partition("#")[0].replace(",", " ").split():
            found = _ENTRY.fullmatch(entry)
            at = f"{place}, line {number}"
            if found is None:
                raise StartError(
                    f"{at}: an API key is KEY or ROLE:KEY, ROLE one of {', '.join(get_args(Role))}, KEY of letters, "
                    "digits and -._~+/, with = at the end alone"
                )
            role, key = cast(Role, found[1] or "use"), found[2]
            if not LEAST <= len(key) <= MOST:
                raise StartError(f"{at}: an API key has {LEAST} to {MOST} characters; one has {len(key)}")
            digest = hashlib.sha256(key.encode()).digest()
            if known.setdefault(digest, role) != role:
                raise StartError(f"{at}: the same API key has two roles, {known[digest]} and {role}")
    return known
