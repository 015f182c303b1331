"""
What the environment holds under the names of settings: those of settings, Kubernetes' own, and mistakes.

Kubernetes tells a pod of every Service in its namespace by variables (enableServiceLinks, on by default), and a Service
called "vae" gives VAE_PORT=tcp://10.0.0.7:80. Knows names; nothing of what settings mean.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

PREFIX = "VAE_"
_HOST = "_SERVICE_HOST"
_OF_A_SERVICE = re.compile(r"SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?")
_ADDRESS = re.compile(r"(tcp|udp|sctp)://.*")


def service_links(environment: Mapping[str, str]) -> set[str]:
    """The names in *environment* that Kubernetes made of Services whose own names begin with "vae"."""
    found = set()
    services = {name.removesuffix(_HOST) for name in environment if name.startswith(PREFIX) and name.endswith(_HOST)}
    for name, value in environment.items():
        for service in services:
            rest = name.removeprefix(f"{service}_")
            # <SERVICE>_PORT is an address, unless somebody has set it to something else
            if rest != name and _OF_A_SERVICE.fullmatch(rest) and (rest != "PORT" or _ADDRESS.fullmatch(value)):
                found.add(name)
    return found


def mistakes(environment: Mapping[str, str], settings: Iterable[str]) -> list[str]:
    """A sentence for each name in *environment* that begins as those of settings do and is none of *settings*."""
    known = [f"{PREFIX}{name.upper()}" for name in settings]
    links = service_links(environment)
    told = []
    for name in sorted(environment):
        if name.upper().startswith(PREFIX) and name.upper() not in known and name not in links:
            (nearest,) = difflib.get_close_matches(name.upper(), known, 1, 0)
            told.append(f"{name} in the environment is no setting; the nearest is {nearest}")
    return told
