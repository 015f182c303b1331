"""
A newer version of the model takes the place of the one that is served, while that one goes on answering.

Knows versions, and what makes one fit to follow another; how it is taken into service is the application's business.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal, NamedTuple

from service.bundle import MANIFEST
from service.calibrated import ALL, ALPHAS
from service.calibration import rows_needed
from service.errors import BundleError, StartError, counted
from service.inputs import Column
from service.loader import Loaded, load
from service.manifest import Manifest
from service.served import Served
from service.settings import Settings
from service.watch import Sight, Watch

log = logging.getLogger("service.reload")

REFUSED_FOR_S = 10.0
"""Whoever asks for a refused version again sooner is told the same: to open it is to read and hash all of it."""


class Outcome(NamedTuple):
    """
    What came of looking for a newer version.

    *before*, *model*: what was and what is served, by name, version and bundle_id. *reason*: why the newest version
    was refused.
    """

    result: Literal["swapped", "unchanged", "refused"]
    before: dict[str, Any]
    model: dict[str, Any]
    reason: str | None = None


class Reloader:
    """
    Looks for versions newer than what *serving()* returns; to be used in one event loop.

    *take(loaded)* puts one in the place of what is served, and may raise StartError before it has changed anything.
    *told(result)* hears of each newer version, swapped or refused.
    """

    def __init__(
        self,
        settings: Settings,
        serving: Callable[[], Served],
        take: Callable[[Loaded], None],
        told: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._watch = Watch(settings.bundle)
        self._serving = serving
        self._take = take
        self._told = told
        self._one = asyncio.Lock()
        self._refusal: tuple[float, Sight, str] | None = None  # when (monotonic seconds), what, why

    async def watch(self, interval_s: float, found: Callable[[], Awaitable[None]]) -> None:
        """Look every *interval_s* seconds, for ever; call *found* when there is something to try."""
        while not self._watch.pinned:
            await asyncio.sleep(interval_s)
            if await asyncio.to_thread(self._watch.look, self._serving().manifest.version):
                await found()

    async def reload(self, asked: bool) -> Outcome:
        """
        Look now, and take the newest version if it is newer than the one served. One at a time, in turn.

        One that was refused is not opened again unless it changed, or unless somebody *asked* for it.
        """
        async with self._one:
            before, sight = self._serving(), None
            try:
                sight = await asyncio.to_thread(self._watch.see)
                if sight is None or sight.version <= before.manifest.version:
                    return Outcome("unchanged", before.model, before.model)
                self._watch.tried = sight
                if self._refusal is not None:
                    at, refused, reason = self._refusal
                    if refused == sight and not (asked and time.monotonic() - at > REFUSED_FOR_S):
                        return Outcome("refused", before.model, before.model, reason)
                await self._swap(before, sight)
            except Exception as error:
                return self._refuse(before, sight, error)
            self._told("swapped")
            return Outcome("swapped", before.model, self._serving().model)

    async def _swap(self, before: Served, sight: Sight) -> None:
        path = self._watch.path / str(sight.version)
        try:
            loaded = await asyncio.to_thread(load, path, self._settings, sight.version)
            if reason := unfit(loaded.bundle.manifest, before.manifest):
                raise BundleError(path, MANIFEST, reason)
            self._take(loaded)
        except Exception as error:
            self._refusal = time.monotonic(), sight, _reason(error)
            raise

    def _refuse(self, before: Served, sight: Sight | None, error: Exception) -> Outcome:
        self._told("refused")
        what = "a reload" if sight is None else f"version {sight.version}"
        unforeseen = None if isinstance(error, StartError) else error
        log.error("%s is refused, version %d stays: %s", what, before.manifest.version, error, exc_info=unforeseen)
        return Outcome("refused", before.model, before.model, _reason(error))


def _reason(error: Exception) -> str:
    """For whoever asked, over HTTP perhaps: without the paths of this machine."""
    return f"{error.file}: {error.reason}" if isinstance(error, BundleError) else str(error)


def unfit(new: Manifest, old: Manifest) -> str | None:
    """Why *new* cannot follow *old* without a restart: requests that *old* answers would be refused."""
    if new.name != old.name:
        return f"is a bundle of {new.name!r}; {old.name!r} is served here"
    if _rows(new) != _rows(old):
        return "its rows are not those of the version that is served; restart the service to change them"
    for after, column in zip(new.inputs.columns or (), old.inputs.columns or (), strict=True):
        if _meaning(after) != _meaning(column) or (column.missing and not after.missing):
            return (
                f"its column {column.name!r} does not take what that of the version that is served takes (kind, time, "
                "vocabulary, unknown, missing); restart the service to change it"
            )
    missing = [op for op in old.capabilities.operations if op not in new.capabilities.operations]
    if missing:
        return f"has no operation {missing[0]}, which the version that is served has; restart the service to drop it"
    return _scores_lost(new, old)


def _scores_lost(new: Manifest, old: Manifest) -> str | None:
    """
    Which of the scores of *old* *new* has not, or has too few calibration rows for.

    Of the usual alphas those count that are not below the default of *old*: a version that was calibrated on somewhat
    fewer rows may lose smaller ones.
    """
    rows = _complete_rows(new)
    for (kind, samples), before in _complete_rows(old).items():
        score = f"the score {kind} with {samples} samples"
        if (now := rows.get((kind, samples))) is None:
            return f"has not {score}, which the version that is served has; restart the service to drop it"
        for alpha in (alpha for alpha in ALPHAS if alpha >= old.scoring.alpha):
            if now < (needed := rows_needed(alpha)) <= before:
                return (
                    f"{score} has {counted(now, 'calibration row')}, too few for alpha {alpha:g}, which needs {needed} "
                    "and which the version that is served can be asked for; restart the service to lose it"
                )
    return None


def _complete_rows(manifest: Manifest) -> dict[tuple[str, int], int]:
    """How many calibration rows that miss nothing there are of each score, by kind and samples."""
    return {(e.kind, e.samples): e.rows for e in manifest.calibrated if e.group == ALL and not e.mask_bin}


def _rows(manifest: Manifest) -> tuple[object, ...]:
    inputs, windows = manifest.inputs, manifest.inputs.windows
    made = None if windows is None else (windows.length, windows.stride, windows.differences)
    return inputs.kind, inputs.shape, inputs.names, made


def _meaning(column: Column) -> tuple[object, ...]:
    """What the values of a column are; with another vocabulary the same number would be another category."""
    return column.kind, column.time, column.vocabulary, column.unknown
