"""
The newest version below a model directory, as it looks from outside: seen by its files' names, sizes and times.

By looking again and again, because what tells of changes does not work on network file systems. Reads no file, knows
nothing of what is in them.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import NamedTuple

from service.bundle import MANIFEST, SUMS, versions
from service.errors import BundleError

log = logging.getLogger("service.watch")


class Sight(NamedTuple):
    """A version and its files: name, size, time of the last change, inode."""

    version: int
    files: tuple[tuple[str, int, int, int], ...]


class Watch:
    """
    Tells when there is a version to be tried at *path*.

    *pinned*: *path* is a bundle itself, of which there is no newer version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pinned = (path / MANIFEST).exists() or (path / SUMS).exists()
        self.tried: Sight | None = None
        self._last: Sight | None = None
        self._missed = False

    def look(self, serving: int) -> bool:
        """
        Whether a version newer than *serving* is there and has not been tried as it is.

        It must look as it did the last time: a directory that is still being copied is not there yet.
        """
        try:
            sight = self.see()
        except BundleError as error:
            log.debug("%s", error)
            return False
        self._miss(serving, sight)
        settled, self._last = sight == self._last, sight
        if sight is None or sight.version <= serving or sight == self.tried or not settled:
            return False
        self.tried = sight
        return True

    def see(self) -> Sight | None:
        """The newest version; None where there is none, or *path* is pinned. Raises BundleError."""
        if self.pinned:
            return None
        try:
            found = versions(self.path)
            return Sight(found[-1], _files(self.path / str(found[-1]))) if found else None
        except OSError as error:
            raise BundleError(self.path, error.filename or ".", f"cannot be read: {error.strerror}") from error

    def _miss(self, serving: int, sight: Sight | None) -> None:
        """Say once that what is served is no longer there: after a restart it will not be served."""
        missed = not self.pinned and (sight is None or sight.version < serving)
        if missed and not self._missed:
            log.warning(
                "%s: version %d is gone, and is served on from memory; a restart would serve %s",
                self.path,
                serving,
                "nothing" if sight is None else f"version {sight.version}",
            )
        self._missed = missed


def _files(directory: Path) -> tuple[tuple[str, int, int, int], ...]:
    found = []
    for folder, _, names in os.walk(directory, onerror=_raise):
        for name in names:
            file = Path(folder, name)
            stat = file.stat()
            found.append((str(file.relative_to(directory)), stat.st_size, stat.st_mtime_ns, stat.st_ino))
    return tuple(sorted(found))


def _raise(error: OSError) -> None:
    raise error
